"""A differential test of the runtime: the same random program on two implementations, traces compared event by event.

program.py          what a program is (plain JSON data) and how to print one
generate.py         a program from any `random.Random` (seeded for bulk runs, hypothesis's for shrinking)
interpret.py        runs a program on one implementation and records the trace
implementations.py  asyncio, aioxide, pure-Python asyncio, … under one small interface
mutants.py          wrong asyncios, to prove that the comparison can fail
reduce.py           makes a failing program small
__main__.py         the command: python -m tests.model --programs 1000000 --seed 1
"""
