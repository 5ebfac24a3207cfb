"""uvicorn with h11, in this process."""

import asyncio

import aiohttp
import uvicorn

from tests.ecosystem.programs.asgi import app
from tests.ecosystem.support import run, until


async def serve(http):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", http=http, loop="none"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session:

        async def ask(body):
            async with session.post(f"http://127.0.0.1:{port}/", data=body) as response:
                return (await response.read()).partition(b"\n")[2]

        bodies = [b"%d" % n * (n * 37 % 5000) for n in range(200)]
        assert await asyncio.gather(*map(ask, bodies)) == bodies
    server.should_exit = True
    await serving


async def main():
    await serve("h11")


if __name__ == "__main__":
    run(main)
