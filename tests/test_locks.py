"""Lock, Event, Condition, Semaphore, BoundedSemaphore, Barrier: what they do, and that programs may reach into them."""

from __future__ import annotations

import asyncio
import copy
import math
import re
import sys
import weakref
from collections import deque
from typing import Any

import pytest

from tests.support import run, run_hops

SIMPLE = ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore")


@pytest.mark.parametrize("name", SIMPLE)
def test_made_outside_a_loop(aio, name):
    """They belong to the loop that first makes them wait."""
    thing = getattr(aio, name)()

    async def wait() -> None:
        if name == "Event":
            task = aio.create_task(thing.wait())
            await aio.sleep(0)
            thing.set()
            await task
            thing.clear()
        else:
            async with thing:
                task = aio.create_task(thing.acquire())
                await aio.sleep(0)
            await task
            thing.release()

    run(aio, wait())
    with pytest.raises(RuntimeError, match=r"<.*> is bound to a different event loop"):
        run(aio, wait())


@pytest.mark.parametrize("name", SIMPLE)
def test_repr(aio, name):
    async def main() -> None:
        thing = getattr(aio, name)()
        word = {"Event": "unset", "Semaphore": "unlocked, value:1", "BoundedSemaphore": "unlocked, value:1"}.get(
            name, "unlocked"
        )
        assert re.fullmatch(rf"<[\w.]*{name} object at 0x[0-9a-f]+ \[{word}\]>", repr(thing))
        if name == "Event":
            waiting = aio.create_task(thing.wait())
            await aio.sleep(0)
            assert repr(thing).endswith(" [unset, waiters:1]>")
            thing.set()
            await waiting
            assert repr(thing).endswith(" [set]>")
        else:
            await thing.acquire()
            waiting = aio.create_task(thing.acquire())
            await aio.sleep(0)
            waiters = "" if name == "Condition" else ", waiters:1"
            assert repr(thing).endswith(f" [locked{waiters}]>")
            thing.release()
            await waiting
            thing.release()

    run(aio, main())


@pytest.mark.parametrize("name", ["Lock", "Condition", "Semaphore", "BoundedSemaphore"])
def test_uncontended_takes_no_hop(aio, name):
    async def main() -> None:
        thing = getattr(aio, name)()
        assert thing.locked() is False
        assert await thing.acquire() is True
        assert thing.locked() is True
        assert thing.release() is None
        async with thing as nothing:
            assert nothing is None
            assert thing.locked()
        assert not thing.locked()

    assert run_hops(aio, main()) == (None, 0)


@pytest.mark.parametrize("name", ["Lock", "Semaphore"])
def test_fair(aio, name):
    """First come, first served; nobody overtakes a waiter that is about to wake."""

    async def worker(n: int) -> None:
        async with thing:
            log.append(n)
            await aio.sleep(0)

    async def main() -> None:
        await thing.acquire()
        tasks = [aio.create_task(worker(n)) for n in range(5)]
        await aio.sleep(0)
        thing.release()
        late = aio.create_task(worker(99))
        await aio.gather(*tasks, late)

    thing = getattr(aio, name)()
    log: list[int] = []
    run(aio, main())
    assert log == [0, 1, 2, 3, 4, 99]


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "Condition"])
def test_cancelled_waiter_passes_it_on(aio, name):
    """A waiter that was woken and cancelled in the same turn must not take the lock with it."""

    async def main() -> None:
        thing = getattr(aio, name)()
        await thing.acquire()
        first, second = (aio.create_task(thing.acquire()) for _ in range(2))
        await aio.sleep(0)
        thing.release()
        first.cancel()
        await aio.sleep(0)
        await aio.sleep(0)
        await aio.sleep(0)
        assert first.cancelled()
        assert second.done()
        thing.release()
        assert not thing.locked()

    run(aio, main())


def test_lock_released_twice(aio):
    async def main() -> None:
        lock = aio.Lock()
        with pytest.raises(RuntimeError, match=r"Lock is not acquired\."):
            lock.release()
        async with lock:
            pass
        with pytest.raises(RuntimeError):
            lock.release()

    run(aio, main())


def test_no_plain_with(aio):
    async def main() -> None:
        with pytest.raises((TypeError, AttributeError)):
            with aio.Lock():
                pass
        with pytest.raises(TypeError):
            await aio.Lock()

    run(aio, main())


