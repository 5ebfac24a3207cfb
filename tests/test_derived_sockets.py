"""A connection over a socket of a class derived from ``socket.socket``: its methods are called, as asyncio calls them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests import test_tls
from tests.certificates import client_context, server_context
from tests.support import STDLIB, Log, Reports, run, until
from tests.test_transports import receive


class Spy(socket.socket):
    """A socket with methods of its own, as a program may give us one."""

    calls: list[str]
    #: what a method raises instead of doing its work, once
    trouble: dict[str, BaseException]
    #: as much as one call sends
    most: int

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.trouble:
            raise self.trouble.pop(name)

    def recv(self, *args: Any) -> bytes:
        self._note("recv")
        return super().recv(*args).upper()

    def recv_into(self, *args: Any) -> int:
        self._note("recv_into")
        return super().recv_into(*args)

    def send(self, data: Any, *args: Any) -> int:
        self._note("send")
        return super().send(memoryview(data)[: self.most], *args)

    def sendmsg(self, buffers: Any, *args: Any) -> int:
        self._note("sendmsg")
        return super().send(b"".join(buffers)[: self.most])

    def shutdown(self, how: int) -> None:
        self._note("shutdown")
        super().shutdown(how)

    def getsockname(self) -> str:
        return "here"

    def getpeername(self) -> str:
        return "there"


def spy(ours: socket.socket) -> Spy:
    """The same socket, as a `Spy`."""
    spying = Spy(fileno=ours.detach())
    spying.setblocking(False)
    spying.calls, spying.trouble, spying.most = [], {}, 1 << 20
    return spying


@contextlib.asynccontextmanager
async def spied(protocol: Any = Log) -> AsyncIterator[tuple[Any, Any, Spy, socket.socket]]:
    """A transport over a `Spy`, its protocol, the spy, and the peer's socket."""
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    spying = spy(ours)
    with peer, spying:
        transport, made = await asyncio.get_running_loop().create_connection(protocol, sock=spying)
        try:
            yield transport, made, spying, peer
        finally:
            with contextlib.suppress(*[AttributeError] * STDLIB):
                transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)


#: what takes the place of a `send` when more than one piece waits
SENDS_QUEUE = "sendmsg" if sys.version_info >= (3, 12) else "send"


def test_methods_of_a_derived_socket_are_called(aio):
    """websockets' `test_explicit_socket` counts the calls: one for each read and each write."""

    async def main() -> None:
        async with spied() as (transport, protocol, spying, peer):
            assert transport.get_extra_info("sockname") == "here"
            assert transport.get_extra_info("peername") == "there"
            assert transport.get_extra_info("socket")._sock is spying
            peer.send(b"hello")
            await until(lambda: protocol.data)
            assert bytes(protocol.data) == b"HELLO"
            assert spying.calls == ["recv"]
            spying.calls.clear()
            for data in b"a", bytearray(b"b"), memoryview(b"c"), b"":
                transport.write(data)
            assert spying.calls == ["send"] * 3
            spying.calls.clear()
            transport.writelines([b"d", bytearray(b"e"), b"f"])
            assert spying.calls == [SENDS_QUEUE]
            transport.write_eof()
            assert spying.calls == [SENDS_QUEUE, "shutdown"]
            assert await receive(peer, 6) == b"abcdef"

    run(aio, main())


@pytest.mark.parametrize("trouble", [BlockingIOError, InterruptedError])
def test_a_derived_socket_that_blocks(aio, trouble):
    """It is asked again when the kernel says that it is ready; what it takes in pieces comes in order."""

    async def main() -> None:
        async with spied() as (transport, protocol, spying, peer):
            spying.trouble = {name: trouble() for name in ("recv", "send", "sendmsg")}
            spying.most = 3
            peer.send(b"in")
            await until(lambda: protocol.data)
            assert spying.calls == ["recv", "recv"]
            spying.calls.clear()
            transport.write(b"abcd")
            assert transport.get_write_buffer_size() == 4
            transport.write(bytearray(b"efgh"))
            transport.writelines([b"i", memoryview(b"jk")])
            transport.close()
            await protocol.lost
            assert await receive(peer, 11) == b"abcdefghijk"
            assert spying.calls[0] == "send"
            assert set(spying.calls[1:]) == {SENDS_QUEUE}

    run(aio, main())


