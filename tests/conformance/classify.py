"""What kind of test is it? Decides what a reimplementation of asyncio must pass.

behavioural  the public API, and what third parties rely on (``_enter_task``, ``_asyncio_future_blocking``, the getsets
             of the C Future and Task). Must pass.
semi         public behaviour, but the test reads or patches a private attribute (``reader._buffer``,
             ``loop._run_once``, …: semi.json names it). Passed where that is cheap.
pyimpl       CPython's pure-Python Task or Future against themselves: says nothing of another implementation.
internal     tests CPython's Python code through mocks and privates.
windows      Windows, or the proactor.
"""

import json
import re
from pathlib import Path
from typing import Literal

Kind = Literal["behavioural", "semi", "pyimpl", "internal", "windows"]

# "test_file.test_name" to the private attributes that the test touches
_SEMI = json.loads(Path(__file__).with_name("semi.json").read_text())

_INTERNAL_FILES = {"test_selector_events", "test_tools"}
_WINDOWS_FILES = {"test_proactor_events", "test_windows_events", "test_windows_utils"}
_SEMI_FILES = {"test_staggered"}  # asyncio.staggered is in no __all__

_INTERNAL_CLASSES = {
    "test_base_events": {
        "BaseEventLoopTests",
        "BaseEventLoopWithSelectorTests",
        "BaseEventTests",
        "BaseLoopSockSendfileTests",
        "TestSelectorUtils",
    },
    "test_sslproto": {"SslProtoHandshakeTests"},
    "test_subprocess": {"SubprocessTransportTests"},
    "test_tasks": {"GenericTaskTests"},
    "test_unix_events": {
        "AbstractChildWatcherTests",
        "BaseChildWatcherTests",
        "FastChildWatcherTests",
        "PidfdChildWatcherTests",
        "SafeChildWatcherTests",
        "SelectorEventLoopSignalTests",
        "SelectorEventLoopUnixSockSendfileTests",
        "UnixReadPipeTransportTests",
        "UnixWritePipeTransportTests",
    },
}
_SEMI_CLASSES = {
    "test_events": {"HandleTests", "TimerTests"},
    "test_transports": {"TransportTests"},
    "test_unix_events": {"PolicyTests"},
}
# they mock the socket or subprocess module as CPython's Python code sees it
_SEMI_TESTS = {
    "test_events.test_create_server_multiple_hosts_ipv4",
    "test_events.test_create_server_multiple_hosts_ipv6",
    "test_events.test_unclosed_pipe_transport",
    "test_subprocess.test_close_dont_kill_finished",
    "test_subprocess.test_pause_reading",
    "test_subprocess.test_popen_error",
    "test_subprocess.test_popen_error_with_stdin_pipe",
}
_PYIMPL_CLASS = re.compile(
    r"PyTask_PyFuture\w*|PyFuture\w*|PyIntrospectionTests|PyCurrentLoopTests|PyEagerTaskFactoryLoopTests"
    r"|NonEagerPyTaskTests|EagerPyTaskTests|TestPyGetEventLoop|TestCallStackPy|TestPyFreeThreading|TestEagerPyFreeThreading"
)
_TEST_ID = re.compile(r"test_asyncio\.(test_\w+)\.(\w+)\.(\w+)")


def classify(test_id: str) -> Kind:
    """The kind of a unittest id such as ``test.test_asyncio.test_tasks.SleepTests.test_sleep_zero``."""
    found = _TEST_ID.search(test_id)
    if not found:
        return "behavioural"
    file, class_name, test = found.groups()
    if file in _WINDOWS_FILES or "Proactor" in class_name or "windows" in test.lower():
        return "windows"
    if file in _INTERNAL_FILES or class_name in _INTERNAL_CLASSES.get(file, ()):
        return "internal"
    if _PYIMPL_CLASS.fullmatch(class_name):
        return "pyimpl"
    key = f"{file}.{test}"
    if file in _SEMI_FILES or class_name in _SEMI_CLASSES.get(file, ()) or key in _SEMI or key in _SEMI_TESTS:
        return "semi"
    return "behavioural"
