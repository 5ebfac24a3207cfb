"""to_thread(), and the loop beside other threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import sys
import threading
import time
from typing import Any

import pytest

import aioxide
from tests import hammer
from tests.support import STDLIB, run


def test_to_thread(aio):
    def work(a: int, b: int = 0, *, c: int = 0) -> tuple[int, int]:
        return a + b + c, threading.get_ident()

    async def main() -> None:
        result, ident = await aio.to_thread(work, 1, 2, c=3)
        assert result == 6
        assert ident != threading.get_ident()
        assert await aio.to_thread(functools.partial(work, 1)) is not None

    run(aio, main())


def test_exceptions(aio):
    def fails() -> None:
        raise LookupError("there")

    async def main() -> None:
        with pytest.raises(LookupError, match="there"):
            await aio.to_thread(fails)

    run(aio, main())


def test_context(aio):
    var = contextvars.ContextVar("var", default="outer")

    def work() -> str:
        seen = var.get()
        var.set("changed in the thread")
        return seen

    async def main() -> None:
        var.set("task's")
        assert await aio.to_thread(work) == "task's"
        assert var.get() == "task's"

    run(aio, main())


def test_many(aio):
    async def main() -> None:
        results = await aio.gather(*(aio.to_thread(pow, n, 2) for n in range(200)))
        assert results == [n * n for n in range(200)]

    run(aio, main())


def test_cancelling_does_not_wait(aio):
    async def main() -> None:
        release = threading.Event()
        task = aio.create_task(aio.to_thread(release.wait, 10))
        await aio.sleep(0.005)
        task.cancel()
        with pytest.raises(aio.CancelledError):
            await task
        release.set()

    started = time.monotonic()
    run(aio, main())
    assert time.monotonic() - started < 5


def test_loop_runs_on_while_threads_work(aio):
    async def main() -> None:
        ticks = 0
        task = aio.create_task(aio.to_thread(time.sleep, 0.05))
        while not task.done():
            ticks += 1
            await aio.sleep(0.001)
        assert ticks > 5

    run(aio, main())


def test_threads_get_their_share(aio):
    """A loop that never sleeps still lets other threads run."""

    async def main() -> int:
        counted = 0
        done = threading.Event()

        def count() -> None:
            nonlocal counted
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                counted += 1
            done.set()

        thread = threading.Thread(target=count)
        thread.start()
        while not done.is_set():
            await aio.sleep(0)
        thread.join()
        return counted

    assert run(aio, main()) > 1000


def test_results_from_many_threads(aio):
    """call_soon_threadsafe with run_coroutine_threadsafe from threads that wait for the loop's answer."""

    async def double(n: int) -> int:
        await aio.sleep(0)
        return 2 * n

    async def main() -> list[int]:
        loop = aio.get_running_loop()
        results: list[int] = []

        def ask(start: int) -> None:
            results.extend(aio.run_coroutine_threadsafe(double(n), loop).result(10) for n in range(start, start + 50))

        await aio.gather(*(aio.to_thread(ask, 50 * n) for n in range(4)))
        return sorted(results)

    assert run(aio, main()) == [2 * n for n in range(200)]


def test_run_coroutine_threadsafe_wants_a_coroutine(aio):
    loop = aio.new_event_loop()
    with pytest.raises(TypeError, match="A coroutine object is required"):
        aio.run_coroutine_threadsafe(5, loop)
    loop.close()


def test_blocked_thread_and_loop(aio):
    """A thread blocked in a lock that the loop's callback releases."""

    async def main() -> Any:
        lock = threading.Lock()
        lock.acquire()
        waiting = aio.create_task(aio.to_thread(lock.acquire, True, 10))
        aio.get_running_loop().call_later(0.005, lock.release)
        return await waiting

    assert run(aio, main()) is True


@pytest.mark.skipif(STDLIB, reason="asyncio writes a byte for every call")
def test_many_calls_wake_a_sleeping_loop_a_few_times():
    """A thread that keeps the GIL leaves a thousand callbacks to a loop that sleeps, by a system call or two."""

    def written() -> int:
        """How often the loop's eventfd was written to: nobody reads it."""
        total = 0
        for name in os.listdir("/proc/self/fdinfo"):
            with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{name}") as info:
                total += sum(int(line.split()[1], 16) for line in info if line.startswith("eventfd-count:"))
        return total

    async def main() -> int:
        loop = asyncio.get_running_loop()
        called = []
        counts = []
        done = loop.create_future()

        def thread() -> None:
            time.sleep(0.05)  # the loop is in epoll_wait by now
            before = written()
            interval = sys.getswitchinterval()
            sys.setswitchinterval(60)
            try:
                for number in range(1000):
                    loop.call_soon_threadsafe(called.append, number)
                loop.call_soon_threadsafe(done.set_result, None)
            finally:
                sys.setswitchinterval(interval)
            counts.append(written() - before)

        other = threading.Thread(target=thread)
        other.start()
        await done
        other.join()
        assert called == list(range(1000))
        return counts[0]

    # the first call lets go of the GIL for its system call: the loop may run just then, and go to sleep again
    assert min(run(aioxide, main()) for _ in range(3)) <= 3


@pytest.mark.deadline(120)
def test_hammered_by_threads(aio):
    """Eight threads, two loops side by side (tests/hammer.py, which can do it for longer)."""
    messages, faults = hammer.run_threads(3)
    assert not faults
    assert messages > 1000


def test_the_hammer_notices(monkeypatch):
    """A message that is lost, and one that comes twice, are faults."""
    receive = hammer.Target.receive

    def loses(self: hammer.Target, thread: int, number: int) -> None:
        if number != 7:
            receive(self, thread, number)

    def doubles(self: hammer.Target, thread: int, number: int) -> None:
        receive(self, thread, number)
        if number == 7:
            receive(self, thread, number)

    for wrong in (loses, doubles):
        monkeypatch.setattr(hammer.Target, "receive", wrong)
        _, faults = hammer.run_threads(0.3, threads=1)
        assert faults
