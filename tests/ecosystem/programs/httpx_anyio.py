"""httpx over TLS, by anyio's streams: many requests at once, streaming both ways, a timeout, a cancelled request."""

import asyncio

import anyio
import httpx
import uvicorn

from tests.certificates import SERVER, client_context
from tests.ecosystem.support import run, until


async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/slow":
        await asyncio.sleep(60)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for start in range(0, len(body), 10_000):
        await send({"type": "http.response.body", "body": body[start : start + 10_000], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def main():
    config = uvicorn.Config(
        app,
        port=0,
        log_level="critical",
        loop="none",
        lifespan="off",
        ssl_certfile=SERVER,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    base = f"https://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(base_url=base, verify=client_context()) as client:
        bodies = [b"%d" % n * (n * 371 % 9000) for n in range(100)]
        answers = await asyncio.gather(*(client.post("/", content=body) for body in bodies))
        assert [answer.content for answer in answers] == bodies

        async def pieces():
            for n in range(100):
                await asyncio.sleep(0)
                yield b"%d" % n * 1000

        async with client.stream("POST", "/", content=pieces()) as response:
            received = [piece async for piece in response.aiter_raw()]
        assert b"".join(received) == b"".join(b"%d" % n * 1000 for n in range(100))

        try:
            await client.get("/slow", timeout=0.2)
        except httpx.ReadTimeout:
            pass
        else:
            raise AssertionError("no timeout")
        with anyio.move_on_after(0.2) as scope:
            await client.get("/slow")
        assert scope.cancelled_caught
        assert (await client.post("/", content=b"still there")).content == b"still there"
    server.should_exit = True
    await serving


if __name__ == "__main__":
    run(main)
