"""create_connection, create_unix_connection, connect_accepted_socket: the client's side."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import sys
import time
from typing import Any

import pytest

from tests.support import STDLIB, newer, run, succeeds


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


def test_a_connection_takes_as_many_turns_as_in_asyncio(aio):
    """So that who cancels it after one turn finds no protocol, as asyncpg's pool counts on."""

    async def main():
        loop = aio.get_running_loop()
        turn, seen, over = 0, [], False

        def count():
            nonlocal turn
            turn += 1
            if not over:
                loop.call_soon(count)

        class Seen(asyncio.Protocol):
            def __init__(self):
                seen.append(("protocol", turn))

            def connection_made(self, transport):
                seen.append(("made", turn))

        async def connect():
            seen.append(("begun", turn))
            transport, _ = await loop.create_connection(Seen, *address)
            seen.append(("done", turn))
            transport.close()

        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            loop.call_soon(count)
            await aio.create_task(connect())
            assert seen == [("begun", 1), ("protocol", 3), ("made", 4), ("done", 5)]
            seen.clear()
            before = descriptors()
            task = aio.create_task(connect())
            await aio.sleep(0)
            task.cancel()
            with pytest.raises(aio.CancelledError):
                await task
            assert [what for what, _ in seen] == ["begun"]
            assert descriptors() == before
        seen.clear()
        # an error takes as long
        with pytest.raises(ConnectionRefusedError):
            await connect()
        seen.append(("refused", turn))
        over = True
        assert seen == [("begun", turn - 2), ("refused", turn)]

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


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_socket_is_there_when_it_is_asked_for(aio, family):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        server = await loop.create_server(Echo, host, 0)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(Client, host, address[1])
        sock = transport.get_extra_info("socket")
        assert (sock.family, sock.type, sock.proto) == (family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        assert sock.gettimeout() == 0
        assert not os.get_inheritable(sock.fileno())
        assert transport.get_extra_info("peername") == sock.getpeername() == address
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await converse(transport, protocol)
        server.close()

    run(aio, main())


def test_cancelled_while_the_kernel_connects(aio):
    """To a listener whose queue is full."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
            address, waiting, tasks = server.getsockname(), [], []
            while len(waiting) < 50:
                sock = socket.socket()
                sock.setblocking(False)
                waiting.append(sock)
                sock.connect_ex(address)
            before = descriptors()
            tasks = [asyncio.ensure_future(loop.create_connection(Client, *address)) for _ in range(20)]
            await asyncio.sleep(0.05)
            stuck = [task for task in tasks if not task.done()]
            assert stuck
            for task in stuck:
                task.cancel()
            for task in stuck:
                with pytest.raises(asyncio.CancelledError):
                    await task
            for task in tasks:
                if task not in stuck:
                    task.result()[0].abort()
            await asyncio.sleep(0.01)
            assert descriptors() == before
            for sock in waiting:
                sock.close()

    run(aio, main())


def test_losers_of_a_race_end_before_it(aio):
    """They have been told, and have cleaned up after themselves, before whoever waits goes on."""
    log: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as port:
            connect = loop.sock_connect

            async def sock_connect(sock: socket.socket, address: Any) -> None:
                if address[1] != 1:
                    return await connect(sock, address)
                try:
                    await loop.create_future()
                finally:
                    await asyncio.sleep(0.01)
                    log.append("cleaned up")

            loop.sock_connect = sock_connect
            loop.getaddrinfo = resolving_to(("127.0.0.1", 1), ("127.0.0.1", 1), ("127.0.0.1", port))
            transport, protocol = await loop.create_connection(Client, "name", 1, happy_eyeballs_delay=0.01)
            assert log == ["cleaned up"] * 2
            await converse(transport, protocol)

    run(aio, main())


def test_who_arrives_second_is_turned_away(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sockets: list[socket.socket] = []
        async with serving() as port:
            until, connect = loop.create_future(), loop.sock_connect

            async def sock_connect(sock: socket.socket, address: Any) -> None:
                sockets.append(sock)
                await connect(sock, address)
                await asyncio.shield(until)

            loop.sock_connect = sock_connect
            loop.getaddrinfo = resolving_to(("127.0.0.1", port), ("127.0.0.1", port))
            loop.call_later(0.1, until.set_result, None)
            transport, protocol = await loop.create_connection(Client, "name", 1, happy_eyeballs_delay=0.01)
            assert len(sockets) == 2
            assert sum(sock.fileno() == -1 for sock in sockets) == 1
            await converse(transport, protocol)

    if STDLIB:
        pytest.skip("asyncio asserts that there is but one")
    run(aio, main())


def test_a_race_that_nobody_finishes(aio):
    """An error that is no OSError is not on record."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def sock_connect(sock: socket.socket, address: Any) -> None:
            raise ZeroDivisionError

        loop.sock_connect = sock_connect
        loop.getaddrinfo = resolving_to(("127.0.0.1", 1), ("127.0.0.1", 1))
        with pytest.raises(ZeroDivisionError):
            await loop.create_connection(Client, "name", 1)
        expected = TimeoutError if sys.version_info >= (3, 13, 6) else IndexError
        with pytest.raises(expected):
            await loop.create_connection(Client, "name", 1, happy_eyeballs_delay=0.01)

    run(aio, main())


def test_overridden_hooks_are_called(aio):
    """In a derived loop: what makes the transport, what makes one attempt, and what connects the socket."""
    log: list[str] = []

    loop = aio.new_event_loop()
    loop.close()

    class Loop(type(loop)):
        def _make_socket_transport(self, *args: Any, **kwargs: Any) -> Any:
            log.append("transport")
            return super()._make_socket_transport(*args, **kwargs)

        async def _connect_sock(self, *args: Any, **kwargs: Any) -> Any:
            log.append("attempt")
            return await super()._connect_sock(*args, **kwargs)

        async def sock_connect(self, sock: socket.socket, address: Any) -> None:
            log.append("connect")
            await super().sock_connect(sock, address)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Client, *server.sockets[0].getsockname())
        assert log[:3] == ["attempt", "connect", "transport"]
        await converse(transport, protocol)
        server.close()

    with aio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def test_a_class_in_the_place_of_socket(aio, monkeypatch):
    """``socket.socket`` is looked up when the connection is made."""

    class Counted(socket.socket):
        made = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            type(self).made += 1

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as port:
            with monkeypatch.context() as patch:
                patch.setattr(socket, "socket", Counted)
                transport, protocol = await loop.create_connection(Client, "127.0.0.1", port)
            assert Counted.made
            assert type(transport.get_extra_info("socket")._sock) is Counted
            await converse(transport, protocol)

    run(aio, main())


