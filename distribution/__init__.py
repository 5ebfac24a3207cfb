"""What is given out: wheels, their source, and the licences that go with them."""