def test_exception_in_async_with(aio):
    async def main() -> None:
        lock = aio.Lock()
        with pytest.raises(ZeroDivisionError):
            async with lock:
                1 / 0  # noqa: B018
        assert not lock.locked()

    run(aio, main())


# -- Event -------------------------------------------------------------------------------------------------------------------


def test_event(aio):
    async def main() -> None:
        event = aio.Event()
        assert event.is_set() is False
        waiters = [aio.create_task(event.wait()) for _ in range(3)]
        await aio.sleep(0)
        assert event.set() is None
        assert event.is_set() is True
        event.clear()
        assert await aio.gather(*waiters) == [True, True, True]  # set() woke them, clear() came too late
        event.set()
        event.set()
        assert await event.wait() is True

    run(aio, main())


# -- Condition ----------------------------------------------------------------------------------------------------------------


def test_condition(aio):
    async def consumer(n: int) -> None:
        async with condition:
            await condition.wait()
            assert condition.locked()
            log.append(n)

    async def main() -> None:
        tasks = [aio.create_task(consumer(n)) for n in range(5)]
        await aio.sleep(0)
        async with condition:
            condition.notify()
        await settle(aio)
        assert log == [0]
        async with condition:
            condition.notify(2)
            assert log == [0]
        await settle(aio)
        assert log == [0, 1, 2]
        async with condition:
            condition.notify_all()
        await aio.gather(*tasks)
        assert log == [0, 1, 2, 3, 4]

    condition = aio.Condition()
    log: list[int] = []
    run(aio, main())


async def settle(aio: Any) -> None:
    for _ in range(6):
        await aio.sleep(0)


def test_condition_needs_its_lock(aio):
    async def main() -> None:
        condition = aio.Condition()
        with pytest.raises(RuntimeError, match="cannot wait on un-acquired lock"):
            await condition.wait()
        for notify in (condition.notify, condition.notify_all):
            with pytest.raises(RuntimeError, match="cannot notify on un-acquired lock"):
                notify()

    run(aio, main())


def test_condition_shares_a_lock(aio):
    async def main() -> None:
        lock = aio.Lock()
        one, two = aio.Condition(lock), aio.Condition(lock)
        async with one:
            assert lock.locked()
            assert two.locked()
            two.notify_all()
        assert not lock.locked()

    run(aio, main())


def test_condition_wait_for(aio):
    async def main() -> None:
        async def waiter() -> int:
            async with condition:
                return await condition.wait_for(lambda: len(log) if len(log) > 1 else 0)

        task = aio.create_task(waiter())
        for n in range(2):
            await settle(aio)
            assert not task.done()
            async with condition:
                log.append(n)
                condition.notify()
        assert await task == 2

    condition = aio.Condition()
    log: list[int] = []
    run(aio, main())


def test_condition_wait_reacquires_when_cancelled(aio):
    async def main() -> None:
        condition = aio.Condition()

        async def waiter() -> None:
            async with condition:
                try:
                    await condition.wait()
                finally:
                    log.append(condition.locked())

        task = aio.create_task(waiter())
        await settle(aio)
        await condition.acquire()
        task.cancel("stop")
        await settle(aio)
        assert not task.done()
        assert log == []
        condition.release()
        with pytest.raises(aio.CancelledError):
            await task
        assert log == [True]
        assert not condition.locked()

    log: list[bool] = []
    run(aio, main())


# -- Semaphore ------------------------------------------------------------------------------------------------------------------


def test_semaphore(aio):
    async def worker() -> None:
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            await aio.sleep(0)
            inside -= 1

    async def main() -> None:
        await aio.gather(*(worker() for _ in range(10)))
        assert semaphore._value == 3
        semaphore.release()
        assert semaphore._value == 4

    semaphore = aio.Semaphore(3)
    inside = most = 0
    run(aio, main())
    assert most == 3


def test_semaphore_value(aio):
    with pytest.raises(ValueError, match="Semaphore initial value must be >= 0"):
        aio.Semaphore(-1)
    assert aio.Semaphore(0).locked()
    assert not aio.Semaphore().locked()


def test_bounded_semaphore(aio):
    async def main() -> None:
        semaphore = aio.BoundedSemaphore(2)
        with pytest.raises(ValueError, match="BoundedSemaphore released too many times"):
            semaphore.release()
        async with semaphore, semaphore:
            assert semaphore.locked()
        with pytest.raises(ValueError, match="released too many times"):
            semaphore.release()
        assert isinstance(semaphore, aio.Semaphore)

    run(aio, main())


