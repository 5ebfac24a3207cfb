"""``python -m aioxide`` without arguments: asyncio's interactive console, with await at the prompt."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import aioxide
from tests.support import IMPLEMENTATION, STDLIB, interpreter

PATIENCE = 30.0


class Console:
    """One on a terminal of its own."""

    def __init__(self) -> None:
        ours, theirs = pty.openpty()
        # the plain prompt, without colours or a line editor, on every version
        environment = {**os.environ, "PYTHON_BASIC_REPL": "1", "TERM": "dumb", "NO_COLOR": "1", "PYTHONSTARTUP": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-m", IMPLEMENTATION],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            # a background job starts with ^C ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
            start_new_session=True,
        )
        os.close(theirs)
        self.terminal = ours
        self.seen = ""

    def expect(self, pattern: str) -> str:
        """What came until then."""
        end = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.seen, re.DOTALL)):
            if not select.select([self.terminal], [], [], max(0, end - time.monotonic()))[0]:
                pytest.fail(f"no {pattern!r} in {self.seen!r}")
            try:
                self.seen += os.read(self.terminal, 4096).decode().replace("\r", "")
            except OSError:  # the other side is closed
                pytest.fail(f"it ended without {pattern!r}: {self.seen!r}")
        before, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return before

    def type(self, line: str) -> None:
        os.write(self.terminal, line.encode() + b"\n")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)


@pytest.fixture
def console() -> Iterator[Console]:
    one = Console()
    yield one
    one.close()


@pytest.mark.skipif(STDLIB, reason="asyncio does not name aioxide")
def test_it_says_whose_asyncio_it_is(console):
    shown = console.expect(r">>> import asyncio\n")
    assert shown.startswith(f"aioxide {aioxide.__version__}: asyncio is aioxide in this console.\n")


def test_a_conversation(console):
    console.expect(r">>> import asyncio\n>>> ")
    console.type("await asyncio.sleep(0.01, 'slept')")
    console.expect(r"'slept'\n>>> ")
    console.type("type(asyncio.get_running_loop()).__module__")
    console.expect(r"'asyncio\.unix_events'\n>>> " if STDLIB else r"'aioxide'\n>>> ")
    console.type("task = asyncio.create_task(asyncio.sleep(0.01, 'later'))")
    console.expect(">>> ")
    console.type("await task")
    console.expect(r"'later'\n>>> ")
    console.type("1 / 0")
    console.expect(r"ZeroDivisionError: division by zero\n>>> ")
    console.type("exit()")
    assert console.process.wait(PATIENCE) == 0


def test_control_c_ends_what_is_awaited_and_not_the_console(console):
    console.expect(r">>> import asyncio\n>>> ")
    for _ in range(3):
        console.type("print('begun') or await asyncio.sleep(1000)")
        console.expect(r"begun\n")
        time.sleep(0.1)
        console.process.send_signal(signal.SIGINT)
        console.expect(r"KeyboardInterrupt\n>>> ")
    console.type("1 + 1")
    console.expect(r"2\n>>> ")
    console.type("raise SystemExit(7)")
    assert console.process.wait(PATIENCE) == 7


def test_what_comes_by_a_pipe():
    """Without a terminal too."""
    done = interpreter("-m", IMPLEMENTATION, input="await asyncio.sleep(0, 'done')\n")
    assert "'done'" in done.stdout
    assert done.returncode == 0
