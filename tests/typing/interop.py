"""Beside programs and libraries that know asyncio only: what they are given and give fits."""

import asyncio
from collections.abc import Awaitable
from typing import Any, assert_type

import aioxide


async def number() -> int:
    return 3


def wants_theirs(
    task: asyncio.Task[int],
    future: asyncio.Future[int],
    queue: asyncio.Queue[int],
    lock: asyncio.Lock,
    loop: asyncio.AbstractEventLoop,
    group: asyncio.TaskGroup,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    server: asyncio.Server,
    handle: asyncio.Handle,
    runner: asyncio.Runner,
) -> None: ...


async def gives_ours(reader: aioxide.StreamReader, writer: aioxide.StreamWriter, server: aioxide.Server) -> None:
    loop = aioxide.new_event_loop()
    wants_theirs(
        aioxide.create_task(number()),
        loop.create_future(),
        aioxide.Queue(),
        aioxide.Lock(),
        loop,
        aioxide.TaskGroup(),
        reader,
        writer,
        server,
        loop.call_soon(print),
        aioxide.Runner(),
    )


def wants_ours(
    task: aioxide.Task[int],
    future: aioxide.Future[int],
    lock: aioxide.Lock,
    loop: aioxide.AbstractEventLoop,
    reader: aioxide.StreamReader,
    server: aioxide.Server,
    handle: aioxide.Handle,
) -> None: ...


async def gives_theirs(reader: asyncio.StreamReader, server: asyncio.Server) -> None:
    loop = asyncio.get_running_loop()
    wants_ours(
        loop.create_task(number()), loop.create_future(), asyncio.Lock(), loop, reader, server, loop.call_soon(print)
    )
    wants_ours(3, 3, 3, 3, 3, 3, 3)  # type: ignore[arg-type]


async def caught(waiting: Awaitable[int]) -> int:
    try:
        return await aioxide.wait_for(waiting, 3)
    except asyncio.CancelledError as error:
        assert_type(error, aioxide.CancelledError)
        raise
    except asyncio.IncompleteReadError as error:
        assert_type(error, aioxide.IncompleteReadError)
        assert_type(error.partial, bytes)
        raise
    except aioxide.TimeoutError as error:
        assert_type(error, TimeoutError)
        raise


def context(loop: aioxide.AbstractEventLoop, told: dict[str, Any]) -> None:
    errors = (
        aioxide.InvalidStateError,
        aioxide.LimitOverrunError,
        aioxide.SendfileNotAvailableError,
        aioxide.BrokenBarrierError,
    )
    if isinstance(told.get("exception"), errors):
        loop.stop()
