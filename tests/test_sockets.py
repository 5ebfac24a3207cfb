"""``sock_recv`` and its family: what they do to a socket, whatever kind of socket it is."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support import STDLIB, run, succeeds


class Derived(socket.socket):
    """Goes by its methods."""


def pair_of(kind: type, type_: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    """A non-blocking Unix pair, the first socket of this class."""
    ours, theirs = socket.socketpair(type=type_)
    ours = kind(fileno=ours.detach())
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def non_blocking(*args: Any, **kwargs: Any) -> socket.socket:
    sock = socket.socket(*args, **kwargs)
    sock.setblocking(False)
    return sock


@pytest.fixture(params=[socket.socket, Derived])
def pair(request):
    ours, theirs = pair_of(request.param)
    with ours, theirs:
        yield ours, theirs


def test_bytes_have_the_size_of_what_has_come(aio, pair):
    async def main() -> None:
        loop = aio.get_running_loop()
        ours, theirs = pair
        theirs.send(b"abc")
        data = await loop.sock_recv(ours, 256 * 1024)
        assert (data, sys.getsizeof(data)) == (b"abc", sys.getsizeof(b"abc"))
        theirs.send(b"abcdef")
        assert await loop.sock_recv(ours, 4) == b"abcd"
        assert await loop.sock_recv(ours, 0) == b""
        assert await loop.sock_recv(ours, 1 << 21) == b"ef"
        waiting = aio.create_task(loop.sock_recv(ours, 100))
        await aio.sleep(0)
        theirs.send(b"late")
        assert await waiting == b"late"
        theirs.close()
        assert await loop.sock_recv(ours, 100) == b""

    run(aio, main())


def test_more_than_the_loop_reads_at_once(aio, pair):
    async def main() -> None:
        loop = aio.get_running_loop()
        ours, theirs = pair
        for sock, option in ((theirs, socket.SO_SNDBUF), (ours, socket.SO_RCVBUF)):
            sock.setsockopt(socket.SOL_SOCKET, option, 1 << 21)
        data, sent = os.urandom(1 << 20), 0
        while sent < len(data):
            try:
                sent += theirs.send(data[sent:])
            except BlockingIOError:
                break
        received = await loop.sock_recv(ours, 1 << 22)
        assert received == data[: len(received)]
        assert len(received) == sent or len(received) >= 1 << 17

    run(aio, main())


@pytest.mark.parametrize("buffer", [bytearray(10), memoryview(bytearray(10)), memoryview(bytearray(40))[3:13]])
def test_reading_into_buffers(aio, pair, buffer):
    async def main() -> None:
        loop = aio.get_running_loop()
        ours, theirs = pair
        theirs.send(b"0123456789ab")
        assert await loop.sock_recv_into(ours, buffer) == 10
        assert bytes(buffer) == b"0123456789"
        assert await loop.sock_recv_into(ours, bytearray()) == 0
        assert await loop.sock_recv_into(ours, buffer) == 2
        assert bytes(buffer) == b"ab23456789"

    run(aio, main())


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("sock_recv", -1),
        ("sock_recv", "5"),
        ("sock_recv", 1.5),
        ("sock_recv", None),
        ("sock_recv", 1 << 70),
        ("sock_recv_into", b"constant"),
        ("sock_recv_into", "text"),
        ("sock_recv_into", memoryview(bytearray(10))[::2]),
        ("sock_recvfrom", -1),
        ("sock_recvfrom_into", b"constant"),
        ("sock_sendall", "text"),
        ("sock_sendall", None),
        ("sock_sendall", memoryview(bytearray(10))[::2]),
        ("sock_accept", ...),
    ],
)
def test_mistakes_have_the_texts_of_the_socket_module(aio, pair, method, argument):
    """Whether a method of the socket or a system call has found them."""
    ours, _ = pair
    arguments = () if argument is ... else (argument,)
    plain_name = {"sock_sendall": "send"}.get(method, method.removeprefix("sock_"))
    if method == "sock_recvfrom_into":
        arguments += (5,)

    async def main() -> None:
        await getattr(aio.get_running_loop(), method)(ours, *arguments)

    with pytest.raises((OSError, TypeError, ValueError, OverflowError, BufferError)) as expected:
        getattr(ours, plain_name)(*arguments)
    with pytest.raises(type(expected.value)) as raised:
        run(aio, main())
    assert raised.value.args == expected.value.args
    assert type(raised.value) is type(expected.value)


@pytest.mark.parametrize("method", ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_sendall", "sock_accept"])
def test_closed_sockets(aio, pair, method):
    ours, _ = pair
    ours.close()
    arguments = {"sock_recv_into": (bytearray(5),), "sock_sendall": (b"x",), "sock_accept": ()}.get(method, (5,))

    async def main() -> None:
        await getattr(aio.get_running_loop(), method)(ours, *arguments)

    with pytest.raises(OSError, match="Bad file descriptor") as raised:
        run(aio, main())
    assert raised.value.args == (errno.EBADF, os.strerror(errno.EBADF))


def test_broken_connections(aio, pair):
    async def main() -> None:
        loop = aio.get_running_loop()
        ours, theirs = pair
        theirs.close()
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(ours, b"x")

    run(aio, main())


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_everything_is_sent(aio, pair, wrap):
    async def main() -> None:
        loop = aio.get_running_loop()
        ours, theirs = pair
        data = os.urandom(3 << 20)
        assert await loop.sock_sendall(ours, b"") is None
        sending = aio.create_task(loop.sock_sendall(ours, wrap(data)))
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(theirs, 1 << 18)
        assert await sending is None
        assert received == data

    run(aio, main())


def test_a_bytearray_keeps_its_size_while_it_is_sent(aio, pair):
    async def main() -> None:
        loop = aio.get_running_loop()
        ours, _ = pair
        data = bytearray(3 << 20)
        sending = aio.create_task(loop.sock_sendall(ours, data))
        await aio.sleep(0)
        with pytest.raises(BufferError):
            data.append(1)
        sending.cancel()
        with pytest.raises(aio.CancelledError):
            await sending
        del sending
        data.append(1)

    run(aio, main())


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_datagrams(aio, family, host):
    async def main() -> None:
        loop = aio.get_running_loop()
        with non_blocking(family, socket.SOCK_DGRAM) as ours, non_blocking(family, socket.SOCK_DGRAM) as theirs:
            ours.bind((host, 0))
            theirs.bind((host, 0))
            where = ours.getsockname()
            assert await loop.sock_sendto(theirs, b"one", where) == 3
            assert await loop.sock_sendto(theirs, bytearray(b"two"), where[:2]) == 3
            assert await loop.sock_sendto(theirs, b"", where) == 0
            assert await loop.sock_recvfrom(ours, 100) == (b"one", theirs.getsockname())
            buffer = bytearray(10)
            assert await loop.sock_recvfrom_into(ours, buffer) == (3, theirs.getsockname())
            assert buffer == b"two" + bytes(7)
            assert await loop.sock_recvfrom(ours, 100) == (b"", theirs.getsockname())
            waiting = aio.create_task(loop.sock_recvfrom_into(ours, buffer, 2))
            await aio.sleep(0)
            await loop.sock_sendto(theirs, b"xyz", where)
            assert await waiting == (2, theirs.getsockname())
            assert buffer[:3] == b"xyo"
            with pytest.raises(OSError, match="Message too long"):
                await loop.sock_sendto(theirs, bytes(1 << 17), where)
            for wrong in [(host,), (host, -1), (host, 1 << 16), (host, "1"), 5, (5, 1), "text"]:
                with pytest.raises((TypeError, OverflowError, OSError)) as expected:
                    theirs.sendto(b"", wrong)
                with pytest.raises(type(expected.value)) as raised:
                    await loop.sock_sendto(theirs, b"", wrong)
                assert raised.value.args == expected.value.args

    run(aio, main())


def test_datagrams_of_unix_sockets(aio, tmp_path):
    async def main() -> None:
        loop = aio.get_running_loop()
        unix = (socket.AF_UNIX, socket.SOCK_DGRAM)
        with non_blocking(*unix) as ours, non_blocking(*unix) as named, non_blocking(*unix) as nameless:
            where, theirs = str(tmp_path / "ours"), str(tmp_path / "th\udcffirs")
            ours.bind(where)
            named.bind(theirs)
            await loop.sock_sendto(named, b"named", where)
            await loop.sock_sendto(nameless, b"nameless", where)
            assert await loop.sock_recvfrom(ours, 100) == (b"named", theirs)
            assert await loop.sock_recvfrom(ours, 100) == (b"nameless", None)

    run(aio, main())


def test_a_stream_has_no_senders(aio):
    async def main() -> None:
        loop = aio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
            peer, _ = server.accept()
            with peer:
                ours.setblocking(False)
                peer.send(b"data")
                assert await loop.sock_recvfrom(ours, 100) == (b"data", None)

    run(aio, main())


@pytest.mark.parametrize("kind", [socket.socket, Derived])
def test_accepting(aio, kind):
    async def main() -> None:
        loop = aio.get_running_loop()
        with kind() as server, non_blocking() as client:
            server.setblocking(False)
            server.bind(("127.0.0.1", 0))
            server.listen()
            accepting = aio.create_task(loop.sock_accept(server))
            await aio.sleep(0)
            assert await loop.sock_connect(client, server.getsockname()) is None
            connection, address = await accepting
            with connection:
                assert type(connection) is socket.socket
                assert address == client.getsockname()
                assert connection.getpeername() == address
                assert (connection.family, connection.type, connection.proto) == (
                    server.family,
                    server.type,
                    server.proto,
                )
                assert connection.gettimeout() == 0
                assert not os.get_inheritable(connection.fileno())
                assert not os.get_blocking(connection.fileno())

    run(aio, main())


def test_accepting_on_unix_sockets(aio, tmp_path):
    async def main() -> None:
        loop = aio.get_running_loop()
        with non_blocking(socket.AF_UNIX) as server, non_blocking(socket.AF_UNIX) as client:
            server.bind(str(tmp_path / "server"))
            server.listen()
            await loop.sock_connect(client, str(tmp_path / "server"))
            connection, address = await loop.sock_accept(server)
            with connection:
                assert address == ""
                assert connection.getsockname() == client.getpeername() == str(tmp_path / "server")

    run(aio, main())


@pytest.mark.parametrize("kind", [socket.socket, Derived])
def test_refused_connections(aio, kind, tmp_path):
    async def main() -> None:
        loop = aio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            nobody = server.getsockname()
        with kind() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError) as raised:
                await loop.sock_connect(client, nobody)
            assert raised.value.args == (errno.ECONNREFUSED, f"Connect call failed {nobody}")
        with kind(socket.AF_UNIX) as client:
            client.setblocking(False)
            with pytest.raises(FileNotFoundError) as raised:
                await loop.sock_connect(client, str(tmp_path / "nobody"))
            assert raised.value.args == (errno.ENOENT, os.strerror(errno.ENOENT))
            for wrong in (b"\0" + b"x" * 200, "x" * 200, 5, ("a", 1)):
                with pytest.raises((OSError, TypeError)) as expected:
                    client.connect(wrong)
                with pytest.raises(type(expected.value)) as raised:
                    await loop.sock_connect(client, wrong)
                assert raised.value.args == expected.value.args

    run(aio, main())


@pytest.mark.parametrize("length", [2, 3, 4])
def test_connecting_to_ipv6(aio, length):
    async def main() -> None:
        loop = aio.get_running_loop()
        with (
            socket.create_server(("::1", 0), family=socket.AF_INET6) as server,
            non_blocking(socket.AF_INET6) as client,
        ):
            await loop.sock_connect(client, server.getsockname()[:length])
            assert client.getpeername() == server.getsockname()

    run(aio, main())


def test_a_socket_that_blocks_blocks(aio):
    """Beside the loop, and without the GIL: that is what the socket has been made for."""

    async def main() -> None:
        loop = aio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(0.05)
            with pytest.raises(TimeoutError, match="timed out"):
                await loop.sock_recv(ours, 5)
            ours.settimeout(None)
            late = loop.run_in_executor(None, lambda: theirs.send(b"late"))
            assert await loop.sock_recv(ours, 5) == b"late"
            await late

    run(aio, main(), debug=False)


def test_replaced_methods_are_called(aio, monkeypatch):
    """On the class: instances of ``socket.socket`` take no attributes."""

    async def main() -> None:
        loop = aio.get_running_loop()
        ours, theirs = pair_of(socket.socket)
        with ours, theirs:
            theirs.send(b"there")
            for method, arguments, result in [
                ("recv", (5,), b"there"),
                ("recv_into", (bytearray(5),), 5),
                ("recvfrom", (5,), (b"there", None)),
                ("recvfrom_into", (bytearray(5),), (5, None)),
                ("sendall", (b"data",), None),
                ("sendto", (b"data", ("127.0.0.1", 1)), 4),
                ("accept", (), (mock.MagicMock(), "address")),
                ("connect", ("path",), None),
            ]:
                name = "send" if method == "sendall" else method
                with monkeypatch.context() as patch:
                    replacement = mock.Mock(return_value=4 if name == "send" else result)
                    patch.setattr(socket.socket, name, replacement, raising=False)
                    assert await getattr(loop, f"sock_{method}")(ours, *arguments) == result
                    assert replacement.call_count == 1, method
            assert await loop.sock_recv(ours, 5) == b"there"

    run(aio, main())


def test_audit_events():
    """Audit hooks hear what they hear from the socket module."""
    source = """
        import socket, sys
        from typing import Any

        events = []
        hearing = False

        def hear(event: str, arguments: tuple) -> None:
            if hearing and event.startswith("socket."):
                events.append((event, *(a if not isinstance(a, socket.socket) else type(a).__name__ for a in arguments)))

        sys.addaudithook(hear)

        async def main() -> None:
            global hearing
            loop = aio.get_running_loop()
            server = socket.create_server(("127.0.0.1", 0))
            server.setblocking(False)
            port = server.getsockname()[1]
            client, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
            client.setblocking(False)
            udp.setblocking(False)
            hearing = True
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_accept(server)
            await loop.sock_sendto(udp, b"x", ("127.0.0.1", port))
            await loop.sock_sendall(client, b"x")
            hearing = False
            family = int(socket.AF_INET)
            heard = [(e[0], *(int(a) if isinstance(a, int) else a for a in e[1:])) for e in events]
            kinds = {k & ~socket.SOCK_NONBLOCK for e in heard if e[0] == "socket.__new__" for k in [e[3]]}
            heard = [e if e[0] != "socket.__new__" else e[:1] for e in heard]
            assert heard == [
                ("socket.connect", "socket", ("127.0.0.1", port)),
                ("socket.__new__",),
                ("socket.sendto", "socket", ("127.0.0.1", port)),
            ], heard
            assert kinds == {int(socket.SOCK_STREAM)}

        aio.run(main())
    """
    succeeds(source)


def test_an_audit_hook_that_objects():
    source = """
        import socket, sys

        class No(Exception): pass

        def object_(event: str, arguments: tuple) -> None:
            if event in forbidden:
                raise No(event)

        forbidden = set()
        sys.addaudithook(object_)

        async def main() -> None:
            loop = aio.get_running_loop()
            server = socket.create_server(("127.0.0.1", 0))
            server.setblocking(False)
            address = server.getsockname()
            client, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
            client.setblocking(False)
            udp.setblocking(False)
            for event, operation in [
                ("socket.connect", lambda: loop.sock_connect(client, address)),
                ("socket.sendto", lambda: loop.sock_sendto(udp, b"x", address)),
            ]:
                forbidden.add(event)
                try:
                    await operation()
                except No:
                    pass
                else:
                    raise AssertionError(event)
                forbidden.clear()
                await operation()

        aio.run(main())
    """
    succeeds(source)


def test_what_nobody_waits_for_wakes_nobody(aio):
    """The kernel goes on watching a socket between two operations, but not for long."""

    async def main() -> None:
        loop = aio.get_running_loop()
        pairs = [pair_of(socket.socket) for _ in range(5)]
        with contextlib.ExitStack() as stack:
            for ours, theirs in pairs:
                stack.enter_context(ours)
                stack.enter_context(theirs)
                waiting = aio.create_task(loop.sock_recv(ours, 10))
                await aio.sleep(0)
                theirs.send(b"awaited")
                assert await waiting == b"awaited"
                theirs.send(b"not awaited")
            began = time.process_time()
            await aio.sleep(0.3)
            assert time.process_time() - began < 0.15
            for ours, _ in pairs:
                assert await loop.sock_recv(ours, 20) == b"not awaited"

    run(aio, main())


def test_a_conversation_needs_no_registration(aio):
    """Reading and writing in turns asks the kernel to watch the socket once."""
    source = """
        import asyncio, socket

        async def main() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)

            async def echo() -> None:
                for _ in range(200):
                    await loop.sock_sendall(theirs, await loop.sock_recv(theirs, 100))

            echoing = loop.create_task(echo())
            for _ in range(200):
                await loop.sock_sendall(ours, b"x")
                assert await loop.sock_recv(ours, 100) == b"x"
            await echoing
            ours.close()
            theirs.close()

        aio.run(main())
    """
    if STDLIB:
        pytest.skip("asyncio asks twice for each operation that waits")
    strace = shutil.which("strace")
    if not strace or subprocess.run([strace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace counts them, and is not there or not allowed")
    with tempfile.NamedTemporaryFile() as log:
        program = "import aioxide as aio\n" + textwrap.dedent(source)
        subprocess.run(
            [strace, "-f", "-e", "trace=epoll_ctl", "-o", log.name, sys.executable, "-c", program], check=True
        )
        calls = [line for line in Path(log.name).read_text().splitlines() if "epoll_ctl" in line]
    assert len(calls) < 20, calls
