"""Runs ONE test module in this interpreter and reports each test as a JSON line to a file descriptor.

Started by runner.py, in an interpreter that may know nothing of this repository: imports the standard library only.
Whatever must happen before asyncio's tests are imported happens here.
"""

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def resolve(spec: str) -> Any:
    """``module:attribute.attribute`` to the object."""
    module, _, path = spec.partition(":")
    found = importlib.import_module(module)
    for name in filter(None, path.split(".")):
        found = getattr(found, name)
    return found


class Events:
    """The pipe to the runner. Only this process writes: a forked child of a test stays silent."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pid = os.getpid()
        os.set_inheritable(fd, False)

    def emit(self, event: str, **fields: object) -> None:
        if os.getpid() != self.pid:
            return
        line = memoryview((json.dumps({"event": event, **fields}, default=str) + "\n").encode("ascii"))
        while line:
            line = line[os.write(self.fd, line) :]


def substitute_loop(spec: str) -> None:
    """Mode ``loop``: every public way to a default event loop gives the substitute."""
    import asyncio
    from asyncio import unix_events

    factory: Callable[[], Any] = resolve(spec)
    stdlib_loop = unix_events.SelectorEventLoop
    probe = factory()
    accepted = (stdlib_loop, type(probe))
    probe.close()

    class Substitute(type):
        def __instancecheck__(cls, instance):
            return isinstance(instance, accepted)

        def __subclasscheck__(cls, subclass):
            return issubclass(subclass, accepted)

        def __call__(cls, *args, **kwargs):
            return factory()

    class SelectorEventLoop(metaclass=Substitute):
        pass

    for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        policy = getattr(unix_events, name, None)
        if policy is not None:
            policy._loop_factory = staticmethod(factory)
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, SelectorEventLoop)


def tolerate_loops_without_privates() -> None:
    """test_asyncio.utils.TestCase.close_loop reads ``loop._default_executor``."""
    from test.test_asyncio import utils

    original = utils.TestCase.close_loop

    def close_loop(loop):
        if hasattr(loop, "_default_executor"):
            original(loop)
        elif not loop.is_closed():
            try:
                loop.run_until_complete(loop.shutdown_default_executor())
            except RuntimeError:
                pass
            loop.close()

    utils.TestCase.close_loop = staticmethod(close_loop)


def flatten(suite: Any) -> Iterator[Any]:
    for item in suite:
        if hasattr(item, "__iter__"):
            yield from flatten(item)
        else:
            yield item


def make_result(events: Events) -> Any:
    import traceback
    import unittest

    class Result(unittest.TestResult):
        """Streams start and stop of each test; the worst thing that happened in it is its status."""

        severity = ("passed", "skipped", "xfail", "failed", "error")

        def __init__(self):
            super().__init__()
            self.id = None

        def startTest(self, test):
            super().startTest(test)
            self.id, self.status, self.text, self.started = test.id(), "passed", [], time.monotonic()
            events.emit("start", id=self.id)

        def stopTest(self, test):
            super().stopTest(test)
            if self.id is None:  # 3.12.1 stops the tests of a skipped class without having started them
                return
            seconds = round(time.monotonic() - self.started, 3)
            text = "\n".join(self.text)[-6000:]
            events.emit("stop", id=self.id, status=self.status, text=text, seconds=seconds)
            self.id = None

        def note(self, test, status, text=""):
            if self.id is None:  # setUpClass, setUpModule, an import
                events.emit("start", id=test.id())
                events.emit("stop", id=test.id(), status=status, text=text[-6000:], seconds=0)
                return
            if self.severity.index(status) > self.severity.index(self.status):
                self.status = status
            if text:
                self.text.append(text)

        def addFailure(self, test, err):
            self.note(test, "failed", "".join(traceback.format_exception(*err)))

        def addError(self, test, err):
            self.note(test, "error", "".join(traceback.format_exception(*err)))

        def addSkip(self, test, reason):
            self.note(test, "skipped", reason)

        def addExpectedFailure(self, test, err):
            self.note(test, "xfail")

        def addUnexpectedSuccess(self, test):
            self.note(test, "failed", "unexpected success")

        def addSubTest(self, test, subtest, err):
            if err is not None:
                status = "failed" if issubclass(err[0], test.failureException) else "error"
                self.note(test, status, f"subtest {subtest}\n" + "".join(traceback.format_exception(*err)))

    return Result()


def main() -> None:
    config = json.loads(sys.argv[1])
    del sys.argv[1:]
    sys.path[:1] = config["path"]  # instead of this file's own directory
    # a run that was started in the background by a shell has inherited an ignored SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    events = Events(config["events"])

    if config["mode"] == "takeover":
        resolve(config["hook"])()
    elif config["mode"] == "loop":
        substitute_loop(config["hook"])

    import unittest
    from test import support
    from test.support import os_helper

    support.use_resources = config["resources"]
    support.verbose = False
    if config["mode"] != "stdlib":
        tolerate_loops_without_privates()

    try:
        tests = list(flatten(unittest.TestLoader().loadTestsFromName(config["module"])))
    except unittest.SkipTest as reason:
        events.emit("module skipped", reason=str(reason))
        return
    if any(type(test).__name__ == "ModuleSkipped" for test in tests):
        events.emit("module skipped", reason="the module skips itself")
        return
    if config["list"]:
        for test in tests:
            events.emit("test", id=test.id())
        events.emit("done")
        return
    skip, only = set(config["skip"]), config["only"]
    suite = unittest.TestSuite(test for test in tests if test.id() not in skip and (only is None or test.id() in only))
    with os_helper.temp_cwd(quiet=True):
        suite(make_result(events))
    events.emit("done")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a thread that a failing test left behind must not hang the run


if __name__ == "__main__":  # multiprocessing's spawn imports this file a second time
    main()
