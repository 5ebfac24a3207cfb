"""Does the watchdog see what blocks a loop, while it does, and nothing else? And what does watching cost?

    python -m benchmarks.blocks                    # all of it, quickly
    python -m benchmarks.blocks detect --blocks 100
    python -m benchmarks.blocks idle echo --minutes 10
    python -m benchmarks.blocks churn --captures 1000000
    python -m benchmarks.blocks overhead --pairs 20

For the Python that runs it. ``detect``: blocks of 130 ms, at the default threshold of 100 ms; one is right if its
record names the line, and was written before the block was over. ``idle`` and ``echo`` (a server whose clients keep it
busy half of the time) count the records of blocks that were none. ``churn`` reads the stack of a thread that never
holds still. ``overhead``: CPU time with and without (``AIOXIDE_DIAG=0``), of pairs of processes that take turns.
"""

import argparse
import asyncio
import functools
import gc
import json
import math
import os
import platform
import re
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import aioxide
from aioxide import diag
from aioxide._core import diag as core

#: seconds
BLOCK = 0.13
PARTS = ("detect", "idle", "echo", "churn", "overhead")


class Records:
    """A file that records of blocks go to."""

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(suffix=".jsonl")
        os.close(handle)
        self.path = Path(name)
        self.read = 0
        diag.configure(block_ms=100, block_repeat="all", log=f"jsonl:{name}")

    def new(self) -> list[dict[str, Any]]:
        with self.path.open() as file:
            file.seek(self.read)
            text = file.read()
            self.read = file.tell()
        return [record for record in map(json.loads, text.splitlines()) if record["ev"] == "block"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        diag.configure(log="logging")
        self.path.unlink()


# --- what blocks ---


@functools.cache
def sized(work: Callable[[int], object], seconds: float = BLOCK) -> int:
    """How much of `work` takes so much CPU time here (the machine may have other things to do)."""

    def took(size: int) -> float:
        def once() -> float:
            before = time.thread_time()
            work(size)
            return time.thread_time() - before

        return min(once() for _ in range(3))

    low, high = 1, 2
    while took(high) < seconds:
        low, high = high, high * 2 if work is sums else high + 1
    while work is sums and high - low > high // 50:
        middle = (low + high) // 2
        low, high = (middle, high) if took(middle) < seconds else (low, middle)
    return high


def sums(size: int) -> int:
    return sum(range(size))


def backtracks(size: int) -> object:
    return re.match("(a+)+b", "a" * size)


def sleeps() -> None:
    time.sleep(BLOCK)  # blocks


def loops() -> None:
    end = time.perf_counter() + BLOCK
    while time.perf_counter() < end:  # blocks
        pass  # blocks


def calls_c() -> None:
    sum(range(sized(sums)))  # blocks


def matches() -> None:
    re.match("(a+)+b", "a" * sized(backtracks))  # blocks


def receives() -> None:
    ours, theirs = socket.socketpair()
    answer = threading.Timer(BLOCK, theirs.send, (b"late",))
    answer.start()
    ours.recv(1)  # blocks
    answer.join()
    ours.close()
    theirs.close()


def waits_for_sqlite() -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = (sqlite3.connect(f"{folder}/base", timeout=BLOCK) for _ in range(2))
        first.execute("begin exclusive")
        with suppress(sqlite3.OperationalError):
            second.execute("begin exclusive")  # blocks
        first.close()
        second.close()


KINDS = {
    "time.sleep": sleeps,
    "a Python loop": loops,
    "sum(range(n)), with the GIL": calls_c,
    "a regular expression": matches,
    "socket.recv": receives,
    "a locked sqlite database": waits_for_sqlite,
}


def lines_of(function: Callable[[], None]) -> set[str]:
    """Where it blocks."""
    lines = Path(__file__).read_text().splitlines()
    first = function.__code__.co_firstlineno
    marked = []
    for number, line in enumerate(lines[first:], first + 1):
        if line.startswith(("def ", "KINDS")):
            break
        if line.endswith("# blocks"):
            marked.append(number)
    return {f"{__file__}:{number}:{function.__qualname__}" for number in marked}


async def detect_one(function: Callable[[], None], count: int, records: Records) -> str:
    sized(sums), sized(backtracks)
    right, wrong, missed, live, late = 0, 0, 0, [], []
    places = lines_of(function)

    async def block() -> float:
        before = time.monotonic()
        function()
        took = time.monotonic() - before
        during.extend(record for record in records.new() if record["phase"] == "live")
        return took * 1000

    for _ in range(count):
        await aioxide.sleep(0.02)
        records.new()
        during: list[dict[str, Any]] = []
        took = await aioxide.create_task(block())
        await aioxide.sleep(0)
        ends = [record for record in records.new() if record["phase"] == "end"]
        if not during:
            missed += 1
        elif all(record["culprit"] in places for record in during):
            right += 1
            live.append(during[0]["ms"])
            late += [abs(end["ms"] - took) for end in ends]
        else:
            wrong += 1
    cells = [right, missed, wrong]
    if live:
        cells += [f"{statistics.median(live):.0f}", f"{max(live):.0f}", f"{statistics.median(late):.1f}"]
    return " | ".join(map(str, cells))


def detect(count: int) -> bool:
    print(
        f"| {platform.python_version()}, {count} blocks of {BLOCK * 1000:.0f} ms each | right | missed | wrong |",
        end="",
    )
    print(" seen after, ms | at most | length off by, ms |\n|---|---|---|---|---|---|---|")
    passed = True
    for title, function in KINDS.items():
        with Records() as records:
            line = aioxide.run(detect_one(function, count, records))
        print(f"| {title} | {line} |", flush=True)
        passed &= int(line.split(" | ")[0]) >= count * 0.99
    return passed


# --- what does not block ---


def switches() -> int:
    """How often the thread that watches has been woken."""
    for folder in Path("/proc/self/task").iterdir():
        if (folder / "comm").read_text().strip() == "aioxide-watch":
            return int((folder / "status").read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return 0


def idle(minutes: float) -> bool:
    with Records() as records:
        loop = threading.Thread(target=lambda: aioxide.run(aioxide.sleep(minutes * 60 + 3)))
        loop.start()
        time.sleep(1.5)
        woken = -switches()
        time.sleep(minutes * 60)
        woken += switches()
        loop.join()
        found = records.new()
    print(f"idle for {minutes:g} minutes: {len(found)} records, the watcher was woken {woken} times")
    for record in found:
        print(json.dumps(record))
    return not found and not woken


CLIENTS = """
import asyncio, sys, time
import aioxide

async def client(port, work):
    reader, writer = await aioxide.open_connection("127.0.0.1", port)
    while True:
        before = time.monotonic()
        for _ in range(work):
            writer.write(b"x" * 100)
            await reader.readexactly(100)
        await aioxide.sleep(time.monotonic() - before)

async def main(port):
    await aioxide.gather(*(client(port, 20) for _ in range(10)))

aioxide.run(main(int(sys.argv[1])))
"""


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        global messages
        messages += 1
        self.transport.write(data)


messages = 0


def echo(minutes: float) -> bool:
    async def main() -> tuple[float, float]:
        server = await aioxide.get_running_loop().create_server(Echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        clients = subprocess.Popen([sys.executable, "-c", CLIENTS, str(port)], env={**os.environ, "AIOXIDE_DIAG": "0"})
        try:
            await aioxide.sleep(1)
            cpu, wall = time.thread_time(), time.monotonic()
            await aioxide.sleep(minutes * 60)
            return time.thread_time() - cpu, time.monotonic() - wall
        finally:
            clients.kill()
            clients.wait()
            server.close()

    with Records() as records:
        cpu, wall = aioxide.run(main())
        found = records.new()
    load = f"{messages / wall:,.0f} messages a second, {100 * cpu / wall:.0f} % of a core"
    print(f"echo for {minutes:g} minutes ({load}): {len(found)} records")
    for record in found:
        print(json.dumps(record))
    return not found


# --- a stack that never holds still ---


class Pauses:
    def __await__(self):
        yield


def churn(stop: threading.Event) -> None:
    """The stack, the code on it and the objects around it are never the same for long."""

    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    def count(n: int) -> Any:
        yield from range(n)

    async def waits(n: int) -> None:
        for _ in range(n):
            await Pauses()

    def descend(depth: int) -> None:
        if depth:
            descend(depth - 1)
        else:
            raise ValueError

    while not stop.is_set():
        exec(compile("def f(x):\n    return fibonacci(x)\nf(4)", "<churn>", "exec"), {"fibonacci": fibonacci})
        sum(count(20))
        coroutine = waits(3)
        with suppress(StopIteration):
            while True:
                coroutine.send(None)
        with suppress(ValueError):
            descend(20)
        gc.collect(0)


def captures(count: int) -> bool:
    stop = threading.Event()
    thread = threading.Thread(target=churn, args=(stop,))
    thread.start()
    done = frames = consistent = strange = 0
    own = {__file__, "<churn>", threading.__file__, sys.modules["contextlib"].__file__}
    before = time.perf_counter()
    try:
        while done < count:
            made, found, still, seen = core._capture(thread.ident, min(100_000, count - done))
            done, frames, consistent = done + made, frames + found, consistent + still
            for (file, function), number in seen.items():
                if file not in own:
                    strange += number
                    print("strange:", file, function, number)
    finally:
        stop.set()
        thread.join()
    each = (time.perf_counter() - before) / done * 1e6
    print(
        f"{done:,} captures of a stack that never holds still: {frames:,} frames, {consistent / done:.1%} consistent, "
        f"{strange} frames of files that the thread does not use, {each:.0f} µs each, no crash",
        flush=True,
    )
    return strange <= frames / 100_000


# --- what it costs ---

#: A process that does so much of one thing each time that it is told to, and says how much CPU time all of its threads
#: have used for it. In between its loop does not run.
MEASURED = """
import asyncio, os, sys, time
import aioxide
from benchmarks.implementations import load
from benchmarks.operations import OPERATIONS

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def echo(_, count):
    server = await aioxide.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    reader, writer = await aioxide.open_connection(*server.sockets[0].getsockname())
    for _ in range(count):
        writer.write(b"x" * 100)
        await reader.readexactly(100)
    writer.close()
    server.close()

key, count, core = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.sched_setaffinity(0, [core])
operation = echo if key == "echo" else OPERATIONS[key].run
with aioxide.Runner() as runner:
    runner.run(operation(load("aioxide").aio, count // 10))
    print("ready", flush=True)
    for _ in sys.stdin:
        before = time.process_time()
        runner.run(operation(load("aioxide").aio, count))
        print(time.process_time() - before, flush=True)
"""

#: so much takes about a quarter of a second
COSTS = {
    "sleep0": 1_500_000,
    "create_task": 750_000,
    "wake_event": 750_000,
    "queue": 1_500_000,
    "call_soon": 2_000_000,
    "echo": 20_000,
}
#: How often the two processes of a pair take turns.
TURNS = 5


class Measured:
    """One process of a pair."""

    def __init__(self, key: str, watched: bool, core: int) -> None:
        environment = {"AIOXIDE_DIAG": "1" if watched else "0", "AIOXIDE_DIAG_LOG": "jsonl:/dev/null"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", MEASURED, key, str(COSTS[key]), str(core)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.line()

    def line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process that was to be measured has failed")
        return line

    def run(self) -> float:
        """CPU seconds, of the watching thread too."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.line())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def ratio(key: str, core: int) -> float:
    """Of one pair of processes: with / without, the median of their turns. They take turns on one core, and who is
    first changes, so that whatever else the machine does befalls both."""
    ratios = []
    with Measured(key, True, core) as watched, Measured(key, False, core) as unwatched:
        for turn in range(TURNS):
            if turn % 2:
                with_, without = watched.run(), unwatched.run()
            else:
                without, with_ = unwatched.run(), watched.run()
            ratios.append(with_ / without)
    return statistics.median(ratios)


def bound(values: list[float]) -> float:
    """An upper bound of the median, 95 % sure, whatever the distribution: the first value that so many lie below."""
    count = len(values)
    below = 0.0
    for index, value in enumerate(sorted(values)):
        below += math.comb(count, index) / 2**count
        if below >= 0.95:
            return value
    return max(values)


def overhead(pairs: int) -> bool:
    print(
        f"| {platform.python_version()}, CPU time with / without, {pairs} pairs | median | 95 % bound of the median |"
    )
    print("|---|---|---|")
    core = max(os.sched_getaffinity(0))
    passed = True
    for key in COSTS:
        ratios = [ratio(key, core) for _ in range(pairs)]
        print(f"| {key} | {statistics.median(ratios) - 1:+.2%} | {bound(ratios) - 1:+.2%} |", flush=True)
        passed &= bound(ratios) <= 1.01
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blocks", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS[:-1]), metavar="part", help=", ".join(PARTS))
    parser.add_argument("--blocks", type=int, default=20, help="of each kind")
    parser.add_argument("--minutes", type=float, default=0.2)
    parser.add_argument("--captures", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=20)
    given = parser.parse_args()
    run: dict[str, Callable[[], bool]] = {
        "detect": lambda: detect(given.blocks),
        "idle": lambda: idle(given.minutes),
        "echo": lambda: echo(given.minutes),
        "churn": lambda: captures(given.captures),
        "overhead": lambda: overhead(given.pairs),
    }
    failed = [part for part in given.parts if not run[part]()]
    if failed:
        print("missed its goal:", *failed)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
