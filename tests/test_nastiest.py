"""The twenty behaviours of asyncio that are hardest to get right, each with the tests of CPython's that are about it.

They run here by name, on aioxide in takeover mode, and each of them must pass; a name that CPython does not have any more is an
error. Beside them stand the tests of our own on the same matter.
"""

from __future__ import annotations

import ast
import os
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.conformance.classify import classify
from tests.conformance.runner import PASSED, Interpreter, Runner, Target

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Behaviour:
    """`cpython`: file to names of tests, or patterns "Class.test"; behind one, the first version that has it, if not all do.
    `ours`: "file::test".
    """

    cpython: dict[str, str]
    ours: str = ""

    def patterns(self) -> dict[str, list[str]]:
        """Those that this Python is to have."""
        found: dict[str, list[str]] = {}
        for file, names in self.cpython.items():
            for name in names.split():
                pattern, _, since = name.partition(">=")
                if sys.version_info >= tuple(int(part) for part in since.split(".") if part):
                    found.setdefault(file, []).append(pattern if "." in pattern else f"*.{pattern}")
        return found


NASTIEST = {
    "a cancellation that is due replaces a wake-up; uncancel() takes it back": Behaviour(
        {
            "test_tasks": (
                "test_cancel_awaited_task test_cancel_at_end test_uncancel_resets_must_cancel>=3.13"
                " test_cancel_current_task"
            ),
        },
        "tasks::test_uncancel_to_zero_takes_the_request_back",
    ),
    "one CancelledError, its message, its chain": Behaviour(
        {
            "test_tasks": (
                "test_cancel_with_message_then_future_result"
                " test_cancel_with_message_before_starting_task test_cancellation_exception_context"
                " test_cancel_traceback_for_future_result"
            ),
            "test_futures": "test_future_cancelled_result_refcycles>=3.14",
        },
    ),
    "somebody else's loop, whose call_soon is evil, overridden or fails": Behaviour(
        {
            "test_tasks": "test_error_in_call_soon test_context_already_entered_leaves_loop_usable>=3.15",
            "test_futures": (
                "test_evil_call_soon_list_mutation>=3.14"
                " test_use_after_free_on_fut_callback_0_with_evil__getattribute__>=3.14"
            ),
        },
    ),
    "callbacks that change the list of callbacks": Behaviour(
        {
            "test_futures": (
                "test_remove_done_callbacks_list_mutation test_schedule_callbacks_list_mutation_1"
                " test_schedule_callbacks_list_mutation_2"
                " test_use_after_free_on_fut_callback_0_with_evil__eq__>=3.14"
            ),
        },
    ),
    "finalizers: reports, cycles, resurrection": Behaviour(
        {
            "test_tasks": (
                "test_log_destroyed_pending_task test_task_del_collect"
                " test_register_task_resurrection>=3.14 test_task_not_crash_without_finalization>=3.14"
                " test_task_created_during_thread_state_clear>=3.14"
            ),
            "test_futures": "test_future_del_collect test_tb_logger_exception_unretrieved",
        },
        "gc::test_cycle_is_collected",
    ),
    "objects that nobody has initialised": Behaviour(
        {
            "test_futures": (
                "test_uninitialized test_inherit_without_calling_super_init"
                " test_future_disallow_multiple_initialization>=3.15"
            ),
            "test_tasks": (
                "test_get_context_uninitialized_segfault>=3.14 test_task_disallow_multiple_initialization>=3.15"
            ),
        },
        "gc::test_uninitialised",
    ),
    "tasks and futures of different families": Behaviour(
        {
            "test_tasks": (
                "CTask_PyFuture_Tests.test_* PyTask_CFuture_Tests.test_*"
                " CTaskSubclass_PyFuture_Tests.test_* test_subclasses_ctask_cfuture"
            ),
            "test_futures": "DuckTests.test_*",
        },
    ),
    "the iterator of a future": Behaviour(
        {
            "test_futures": (
                "test_future_iter_throw test_iter test_yield_from_twice test_futureiter_send_after_throw_no_crash>=3.14"
            ),
        },
    ),
    "eager tasks": Behaviour(
        {
            "test_eager_task_factory": "CEagerTaskFactoryLoopTests.test_*>=3.12 test_issue122332>=3.13",
            "test_taskgroups": "TestEagerTaskTaskGroup.test_*>=3.14 test_cancels_task_if_created_during_creation>=3.14",
        },
        "interop::test_eager_tasks_inside_each_other",
    ),
    "task groups: who wins, and what is left": Behaviour(
        {
            "test_taskgroups": (
                "test_cancelling_level_preserved>=3.13 test_nested_groups_both_cancelled>=3.13"
                " test_error_and_cancel>=3.13 test_exception_refcycles_*>=3.14"
                " test_taskgroup_cancel_keeps_outer_cancellation>=3.15"
                " test_taskgroup_generator_exit_0*>=3.15"
            ),
        },
    ),
    "races of timeouts": Behaviour(
        {
            "test_waitfor": (
                "test_wait_for_race_condition test_wait_for_cancellation_race_condition"
                " test_wait_for_waits_for_task_cancellation_w_timeout_0"
            ),
            "test_timeouts": (
                "test_nested_timeouts_concurrent test_cancel_in_timeout_after_cancellation"
                " test_foreign_cancel_doesnt_timeout_if_not_expired"
            ),
        },
    ),
    "Ctrl-C": Behaviour(
        {
            "test_runners": "test_interrupt_wait test_interrupt_call_soon test_interrupt_cancelled_task",
            "test_events": "test_signal_handling_while_selecting",
        },
    ),
    "handles that other threads cancel": Behaviour(
        {
            "test_events": (
                "test_call_soon_threadsafe_handle_block_cancellation>=3.14"
                " test_call_soon_threadsafe_handle_cancel_other_thread>=3.14 test_call_soon_threadsafe"
            ),
            "test_free_threading": "test_*>=3.14",
            "test_tasks": "RunCoroutineThreadsafeTests.test_*",
        },
        "robustness::test_call_soon_threadsafe_from_four_threads",
    ),
    "forks": Behaviour(
        {
            "test_unix_events": (
                "test_fork_not_share_event_loop>=3.12 test_fork_not_share_current_task>=3.14"
                " test_fork_signal_handling>=3.12 test_fork_asyncio_run>=3.12"
                " test_fork_asyncio_subprocess>=3.12"
            ),
        },
        "robustness::test_fork_in_a_running_loop robustness::test_fork_leaves_the_parents_descriptors_alone",
    ),
    "sock_*: cancelled, raced, closed": Behaviour(
        {
            "test_sock_lowlevel": (
                "test_sock_client_racing test_sock_client_connect_racing test_sock_accept_racing>=3.14"
                " test_cancel_sock_accept"
            ),
            "test_events": "test_remove_fds_after_closing",
            "test_unix_events": "test_add_reader_or_writer_transport_fd",
        },
    ),
    "TLS: shutdown, trailing data, leaks, slow peers": Behaviour(
        {
            "test_ssl": (
                "test_remote_shutdown_receives_trailing_data test_flush_before_shutdown"
                " test_shutdown_timeout_handler_leak"
                " test_shutdown_timeout_after_eof_from_not_reading_peer>=3.14"
                " test_create_connection_memory_leak"
            ),
            "test_sslproto": "SelectorStartTLSTests.test_*",
            "test_streams": "test_start_tls_buffered_data>=3.14",
        },
    ),
    "closing a server": Behaviour(
        {
            "test_server": (
                "test_wait_closed_race>=3.12 test_close_clients>=3.13 test_abort_clients>=3.13"
                " test_close_with_hanging_client>=3.14 UnixServerCleanupTests.test_*>=3.13"
            ),
        },
    ),
    "the end of a child and the end of its pipes": Behaviour(
        {
            "test_subprocess": (
                "test_wait_even_if_pipe_is_open>=3.14 test_read_stdout_after_process_exit"
                " test_kill_issue43884 test_cancel_make_subprocess_transport_exec"
                " test_subprocess_send_signal_race>=3.13 test_send_signal_never_targets_reaped_pid>=3.14"
            ),
        },
    ),
    "contextvars": Behaviour(
        {
            "test_tasks": ("test_context_1 test_context_2 test_context_3 test_context_4 test_context_5 test_context_6"),
            "test_eager_task_factory": "test_context_vars>=3.12",
            "test_server_context": "test_*>=3.15",
            "test_runners": "test_run_keeps_context",
        },
    ),
    "who is current, and who awaits whom": Behaviour(
        {
            "test_graph": "TestCallStackC.test_*>=3.14",
            "test_tasks": (
                "test_wait_discards_awaited_by_for_pending>=3.14"
                " test_gather_discards_awaited_by_for_cancelled_sibling>=3.14 CIntrospectionTests.test_*"
            ),
            "test_free_threading": "test_all_tasks_different_thread>=3.14",
        },
        "tasks::test_functions_of_ours_are_seen_where_they_wait",
    ),
}


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(Interpreter.probe(sys.executable), path=[str(TESTS.parent / "python")])


