"""aiohttp serves itself: requests, bodies and WebSockets, with TLS and without."""

import asyncio

import aiohttp
from aiohttp import web

from tests.certificates import client_context, server_context
from tests.ecosystem.support import check, run


async def hello(request):
    check()
    return web.json_response({"n": int(request.query["n"])})


async def echo(request):
    return web.Response(body=await request.read())


async def socket(request):
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str(message.data + "!")
    return answer


async def converse(tls):
    app = web.Application(client_max_size=1 << 26)
    app.add_routes([web.get("/hello", hello), web.post("/echo", echo), web.get("/socket", socket)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context() if tls else None).start()
    base = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session:

        async def ask(n):
            async with session.get(f"{base}/hello", params={"n": n}) as response:
                return (await response.json())["n"]

        async def send(body):
            async with session.post(f"{base}/echo", data=body) as response:
                return await response.read()

        assert await asyncio.gather(*map(ask, range(300))) == list(range(300))
        bodies = [bytes([n]) * (n * n * 37 % 300_000) for n in range(100)]
        assert await asyncio.gather(*map(send, bodies)) == bodies
        async with session.ws_connect(f"{base}/socket") as websocket:
            await websocket.send_str("hello")
            assert await websocket.receive_str() == "hello!"
    await runner.cleanup()


async def main():
    await converse(tls=False)
    await converse(tls=True)


if __name__ == "__main__":
    run(main)
