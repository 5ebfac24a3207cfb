"""The libraries that people use, unmodified, on us: a real program for each, against real servers where it wants one.

    python -m tests.ecosystem                     every program, both ways, on this interpreter
    python -m tests.ecosystem --only asyncpg      one of them
    python -m tests.ecosystem --mode stdlib       the same programs on asyncio itself: that is how they are validated

``make ecosystem`` does so in an environment of its own, with the versions that requirements/ecosystem.txt pins.

support.py     what the programs share: they assert there that the loop is the one they are meant to run on
programs/      the programs; what each needs stands in runner.py
servers.py     PostgreSQL, Redis, nginx, mosquitto and NATS, on free ports and in folders of their own
runner.py      runs a program, and says how it went
table.py       the table of README.md
suites.py      the libraries' own tests
soak/          an hour of a web service: `make soak`
"""