# -- Barrier --------------------------------------------------------------------------------------------------------------------


def test_barrier(aio):
    async def party() -> int:
        return await barrier.wait()

    async def main() -> None:
        for _ in range(2):
            first = [aio.create_task(party()) for _ in range(2)]
            await aio.sleep(0)
            assert (barrier.n_waiting, barrier.parties, barrier.broken) == (2, 3, False)
            assert sorted(await aio.gather(*first, party())) == [0, 1, 2]
            assert barrier.n_waiting == 0

    barrier = aio.Barrier(3)
    run(aio, main())


def test_barrier_context_manager(aio):
    async def party() -> None:
        async with barrier as position:
            log.append(position)

    async def main() -> None:
        await aio.gather(party(), party())

    barrier = aio.Barrier(2)
    log: list[int] = []
    run(aio, main())
    assert sorted(log) == [0, 1]


def test_barrier_abort_and_reset(aio):
    async def main() -> None:
        barrier = aio.Barrier(2)
        waiting = aio.create_task(barrier.wait())
        await aio.sleep(0)
        await barrier.abort()
        assert barrier.broken is True
        with pytest.raises(aio.BrokenBarrierError):
            await waiting
        with pytest.raises(aio.BrokenBarrierError, match="Barrier aborted"):
            await barrier.wait()
        await barrier.reset()
        assert barrier.broken is False
        waiting = aio.create_task(barrier.wait())
        await aio.sleep(0)
        await barrier.reset()
        with pytest.raises(aio.BrokenBarrierError):
            await waiting
        assert sorted(await aio.gather(barrier.wait(), barrier.wait())) == [0, 1]

    run(aio, main())


def test_barrier_arguments_and_repr(aio):
    with pytest.raises(ValueError, match="parties must be (>=|>) [01]"):
        aio.Barrier(0)
    assert re.fullmatch(r"<[\w.]*Barrier object at 0x[0-9a-f]+ \[filling, waiters:0/2\]>", repr(aio.Barrier(2)))


def test_cancelled_party_leaves(aio):
    async def main() -> None:
        barrier = aio.Barrier(2)
        waiting = aio.create_task(barrier.wait())
        await aio.sleep(0)
        waiting.cancel()
        with pytest.raises(aio.CancelledError):
            await waiting
        assert barrier.n_waiting == 0
        assert sorted(await aio.gather(barrier.wait(), barrier.wait())) == [0, 1]

    run(aio, main())


# -- subclasses -----------------------------------------------------------------------------------------------------------------------


def test_subclasses(aio):
    """Overridden methods are used by the context manager, and by a Condition of such a lock."""
    log: list[str] = []

    class Loud(aio.Lock):
        async def acquire(self) -> bool:
            log.append("acquire")
            return await super().acquire()

        def release(self) -> None:
            log.append("release")
            super().release()

    async def main() -> None:
        async with Loud():
            pass
        assert log == ["acquire", "release"]
        log.clear()
        async with aio.Condition(Loud()) as _:
            pass
        assert log == ["acquire", "release"]

    run(aio, main())


def test_many_waiters(aio):
    """A thousand tasks through one lock, a third of them cancelled on the way."""

    async def worker(n: int) -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            try:
                await aio.sleep(0)
            finally:
                inside -= 1
            done.append(n)

    async def main() -> None:
        tasks = [aio.create_task(worker(n)) for n in range(1000)]
        for n in range(0, 1000, 3):
            await aio.sleep(0)
            tasks[n].cancel()
        await aio.wait(tasks)
        cancelled = {n for n, task in enumerate(tasks) if task.cancelled()}
        assert set(done) | cancelled == set(range(1000))
        assert not lock.locked()

    lock = aio.Lock()
    inside = 0
    done: list[int] = []
    run(aio, main())
    assert done == sorted(done)


# -- reached into, overridden, copied ------------------------------------------------------------------------------

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


