"""Futures, and what calls back."""

import concurrent.futures
from contextvars import copy_context
from typing import Any, assert_type

import aioxide as asyncio


async def main() -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = asyncio.Future(loop=loop)
    of_loop: asyncio.Future[int] = loop.create_future()
    future.set_result(3)
    future.set_result("three")  # type: ignore[arg-type]
    of_loop.set_exception(ValueError("no"))
    of_loop.set_exception(ValueError)
    assert_type(await future, int)
    assert_type(future.done(), bool)
    assert_type(future.cancelled(), bool)
    assert_type(future.get_loop(), asyncio.AbstractEventLoop)
    future.add_done_callback(done, context=copy_context())
    assert_type(future.remove_done_callback(done), int)
    assert_type(asyncio.wrap_future(concurrent.futures.Future[str]()), asyncio.Future[str])
    assert_type(asyncio.isfuture(future), bool)


def done(future: asyncio.Future[Any]) -> None:
    print(future.result())


def called(loop: asyncio.AbstractEventLoop) -> None:
    handle: asyncio.Handle = loop.call_soon(print, "now")
    timer: asyncio.TimerHandle = loop.call_later(3, print, "later")
    assert_type(loop.call_soon_threadsafe(print), asyncio.Handle)
    assert_type(loop.call_at(loop.time() + 3, print), asyncio.TimerHandle)
    assert_type(timer.when(), float)
    assert_type(timer.cancelled(), bool)
    handle.cancel()
    loop.call_soon(done)  # type: ignore[arg-type]
    loop.call_later("soon", print)  # type: ignore[arg-type]
