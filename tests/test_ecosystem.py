"""Real servers and clients on our loop and on all of us: unmodified aiohttp (with and without TLS) and uvicorn."""

from __future__ import annotations

import pytest

from tests.support import IMPLEMENTATION, STDLIB, interpreter

pytest.importorskip("aiohttp")

AIOHTTP = """
import asyncio
import aiohttp
from aiohttp import web

async def hello(request):
    return web.json_response({"n": int(request.query["n"])})

async def echo(request):
    return web.Response(body=await request.read())

async def socket(request):
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str(message.data + "!")
    return answer

async def main():
    app = web.Application(client_max_size=1 << 26)
    app.add_routes([web.get("/hello", hello), web.post("/echo", echo), web.get("/socket", socket)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    base = "http://127.0.0.1:%d" % runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        async def ask(n):
            async with session.get(f"{base}/hello", params={"n": n}) as response:
                return (await response.json())["n"]

        assert await asyncio.gather(*map(ask, range(300))) == list(range(300))
        body = bytes(range(256)) * 3000
        async with session.post(f"{base}/echo", data=body) as response:
            assert await response.read() == body
        async with session.ws_connect(f"{base}/socket") as websocket:
            await websocket.send_str("hello")
            assert await websocket.receive_str() == "hello!"
    await runner.cleanup()
    print(type(asyncio.get_running_loop()).__module__)
"""

AIOHTTPS = """
import asyncio
import os
import sys
import aiohttp
from aiohttp import web

sys.path.insert(0, os.getcwd())
from tests.certificates import client_context, server_context

async def echo(request):
    return web.Response(body=await request.read())

async def socket(request):
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str(message.data + "!")
    return answer

async def main():
    app = web.Application(client_max_size=1 << 26)
    app.add_routes([web.post("/echo", echo), web.get("/socket", socket)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context()).start()
    base = "https://127.0.0.1:%d" % runner.addresses[0][1]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session:
        async def ask(body):
            async with session.post(f"{base}/echo", data=body) as response:
                return await response.read()

        bodies = [bytes([n]) * (n * n * 37 % 300_000) for n in range(100)]
        assert await asyncio.gather(*map(ask, bodies)) == bodies
        async with session.ws_connect(f"{base}/socket") as websocket:
            await websocket.send_str("hello")
            assert await websocket.receive_str() == "hello!"
    await runner.cleanup()
    await asyncio.sleep(0.1)
    print(type(asyncio.get_running_loop()).__module__)
"""

UVICORN = """
import asyncio, sys
import aiohttp, uvicorn

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello ", "more_body": True})
    await send({"type": "http.response.body", "body": body})

async def main():
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", http=sys.argv[1], loop="none"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session:
        async def ask(body):
            async with session.post(f"http://127.0.0.1:{port}/", data=body) as response:
                return await response.read()

        bodies = [b"%d" % n * (n * 37 % 5000) for n in range(200)]
        assert await asyncio.gather(*map(ask, bodies)) == [b"hello " + body for body in bodies]
    server.should_exit = True
    await serving
    print(type(asyncio.get_running_loop()).__module__)
"""

LOOP_ONLY = (
    "\nwith asyncio.Runner(loop_factory=__import__({name!r}).new_event_loop) as runner:\n    runner.run(main())\n"
)


@pytest.mark.parametrize("mode", ["takeover", "loop"])
@pytest.mark.parametrize(
    ("source", "argument"), [(AIOHTTP, ""), (AIOHTTPS, ""), (UVICORN, "h11"), (UVICORN, "httptools")]
)
def test_serves_real_requests(tmp_path, source, argument, mode):
    if argument == "httptools":
        pytest.importorskip("httptools")
    program = tmp_path / "program.py"
    program.write_text(
        source + ("\nasyncio.run(main())\n" if mode == "takeover" else LOOP_ONLY.format(name=IMPLEMENTATION))
    )
    how = ["-m", IMPLEMENTATION] if mode == "takeover" and not STDLIB else []
    done = interpreter("-W", "error::ResourceWarning", *how, str(program), argument)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["asyncio.unix_events" if STDLIB else "aioxide"]
    assert "Exception" not in done.stderr, done.stderr
