"""Threads that hammer loops, and children that come and go: nothing may be lost, late, or left over.

    python -m tests.hammer threads --seconds 600      8 threads against two loops that run side by side
    python -m tests.hammer children --count 5000      a third is killed, a third has its pipes closed early

The threads use everything that may be called from another thread: call_soon_threadsafe, run_coroutine_threadsafe (also
cancelled), and futures of concurrent.futures that a coroutine awaits. Each message carries its number, so that one that
is lost, comes twice, or overtakes another is found; a loop that has work and does none for STALL seconds is a stall. AIOXIDE_TEST_IMPL=asyncio judges the judge.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import importlib
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support import IMPLEMENTATION

asyncio: Any = importlib.import_module(IMPLEMENTATION)
#: seconds: far more than a loop needs, even when the machine does something else
STALL = 20.0


class Lost(AssertionError):
    """What a program would have waited for in vain."""


@dataclass
class Target:
    """A loop in a thread of its own, and what has reached it."""

    loop: Any = None
    #: by thread: the number that must come next
    expected: dict[int, int] = field(default_factory=dict)
    received: int = 0
    faults: list[str] = field(default_factory=list)
    _stop: Any = None

    def receive(self, thread: int, number: int) -> None:
        if self.expected.setdefault(thread, 0) != number:
            self.faults.append(f"thread {thread}: {number} came, {self.expected[thread]} is missing")
        self.expected[thread] = number + 1
        self.received += 1

    async def answer(self, number: int, hops: int) -> int:
        for _ in range(hops):
            await asyncio.sleep(0)
        return 2 * number

    async def await_foreign(self, future: concurrent.futures.Future[int]) -> int:
        return await asyncio.wrap_future(future) + 1

    async def forever(self, ended: threading.Event) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async def main(self, started: threading.Event) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        started.set()
        rng = random.Random(id(self))
        # now busy, now asleep, so that wake-ups find the loop in every state
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rng.choice((0, 0, 0.0001, 0.001, 0.01))):
                    await self._stop.wait()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)


def hammer(targets: list[Target], thread: int, until: float, sent: dict[tuple[int, int], int]) -> None:
    """One thread, until the time is over: sent[target, thread] is how many numbers it has sent there."""
    rng = random.Random(thread)
    while time.monotonic() < until:
        which = rng.randrange(len(targets))
        target = targets[which]
        match rng.randrange(5):
            case 0 | 1:  # a burst, in order
                for _ in range(rng.choice((1, 1, 3, 50))):
                    number = sent.get((which, thread), 0)
                    target.loop.call_soon_threadsafe(target.receive, thread, number)
                    sent[which, thread] = number + 1
            case 2:
                number = rng.randrange(1000)
                answer = asyncio.run_coroutine_threadsafe(target.answer(number, rng.randrange(3)), target.loop)
                if answer.result(STALL) != 2 * number:
                    raise Lost(f"the answer to {number} is {answer.result()}")
            case 3:
                foreign: concurrent.futures.Future[int] = concurrent.futures.Future()
                awaited = asyncio.run_coroutine_threadsafe(target.await_foreign(foreign), target.loop)
                if rng.random() < 0.5:
                    time.sleep(rng.random() * 0.001)
                foreign.set_result(thread)
                if awaited.result(STALL) != thread + 1:
                    raise Lost("the result of a foreign future")
            case _:
                ended = threading.Event()
                stuck = asyncio.run_coroutine_threadsafe(target.forever(ended), target.loop)
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), target.loop).result(STALL)
                stuck.cancel()
                if not ended.wait(STALL):
                    raise Lost("a cancellation")


def run_threads(seconds: float, threads: int = 8) -> tuple[int, list[str]]:
    """How many messages came, and what went wrong."""
    faults: list[str] = []
    targets = [Target() for _ in range(2)]
    sent: dict[tuple[int, int], int] = {}

    def guarded(what: Callable[[], Any]) -> Callable[[], None]:
        def inner() -> None:
            try:
                what()
            except BaseException as error:
                faults.append(f"{type(error).__name__}: {error}")

        return inner

    def loop_thread(target: Target, started: threading.Event) -> Callable[[], None]:
        def inner() -> None:
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(target.main(started))

        return guarded(inner)

    loops = []
    for target in targets:
        started = threading.Event()
        loops.append(threading.Thread(target=loop_thread(target, started), daemon=True))
        loops[-1].start()
        if not started.wait(STALL):
            return 0, [*faults, "a loop has not started"]
    until = time.monotonic() + seconds
    workers = [
        threading.Thread(target=guarded(lambda n=n: hammer(targets, n, until, sent)), daemon=True)
        for n in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds + 2 * STALL)
        if worker.is_alive():
            faults.append("a thread hangs")
    for target in targets:
        target.stop()
    for one in loops:
        one.join(STALL)
        if one.is_alive():
            faults.append("a loop does not stop")
    for which, target in enumerate(targets):
        faults.extend(target.faults)
        faults.extend(
            f"of thread {thread}'s {sent[which, thread]}, {target.expected.get(thread, 0)} came"
            for thread in range(threads)
            if target.expected.get(thread, 0) != sent.get((which, thread), 0)
        )
    return sum(target.received for target in targets), faults


async def run_children(count: int, at_once: int = 24) -> list[str]:
    """Children of which a third is killed, a third loses its pipes, and a third ends as it should."""
    faults: list[str] = []

    async def one(number: int) -> None:
        code = number % 100
        child = await asyncio.create_subprocess_exec(
            *("sh", "-c", f"cat; exit {code}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output = b""
        match number % 3:
            case 0:
                child.kill()
                code = -9
                child.stdin.close()  # for the child's own child
            case 1:
                for fd in range(3):
                    child._transport.get_pipe_transport(fd).close()
            case _:
                output, _ = await child.communicate(b"data")
                if output != b"data":
                    faults.append(f"child {number}: its output is {output!r}")
        found = await asyncio.wait_for(child.wait(), STALL)
        if found != code:
            faults.append(f"child {number}: it ended with {found}, not {code}")

    before = len(os.listdir("/proc/self/fd"))
    for start in range(0, count, at_once):
        await asyncio.gather(*map(one, range(start, min(start + at_once, count))))
    for _ in range(100):  # pipes of killed children close in a turn or two
        if len(os.listdir("/proc/self/fd")) <= before:
            break
        await asyncio.sleep(0.01)
    else:
        faults.append(f"{len(os.listdir('/proc/self/fd')) - before} descriptors are left")
    faults.extend(f"a zombie: {line}" for line in zombies())
    return faults


def zombies() -> Iterator[str]:
    """Ended children of ours that nobody has waited for."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as stat:
                name, _, rest = stat.read().rpartition(")")
                state, parent = rest.split()[:2]
                if state == "Z" and int(parent) == os.getpid():
                    yield name


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hammer", description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("threads", "children"))
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--count", type=int, default=5000)
    arguments = parser.parse_args()
    began = time.monotonic()
    if arguments.what == "threads":
        count, faults = run_threads(arguments.seconds, arguments.threads)
    else:
        work: Coroutine[Any, Any, list[str]] = run_children(arguments.count)
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            count, faults = arguments.count, runner.run(work)
    print(f"{count:,} {'messages' if arguments.what == 'threads' else 'children'} in {time.monotonic() - began:.0f} s")
    for fault in faults:
        print(fault)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