@pytest.mark.skipif(os.environ.get("AIOXIDE_CONFORMANCE") == "0", reason="AIOXIDE_CONFORMANCE=0")
@pytest.mark.parametrize("behaviour", NASTIEST)
def test_behaviour(runner, behaviour):
    for file, patterns in NASTIEST[behaviour].patterns().items():
        known = [test for test in runner.tests(file) if classify(test) in ("behavioural", "semi")]
        chosen = set()
        for pattern in patterns:
            found = {test for test in known if fnmatchcase(test, f"*.{pattern}")}
            assert found, f"{file} has no {pattern}"
            chosen |= found
        outcomes = runner.run(Target("takeover"), file, chosen)
        assert outcomes.keys() == chosen
        not_passed = [outcome for outcome in outcomes.values() if outcome.status not in PASSED]
        baseline = runner.baseline(file, [outcome.id for outcome in not_passed])
        lost = [outcome for outcome in not_passed if baseline[outcome.id] in PASSED]
        assert len(not_passed) < len(chosen)
        assert not lost, "\n".join(f"{outcome.line()}\n{outcome.text}" for outcome in lost)


@pytest.mark.parametrize("behaviour", [name for name, behaviour in NASTIEST.items() if behaviour.ours])
def test_our_own_tests_exist(behaviour):
    for name in NASTIEST[behaviour].ours.split():
        file, _, test = name.partition("::")
        tree = ast.parse((TESTS / f"test_{file}.py").read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_there_are_twenty():
    assert len(NASTIEST) == 20
