"""The same random programs on asyncio and on aioxide, traces compared event by event (tests/model says how).

AIOXIDE_MODEL_PROGRAMS and AIOXIDE_MODEL_SEED change the size and the seed; `python -m tests.model` makes long runs.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.__main__ import compared
from tests.model.generate import FATAL, GROUPS, generate
from tests.model.implementations import Implementation, implementation
from tests.model.interpret import Trace, run
from tests.model.mutants import MUTANTS
from tests.model.program import dumps, size
from tests.model.reduce import reduce
from tests.support import IMPLEMENTATION

ROOT = Path(__file__).parents[1]
PROGRAMS = int(os.environ.get("AIOXIDE_MODEL_PROGRAMS", "10000"))
SEED = os.environ.get("AIOXIDE_MODEL_SEED", "1")
#: where asyncio's own C and Python halves differ (texts of errors that are bugs of the program anyway)
HALVES_DIFFER = ("bad_yield",)


@pytest.fixture(autouse=True)
def _frozen():
    """A collection ends every run of a program: it should see the program's garbage, not pytest's heap."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def bulk(tmp_path: Path, *args: str, reference: str = "asyncio") -> None:
    """A watched run in a process of its own; what it prints is the explanation of a failure."""
    command = [
        sys.executable,
        "-m",
        "tests.model",
        "--seed",
        SEED,
        "--reference",
        reference,
        "--out",
        str(tmp_path),
        *args,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def explain(a: Trace, b: Trace) -> str:
    return "\n".join(compared(a, b))


@pytest.mark.deadline(900)
@pytest.mark.parametrize("group", [*GROUPS, FATAL])
def test_programs(group, tmp_path):
    bulk(tmp_path, "--programs", str(PROGRAMS // len(GROUPS)), "--group", group, "--implementation", IMPLEMENTATION)


@pytest.mark.deadline(900)
@pytest.mark.skipif(IMPLEMENTATION == "asyncio", reason="a mixture needs two implementations")
@pytest.mark.parametrize("mixture", ["aioxide-loop", "aioxide-on-asyncio"])
def test_mixtures(mixture, tmp_path):
    bulk(tmp_path, "--programs", str(PROGRAMS // 10), "--implementation", mixture)


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(GROUPS), st.randoms(use_true_random=False))
def test_hypothesis(group, random):
    program = generate(random, group)
    expected, actual = run(program, implementation("asyncio")), run(program, implementation(IMPLEMENTATION))
    assert expected == actual, dumps(program) + "\n" + explain(expected, actual)


def test_virtual_loop_honours_time():
    """The virtual programs need a loop subclass whose own time() is believed."""
    loop = implementation(IMPLEMENTATION).new_loop(virtual=True)
    ran = []

    def tick():
        loop.now += 1.0
        if ran or loop.now > 20:
            loop.stop()
        else:
            loop.call_soon(tick)

    loop.call_later(3.5, lambda: ran.append(loop.now))
    loop.call_soon(tick)
    loop.run_forever()
    loop.close()
    assert ran == [5.0]  # due from 4.0 on, and that iteration ticks first


# -- the test of the test ----------------------------------------------------------------------------------------------


def test_programs_are_substantial():
    """Most programs do something: a generator that went dull would make every comparison pass."""
    reference = implementation("asyncio")
    traces = [run(generate(Random(f"size:{index}"), GROUPS[index % len(GROUPS)]), reference) for index in range(270)]
    lengths = sorted(len(trace.events) for trace in traces)
    assert lengths[len(lengths) // 2] >= 15
    text = "\n".join("\n".join(trace.lines()) for trace in traces)
    for outcome in (
        "CancelledError",
        "TimeoutError",
        "ExceptionGroup",
        "BrokenBarrier",
        "was never retrieved",
        "teardown",
    ):
        assert outcome in text
    assert not any("broken" in event for trace in traces for event in trace.events)


def test_a_program_is_json():
    program = generate(Random("json"), "all")
    again = json.loads(dumps(program))
    assert again == program
    reference = implementation("asyncio")
    assert run(program, reference).lines() == run(again, reference).lines()


def test_the_seed_is_the_program():
    assert generate(Random("7:3"), "tasks") == generate(Random("7:3"), "tasks")
    assert generate(Random("7:3"), "tasks") != generate(Random("7:4"), "tasks")


def test_asyncio_agrees_with_itself():
    one, two = implementation("asyncio"), implementation("pure")
    compared_programs = 0
    for index in range(300):
        program = generate(Random(f"pure:{index}"), GROUPS[index % len(GROUPS)])
        trace, again = run(program, one), run(program, one)
        assert trace == again, dumps(program) + "\n" + explain(trace, again)
        if not any(word in dumps(program) for word in HALVES_DIFFER):
            compared_programs += 1
            assert trace.loose() == run(program, two).loose(), dumps(program)
    assert compared_programs > 100


@pytest.fixture(scope="module")
def pure() -> Implementation:
    return implementation("pure")


@pytest.mark.parametrize("name", MUTANTS)
def test_finds_mutant(name, pure):
    mutant, group = implementation(f"mutant:{name}"), MUTANTS[name][-1]
    gc.freeze()
    for index in range(6000):
        program = generate(Random(f"mutant:{index}"), group)
        if run(program, pure) != run(program, mutant):
            return
    pytest.fail(f"{index + 1} programs, and {name} looked like asyncio")


def test_reduces(pure):
    mutant = implementation("mutant:queue-lifo")
    gc.freeze()

    def fails(program):
        return run(program, pure) != run(program, mutant)

    program = next(p for i in range(1000) if fails(p := generate(Random(f"reduce:{i}"), "queues")))
    small = reduce(program, fails)
    assert fails(small)
    assert size(small) // 1000 <= 8


def test_command_reports_and_replays(tmp_path):
    command = [sys.executable, "-m", "tests.model", "--implementation", "mutant:message-lost", "--reference", "pure"]
    search = [*command, "--programs", "200", "--group", "cancel", "--max-failures", "1", "--out", str(tmp_path)]
    done = subprocess.run(search, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    (found,) = tmp_path.glob("*.json")
    replay = [*command, "--replay", str(found)]
    done = subprocess.run(replay, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "\n- " in done.stdout
    assert "\n+ " in done.stdout


def test_command_notices_death(tmp_path, monkeypatch):
    """A crash is a finding with a program to replay, not the end of the run."""
    monkeypatch.setenv("AIOXIDE_MODEL_ABORT_AT", "7")
    command = [
        sys.executable,
        "-m",
        "tests.model",
        "--implementation",
        "asyncio",
        "--programs",
        "20",
        "--crash-rounds",
        "0",
    ]
    done = subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "=== crash (exit status -6): seed 1, program 7" in done.stdout
    assert "20 programs" in done.stdout
