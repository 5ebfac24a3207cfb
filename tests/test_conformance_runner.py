"""The conformance runner itself: what it must notice, on small or deliberately broken implementations."""

import sys
from pathlib import Path

import pytest

from tests.conformance import table
from tests.conformance.classify import classify
from tests.conformance.runner import Allowlist, Interpreter, Limits, Runner, Target

ROOT = str(Path(__file__).parents[1])
SAMPLE = "tests.conformance.sample"
EMPTY = Allowlist("")


def hook(name: str) -> Target:
    return Target("takeover", f"tests.conformance.hooks:{name}")


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    return Interpreter.probe(sys.executable)


@pytest.fixture
def runner(interpreter, tmp_path) -> Runner:
    return Runner(interpreter, path=[ROOT], out=tmp_path, limits=Limits(test=8.0))


def test_a_hang_and_a_crash_cost_one_test_each(runner):
    outcomes = runner.run(hook("nothing"), SAMPLE)
    assert {test.rpartition(".")[2]: outcome.status for test, outcome in outcomes.items()} == {
        "test_a_passes": "passed",
        "test_b_crashes": "crash",
        "test_c_hangs": "timeout",
        "test_d_forks": "passed",
        "test_e_fails": "failed",
        "test_f_skips": "skipped",
        "test_g_expected_failure": "xfail",
        "test_h_subtests": "failed",
        "test_i_after_all_that": "passed",
    }
    crash = next(outcome for outcome in outcomes.values() if outcome.status == "crash")
    assert "Fatal Python error: Aborted" in crash.text
    assert "test_b_crashes" in crash.text  # the stack


def test_only_the_chosen_tests_run(runner):
    outcomes = runner.run(hook("nothing"), SAMPLE, [f"{SAMPLE}.Sample.test_a_passes"])
    assert [outcome.status for outcome in outcomes.values()] == ["passed"]


def test_a_module_that_cannot_be_imported_is_a_loss(runner):
    outcomes = runner.run(Target("takeover", "tests.conformance.hooks:no_such_hook"), "test_context")
    (outcome,) = outcomes.values()
    assert outcome.status == "crash"
    assert "no_such_hook" in outcome.text
    verdict = runner.judge(Target("takeover", "tests.conformance.hooks:no_such_hook"), "test_context", EMPTY)
    assert not verdict.good
    assert verdict.behavioural.passed == 0


def test_subclasses_of_the_c_types_pass(runner):
    verdict = runner.judge(hook("subclassed_types"), "test_futures2", EMPTY)
    assert verdict.good, verdict.explain()
    assert verdict.behavioural.passed == verdict.behavioural.total > 0


def test_a_test_that_turns_into_a_skip_is_lost(runner):
    verdict = runner.judge(hook("no_accelerator"), "test_futures", EMPTY)
    assert not verdict.good
    assert {outcome.status for outcome in verdict.lost} == {"skipped"}


def test_a_wrong_result_is_lost_unless_allowed(runner):
    verdict = runner.judge(hook("broken_timeout"), "test_context", EMPTY)
    assert verdict.good, verdict.explain()
    verdict = runner.judge(hook("broken_timeout"), "test_timeouts", EMPTY)
    assert not verdict.good
    lost = [outcome.id.removeprefix("test.test_asyncio.") for outcome in verdict.lost]
    assert "test_timeouts.TimeoutTests.test_timeout_basic" in lost
    allowlist = Allowlist("\n".join(f"{test} its timeout is broken" for test in lost))
    verdict = runner.judge(hook("broken_timeout"), "test_timeouts", allowlist)
    assert verdict.good, verdict.explain()
    assert len(verdict.allowed) == len(lost)


def test_an_allowed_test_that_passes_is_an_error(runner, interpreter):
    short = ".".join(interpreter.version.split(".")[:2])
    test = "test_context.DecimalContextTest.test_asyncio_task_decimal_context"
    verdict = runner.judge(hook("nothing"), "test_context", Allowlist(f"{test} [{short}] a reason"))
    assert verdict.needless == [f"test.test_asyncio.{test}"]
    assert not verdict.good
    verdict = runner.judge(hook("nothing"), "test_context", Allowlist(f"{test} [2.7] a reason"))
    assert verdict.good


def test_every_allowlist_line_has_a_reason():
    Allowlist.read()
    with pytest.raises(ValueError, match="line 2"):
        Allowlist("# comment\ntest_tasks.SleepTests.test_sleep_zero\n")
    with pytest.raises(ValueError, match="line 1"):
        Allowlist("test_tasks.SleepTests.test_sleep_zero [3.11]")


@pytest.mark.parametrize(
    ("test", "kind"),
    [
        ("test_tasks.CTask_CFuture_Tests.test_cancel", "behavioural"),
        ("test_tasks.CTask_PyFuture_Tests.test_cancel", "behavioural"),
        ("test_tasks.PyTask_CFuture_Tests.test_cancel", "behavioural"),
        ("test_tasks.PyTask_PyFuture_Tests.test_cancel", "pyimpl"),
        ("test_tasks.GenericTaskTests.test_future_subclass", "internal"),
        ("test_base_events.BaseEventLoopTests.test_close", "internal"),
        ("test_events.HandleTests.test_handle", "semi"),
        ("test_proactor_events.BaseProactorEventLoopTests.test_ctor", "windows"),
    ],
)
def test_classification(test, kind):
    assert classify(f"test.test_asyncio.{test}") == kind


def test_the_readme_has_the_table_of_the_results():
    text = table.README.read_text()
    assert table.replaced(text, table.read()) == text
    assert {version.rpartition(".")[0] for version in table.read()} == {"3.11", "3.12", "3.13", "3.14", "3.15"}


def test_a_table_goes_between_its_marks():
    counts = {"behavioural": [1, 2], "semi": [3, 4]}
    results = {
        "3.9.1": {"test_asyncio": counts, "outside": counts},
        "3.10.0": {"test_asyncio": counts, "outside": counts},
    }
    text = table.replaced(f"a\n{table.BEGIN}\nold\n{table.END}\nb\n", results)
    assert text.startswith(f"a\n{table.BEGIN}\n| Python |")
    assert text.endswith(f"| 3.10.0 | 1 of 2 | 3 of 4 | 1 of 2 |\n{table.END}\nb\n")
    with pytest.raises(ValueError, match="README"):
        table.replaced("no marks", results)
