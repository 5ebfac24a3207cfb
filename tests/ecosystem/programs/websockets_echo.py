"""websockets: server and client, with TLS and without, long messages, many connections, a broken one, keep-alive."""

import asyncio

import websockets
from websockets.asyncio.server import broadcast, serve

from tests.certificates import client_context, server_context
from tests.ecosystem.support import check, run


async def echo(websocket):
    check()
    async for message in websocket:
        if message == "drop":
            websocket.transport.abort()
            await websocket.wait_closed()
            return
        await websocket.send(message)


async def talk(uri, n, **options):
    async with websockets.connect(uri, **options) as websocket:
        for message in (f"{n}", b"x" * (n * 1009 % 200_000), "ä" * n):
            await websocket.send(message)
            assert await websocket.recv() == message
        await (await websocket.ping())


async def main():
    for scheme, server_options, options in (
        ("ws", {}, {}),
        ("wss", {"ssl": server_context()}, {"ssl": client_context()}),
    ):
        async with serve(echo, "127.0.0.1", 0, ping_interval=0.1, **server_options) as server:
            uri = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await asyncio.gather(*(talk(uri, n, **options) for n in range(100)))
            async with websockets.connect(uri, **options) as websocket:
                await websocket.send("drop")
                try:
                    await websocket.recv()
                except websockets.ConnectionClosedError:
                    pass
                else:
                    raise AssertionError("the connection is still there")
            listeners = [await websockets.connect(uri, **options) for _ in range(20)]
            broadcast(server.connections, "to all")
            assert await asyncio.gather(*(each.recv() for each in listeners)) == ["to all"] * 20
            # the server closes them
        assert all(each.close_code is None or each.close_code == 1001 for each in listeners)
        await asyncio.gather(*(each.wait_closed() for each in listeners))


if __name__ == "__main__":
    run(main)
