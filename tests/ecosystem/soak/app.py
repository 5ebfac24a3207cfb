"""The service. ``python -m aioxide -m tests.ecosystem.soak.app LISTENING JOURNAL``, both descriptors.

It notes every request in the journal before it does anything for it: a request that stands there must be answered.
A database that is away is a 503, and anything else that goes wrong is a traceback, which the soak counts as a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.requests import ClientDisconnect

from tests.certificates import client_context
from tests.ecosystem.support import MODE, check, server

#: what a client of a database that is away may see; the internal one is asyncpg's word for a connection that ended
#: at the wrong moment, on any loop
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    RedisError,
)

generation = 0
pool: asyncpg.Pool
cache: Redis


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    global pool, cache
    check()
    host, port = server("postgres")
    pool = asyncpg.create_pool(
        host=host,
        port=port,
        user="postgres",
        database="postgres",
        ssl=client_context(),
        min_size=0,
        max_size=8,
        command_timeout=10,
    )
    host, port = server("redis")
    cache = Redis(host=host, port=port, decode_responses=True)
    async with pool, cache:
        yield


app = FastAPI(lifespan=lifespan)


async def away(request: Request, error: Exception) -> Response:
    return JSONResponse({"away": type(error).__name__}, 503)


async def several(request: Request, error: ExceptionGroup) -> Response:
    """What a task group raises."""
    if rest := error.split(AWAY)[1]:
        raise rest
    return JSONResponse({"away": "several"}, 503)


async def twice(request: Request, error: Exception) -> Response:
    return JSONResponse({"twice": str(error)}, 409)


async def gone(request: Request, error: Exception) -> Response:
    """The client went before it had sent everything: nobody will read this."""
    return Response(status_code=400)


for kind in AWAY:
    app.add_exception_handler(kind, away)
app.add_exception_handler(ExceptionGroup, several)
app.add_exception_handler(asyncpg.UniqueViolationError, twice)
app.add_exception_handler(ClientDisconnect, gone)


@app.get("/plain/{n}")
async def plain(n: int) -> Any:
    return {"n": n, "square": n * n}


@app.get("/rows/{count}")
async def rows(count: int) -> Any:
    found = await pool.fetch("select n, repeat('x', n) as text from generate_series(1, $1::int) n", count)
    return {"sum": sum(row["n"] for row in found), "length": sum(len(row["text"]) for row in found)}


@app.post("/write/{number}")
async def write(number: int, request: Request) -> Any:
    """Into both databases; a number comes only once, or the table refuses it."""
    digest = hashlib.sha256(await request.body()).hexdigest()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("insert into written values ($1, $2)", number, digest)
    key = f"digest {number}"
    async with cache.pipeline(transaction=True) as pipeline:
        _, _, kept, _ = await pipeline.set(key, digest).append(key, f" {number}").get(key).delete(key).execute()
    return {"kept": kept}


@app.get("/stream/{count}")
async def stream(count: int) -> Response:
    async def lines() -> AsyncIterator[str]:
        for n in range(count):
            yield f"{n}\n"
            await asyncio.sleep(0.001 if n % 20 == 0 else 0)

    return StreamingResponse(lines())


@app.get("/thread/{n}")
def thread(n: int) -> Any:
    time.sleep(0.002)
    return {"n": n}


@app.get("/together/{n}")
async def together(n: int) -> Any:
    """Three at once, of which one takes too long."""

    async def late() -> str:
        try:
            async with asyncio.timeout(0.02):
                await asyncio.sleep(60)
        except TimeoutError:
            return "late"
        return "early"

    async with asyncio.TaskGroup() as group:
        three = [
            group.create_task(coroutine)
            for coroutine in (cache.echo(str(n)), pool.fetchval("select $1::int + 1", n), late())
        ]
    return {"three": [task.result() for task in three]}


@app.get("/census")
async def census() -> Any:
    """What is held by something: garbage that waits for the collector's next whole round is no leak."""
    check()
    gc.collect()
    return {
        "generation": generation,
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "tasks": len(asyncio.all_tasks()),
    }


class Journal:
    """Around the application: what it was asked to do."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]) -> None:
        for name, value in scope.get("headers", ()):
            if name == b"x-number":
                os.write(self._descriptor, value + b"\n")
        await app(scope, receive, send)


def main() -> None:
    """Each Ctrl-C ends a loop, after its last answer, and a new one begins; who connects in between waits."""
    global generation
    # (what a shell starts in the background has it ignored)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    listening, journal = socket.socket(fileno=int(sys.argv[1])), Journal(int(sys.argv[2]))
    while True:
        config = uvicorn.Config(
            journal,
            http="httptools",
            loop="aioxide:new_event_loop" if MODE == "loop" else "none",
            log_level="warning",
            timeout_keep_alive=60,
        )
        generation += 1
        try:
            uvicorn.Server(config).run(sockets=[listening.dup()])
        except KeyboardInterrupt:
            continue
        raise SystemExit("it ended, and nobody had asked for that")


if __name__ == "__main__":
    main()
