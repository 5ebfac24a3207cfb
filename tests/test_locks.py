"""What locks promise beyond CPython's own tests: programs reach into them, override them, copy them."""

from __future__ import annotations

import asyncio
import copy
import math
import weakref
from collections import deque
from typing import Any

import pytest

from tests.support import run, run_hops

LOCKS = ("Lock", "Semaphore", "BoundedSemaphore", "Condition")


@pytest.mark.parametrize("name", LOCKS)
def test_free_lock_does_not_suspend(aio, name):
    async def main() -> None:
        lock = getattr(aio, name)()
        async with lock:
            assert lock.locked()
        assert await lock.acquire() is True
        lock.release()

    assert run_hops(aio, main())[1] == 0


def test_released_lock_goes_to_who_waits(aio):
    order: list[str] = []

    async def worker(lock: Any, name: str) -> None:
        async with lock:
            order.append(name)

    async def main() -> None:
        lock = aio.Lock()
        await lock.acquire()
        tasks = [asyncio.ensure_future(worker(lock, name)) for name in "ab"]
        await asyncio.sleep(0)
        lock.release()
        await worker(lock, "jumper")
        for task in tasks:
            await task

    run(aio, main())
    assert order == ["a", "b", "jumper"]


@pytest.mark.parametrize("name", ["Lock", "Semaphore"])
def test_waiters_are_none_until_somebody_waits(aio, name):
    async def main() -> None:
        lock = getattr(aio, name)()
        assert lock._waiters is None
        await lock.acquire()
        task = asyncio.ensure_future(lock.acquire())
        await asyncio.sleep(0)
        assert isinstance(lock._waiters, deque)
        assert len(lock._waiters) == 1
        assert repr(lock).endswith("[locked, waiters:1]>")
        lock.release()
        await task
        assert lock._waiters == deque()

    run(aio, main())


def test_waiter_that_a_program_put_there_is_woken(aio):
    async def main() -> None:
        event = aio.Event()
        mine = asyncio.get_running_loop().create_future()
        event._waiters.append(mine)
        theirs = asyncio.ensure_future(event.wait())
        await asyncio.sleep(0)
        event.set()
        assert mine.result() is True
        assert await theirs is True
        assert list(event._waiters) == [mine]

    run(aio, main())


def test_waiters_can_be_held_across_operations(aio):
    async def main() -> None:
        event = aio.Event()
        waiters = event._waiters
        task = asyncio.ensure_future(event.wait())
        await asyncio.sleep(0)
        assert len(waiters) == 1
        assert event._waiters is waiters
        event.set()
        await task
        assert not waiters

    run(aio, main())


def test_async_with_calls_what_is_overridden(aio):
    calls: list[str] = []

    class Counting(aio.Lock):
        async def acquire(self) -> bool:
            calls.append("acquire")
            return await super().acquire()

        def release(self) -> None:
            calls.append("release")
            super().release()

    async def main() -> None:
        async with Counting():
            pass
        lock = aio.Lock()
        release = lock.release

        def recorded() -> None:
            calls.append("patched")
            release()

        async with lock:
            lock.release = recorded
        assert not lock.locked()

    run(aio, main())
    assert calls == ["acquire", "release", "patched"]


def test_overridden_locked_decides(aio):
    class Closed(aio.Semaphore):
        closed = True

        def locked(self) -> bool:
            return self.closed or super().locked()

    async def main() -> None:
        semaphore = Closed(5)
        task = asyncio.ensure_future(semaphore.acquire())
        await asyncio.sleep(0)
        assert not task.done()
        semaphore.release()
        assert await task is True
        semaphore.closed = False
        assert await semaphore.acquire() is True

    run(aio, main())


def test_condition_takes_the_methods_of_its_lock(aio):
    class Own:
        held = False

        def locked(self) -> bool:
            return self.held

        async def acquire(self) -> bool:
            self.held = True
            return True

        def release(self) -> None:
            self.held = False

    async def main() -> None:
        lock = Own()
        condition = aio.Condition(lock)
        assert condition.acquire == lock.acquire
        async with condition:
            assert lock.held
            condition.notify_all()
        assert not lock.held

    run(aio, main())


def test_cancelled_wait_has_the_lock_again(aio):
    async def main() -> None:
        condition = aio.Condition()
        outcome: list[Any] = []

        async def waiter() -> None:
            async with condition:
                try:
                    await condition.wait()
                except asyncio.CancelledError:
                    outcome.append(condition.locked())
                    raise

        task = asyncio.ensure_future(waiter())
        await asyncio.sleep(0)
        async with condition:
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()  # while it waits for the lock
            await asyncio.sleep(0)
            assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert outcome == [True]
        assert not condition.locked()

    run(aio, main())


@pytest.mark.parametrize("value", [3, 2.0, math.inf])
def test_semaphore_counts_with_any_number(aio, value):
    async def main() -> None:
        semaphore = aio.Semaphore(value)
        await semaphore.acquire()
        assert semaphore._value == value - 1
        assert type(semaphore._value) is type(value)
        semaphore.release()
        assert semaphore._value == value

    run(aio, main())


@pytest.mark.parametrize("name", [*LOCKS, "Event", "Barrier"])
def test_copy_has_the_same_state(aio, name):
    original = aio.Barrier(3) if name == "Barrier" else getattr(aio, name)()
    original.label = ["mine"]
    if name == "Event":
        original.set()
    twin = copy.deepcopy(original)
    assert type(twin) is type(original)
    assert repr(twin).partition("[")[2] == repr(original).partition("[")[2]
    assert twin.label == ["mine"]
    assert twin.label is not original.label


def test_primitive_of_another_loop_says_so(aio):
    lock = aio.Lock()

    async def wait() -> None:
        await lock.acquire()
        task = asyncio.ensure_future(lock.acquire())
        await asyncio.sleep(0)
        task.cancel()

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="is bound to a different event loop"):
            await lock.acquire()

    run(aio, wait())
    run(aio, elsewhere())


@pytest.mark.parametrize("name", LOCKS)
def test_closed_acquire_leaves_the_queue(aio, name):
    async def main() -> None:
        lock = getattr(aio, name)()
        await lock.acquire()
        pending = lock.acquire()
        pending.send(None)
        pending.close()
        lock.release()
        assert await asyncio.wait_for(lock.acquire(), 5)

    run(aio, main())


def test_waiter_does_not_keep_its_lock_alive(aio):
    async def main() -> weakref.ref[Any]:
        lock = aio.Lock()
        await lock.acquire()
        task = asyncio.ensure_future(lock.acquire())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        return weakref.ref(lock)

    assert run(aio, main())() is None
