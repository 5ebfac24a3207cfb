"""Real servers and clients on our loop and on all of us: unmodified aiohttp (with and without TLS) and uvicorn.

The programs are those of tests/ecosystem, which has many more libraries: ``make ecosystem``.
"""

from __future__ import annotations

import os

import pytest

from tests.ecosystem.runner import MODES, PROGRAMS, run
from tests.ecosystem.servers import Started
from tests.ecosystem.support import VARIABLE
from tests.support import STDLIB, interpreter

HERE = ("aiohttp_web", "aiohttp_run_app", "uvicorn_h11", "uvicorn_httptools")


@pytest.mark.parametrize("mode", ["stdlib"] if STDLIB else MODES)
@pytest.mark.parametrize("program", [each for each in PROGRAMS if each.module in HERE], ids=lambda each: each.module)
def test_serves_real_requests(program, mode):
    if missing := program.missing():
        pytest.skip(f"{missing} is not installed")
    outcome = run(program, mode, Started(), "-W", "error::ResourceWarning")
    assert outcome.status == "pass", outcome.text
    assert "Exception" not in outcome.text


@pytest.mark.parametrize(
    ("mode", "how"), [("takeover", []), ("loop", ["-m", "aioxide"]), ("stdlib", ["-m", "aioxide"])]
)
def test_a_program_that_finds_another_loop_fails(mode, how):
    source = "from tests.ecosystem.support import run\nasync def main(): print('here')\nrun(main)"
    done = interpreter(*how, "-c", source, env={VARIABLE: mode})
    assert "AssertionError: " in done.stderr
    assert done.returncode == 1
    assert "ran on" not in done.stdout


def test_every_program_is_listed_once():
    modules = [program.module for program in PROGRAMS]
    assert len(set(modules)) == len(modules)
    folder = os.path.join(os.path.dirname(__file__), "ecosystem", "programs")
    shared = {"__init__", "asgi", "visitors", "pytest_run"}
    assert {name[:-3] for name in os.listdir(folder) if name.endswith(".py")} - shared == set(modules)
