"""What the tests share. `aio` in their signatures is the module under test (see conftest.py)."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: the name of the module under test
IMPLEMENTATION = os.environ.get("AIOXIDE_TEST_IMPL", "aioxide")
STDLIB = IMPLEMENTATION == "asyncio"


def newer(version: tuple[int, int]) -> pytest.MarkDecorator:
    """API that asyncio has from `version` on and aioxide on every version."""
    return pytest.mark.skipif(STDLIB and sys.version_info < version, reason=f"asyncio before {version[0]}.{version[1]}")


def run(aio: Any, main: Coroutine[Any, Any, Any], *, debug: bool | None = None) -> Any:
    """asyncio.run on the implementation's own loop, whatever the policy says."""
    with aio.Runner(debug=debug, loop_factory=aio.new_event_loop) as runner:
        return runner.run(main)


def run_hops(aio: Any, main: Coroutine[Any, Any, Any]) -> tuple[Any, int]:
    """The result, and how many iterations of the loop passed between the first step of main() and its end."""
    hops = 0
    running = True

    def tick() -> None:
        nonlocal hops
        if running:
            hops += 1
            aio.get_running_loop().call_soon(tick)

    async def counted() -> tuple[Any, int]:
        nonlocal running
        aio.get_running_loop().call_soon(tick)
        try:
            result = await main
        finally:
            running = False
        return result, hops

    return run(aio, counted())


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Waits for the condition to come true, for things that the kernel or another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this never came true"
        await asyncio.sleep(0.001)


class Log(asyncio.Protocol):
    """A protocol that writes down what it is told."""

    #: what it answers to `eof_received()`
    keep_open = False

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.data = bytearray()
        self.transport: Any = None
        self.lost = asyncio.get_running_loop().create_future()
        self.made = asyncio.Event()
        self.ended = asyncio.Event()
        self.changed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.events.append("data")
        self.data += data
        self.changed.set()

    async def receive(self, count: int) -> bytes:
        """Waits for so many bytes, and takes them out."""
        while len(self.data) < count:
            assert not self.lost.done(), "the end came too early"
            self.changed.clear()
            await asyncio.wait([asyncio.ensure_future(self.changed.wait()), self.lost], return_when="FIRST_COMPLETED")
        found = bytes(self.data[:count])
        del self.data[:count]
        return found

    def eof_received(self) -> bool:
        self.events.append("eof")
        self.ended.set()
        return self.keep_open

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        if not self.lost.done():
            self.lost.set_result(exc)


class DatagramLog(asyncio.DatagramProtocol):
    """A protocol that writes down which datagrams and errors come."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.transport: Any = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.events.append((data, address))

    def error_received(self, exc: OSError) -> None:
        self.events.append(exc)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        if not self.lost.done():
            self.lost.set_result(exc)

    @property
    def received(self) -> list[Any]:
        return [event[0] for event in self.events if isinstance(event, tuple)]

    @property
    def errors(self) -> list[OSError]:
        return [event for event in self.events if isinstance(event, OSError)]


class Reports:
    """An exception handler that keeps what it is told."""

    def __init__(self) -> None:
        self.contexts: list[dict[str, Any]] = []

    def __call__(self, loop: Any, context: dict[str, Any]) -> None:
        self.contexts.append(context)

    @property
    def messages(self) -> list[str]:
        return [context["message"] for context in self.contexts]


def python(source: str, *args: str, env: dict[str, str] | None = None, timeout: float = 50, **kwargs: Any) -> Any:
    """A fresh interpreter runs the source; `aio` is bound to the module under test. Returns the CompletedProcess."""
    head = f"import {IMPLEMENTATION} as aio\n" if kwargs.pop("aio", True) else ""
    return interpreter(
        "-X", "faulthandler", "-c", head + textwrap.dedent(source), *args, env=env, timeout=timeout, **kwargs
    )


def interpreter(*args: str, env: dict[str, str] | None = None, timeout: float = 50, **kwargs: Any) -> Any:
    kwargs.setdefault("check", False)
    environment = {**os.environ, **(env or {})}
    if "AIOXIDE_TAKEOVER" not in (env or {}):
        environment.pop("AIOXIDE_TAKEOVER", None)  # the tests' own, not the program's
    return subprocess.run(
        [sys.executable, *args],
        cwd=kwargs.pop("cwd", ROOT),
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout,
        **kwargs,
    )


def place_of(warning: Any) -> str:
    """`asyncio/streams.py`: the file that a warning comes from, by which filters know it."""
    return "/".join(Path(warning.filename).parts[-2:])


def succeeds(source: str, *args: str, **kwargs: Any) -> str:
    """The source in a fresh interpreter: it must end with status 0. Returns what it printed."""
    done = python(source, *args, **kwargs)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def records_in(log: Path) -> list[dict[str, Any]]:
    """What the runtime has said of a program: a JSON object a line."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def records_of(program: str, folder: Path, *options: str, timeout: float = 50, **env: str) -> list[dict[str, Any]]:
    """A fresh interpreter, with these options, runs the program from a file, and must end with status 0. Returns its
    records."""
    path, log = folder / "program.py", folder / "records"
    path.write_text(program)
    log.write_text("")
    interpreter(*options, str(path), env={"AIOXIDE_DIAG_LOG": f"jsonl:{log}", **env}, timeout=timeout, check=True)
    return records_in(log)


def fuzz(name: str, doc: str | None, judges: Any, program: Callable[[random.Random], Any]) -> int:
    """The command line of a differential fuzzer: random programs until the time is over or one differs.

    `judges` is a context manager with `differs(program)`: what differs, or None.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=doc)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    options = parser.parse_args()
    rng, end, count = random.Random(options.seed), time.monotonic() + options.seconds, 0
    with judges:
        while time.monotonic() < end:
            difference = judges.differs(program(rng))
            count += 1
            if difference:
                print(f"seed {options.seed}, program {count}:\n{difference}")
                return 1
    print(f"seed {options.seed}: {count} programs, no difference")
    return 0
