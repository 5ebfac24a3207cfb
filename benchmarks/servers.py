"""The servers that the load generator talks to: ``python -m benchmarks.servers IMPLEMENTATION CASE``.

CASE may have arguments: ``exactly:1024``. Prints where it listens as soon as it does, and serves until it is
terminated. SIGUSR1 makes it count its objects.
"""

import asyncio
import gc
import json
import os
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

from .implementations import load

CERTIFICATES = Path(__file__).resolve().parents[1] / "tests" / "certificates"
SERVERS: dict[str, Callable[..., Awaitable[str]]] = {}


def server(function: Callable[..., Awaitable[str]]) -> Callable[..., Awaitable[str]]:
    SERVERS[function.__name__] = function
    return function


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class EchoBuffered(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = memoryview(bytearray(256 * 1024))

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        self.transport.write(self.buffer[:count])


class EchoLines(asyncio.Protocol):
    """One ``write()`` for each line, as a protocol with pipelined requests does."""

    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""

    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.transport.write(line + b"\n")


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


def where(server: asyncio.AbstractServer, tls: ssl.SSLContext | None) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"{'tls' if tls else 'tcp'}:{host}:{port}"


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTIFICATES / "server.pem")
    return made


async def _protocol(protocol: type, tls: ssl.SSLContext | None = None) -> str:
    loop = asyncio.get_running_loop()
    return where(await loop.create_server(protocol, "127.0.0.1", 0, backlog=4096, ssl=tls), tls)


for _name, _echo in {"protocol": Echo, "buffered": EchoBuffered, "lines": EchoLines}.items():
    SERVERS[_name] = lambda aio, echo=_echo: _protocol(echo)
    SERVERS[f"tls_{_name}"] = lambda aio, echo=_echo: _protocol(echo, context())


@server
async def sendfile(aio: Any, size: str) -> str:
    """Answers every message with a file of so many bytes."""
    loop, count = asyncio.get_running_loop(), int(size)
    file = FileIO(os.memfd_create("answer"), "r+")
    file.write(os.urandom(count))

    class Sender(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            task = aio.create_task(loop.sendfile(self.transport, file, 0, count, fallback=False))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    tasks: set[Any] = set()
    return await _protocol(Sender)


@server
async def unix(aio: Any) -> str:
    path = os.path.join(tempfile.mkdtemp(), "echo")
    await asyncio.get_running_loop().create_unix_server(Echo, path)
    return f"unix:{path}"


@server
async def udp(aio: Any) -> str:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")
    return f"udp:{host}:{port}"


@server
async def sock(aio: Any) -> str:
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)

    async def converse(connection: socket.socket) -> None:
        while data := await loop.sock_recv(connection, 256 * 1024):
            await loop.sock_sendall(connection, data)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listening)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tasks.add(aio.create_task(converse(connection)))

    tasks: set[Any] = set()
    tasks.add(aio.create_task(accept()))
    host, port = listening.getsockname()
    return f"tcp:{host}:{port}"


# What reads a message from a stream. Limits are above the largest message.
LIMIT = 256 * 1024


async def _streams(
    aio: Any, converse: Callable[[Any, Any], Awaitable[None]], tls: ssl.SSLContext | None = None, limit: int = LIMIT
) -> str:
    async def handle(reader: Any, writer: Any) -> None:
        try:
            await converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    server = await aio.start_server(handle, "127.0.0.1", 0, backlog=4096, limit=limit, ssl=tls)
    servers.append(server)
    return where(server, tls)


servers: list[Any] = []


async def _read(reader: Any, writer: Any, most: int = 65536) -> None:
    while data := await reader.read(most):
        writer.write(data)
        await writer.drain()


async def _readline(reader: Any, writer: Any) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


@server
async def read(aio: Any) -> str:
    return await _streams(aio, _read)


@server
async def unix_read(aio: Any) -> str:
    path = os.path.join(tempfile.mkdtemp(), "echo")
    servers.append(await aio.start_unix_server(_read, path, limit=LIMIT))
    return f"unix:{path}"


@server
async def readline(aio: Any) -> str:
    return await _streams(aio, _readline)


@server
async def tls_read(aio: Any) -> str:
    return await _streams(aio, partial(_read, most=1 << 18), context(), 65536)


@server
async def tls_readline(aio: Any) -> str:
    return await _streams(aio, _readline, context(), 65536)


@server
async def exactly(aio: Any, size: str) -> str:
    count = int(size)

    async def converse(reader: Any, writer: Any) -> None:
        while True:
            writer.write(await reader.readexactly(count))
            await writer.drain()

    return await _streams(aio, converse)


@server
async def timeout(aio: Any) -> str:
    async def converse(reader: Any, writer: Any) -> None:
        while True:
            async with aio.timeout(10):
                data = await reader.read(65536)
            if not data:
                return
            writer.write(data)
            await writer.drain()

    return await _streams(aio, converse)


def report() -> None:
    """How many objects there are, for whoever has sent the signal."""
    gc.collect()
    print(json.dumps({"objects": len(gc.get_objects()), "blocks": sys.getallocatedblocks()}), flush=True)


def main() -> None:
    implementation = load(sys.argv[1])
    name, *arguments = sys.argv[2].split(":")
    loop = implementation.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.add_signal_handler(signal.SIGUSR1, report)
    print(loop.run_until_complete(SERVERS[name](implementation.aio, *arguments)), flush=True)
    loop.run_forever()


if __name__ == "__main__":
    main()
