"""CPython's own asyncio tests, on aioxide in takeover mode: one case per test file (tests/conformance says how)."""

import os
import sys
from pathlib import Path

import pytest

from tests.conformance import CLAIMED_FILES
from tests.conformance.runner import Allowlist, Interpreter, Runner, Target

pytestmark = pytest.mark.skipif(os.environ.get("AIOXIDE_CONFORMANCE") == "0", reason="AIOXIDE_CONFORMANCE=0")

FIRST_VERSION = {"test_eager_task_factory": (3, 12), "test_server": (3, 13)}
FILES = [file for file in CLAIMED_FILES if sys.version_info >= FIRST_VERSION.get(file, (3, 0))]


@pytest.fixture(scope="module")
def runner() -> Runner:
    # without CPython's tests this raises, and says what to install: a run that judged nothing is no success
    return Runner(Interpreter.probe(sys.executable), path=[str(Path(__file__).parents[1] / "python")])


@pytest.mark.parametrize("file", FILES)
def test_file(runner, file, capsys):
    verdict = runner.judge(Target("takeover"), file, Allowlist.read())
    with capsys.disabled():
        for outcome in verdict.flaky:
            print("\npassed only when tried again alone:", outcome.line())
    assert verdict.must_pass > 0
    assert verdict.good, verdict.explain()
