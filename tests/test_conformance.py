"""CPython's own asyncio tests, on aioxide in takeover mode: one case per test file (tests/conformance says how)."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from tests.conformance import SEMI_SHARE
from tests.conformance.runner import Allowlist, Interpreter, Runner, Share, Target

pytestmark = pytest.mark.skipif(os.environ.get("AIOXIDE_CONFORMANCE") == "0", reason="AIOXIDE_CONFORMANCE=0")


def files() -> tuple[str, ...]:
    """Every file that this interpreter has. Without CPython's tests: one, which fails and says what to install."""
    if os.environ.get("AIOXIDE_CONFORMANCE") == "0" or importlib.util.find_spec("test.test_asyncio") is None:
        return ("test_tasks",)
    return Interpreter.probe(sys.executable).judged


@pytest.fixture(scope="module")
def runner() -> Runner:
    # without CPython's tests this raises, and says what to install: a run that judged nothing is no success
    return Runner(Interpreter.probe(sys.executable), path=[str(Path(__file__).parents[1] / "python")])


@pytest.fixture(scope="module")
def semi() -> Share:
    """The semi tests of the files that have run."""
    return Share()


@pytest.mark.parametrize("file", files())
def test_file(runner, file, semi, capsys):
    verdict = runner.judge(Target("takeover"), file, Allowlist.read())
    semi.add(verdict.semi)
    with capsys.disabled():
        for outcome in verdict.flaky:
            print("\npassed only when tried again alone:", outcome.line())
    assert verdict.behavioural.total + verdict.semi.total > 0
    assert verdict.good, verdict.explain()


def test_semi_share(semi):
    """Of the tests that look at private attributes, most must pass: over all files that have run before this one."""
    assert semi.passed >= SEMI_SHARE * semi.total, f"{semi} semi tests pass"
