"""The module under test, and a deadline for every test.

AIOXIDE_TEST_IMPL=asyncio runs the tests on the standard library: that is how they are validated.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
from types import ModuleType

import pytest

from tests.support import IMPLEMENTATION

DEADLINE = 60.0
#: files that watch their own subprocesses
OWN_DEADLINE = ("test_conformance", "test_benchmarks", "test_examples")

_stderr = -1


def pytest_configure(config: pytest.Config) -> None:
    global _stderr
    config.addinivalue_line("markers", "deadline(seconds): this test may take longer than a minute")
    # the real one: pytest captures descriptor 2, and what a dying process says there is lost
    _stderr = os.dup(2)
    # a shell starts what runs in the background with ^C ignored, which programs of the tests would inherit
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def aio() -> ModuleType:
    """What the tests call asyncio."""
    return importlib.import_module(IMPLEMENTATION)


@pytest.fixture(autouse=True)
def _deadline(request: pytest.FixtureRequest):
    """A hang in native code stops even signal handlers; faulthandler's thread shows every stack and ends the process."""
    if request.path.stem.startswith(OWN_DEADLINE):
        yield
        return
    marker = request.node.get_closest_marker("deadline")
    faulthandler.dump_traceback_later(marker.args[0] if marker else DEADLINE, exit=True, file=_stderr)
    yield
    faulthandler.cancel_dump_traceback_later()
