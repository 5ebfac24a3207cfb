"""What the programs share: how they are run, where the servers are, and which loop they have to find.

The runner says by the environment which way a program runs: ``takeover`` (it was started by ``python -m aioxide``),
``loop`` (asyncio as it is, on our loop) or ``stdlib``. A program that finds another loop fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aioxide

ROOT = Path(__file__).resolve().parents[2]
#: this variable tells a program its mode; the servers have ``AIOXIDE_ECOSYSTEM_<NAME>``
VARIABLE = "AIOXIDE_ECOSYSTEM_MODE"
MODE = os.environ.get(VARIABLE, "stdlib")
#: the module of the class of every loop that a program or a child of it may have
EXPECTED = "asyncio.unix_events" if MODE == "stdlib" else "aioxide"
#: in which this process makes its loops
LOOP_FACTORY = aioxide.new_event_loop if MODE == "loop" else None


def loop_module() -> str:
    return type(asyncio.get_running_loop()).__module__


def check() -> None:
    """The running loop, and in takeover asyncio itself, are those that this run is about."""
    assert loop_module() == EXPECTED, f"the loop is of {loop_module()}, not of {EXPECTED}"
    assert (asyncio.Queue is aioxide.Queue) is (MODE == "takeover"), "asyncio itself is not what the mode says"


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """The program. What it leaves behind (a task, a callback) has time to complain."""

    async def checked() -> None:
        check()
        async with asyncio.timeout(60):
            await main()
        await asyncio.sleep(0.02)
        check()

    with asyncio.Runner(loop_factory=LOOP_FACTORY) as runner:
        runner.run(checked())
    print("ran on", EXPECTED)


def server(name: str) -> tuple[str, int]:
    """Host and port of a server that the runner has started."""
    host, _, port = os.environ[f"AIOXIDE_ECOSYSTEM_{name.upper()}"].rpartition(":")
    return host, int(port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def python(*args: str) -> list[str]:
    """The command line of a Python program of the mode."""
    return [sys.executable, *(["-m", "aioxide"] if MODE == "takeover" else []), *args]


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Waits for another process, or for another thread."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.asynccontextmanager
async def serving(port: int, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server in a process of its own. It must end when it is asked to, and without a traceback."""
    # a file: a pipe would be open for as long as a worker that was forgotten lives
    with tempfile.TemporaryFile("w+") as output:

        def said() -> str:
            output.seek(0)
            return output.read()

        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=output, stderr=output)
        try:
            await until(lambda: process.returncode is not None or listens(port))
            yield process
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                await process.wait()
            text = said()
            assert "Traceback" not in text, "the server complained"
        except BaseException:
            print(said(), file=sys.stderr)
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
