"""What queues promise beyond CPython's own tests: programs reach into them, derive from them, copy them."""

from __future__ import annotations

import asyncio
import copy
import gc
import math
import weakref
from collections import deque
from typing import Any

import pytest

from tests.support import newer, run, run_hops

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
    assert aio.QueueShutDown.__module__ == "asyncio.queues"
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
