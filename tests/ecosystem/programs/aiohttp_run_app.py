"""aiohttp.web.run_app makes the loop, or is given it; SIGTERM ends it, and what was to be cleaned up is."""

import asyncio
import os
import signal

import aiohttp
from aiohttp import web

from tests.ecosystem.support import EXPECTED, LOOP_FACTORY, check, free_port

PORT = free_port()
events = []


async def hello(request):
    check()
    return web.Response(text="hello")


async def visit():
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{PORT}/") as response:
            events.append(await response.text())
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.Event().wait()


async def visitor(app):
    async def after_start():
        await asyncio.sleep(0.2)
        await visit()

    task = asyncio.create_task(after_start())
    yield
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        events.append("cleaned up")


if __name__ == "__main__":
    application = web.Application()
    application.add_routes([web.get("/", hello)])
    application.cleanup_ctx.append(visitor)
    web.run_app(application, host="127.0.0.1", port=PORT, print=None, loop=LOOP_FACTORY and LOOP_FACTORY())
    assert events == ["hello", "cleaned up"], events
    print("ran on", EXPECTED)