def test_audit_hooks_see_the_socket():
    source = """
        import asyncio, socket, sys

        events = []
        hearing = False

        def hear(event, arguments):
            if hearing and event in ("socket.__new__", "socket.connect"):
                events.append((event, arguments[0]) + arguments[1:])

        async def main() -> None:
            global hearing
            loop = asyncio.get_running_loop()
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            transport, _ = await loop.create_connection(asyncio.Protocol, *address)
            transport.abort()
            sys.addaudithook(hear)
            hearing = True
            transport, _ = await loop.create_connection(asyncio.Protocol, *address)
            hearing = False
            sock = transport.get_extra_info("socket")._sock
            mine = [event for event in events if event[1] is sock]
            assert [event[0] for event in mine] == ["socket.__new__", "socket.connect"], events
            assert mine[0][2:] == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            assert mine[1][2:] == (address,)
            transport.abort()
            server.close()

        aio.run(main())
    """
    succeeds(source)


def test_hosts_of_a_server_are_looked_up_together(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        asked: list[str] = []
        all_asked = asyncio.Event()

        async def getaddrinfo(host: str, port: int, **hints: Any) -> list[Any]:
            asked.append(host)
            if len(asked) == 3:
                all_asked.set()
            await all_asked.wait()
            if host == "c":
                return []
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

        loop.getaddrinfo = getaddrinfo
        with pytest.raises(OSError, match=r"getaddrinfo\('c'\) returned empty list"):
            await loop.create_server(Echo, (host for host in "abc"), 0)
        assert asked == ["a", "b", "c"]
        server = await loop.create_server(Echo, ["d", "e"], 0)
        assert len(server.sockets) == 1
        server.close()

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio takes it for a connection")
def test_a_unix_server_without_room(aio, tmp_path):
    """Nothing has begun then, and nothing would be told of it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "full")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(0)
            waiting = []
            for _ in range(5):
                sock = socket.socket(socket.AF_UNIX)
                sock.setblocking(False)
                sock.connect_ex(path)
                waiting.append(sock)
            before = descriptors()
            with pytest.raises(BlockingIOError):
                await loop.create_unix_connection(Client, path)
            assert descriptors() == before
            for sock in waiting:
                sock.close()

    run(aio, main())
