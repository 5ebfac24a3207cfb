"""Tasks, and waiting for them."""

import concurrent.futures
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any, assert_type

import aioxide as asyncio


async def number(n: int) -> int:
    await asyncio.sleep(0.1)
    return n


async def text() -> str:
    return assert_type(await asyncio.sleep(0, "done"), str)


class Awaitable:
    def __await__(self) -> Generator[Any, None, bytes]:
        yield from asyncio.sleep(0).__await__()
        return b""


async def making() -> None:
    task = asyncio.create_task(number(3), name="three", context=copy_context())
    assert_type(task, asyncio.Task[int])
    assert_type(await task, int)
    assert_type(task.result(), int)
    assert_type(task.exception(), BaseException | None)
    assert_type(task.get_name(), str)
    assert_type(task.cancel("enough"), bool)
    assert_type(task.cancelling(), int)
    assert_type(task.uncancel(), int)
    assert_type(asyncio.current_task(), asyncio.Task[Any] | None)
    assert_type(asyncio.all_tasks(), set[asyncio.Task[Any]])
    own: asyncio.Task[int] = asyncio.Task(number(1), loop=asyncio.get_running_loop())
    of_loop: asyncio.Task[int] = asyncio.get_running_loop().create_task(number(1))
    assert_type(asyncio.ensure_future(own), asyncio.Task[int])
    assert_type(asyncio.ensure_future(number(1)), asyncio.Task[int])
    of_loop.add_done_callback(lambda done: print(done.result()))
    asyncio.create_task(3)  # type: ignore[arg-type]
    wrong: asyncio.Task[str] = asyncio.create_task(number(3))  # type: ignore[arg-type, assignment, unused-ignore]
    print(wrong)


async def waiting() -> None:
    assert_type(await asyncio.gather(number(1), text()), tuple[int, str])
    assert_type(
        await asyncio.gather(number(1), text(), return_exceptions=True), tuple[int | BaseException, str | BaseException]
    )
    assert_type(await asyncio.gather(*[number(n) for n in range(3)]), list[int])
    assert_type(await asyncio.wait_for(number(1), timeout=2.5), int)
    assert_type(await asyncio.wait_for(Awaitable(), None), bytes)
    assert_type(await asyncio.shield(number(1)), int)
    tasks = [asyncio.create_task(number(n)) for n in range(3)]
    done, pending = await asyncio.wait(tasks, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    assert_type(done, set[asyncio.Task[int]])
    assert_type(pending, set[asyncio.Task[int]])
    for first in asyncio.as_completed(tasks, timeout=3):
        assert_type(await first, int)
    print(asyncio.ALL_COMPLETED, asyncio.FIRST_EXCEPTION)
    await asyncio.wait_for(number(1))  # type: ignore[call-arg]
    await asyncio.sleep("soon")  # type: ignore[call-overload]


async def grouped() -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(number(3), name="three")
        assert_type(task, asyncio.Task[int])
    async with asyncio.timeout(3) as scope:
        assert_type(scope, asyncio.Timeout)
        assert_type(scope.when(), float | None)
        scope.reschedule(None)
    assert_type(scope.expired(), bool)
    async with asyncio.timeout_at(asyncio.get_running_loop().time() + 1):
        pass
    with asyncio.timeout(3):  # type: ignore[attr-defined]
        pass


def in_threads(loop: asyncio.AbstractEventLoop) -> None:
    assert_type(asyncio.run_coroutine_threadsafe(number(3), loop), concurrent.futures.Future[int])


async def threads() -> None:
    assert_type(await asyncio.to_thread(int, "3"), int)
    await asyncio.to_thread(ord, 3)  # type: ignore[arg-type]


def coroutines(thing: object) -> None:
    if asyncio.iscoroutine(thing):
        coroutine: Coroutine[Any, Any, Any] = thing
        coroutine.close()
    print(asyncio.iscoroutinefunction(number), asyncio.isfuture(thing))
