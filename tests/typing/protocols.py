"""Transports, protocols, and the loop's methods that bring them together."""

import signal
import socket
import sys
from typing import Any, assert_type

import aioxide as asyncio


class Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.write(3)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None: ...
    def eof_received(self) -> bool | None:
        return None


class Filled(asyncio.BufferedProtocol):
    buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None: ...


class Datagrams(asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None: ...
    def error_received(self, exc: Exception) -> None: ...


class Child(asyncio.SubprocessProtocol):
    def pipe_data_received(self, fd: int, data: bytes) -> None: ...
    def pipe_data_received_wrongly(self, fd: str) -> None: ...
    def process_exited(self) -> None: ...


class Wrong(asyncio.Protocol):
    def data_received(self, data: str) -> None: ...  # type: ignore[override]


async def main() -> None:
    loop = asyncio.get_running_loop()
    assert_type(loop, asyncio.AbstractEventLoop)
    transport, protocol = await loop.create_connection(Echo, "localhost", 80)
    assert_type((transport, protocol), tuple[asyncio.Transport, Echo])
    assert_type(await loop.create_server(Echo, "localhost", 80), asyncio.Server)
    assert_type(await loop.create_unix_server(Filled, "path"), asyncio.Server)
    datagrams, received = await loop.create_datagram_endpoint(Datagrams, local_addr=("localhost", 0))
    assert_type((datagrams, received), tuple[asyncio.DatagramTransport, Datagrams])
    child, told = await loop.subprocess_exec(Child, "echo")
    assert_type((child, told), tuple[asyncio.SubprocessTransport, Child])
    print(child.get_pid(), child.get_returncode())
    reading, _ = await loop.connect_read_pipe(Echo, sys.stdin)
    writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    readable: asyncio.ReadTransport = reading
    writable: asyncio.WriteTransport = writing
    print(readable, writable)
    await loop.create_connection(3, "localhost", 80)  # type: ignore[call-overload]
    connection = socket.socket()
    assert_type(await loop.sock_recv(connection, 3), bytes)
    assert_type(await loop.sock_accept(connection), tuple[socket.socket, Any])
    await loop.sock_sendall(connection, b"")
    loop.add_reader(connection, print, "readable")
    loop.add_signal_handler(signal.SIGTERM, print)
    assert_type(loop.remove_reader(connection), bool)
    assert_type(await loop.run_in_executor(None, int, "3"), int)
    loop.run_in_executor(None, ord, 3)  # type: ignore[arg-type]
    loop.set_exception_handler(lambda loop, context: loop.default_exception_handler(context))
    loop.set_debug(True)
    await loop.shutdown_asyncgens()
