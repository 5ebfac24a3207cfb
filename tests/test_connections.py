"""create_connection, create_unix_connection, connect_accepted_socket: the client's side."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import time
from typing import Any

import pytest

from tests.support import STDLIB, newer, run


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Any) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@contextlib.asynccontextmanager
async def serving():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def converse(transport: Any, protocol: Any) -> None:
    transport.write(b"hello")
    end = time.monotonic() + 5
    while protocol.data != b"hello":
        assert time.monotonic() < end
        await asyncio.sleep(0.001)
    transport.close()
    assert await protocol.lost is None


def free_port() -> int:
    """Nobody listens there."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def resolving_to(*addresses: tuple[str, int]):
    async def getaddrinfo(host: Any, port: Any, **hints: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    return getaddrinfo


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", b"127.0.0.1"])
def test_connect(aio, host):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as port:
            transport, protocol = await loop.create_connection(Client, host, port)
            assert isinstance(transport, asyncio.Transport)
            assert protocol.transport is transport
            assert transport.get_extra_info("peername") == ("127.0.0.1", port)
            shown = transport.get_extra_info("socket")
            assert shown.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await converse(transport, protocol)

    run(aio, main())


def test_refused(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        port = free_port()
        before = descriptors()
        with pytest.raises(ConnectionRefusedError, match=rf"\[Errno 111\] Connect call failed \('127.0.0.1', {port}\)"):
            await loop.create_connection(Client, "127.0.0.1", port)
        assert descriptors() == before

    run(aio, main())


@newer((3, 12))
def test_all_errors(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = free_port(), free_port()
        loop.getaddrinfo = resolving_to(("127.0.0.1", first), ("127.0.0.1", second))
        with pytest.raises(
            OSError, match=rf"Multiple exceptions: \[Errno 111\].* {first}\), \[Errno 111\].* {second}\)"
        ):
            await loop.create_connection(Client, "name", 1)
        with pytest.raises(ExceptionGroup, match="create_connection failed") as info:
            await loop.create_connection(Client, "name", 1, all_errors=True)
        assert [type(error) for error in info.value.exceptions] == [ConnectionRefusedError] * 2
        loop.getaddrinfo = resolving_to()
        with pytest.raises(OSError, match=r"getaddrinfo\(\) returned empty list"):
            await loop.create_connection(Client, "name", 1)

    run(aio, main())


@pytest.mark.parametrize("delay", [None, 0.05, 5])
def test_next_address_after_a_failure(aio, delay):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as port:
            loop.getaddrinfo = resolving_to(("127.0.0.1", free_port()), ("127.0.0.1", port))
            began = time.monotonic()
            transport, protocol = await loop.create_connection(Client, "name", 1, happy_eyeballs_delay=delay)
            assert time.monotonic() - began < 1
            await converse(transport, protocol)

    run(aio, main())


def hanging(loop: Any, until: asyncio.Event) -> Any:
    """Connecting to port 1 takes until the event."""
    connect = loop.sock_connect

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        if address[1] == 1:
            await until.wait()
            raise OSError(errno.ETIMEDOUT, "too late")
        await connect(sock, address)

    return sock_connect


def test_happy_eyeballs(aio):
    run(aio, happy_eyeballs())


async def happy_eyeballs() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as port:
        loop.sock_connect = hanging(loop, asyncio.Event())
        loop.getaddrinfo = resolving_to(("127.0.0.1", 1), ("127.0.0.1", 1), ("127.0.0.1", port))
        before = descriptors()
        began = time.monotonic()
        transport, protocol = await loop.create_connection(Client, "name", 1, happy_eyeballs_delay=0.05)
        assert 0.09 < time.monotonic() - began < 1
        await converse(transport, protocol)
        await asyncio.sleep(0.01)
        assert descriptors() == before
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("delay", [None, 0.01])
def test_cancelled(aio, delay):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.sock_connect = hanging(loop, asyncio.Event())
        loop.getaddrinfo = resolving_to(("127.0.0.1", 1), ("127.0.0.1", 1))
        before = descriptors()
        task = asyncio.ensure_future(loop.create_connection(Client, "name", 1, happy_eyeballs_delay=delay))
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)
        assert descriptors() == before
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(aio, main())


def test_interleaved(aio):
    order: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def getaddrinfo(*args: Any, **hints: Any) -> list[Any]:
            addresses = [(socket.AF_INET6, f"::{n}") for n in range(1, 5)] + [
                (socket.AF_INET, f"127.0.0.{n}") for n in (1, 2)
            ]
            return [(family, socket.SOCK_STREAM, 6, "", (host, 1)) for family, host in addresses]

        async def sock_connect(sock: Any, address: Any) -> None:
            order.append(address[0])
            raise OSError("no")

        loop.getaddrinfo, loop.sock_connect = getaddrinfo, sock_connect
        for interleave in (1, 2, 3):
            order.clear()
            with pytest.raises(OSError, match="no"):
                await loop.create_connection(Client, "name", 1, interleave=interleave)
            first = [f"::{n}" for n in range(1, interleave)]
            rest = [f"::{n}" for n in range(interleave, 5)]
            mixed = [host for pair in zip(rest, ["127.0.0.1", "127.0.0.2"], strict=False) for host in pair]
            assert order == first + mixed + rest[2:] + ["127.0.0.2"] * (len(rest) == 1)

    run(aio, main())


def test_local_address(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as port:
            mine = free_port()
            transport, protocol = await loop.create_connection(
                Client, "127.0.0.1", port, local_addr=("127.0.0.1", mine)
            )
            assert transport.get_extra_info("sockname") == ("127.0.0.1", mine)
            await converse(transport, protocol)
            before = descriptors()
            with pytest.raises(OSError, match=r"error while attempting to bind on address \('127.0.0.1', \d+\): "):
                await loop.create_connection(Client, "127.0.0.1", port, local_addr=("127.0.0.1", port))
            assert descriptors() == before

    run(aio, main())


def test_given_socket(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        transport, protocol = await loop.create_connection(Client, sock=left)
        right.send(b"hello")
        await asyncio.sleep(0.01)
        assert protocol.data == b"hello"
        if not STDLIB:  # asyncio before 3.12 does not look
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.create_connection(Client, sock=left)
            assert left.fileno() != -1
        transport.abort()
        right.close()
        await asyncio.sleep(0.01)

    run(aio, main())


def test_wrong_arguments(aio, tmp_path):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            for kwargs, text in [
                ({}, "host and port was not specified and no sock specified"),
                ({"host": "x", "port": 1, "sock": sock}, "host/port and sock can not be specified at the same time"),
                ({"sock": datagrams}, "A Stream Socket was expected, got"),
                ({"sock": sock, "server_hostname": "x"}, "server_hostname is only meaningful with ssl"),
                ({"sock": sock, "ssl": True}, "You must set server_hostname when using ssl without a host"),
                ({"sock": sock, "ssl_handshake_timeout": 1}, "ssl_handshake_timeout is only meaningful with ssl"),
                ({"sock": sock, "ssl_shutdown_timeout": 1}, "ssl_shutdown_timeout is only meaningful with ssl"),
            ]:
                with pytest.raises(ValueError, match=text):
                    await loop.create_connection(Client, **kwargs)
            for kwargs, text in [
                ({}, "no path and sock were specified"),
                ({"path": "x", "sock": sock}, "path and sock can not be specified at the same time"),
                ({"sock": sock}, "A UNIX Domain Stream Socket was expected, got"),
                ({"path": "x", "ssl": True}, "you have to pass server_hostname when using ssl"),
                ({"path": "x", "server_hostname": "x"}, "server_hostname is only meaningful with ssl"),
                ({"path": "x", "ssl_handshake_timeout": 1}, "ssl_handshake_timeout is only meaningful with ssl"),
            ]:
                with pytest.raises(ValueError, match=text):
                    await loop.create_unix_connection(Client, **kwargs)
            for kwargs, text in [
                ({"sock": datagrams}, "A Stream Socket was expected, got"),
                ({"sock": sock, "ssl_shutdown_timeout": 1}, "ssl_shutdown_timeout is only meaningful with ssl"),
            ]:
                with pytest.raises(ValueError, match=text):
                    await loop.connect_accepted_socket(Client, **kwargs)
        before = descriptors()
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Client, str(tmp_path / "nobody"))
        assert descriptors() == before

    run(aio, main())


def test_unix(aio, tmp_path):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for path in (str(tmp_path / "a"), tmp_path / "b", f"\0aioxide-{os.getpid()}"):
            server = await loop.create_unix_server(Echo, path)
            transport, protocol = await loop.create_unix_connection(Client, path)
            await converse(transport, protocol)
            server.close()

    run(aio, main())


def test_raising_factory(aio):
    if STDLIB:
        pytest.skip("asyncio before 3.15 leaves the socket to the garbage collector")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as port:
            await asyncio.sleep(0)
            before = descriptors()
            with pytest.raises(ZeroDivisionError):
                await loop.create_connection(lambda: 1 / 0, "127.0.0.1", port)
            await asyncio.sleep(0.05)
            assert descriptors() == before

    run(aio, main())


def test_connection_made_raises(aio):
    class Bad(Client):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise ZeroDivisionError

    reports: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: reports.append(context))
        async with serving() as port:
            transport, protocol = await loop.create_connection(Bad, "127.0.0.1", port)
            await converse(transport, protocol)

    run(aio, main())
    assert len(reports) == 1
