"""Every example is a plain asyncio program: it prints the same on asyncio and on aioxide."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
RUNNERS = {"asyncio": [sys.executable], "aioxide": [sys.executable, "-m", "aioxide"]}
#: what an example wants beside asyncio
WANTS = {"cluster": "distributed"}
OUTPUT = {
    "cluster": r"300 squares, their sum is 8955050; workers that are left: 1\n",
    "fetch": r"300 pages, 289000 bytes, \d+\.\d\d s\n",
    "processes": "100 answers, of 3 processes\n100 answers, of 2 processes\n",
    "tasks": r"Task Task 2 completed\nTask Task 1 completed\n",
    "threads": r"the file was read in a worker thread\nanother thread asked the loop: 42\n",
    "timeouts": "quick: done\nslow: cancelled\nthe time is up\nsibling: cancelled\nfailed: no such page\n",
    "workers": r"100 squares, their sum is 328350\n",
}


def run(runner: str, example: str) -> tuple[str, float]:
    started = time.perf_counter()
    done = subprocess.run(
        [*RUNNERS[runner], str(EXAMPLES / f"{example}.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout, time.perf_counter() - started


def test_every_example_is_listed():
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(OUTPUT)


def test_examples_are_short_and_plain():
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 60, path
        assert "aioxide" not in text, path


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("example", sorted(OUTPUT))
def test_example(runner, example):
    if example in WANTS:
        pytest.importorskip(WANTS[example])
    output, seconds = run(runner, example)
    assert re.fullmatch(OUTPUT[example], output)
    if example == "tasks":  # the two tasks wait at the same time
        assert 4.0 <= seconds < 5.9
