"""Locks and queues."""

from typing import Literal, assert_type

import aioxide as asyncio


async def locks() -> None:
    lock = asyncio.Lock()
    async with lock as nothing:
        assert_type(nothing, None)
    assert_type(await lock.acquire(), Literal[True])
    assert_type(lock.locked(), bool)
    lock.release()
    with lock:  # type: ignore[attr-defined]
        pass
    event = asyncio.Event()
    event.set()
    event.clear()
    assert_type(event.is_set(), bool)
    assert_type(await event.wait(), Literal[True])
    condition = asyncio.Condition(lock)
    async with condition:
        assert_type(await condition.wait(), Literal[True])
        assert_type(await condition.wait_for(lambda: 3), int)
        condition.notify(2)
        condition.notify_all()
    for semaphore in (asyncio.Semaphore(3), asyncio.BoundedSemaphore(value=3)):
        async with semaphore:
            print(semaphore.locked())
    asyncio.Semaphore("three")  # type: ignore[arg-type]
    barrier = asyncio.Barrier(3)
    async with barrier:
        pass
    assert_type(await barrier.wait(), int)
    assert_type((barrier.parties, barrier.n_waiting, barrier.broken), tuple[int, int, bool])
    await barrier.reset()
    await barrier.abort()
    asyncio.Barrier()  # type: ignore[call-arg]


async def queues() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=3)
    await queue.put(3)
    queue.put_nowait(4)
    await queue.put("five")  # type: ignore[arg-type]
    assert_type(await queue.get(), int)
    assert_type(queue.get_nowait(), int)
    assert_type(queue.qsize(), int)
    assert_type(queue.maxsize, int)
    assert_type(queue.full(), bool)
    queue.task_done()
    await queue.join()
    queue.shutdown()
    queue.shutdown(immediate=True)
    ordered: asyncio.PriorityQueue[tuple[int, str]] = asyncio.PriorityQueue()
    last: asyncio.LifoQueue[str] = asyncio.LifoQueue()
    assert_type(await ordered.get(), tuple[int, str])
    assert_type(last.get_nowait(), str)
    lines: list[asyncio.Queue[str]] = [last, asyncio.Queue()]
    try:
        lines[0].get_nowait()
    except (asyncio.QueueEmpty, asyncio.QueueFull, asyncio.QueueShutDown) as error:
        assert_type(error, asyncio.QueueEmpty | asyncio.QueueFull | asyncio.QueueShutDown)