def test_barrier_hooks_of_a_derived_class(aio):
    """Each of a barrier's own steps may be overridden, and is called by its name."""
    log: list[str] = []

    class Barrier(aio.Barrier):
        async def _block(self) -> None:
            log.append("block")
            await super()._block()

        async def _release(self) -> None:
            log.append("release")
            await super()._release()

        async def _wait(self) -> None:
            log.append("wait")
            await super()._wait()

        def _exit(self) -> None:
            log.append("exit")
            super()._exit()

    async def main() -> None:
        barrier = Barrier(2)
        assert sorted(await aio.gather(barrier.wait(), barrier.wait())) == [0, 1]
        assert log == ["block", "wait", "block", "release", "exit", "exit"]
        assert barrier.n_waiting == barrier._count == 0
        log.clear()
        waiting = aio.create_task(barrier.wait())
        await aio.sleep(0)
        await barrier.abort()
        with pytest.raises(aio.BrokenBarrierError, match="Abort or reset of barrier"):
            await waiting
        with pytest.raises(aio.BrokenBarrierError, match="Barrier aborted"):
            await barrier.wait()
        assert log == ["block", "wait", "exit", "block"]

    run(aio, main())


def test_barrier_hooks_that_fail(aio):
    class Barrier(aio.Barrier):
        async def _wait(self) -> None:
            raise ValueError("wait")

        async def _release(self) -> None:
            raise ValueError("release")

    async def main() -> None:
        for parties, text in ((2, "wait"), (1, "release")):
            barrier = Barrier(parties)
            with pytest.raises(ValueError, match=text):
                await barrier.wait()
            assert barrier._count == 0
            assert not barrier._cond.locked()

    run(aio, main())


def test_barrier_steps_by_hand(aio):
    async def main() -> None:
        barrier = aio.Barrier(1)
        async with barrier._cond:
            assert await barrier._block() is None
            barrier._count += 1
            assert await barrier._release() is None
            assert await barrier._wait() is None
            barrier._count -= 1
            assert barrier._exit() is None
        assert "filling" in repr(barrier)

    run(aio, main())


def test_condition_wait_cancelled_after_notification_keeps_the_callers_context(aio):
    """Found by the model: the CancelledError is raised while the caller handles something."""

    async def main() -> None:
        condition = aio.Condition()

        async def waiter() -> BaseException | None:
            try:
                raise KeyError("handled")
            except KeyError:
                try:
                    async with condition:
                        await condition.wait()
                except aio.CancelledError as cancelled:
                    return cancelled.__context__
            return None

        task = aio.create_task(waiter())
        await aio.sleep(0)
        async with condition:
            condition.notify()
            await aio.sleep(0)
            await aio.sleep(0)
            task.cancel()
            await aio.sleep(0)
        assert isinstance(await task, KeyError)

    run(aio, main())


@pytest.mark.parametrize("notified", [True, False])
def test_condition_wait_cancelled_again_and_again(aio, notified):
    """The last cancellation is raised; of those before it only the one that ended the wait is remembered."""

    async def main() -> list[tuple[type[BaseException], tuple[Any, ...]]]:
        condition = aio.Condition()

        async def waiter() -> list[Any]:
            async with condition:
                try:
                    await condition.wait()
                except aio.CancelledError as cancelled:
                    chain, error = [], cancelled
                    while error is not None:
                        chain.append((type(error), error.args))
                        error = error.__context__
                    return chain
            return []

        task = aio.create_task(waiter())
        await aio.sleep(0)
        async with condition:
            if notified:
                condition.notify()
                await aio.sleep(0)
                await aio.sleep(0)
            for n in range(3):
                task.cancel(n)
                await aio.sleep(0)
                await aio.sleep(0)
        return await task

    chain = run(aio, main())
    if sys.version_info >= (3, 13):
        expected = [2] if notified else [2, 0]
        assert chain == [(aio.CancelledError, (n,)) for n in expected]
    else:
        assert [args for _, args in chain] == ([()] if notified else [(), (0,)])


def test_condition_wait_ends_with_an_error_of_its_lock(aio):
    """Whatever was cancelled meanwhile: a lock that cannot be taken is what the caller hears of."""

    class Lock(aio.Lock):
        tries = 0

        async def acquire(self) -> bool:
            self.tries += 1
            if self.tries == 2:
                raise aio.CancelledError("while taking it")
            if self.tries == 3:
                raise OSError("broken")
            return await super().acquire()

    async def main() -> None:
        condition = aio.Condition(Lock())

        async def waiter() -> None:
            await condition.acquire()
            await condition.wait()

        task = aio.create_task(waiter())
        await aio.sleep(0)
        condition._waiters[0].set_result(True)
        with pytest.raises(OSError, match="broken") as info:
            await task
        assert info.value.__context__ is None

    run(aio, main())