@pytest.mark.parametrize("name", ["recv", "recv_into", "send", "queue"])
@pytest.mark.parametrize("trouble", [ConnectionResetError("no"), ValueError("no")])
def test_a_derived_socket_that_raises(aio, name, trouble):
    """The connection ends with what it has raised; only what is no OSError is reported."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports = Reports()
        loop.set_exception_handler(reports)
        async with spied(test_tls.BufferedLog if name == "recv_into" else Log) as (transport, protocol, spying, peer):
            spying.trouble = {name: trouble}
            if name.startswith("recv"):
                peer.send(b"x")
            elif name == "send":
                transport.write(b"x")
            else:
                spying.most = 1
                transport.write(b"xy")
                spying.trouble = {SENDS_QUEUE: trouble}
            assert await protocol.lost is trouble
            about = "read" if name.startswith("recv") else "write"
            expected = [] if isinstance(trouble, OSError) else [f"Fatal {about} error on socket transport"]
            assert [context["message"] for context in reports.contexts] == expected

    run(aio, main())


def test_tls_over_a_derived_socket(aio):
    """The bytes of TLS pass its methods, too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        spying = spy(ours)
        (inside, hears), (outside, says) = await asyncio.gather(
            loop.connect_accepted_socket(Log, theirs, ssl=server_context()),
            loop.create_connection(Log, sock=spying, ssl=client_context(), server_hostname="localhost"),
        )
        spying.calls.clear()
        outside.write(b"hello")
        await until(lambda: len(hears.data) == 5)
        assert spying.calls == ["send"]
        inside.write(b"world")
        await until(lambda: len(says.data) == 5)
        assert spying.calls == ["send", "recv_into"]
        outside.abort()
        inside.abort()
        await asyncio.gather(says.lost, hears.lost, return_exceptions=True)

    run(aio, main())


class Listening(socket.socket):
    """A socket whose connections are spies, and whose peers have names. Now and then it raises."""

    troubles: list[BaseException]

    def accept(self) -> tuple[socket.socket, Any]:
        if self.troubles:
            raise self.troubles.pop()
        connection, _ = super().accept()
        return spy(connection), "somebody"


def listening(*troubles: BaseException) -> Listening:
    made = Listening(socket.AF_INET, socket.SOCK_STREAM)
    made.troubles = list(troubles)
    made.bind(("127.0.0.1", 0))
    made.setblocking(False)
    return made


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("debug", [False, True])
def test_a_server_on_a_derived_socket(aio, tls, debug):
    """Its `accept()` is called, and what that gives out is what the transport reads from."""

    async def main() -> None:
        loop, made = aio.get_running_loop(), []
        sock = listening(BlockingIOError(), ConnectionAbortedError())

        def factory() -> Log:
            made.append(Log())
            return made[-1]

        server = await loop.create_server(factory, sock=sock, ssl=server_context() if tls else None)
        how = {"ssl": client_context(), "server_hostname": "localhost"} if tls else {}
        reader, writer = await aio.open_connection(*sock.getsockname(), **how)
        if not tls:
            writer.write(b"hello")
            await until(lambda: made and made[0].data)
            assert bytes(made[0].data) == b"HELLO"
        else:
            await until(lambda: made and made[0].transport)
        assert made[0].transport.get_extra_info("peername") == "somebody"
        assert isinstance(made[0].transport.get_extra_info("socket")._sock, Spy)
        made[0].transport.close()
        assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(aio, main(), debug=debug)


def test_a_derived_socket_that_cannot_accept(aio):
    """Out of descriptors: looks away for a second. Anything else: the exception handler hears of it, and it goes on."""

    async def main() -> None:
        loop, reports = aio.get_running_loop(), Reports()
        loop.set_exception_handler(reports)
        sock = listening(OSError(errno.EMFILE, "too many"), ValueError("accept of the program"))
        server = await loop.create_server(Log, sock=sock)
        with socket.create_connection(sock.getsockname()):
            await until(lambda: len(reports.contexts) == 2)
        first, second = reports.contexts
        assert str(first["exception"]) == "accept of the program"
        assert second["message"] == "socket.accept() out of system resource"
        assert second["exception"].errno == errno.EMFILE
        server.close()
        await server.wait_closed()

    run(aio, main())
