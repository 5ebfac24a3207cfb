"""Queue, PriorityQueue, LifoQueue: what they do, and that programs reach into them, derive from them, copy them."""

from __future__ import annotations

import asyncio
import copy
import gc
import math
import re
import sys
import weakref
from collections import deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tests.support import newer, run, run_hops

KINDS = ("Queue", "PriorityQueue", "LifoQueue")


async def settle(aio: Any) -> None:
    for _ in range(5):
        await aio.sleep(0)


@pytest.mark.parametrize("kind", KINDS)
def test_order(aio, kind):
    async def main() -> list[int]:
        queue = getattr(aio, kind)()
        for item in (3, 1, 2):
            await queue.put(item)
        return [await queue.get() for _ in range(3)]

    expected = {"Queue": [3, 1, 2], "PriorityQueue": [1, 2, 3], "LifoQueue": [2, 1, 3]}[kind]
    assert run_hops(aio, main()) == (expected, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes(aio, kind):
    queue = getattr(aio, kind)(2)
    assert (queue.maxsize, queue.qsize(), queue.empty(), queue.full()) == (2, 0, True, False)
    queue.put_nowait(1)
    queue.put_nowait(2)
    assert (queue.qsize(), queue.empty(), queue.full()) == (2, False, True)
    with pytest.raises(aio.QueueFull):
        queue.put_nowait(3)
    queue.get_nowait()
    queue.get_nowait()
    with pytest.raises(aio.QueueEmpty):
        queue.get_nowait()
    for endless in (0, -1):
        queue = getattr(aio, kind)(endless)
        for n in range(100):
            queue.put_nowait(n)
        assert not queue.full()


def test_repr(aio):
    queue = aio.Queue(3)
    assert re.fullmatch(r"<Queue at 0x[0-9a-f]+ maxsize=3>", repr(queue))
    assert str(queue) == "<Queue maxsize=3>"
    queue.put_nowait(7)
    assert str(queue) == "<Queue maxsize=3 _queue=[7] tasks=1>"
    queue.get_nowait()

    async def main() -> None:
        getter = aio.create_task(queue.get())
        await aio.sleep(0)
        assert "_getters[1]" in str(queue)
        await queue.put(1)
        await getter
        for _ in range(3):
            queue.put_nowait(0)
        putter = aio.create_task(queue.put(1))
        await aio.sleep(0)
        assert "_putters[1]" in str(queue)
        queue.get_nowait()
        await putter

    run(aio, main())


def test_generic(aio):
    assert aio.Queue[int].__origin__ is aio.Queue


def test_get_waits(aio):
    async def main() -> None:
        queue = aio.Queue()
        getters = [aio.create_task(queue.get()) for _ in range(3)]
        await aio.sleep(0)
        for n in range(3):
            queue.put_nowait(n)
        assert await aio.gather(*getters) == [0, 1, 2]

    run(aio, main())


def test_put_waits(aio):
    async def main() -> None:
        queue = aio.Queue(1)
        await queue.put(0)
        putters = [aio.create_task(queue.put(n)) for n in (1, 2)]
        await aio.sleep(0)
        assert not any(putter.done() for putter in putters)
        assert [await queue.get() for _ in range(3)] == [0, 1, 2]
        assert await aio.gather(*putters) == [None, None]

    run(aio, main())


def test_cancelled_getter_loses_nothing(aio):
    """An item that woke a getter which was cancelled in the same turn goes to the next."""

    async def main() -> None:
        queue = aio.Queue()
        first, second = (aio.create_task(queue.get()) for _ in range(2))
        await aio.sleep(0)
        queue.put_nowait("item")
        first.cancel()
        await settle(aio)
        assert first.cancelled()
        assert second.result() == "item"

    run(aio, main())


def test_cancelled_putter_makes_room(aio):
    async def main() -> None:
        queue = aio.Queue(1)
        queue.put_nowait(0)
        first, second = (aio.create_task(queue.put(n)) for n in (1, 2))
        await aio.sleep(0)
        assert queue.get_nowait() == 0
        first.cancel()
        await settle(aio)
        assert first.cancelled()
        assert second.done()
        assert queue.get_nowait() == 2

    run(aio, main())


@pytest.mark.parametrize("kind", KINDS)
def test_join(aio, kind):
    async def main() -> None:
        queue = getattr(aio, kind)()
        await queue.join()
        with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
            queue.task_done()
        for n in range(3):
            queue.put_nowait(n)
        joiner = aio.create_task(queue.join())
        for _ in range(3):
            await settle(aio)
            assert not joiner.done()
            queue.get_nowait()
            queue.task_done()
        await joiner
        assert queue._unfinished_tasks == 0

    run(aio, main())


def test_producers_and_consumers(aio):
    """Every item arrives once, whatever the bound."""

    async def main(size: int) -> list[int]:
        queue = aio.Queue(size)
        got: list[int] = []

        async def produce(n: int) -> None:
            for item in range(n * 100, n * 100 + 100):
                await queue.put(item)

        async def consume() -> None:
            while True:
                got.append(await queue.get())
                queue.task_done()

        consumers = [aio.create_task(consume()) for _ in range(3)]
        await aio.gather(*(produce(n) for n in range(4)))
        await queue.join()
        for consumer in consumers:
            consumer.cancel()
        await aio.gather(*consumers, return_exceptions=True)
        return sorted(got)

    for size in (0, 1, 7):
        assert run(aio, main(size)) == list(range(400))


def test_bound_to_a_loop(aio):
    queue = aio.Queue(1)

    async def wait() -> None:
        getter = aio.create_task(queue.get())
        await aio.sleep(0)
        queue.put_nowait(1)
        await getter

    run(aio, wait())
    with pytest.raises(RuntimeError, match="is bound to a different event loop"):
        run(aio, wait())


def test_overridden_storage(aio):
    """`_init`, `_get`, `_put` are the documented way to other queues."""

    class Unique(aio.Queue):
        def _init(self, maxsize: int) -> None:
            self._queue: Any = set()
            self.size_given = maxsize

        def _put(self, item: Any) -> None:
            self._queue.add(item)

        def _get(self) -> Any:
            return self._queue.pop()

    async def main() -> None:
        queue = Unique(2)
        assert queue.size_given == 2
        queue.put_nowait(1)
        queue.put_nowait(1)
        assert queue.qsize() == 1
        assert not queue.full()
        assert await queue.get() == 1
        assert queue.empty()
        getter = aio.create_task(queue.get())
        await aio.sleep(0)
        await queue.put("x")
        assert await getter == "x"

    run(aio, main())


def test_priorities_that_do_not_compare(aio):
    """An exception from a comparison comes out of put, and the queue goes on."""
    queue = aio.PriorityQueue()
    queue.put_nowait((1, object()))
    with pytest.raises(TypeError):
        queue.put_nowait((1, object()))
    queue.get_nowait()


# -- shutdown -----------------------------------------------------------------------------------------------------------------


@newer((3, 13))
@pytest.mark.parametrize("kind", KINDS)
class TestShutdown:
    def test_lets_getters_finish(self, aio, kind):
        async def main() -> None:
            queue = getattr(aio, kind)()
            for n in range(2):
                queue.put_nowait(n)
            queue.shutdown()
            with pytest.raises(aio.QueueShutDown):
                queue.put_nowait(3)
            with pytest.raises(aio.QueueShutDown):
                await queue.put(3)
            assert sorted([await queue.get(), queue.get_nowait()]) == [0, 1]
            for _ in range(2):
                with pytest.raises(aio.QueueShutDown):
                    await queue.get()
                with pytest.raises(aio.QueueShutDown):
                    queue.get_nowait()
            queue.task_done()
            queue.task_done()
            await queue.join()
            queue.shutdown()

        run(aio, main())

    def test_immediate(self, aio, kind):
        async def main() -> None:
            queue = getattr(aio, kind)()
            for n in range(2):
                queue.put_nowait(n)
            joiner = aio.create_task(queue.join())
            await aio.sleep(0)
            queue.shutdown(immediate=True)
            await joiner
            assert queue.empty()
            with pytest.raises(aio.QueueShutDown):
                await queue.get()

        run(aio, main())

    def test_wakes_who_waits(self, aio, kind):
        async def main() -> None:
            queue = getattr(aio, kind)(1)
            getters = [aio.create_task(queue.get()) for _ in range(2)]
            await aio.sleep(0)
            queue.shutdown()
            results = await aio.gather(*getters, return_exceptions=True)
            assert [type(result) for result in results] == [aio.QueueShutDown] * 2
            queue = getattr(aio, kind)(1)
            queue.put_nowait(0)
            putters = [aio.create_task(queue.put(n)) for n in range(2)]
            await aio.sleep(0)
            queue.shutdown()
            results = await aio.gather(*putters, return_exceptions=True)
            assert [type(result) for result in results] == [aio.QueueShutDown] * 2
            assert queue.get_nowait() == 0

        run(aio, main())

    def test_repr(self, aio, kind):
        queue = getattr(aio, kind)()
        queue.shutdown()
        assert str(queue) == f"<{kind} maxsize=0 shutdown>"


# -- reached into, overridden, copied ------------------------------------------------------------------------------

QUEUES = ("Queue", "LifoQueue", "PriorityQueue")


class Item:
    """Weakly referable."""


@pytest.mark.parametrize("name", QUEUES)
def test_queue_with_room_does_not_suspend(aio, name):
    async def main() -> None:
        queue = getattr(aio, name)(1)
        assert await queue.put(1) is None
        assert await queue.get() == 1

    assert run_hops(aio, main())[1] == 0


def test_item_is_not_kept(aio):
    async def main() -> None:
        queue = aio.Queue()
        item = Item()
        reference = weakref.ref(item)
        await queue.put(item)
        assert await queue.get() is item
        del item
        assert reference() is None

    run(aio, main())


def test_exception_and_tuple_are_items_like_others(aio):
    async def main() -> None:
        queue = aio.Queue()
        for item in ((), (1, 2), StopIteration(3), None, KeyError("x")):
            await queue.put(item)
            assert await queue.get() is item

    run(aio, main())


def test_clearing_the_items_empties_the_queue(aio):
    queue = aio.Queue()
    for item in range(3):
        queue.put_nowait(item)
    assert queue._queue == deque([0, 1, 2])
    queue._queue.clear()
    assert queue.empty()
    queue.put_nowait("next")
    assert queue.get_nowait() == "next"


def test_items_can_be_held_across_operations(aio):
    queue = aio.Queue()
    items = queue._queue
    queue.put_nowait(1)
    items.append(2)
    assert queue.qsize() == 2
    assert [queue.get_nowait(), queue.get_nowait()] == [1, 2]
    assert not items


def test_bound_can_be_changed(aio):
    queue = aio.Queue(1)
    queue.put_nowait(1)
    assert queue.full()
    queue._maxsize = 2
    assert not queue.full()
    queue._maxsize = math.inf
    assert queue.maxsize == math.inf
    queue.put_nowait(2)
    queue.put_nowait(3)


@pytest.mark.parametrize("hooked", ["_put", "put_nowait"])
def test_overridden_hook_is_called(aio, hooked):
    calls: list[Any] = []

    def hook(self: Any, item: Any) -> Any:
        calls.append(item)
        return getattr(aio.Queue, hooked)(self, item)

    derived = type("Derived", (aio.Queue,), {hooked: hook})

    async def main() -> None:
        queue = derived()
        await queue.put(1)
        queue.put_nowait(2)
        assert [await queue.get(), queue.get_nowait()] == [1, 2]
        own = aio.Queue()
        setattr(own, hooked, hook.__get__(own))
        await own.put(3)

    run(aio, main())
    assert calls == [1, 2, 3]


def test_derived_queue_has_a_container_of_its_own(aio):
    class Sorted(aio.Queue):
        def _init(self, maxsize: int) -> None:
            self._queue: list[Any] = []
            self.bound = maxsize

        def _put(self, item: Any) -> None:
            self._queue.append(item)
            self._queue.sort()

        def _get(self) -> Any:
            return self._queue.pop()

    async def main() -> None:
        queue = Sorted(3)
        assert queue.bound == 3
        for item in (2, 3, 1):
            await queue.put(item)
        assert queue.full()
        waiting = asyncio.ensure_future(queue.put(4))
        await asyncio.sleep(0)
        assert await queue.get() == 3
        await waiting
        assert "_queue=[1, 2, 4]" in repr(queue)

    run(aio, main())


def test_overridden_empty_makes_get_wait(aio):
    class Paused(aio.Queue):
        paused = True

        def empty(self) -> bool:
            return self.paused or super().empty()

    async def main() -> None:
        queue = Paused()
        queue.put_nowait(1)
        task = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        assert not task.done()
        queue.paused = False
        queue.put_nowait(2)
        assert await task == 1

    run(aio, main())


def test_comparison_of_items_may_raise(aio):
    queue = aio.PriorityQueue()
    queue.put_nowait(1)
    with pytest.raises(TypeError):
        queue.put_nowait("a")
    assert queue._unfinished_tasks == 1


def test_comparison_of_items_may_come_back(aio):
    class Nosy:
        def __init__(self, queue: Any) -> None:
            self.queue = queue

        def __lt__(self, other: Any) -> bool:
            self.queue.empty()
            if not self.queue._getters:
                self.queue._unfinished_tasks += 1
            return False

    queue = aio.PriorityQueue()
    for _ in range(5):
        queue.put_nowait(Nosy(queue))
    for _ in range(5):
        queue.get_nowait()
    assert queue.empty()


def test_dropped_item_may_come_back(aio):
    class Returning:
        def __init__(self, queue: Any) -> None:
            self.queue = queue

        def __del__(self) -> None:
            self.queue.put_nowait("from __del__")

    queue = aio.Queue()
    queue.put_nowait(Returning(queue))
    queue.get_nowait()
    gc.collect()
    assert queue.get_nowait() == "from __del__"
    queue.put_nowait(Returning(queue))
    queue._queue.clear()
    assert queue.get_nowait() == "from __del__"


@pytest.mark.parametrize("name", QUEUES)
def test_copy_has_the_same_items(aio, name):
    queue = getattr(aio, name)(5)
    for item in (2, 1):
        queue.put_nowait(item)
    twin = copy.deepcopy(queue)
    assert twin._format() == queue._format()
    assert twin.get_nowait() == queue.get_nowait()
    assert (twin.qsize(), twin.maxsize, twin._unfinished_tasks) == (1, 5, 2)


@newer((3, 13))
@pytest.mark.parametrize("name", QUEUES)
def test_shutdown_wakes_everybody(aio, name):
    async def main() -> None:
        queue = getattr(aio, name)(1)
        getters = [asyncio.ensure_future(queue.get()) for _ in range(2)]
        await asyncio.sleep(0)
        queue.shutdown()
        for getter in getters:
            with pytest.raises(aio.QueueShutDown):
                await getter
        with pytest.raises(aio.QueueShutDown):
            await queue.put(1)
        await queue.join()

    run(aio, main())


@newer((3, 13))
def test_shutdown_is_the_exception_that_libraries_catch(aio):
    # (before 3.13 asyncio has none, where pickle would look for it)
    home = "asyncio.queues" if sys.version_info >= (3, 13) else "aioxide.queues"
    assert aio.QueueShutDown.__module__ == home
    assert issubclass(aio.QueueShutDown, Exception)
    assert aio.QueueShutDown is getattr(asyncio, "QueueShutDown", aio.QueueShutDown)


def test_wakeup_next_takes_a_deque(aio):
    async def main() -> None:
        queue = aio.Queue(1)
        queue.put_nowait(1)
        task = asyncio.ensure_future(queue.put(2))
        await asyncio.sleep(0)
        queue._queue.popleft()
        queue._wakeup_next(queue._putters)
        await task
        assert queue.get_nowait() == 2

    run(aio, main())


@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "derived"])
@pytest.mark.parametrize("maxsize", ["x", None, [1], object(), 2 + 0j])
def test_maxsize_that_is_no_number(aio, kind, maxsize):
    """It is compared with when an item comes, not before."""

    class Derived(aio.Queue):
        pass

    async def main() -> None:
        queue = Derived(maxsize) if kind == "derived" else getattr(aio, kind)(maxsize)
        assert queue.maxsize is queue._maxsize is maxsize
        assert f"maxsize={maxsize!r}" in repr(queue)
        text = "'<=' not supported between instances of"
        for attempt in (queue.full, lambda: queue.put_nowait(1)):
            with pytest.raises(TypeError, match=text):
                attempt()
        with pytest.raises(TypeError, match=text):
            await queue.put(1)
        assert queue.empty()
        with pytest.raises(aio.QueueEmpty):
            queue.get_nowait()
        queue._maxsize = 1
        queue.put_nowait(1)
        assert queue.full()

    run(aio, main())


@pytest.mark.parametrize(
    ("maxsize", "room"),
    [(True, 1), (10**30, None), (Fraction(3, 2), 2), (Decimal(1), 1), (float("inf"), None), (float("nan"), None)],
)
def test_maxsize_of_any_kind_of_number(aio, maxsize, room):
    async def main() -> None:
        queue = aio.Queue(maxsize)
        assert queue.maxsize is maxsize or queue.maxsize == maxsize
        assert repr(queue.maxsize) == repr(maxsize)
        for _ in range(5 if room is None else room):
            assert not queue.full()
            await queue.put(1)
        assert queue.full() is (room is not None)

    run(aio, main())
