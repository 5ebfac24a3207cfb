"""What benchmarks.services measures: ``python -m benchmarks.service_apps IMPLEMENTATION CASE [ADDRESS]``.

Servers print their port and serve until they are terminated. Clients work for a second against the server at ADDRESS,
and print microseconds of their CPU time per operation, and operations per second.
"""

import asyncio
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

from .implementations import load

SERVERS: dict[str, Callable[[], Awaitable[int]]] = {}
#: a client makes, by its address, an operation that is done again and again, and how many it counts for
CLIENTS: dict[str, Callable[[str, int], Any]] = {}
HELLO = b"Hello, world!"


def server(function: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[int]]:
    SERVERS[function.__name__] = function
    return function


def client(function: Callable[[str, int], AsyncIterator[Any]]) -> Callable[[str, int], Any]:
    CLIENTS[function.__name__] = asynccontextmanager(function)
    return function


async def plaintext(scope, receive, send):
    """The smallest ASGI application."""
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/plain"), (b"content-length", b"13")],
        }
    )
    await send({"type": "http.response.body", "body": HELLO})


async def by_uvicorn(app: Any, http: str) -> int:
    import uvicorn

    config = uvicorn.Config(app, port=0, http=http, lifespan="off", log_level="warning", access_log=False)
    serving = uvicorn.Server(config)
    task = asyncio.get_running_loop().create_task(serving.serve())
    while not serving.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.01)
    KEPT.append(task)
    return serving.servers[0].sockets[0].getsockname()[1]


#: what must not be collected
KEPT: list[Any] = []


@server
async def uvicorn_httptools() -> int:
    return await by_uvicorn(plaintext, "httptools")


@server
async def uvicorn_h11() -> int:
    return await by_uvicorn(plaintext, "h11")


@server
async def fastapi() -> int:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/items/{number}")
    async def item(number: int, short: bool = False) -> dict[str, Any]:
        return {"number": number, "short": short, "name": "a thing", "tags": ["small", "red"]}

    return await by_uvicorn(app, "httptools")


@server
async def aiohttp() -> int:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=HELLO, content_type="text/plain")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    KEPT.append(runner)
    return runner.addresses[0][1]


@client
async def redis_pipeline(host: str, port: int) -> AsyncIterator[Any]:
    """Fifty commands at once."""
    from redis.asyncio import Redis

    async with Redis(host=host, port=port) as redis:

        async def once() -> None:
            pipeline = redis.pipeline(transaction=False)
            for n in range(25):
                pipeline.set(f"key {n}", n)
                pipeline.get(f"key {n}")
            answers = await pipeline.execute()
            assert answers[-1] == b"24"

        yield once


@client
async def redis_get(host: str, port: int) -> AsyncIterator[Any]:
    from redis.asyncio import Redis

    async with Redis(host=host, port=port) as redis:
        await redis.set("key", "value")

        async def once() -> None:
            assert await redis.get("key") == b"value"

        yield once


async def by_asyncpg(host: str, port: int) -> Any:
    import asyncpg

    return await asyncpg.connect(host=host, port=port, user="postgres", database="postgres", ssl=False)


@client
async def asyncpg_select_1(host: str, port: int) -> AsyncIterator[Any]:
    connection = await by_asyncpg(host, port)

    async def once() -> None:
        assert await connection.fetchval("select 1") == 1

    yield once
    await connection.close()


@client
async def asyncpg_1000_rows(host: str, port: int) -> AsyncIterator[Any]:
    connection = await by_asyncpg(host, port)
    await connection.execute(
        "create temporary table things as select n, n * 2.5::float8 as price, 'thing ' || n as name"
        " from generate_series(1, 1000) n"
    )

    async def once() -> None:
        assert len(await connection.fetch("select * from things")) == 1000

    yield once
    await connection.close()


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def work(case: str, address: str, seconds: float) -> tuple[float, float]:
    """Microseconds per operation, and operations per second."""
    host, _, port = address.partition(":")
    async with CLIENTS[case](host, int(port)) as once:
        n = 20
        while True:
            began, used = perf_counter(), cpu()
            for _ in range(n):
                await once()
            took, used = perf_counter() - began, cpu() - used
            if took > seconds / 2:
                return used / n * 1e6, n / took
            n = max(2 * n, int(n * seconds / took))


async def serve(case: str) -> None:
    print(await SERVERS[case](), flush=True)
    await asyncio.get_running_loop().create_future()


def main() -> None:
    name, case, *rest = sys.argv[1:]
    # taken over: asyncio is aioxide already
    new_event_loop = asyncio.new_event_loop if name == "takeover" else load(name).new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if case in CLIENTS:
            print(*runner.run(work(case, rest[0], float(rest[1]))))
        else:
            runner.run(serve(case))


if __name__ == "__main__":
    main()
