"""TCP and Unix connections: what a protocol is told, in which order, and that no byte is lost."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import gc
import itertools
import os
import random
import socket
import struct
import sys
import time
import warnings
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import STDLIB, Log, Reports, place_of, run, until

MANY = b"0123456789abcdef" * 524288  # 8 MiB: more than a socket takes at once


async def over(family: str, protocol: Any = Log) -> tuple[Any, Any, socket.socket]:
    """A transport, its protocol, and the peer's socket."""
    loop = asyncio.get_running_loop()
    if family == "unix":
        ours, peer = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            peer = socket.create_connection(listening.getsockname())
            ours, _ = listening.accept()
    peer.setblocking(False)
    transport, made = await loop.connect_accepted_socket(protocol, ours)
    return transport, made, peer


@contextlib.asynccontextmanager
async def connected(family: str = "tcp", protocol: Any = Log) -> AsyncIterator[tuple[Any, Any, socket.socket]]:
    transport, made, peer = await over(family, protocol)
    try:
        yield transport, made, peer
    finally:
        peer.close()
        # asyncio before 3.15 does not know that a connection is lost when its queue has run empty after close()
        with contextlib.suppress(*[AttributeError] * STDLIB):
            transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def receive(peer: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += await asyncio.get_running_loop().sock_recv(peer, 1 << 16) or pytest.fail("the end came too early")
    return bytes(data)


families = pytest.mark.parametrize("family", ["tcp", "unix"])


# -- life ------------------------------------------------------------------------------------------------------------------


@families
def test_conversation(aio, family):
    async def main() -> None:
        async with connected(family) as (transport, protocol, peer):
            assert isinstance(transport, asyncio.Transport)
            assert protocol.events == ["made"]
            transport.write(b"hello")
            assert await receive(peer, 5) == b"hello"
            peer.send(b"world")
            await until(lambda: protocol.data == b"world")
            peer.shutdown(socket.SHUT_WR)
            assert await protocol.lost is None
            assert protocol.events == ["made", "data", "eof", "lost"]
            assert transport.is_closing()

    run(aio, main())


def test_class(aio):
    async def main() -> None:
        async with connected() as (transport, _, _):
            assert type(transport).__name__ == "_SelectorSocketTransport"
            for base in (asyncio.BaseTransport, asyncio.ReadTransport, asyncio.WriteTransport):
                assert isinstance(transport, base)
            transport.anything = 5
            assert transport.__dict__["anything"] == 5
            assert weakref.ref(transport)() is transport
            assert repr(transport).startswith("<_SelectorSocketTransport fd=")
            assert "read=polling write=<idle, bufsize=0>" in repr(transport)
            if not STDLIB:
                with pytest.raises(TypeError):
                    type(transport)()

    run(aio, main())


def test_extra_info(aio):
    async def main() -> None:
        transport, protocol, peer = await over("tcp")
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("sockname") == peer.getpeername()
        shown = transport.get_extra_info("socket")
        assert type(shown).__name__ == "TransportSocket"
        assert shown.getsockname() == peer.getpeername()
        assert shown.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) or STDLIB
        assert transport.get_extra_info("nothing") is None
        assert transport.get_extra_info("nothing", 7) == 7
        transport.abort()
        peername = peer.getsockname()
        peer.close()
        await protocol.lost
        assert transport.get_extra_info("peername") == peername
        assert shown.fileno() == -1

    run(aio, main())


def test_unix_names(aio, tmp_path):
    async def main() -> None:
        for name in (str(tmp_path / "s"), f"\0aioxide-{os.getpid()}"):
            with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as peer:
                listening.bind(name)
                listening.listen()
                peer.connect(name)
                ours, _ = listening.accept()
                transport, _ = await asyncio.get_running_loop().connect_accepted_socket(Log, ours)
                assert transport.get_extra_info("sockname") == ours.getsockname()
                assert transport.get_extra_info("peername") == ""
                transport.abort()
                await asyncio.sleep(0.01)

    run(aio, main())


def test_close_sends_what_is_queued(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            transport.write(MANY)
            transport.close()
            transport.close()
            assert transport.is_closing()
            assert protocol.events == ["made", "pause"]
            assert await receive(peer, len(MANY)) == MANY
            assert await protocol.lost is None
            assert protocol.events[-1] == "lost"
            assert protocol.events.count("lost") == 1

    run(aio, main())


def test_abort_drops_it(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, _):
            transport.write(MANY)
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            assert "lost" not in protocol.events, "never from inside of the call"
            assert await protocol.lost is None
            transport.abort()
            transport.close()
            await asyncio.sleep(0)
            assert protocol.events.count("lost") == 1

    run(aio, main())


@families
@pytest.mark.parametrize("size", [600, 9_000, 100_000])
def test_what_a_protocol_has_kept_never_changes(aio, family, size):
    """The memory of messages that are gone is used again; that of those which somebody holds is not."""
    kept: list[tuple[Any, bytearray]] = []

    class Keeper(Log):
        def data_received(self, data: bytes) -> None:
            self.data += data
            copy = bytearray(data)
            assert hash(data) == hash(bytes(copy))
            assert data[-1:] == copy[-1:]
            assert len(data) == len(copy)
            match len(kept) % 4:
                case 0:
                    kept.append((data, copy))
                case 1:
                    kept.append((memoryview(data)[1:], copy[1:]))
                case 2:
                    kept.append(({data: None}, copy))
                case _:
                    kept.append((None, copy))  # this one is let go

    async def main() -> None:
        loop = asyncio.get_running_loop()
        generator = random.Random(size)
        async with connected(family, Keeper) as (_, protocol, peer):
            sent = 0
            for number in range(80):
                message = bytes([number]) * generator.randrange(size // 2, size)
                await loop.sock_sendall(peer, message)
                sent += len(message)
                await until(lambda sent=sent: len(protocol.data) == sent)
        assert len(kept) >= 80
        for held, copy in kept:
            if held is not None:
                assert bytes(*held if isinstance(held, dict) else [held]) == copy

    run(aio, main())


@families
def test_half_close(aio, family):
    async def main() -> None:
        async with connected(family) as (transport, protocol, peer):
            assert transport.can_write_eof()
            transport.write(b"question")
            transport.write_eof()
            transport.write_eof()
            with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                transport.write(b"x")
            assert await receive(peer, 8) == b"question"
            assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""
            peer.send(b"answer")
            await until(lambda: protocol.data == b"answer")
            assert "lost" not in protocol.events

    run(aio, main())


def test_write_eof_waits_for_the_queue(aio):
    async def main() -> None:
        async with connected() as (transport, _, peer):
            transport.write(MANY)
            transport.write_eof()
            assert await receive(peer, len(MANY)) == MANY
            assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""

    run(aio, main())


def test_kept_open_after_eof(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            protocol.keep_open = True
            peer.shutdown(socket.SHUT_WR)
            await protocol.ended.wait()
            assert not transport.is_closing()
            transport.write(b"still here")
            assert await receive(peer, 10) == b"still here"
            transport.close()
            assert await protocol.lost is None
            assert protocol.events == ["made", "eof", "lost"]

    run(aio, main())


def test_reset_by_peer(aio):
    async def main() -> None:
        async with connected() as (_, protocol, peer):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            error = await protocol.lost
            assert isinstance(error, ConnectionResetError)
            assert error.errno == errno.ECONNRESET
            assert protocol.events == ["made", "lost"]

    run(aio, main())


def test_reset_while_writing(aio, caplog):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            transport.write(MANY)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            assert isinstance(await protocol.lost, (ConnectionResetError, BrokenPipeError))
            for _ in range(10):
                transport.write(b"nobody hears this")
            assert protocol.events.count("lost") == 1
        assert [record.getMessage() for record in caplog.records] == ["socket.send() raised exception."] * 6

    run(aio, main())


# -- what protocols raise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["data_received", "eof_received", "connection_made", "pause_writing", "connection_lost"]
)
def test_exceptions_of_the_protocol(aio, method):
    class Bad(Log):
        pass

    def bad(self: Any, *args: Any) -> None:
        getattr(Log, method)(self, *args)
        raise ZeroDivisionError(method)

    bad.__qualname__ = f"Bad.{method}"
    setattr(Bad, method, bad)
    reports = Reports()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        async with connected(protocol=Bad) as (transport, protocol, peer):
            if method == "pause_writing":
                transport.write(MANY)
                assert await receive(peer, len(MANY)) == MANY
                peer.close()
            elif method == "data_received":
                peer.send(b"x")
            else:
                peer.shutdown(socket.SHUT_WR)
            error = await asyncio.wait_for(protocol.lost, 5)
            expected = {
                "data_received": "Fatal error: protocol.data_received() call failed.",
                "eof_received": "Fatal error: protocol.eof_received() call failed.",
                "pause_writing": "protocol.pause_writing() failed",
            }.get(method)
            await asyncio.sleep(0)
            (report,) = reports.contexts
            assert isinstance(report["exception"], ZeroDivisionError)
            if expected:
                assert report["message"] == expected
                assert report["transport"] is transport
                assert report["protocol"] is protocol
            else:
                assert report["message"].startswith("Exception in callback ")
                assert method in report["message"]
            assert isinstance(error, ZeroDivisionError) is (method in ("data_received", "eof_received"))

    run(aio, main())


def test_what_the_loop_does_is_seen_in_the_next_turn(aio):
    """The other end may be watched by the same loop, as in many a test: websockets' count on when it hears of the end."""
    log: list[str] = []

    class Server(asyncio.Protocol):
        name = "server"

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.lost = asyncio.get_running_loop().create_future()

        def data_received(self, data: bytes) -> None:
            log.append(f"{self.name} data")
            self.transport.write_eof()

        def eof_received(self) -> None:
            log.append(f"{self.name} eof")

        def connection_lost(self, exc: BaseException | None) -> None:
            log.append(f"{self.name} lost")
            self.lost.set_result(None)

    class Client(Server):
        name = "client"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.connect_accepted_socket(Client, ours)
        await loop.connect_accepted_socket(Server, theirs)
        await asyncio.sleep(0.01)
        transport.write(b"x")
        await protocol.lost
        for turn in range(3):
            log.append(f"main {turn}")
            await asyncio.sleep(0)

    run(aio, main())
    assert log == [
        "server data", "client eof", "client lost", "main 0", "server eof", "main 1", "server lost", "main 2",
    ]  # fmt: skip


def test_the_end_goes_wrong_twice(aio):
    """What `connection_lost` raises does not hide that the socket cannot be closed, nor the other way round."""

    class Unclosable(socket.socket):
        def close(self) -> None:
            super().close()
            raise OSError("close")

    class Raises(Log):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise ValueError("lost")

    async def main() -> None:
        reports = Reports()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(reports)
        ours, peer = socket.socketpair()
        with peer:
            ours = Unclosable(fileno=ours.detach())
            transport, protocol = await loop.connect_accepted_socket(Raises, ours)
            transport.close()
            await protocol.lost
            await asyncio.sleep(0)
            (report,) = reports.contexts
            assert repr(report["exception"]) == "OSError('close')"
            assert repr(report["exception"].__context__) == "ValueError('lost')"
            assert ours.fileno() == -1
            if STDLIB:
                transport._sock = None

    run(aio, main())


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_fatal_exceptions_leave_the_loop(aio, exception):
    class Bad(Log):
        def data_received(self, data: bytes) -> None:
            raise exception

    loop = aio.new_event_loop()
    kept: list[Any] = []

    async def main() -> None:
        transport, _, peer = await over("tcp", Bad)
        kept.extend([transport, peer])
        peer.send(b"x")
        await asyncio.sleep(5)

    with pytest.raises(exception):
        loop.run_until_complete(main())

    async def after() -> None:
        kept[0].abort()
        kept[1].close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.01)

    loop.run_until_complete(after())
    loop.close()


def test_held_back_writes_go_out_beside_a_fatal_exception(aio):
    """Two writes and KeyboardInterrupt in one callback, on a connection that works and on one that is broken."""

    class Bad(Log):
        def data_received(self, data: bytes) -> None:
            for _ in range(2):
                self.transport.write(b"x")
            if self.breaks:
                self.breaks.close()
            raise KeyboardInterrupt

        def resume_writing(self) -> None:
            raise AssertionError("never paused")

    for broken, debug in itertools.product((False, True), repeat=2):
        loop = aio.new_event_loop()
        loop.set_debug(debug)
        kept: list[Any] = []

        async def main(kept: list[Any] = kept, broken: bool = broken) -> None:
            transport, protocol, peer = await over("unix", Bad)
            kept.extend([transport, protocol, peer])
            protocol.breaks = peer if broken else None
            peer.send(b"x")
            await asyncio.sleep(5)

        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main())

        async def after(kept: list[Any] = kept, broken: bool = broken) -> None:
            transport, protocol, peer = kept
            if broken:
                assert isinstance(await protocol.lost, (BrokenPipeError, ConnectionResetError))
            else:
                assert await receive(peer, 2) == b"xx"
                peer.close()
                transport.abort()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.01)

        loop.run_until_complete(after())
        loop.close()


# -- writing ---------------------------------------------------------------------------------------------------------------


def test_pause_and_resume_are_synchronous(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.write(MANY)
            transport.write(MANY)
            assert protocol.events == ["made", "pause"], "inside of write(), once"
            assert 0 < transport.get_write_buffer_size() < 2 * len(MANY)
            assert await receive(peer, 2 * len(MANY)) == MANY + MANY
            await until(lambda: protocol.events == ["made", "pause", "resume"])
            assert transport.get_write_buffer_size() == 0

    run(aio, main())


def test_limits(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, _):
            transport.set_write_buffer_limits(high=100)
            assert transport.get_write_buffer_limits() == (25, 100)
            transport.set_write_buffer_limits(low=10)
            assert transport.get_write_buffer_limits() == (10, 40)
            transport.set_write_buffer_limits(0)
            assert transport.get_write_buffer_limits() == (0, 0)
            for bad in ({"high": 5, "low": 6}, {"low": -1}, {"high": -1}):
                with pytest.raises(ValueError, match=r"must be >= "):
                    transport.set_write_buffer_limits(**bad)
            transport.set_write_buffer_limits()
            assert transport.get_write_buffer_limits() == (16384, 65536)
            transport.set_write_buffer_limits(high=1 << 30)
            transport.write(MANY)
            assert "pause" not in protocol.events
            transport.set_write_buffer_limits(high=10)
            assert protocol.events[-1] == "pause"

    run(aio, main())


def test_sent_before_the_loop_is_blocked(aio):
    """A program that writes and then blocks has its bytes on the wire."""

    async def main() -> None:
        async with connected() as (transport, _, peer):
            peer.setblocking(True)
            peer.settimeout(5)
            for _ in range(3):
                transport.write(b"ping")
                assert peer.recv(100) == b"ping"
                await asyncio.sleep(0)

    run(aio, main())


def test_several_writes_of_a_callback(aio):
    async def main() -> None:
        async with connected() as (transport, _, peer):
            for round_ in range(4):
                for n in range(20):
                    transport.write(b"%d," % n)
                assert transport.get_write_buffer_size() == 0, "what can be sent has been sent, for all one can see"
                expected = b"".join(b"%d," % n for n in range(20))
                assert await receive(peer, len(expected)) == expected, round_
            transport.write(b"1")
            transport.write(b"2")
            transport.get_extra_info("socket")
            transport.write(b"3")
            transport.close()
            assert await receive(peer, 3) == b"123"

    run(aio, main())


def test_mutable_buffers_are_copied(aio):
    async def main() -> None:
        async with connected() as (transport, _, peer):
            data = bytearray(MANY)
            transport.write(data)
            transport.write(memoryview(data)[:10])
            transport.write(data)
            if STDLIB:
                expected = bytes(data) + bytes(data[:10]) + bytes(data)
            else:
                expected = bytes(data) + bytes(data[:10]) + bytes(data)
                data[:] = b"\0" * len(data)
                del data[100:]
            assert await receive(peer, len(expected)) == expected

    run(aio, main())


def test_odd_arguments(aio):
    async def main() -> None:
        async with connected() as (transport, _, peer):
            for bad in ("text", 5, None, ["x"]):
                with pytest.raises(TypeError, match=f"data argument must be a bytes.* not {type(bad).__name__!r}"):
                    transport.write(bad)
            transport.write(b"")
            transport.write(bytearray())
            transport.writelines([])
            transport.writelines([b"", b"a", bytearray(b"b"), memoryview(b"c")])
            transport.writelines(iter([b"d"]))
            with pytest.raises(TypeError):
                transport.writelines([b"never", "sent"])
            transport.write(memoryview(b"e"))
            assert await receive(peer, 5) == b"abcde"

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio calls connection_lost twice before 3.15")
def test_abort_in_resume_writing(aio):
    class Aborts(Log):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.abort()

    async def main() -> None:
        async with connected(protocol=Aborts) as (transport, protocol, peer):
            transport.write(MANY)
            transport.close()
            data = bytearray()
            while True:
                try:
                    more = await asyncio.get_running_loop().sock_recv(peer, 1 << 20)
                except ConnectionResetError:
                    break
                if not more:
                    break
                data += more
            await protocol.lost
            await asyncio.sleep(0.01)
            assert protocol.events.count("lost") == 1

    run(aio, main())


# -- reading ---------------------------------------------------------------------------------------------------------------


def test_pause_reading(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            assert transport.is_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            peer.send(b"later")
            await asyncio.sleep(0.02)
            assert protocol.data == b""
            transport.resume_reading()
            transport.resume_reading()
            await until(lambda: protocol.data == b"later")
            transport.close()
            transport.pause_reading()
            transport.resume_reading()
            assert not transport.is_reading()

    run(aio, main())


@pytest.mark.parametrize("size", [7, 1 << 20])
def test_size_of_a_read(aio, size):
    """A program may say how much comes at once, for one transport."""

    class Pieces(Log):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.events[-1] = len(data)

    async def main() -> None:
        async with connected("unix", Pieces) as (transport, protocol, peer):
            assert transport.max_size == 256 * 1024
            transport.max_size = size
            assert transport.max_size == size
            peer.send(bytes(100))
            await until(lambda: len(protocol.data) == 100)
            assert protocol.events == ["made", *([7] * 14 + [2] if size == 7 else [100])]
            del transport.max_size
            peer.send(bytes(100))
            await until(lambda: len(protocol.data) == 200)
            assert protocol.events[-1] == 100

    run(aio, main())


def test_a_size_that_is_none_ends_the_connection(aio):
    async def main() -> None:
        reports = Reports()
        asyncio.get_running_loop().set_exception_handler(reports)
        async with connected() as (transport, protocol, peer):
            transport.max_size = -1
            peer.send(b"x")
            assert isinstance(await protocol.lost, ValueError)
            assert reports.messages == ["Fatal read error on socket transport"]

    run(aio, main())


def test_paused_in_connection_made(aio):
    class Paused(Log):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main() -> None:
        async with connected(protocol=Paused) as (transport, protocol, peer):
            peer.send(b"x")
            await asyncio.sleep(0.01)
            assert protocol.data == b""
            transport.resume_reading()
            await until(lambda: protocol.data == b"x")

    run(aio, main())


def test_paused_transport_does_not_spin(aio):
    async def main() -> None:
        async with connected() as (transport, _, peer):
            transport.pause_reading()
            peer.send(b"x")
            await asyncio.sleep(0.01)
            began = time.process_time()
            await asyncio.sleep(0.2)
            assert time.process_time() - began < 0.1

    run(aio, main())


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_closed_while_paused_does_not_spin(aio, ending):
    """Somebody else (a child, say) still has the socket, and there is something to read."""

    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            with transport.get_extra_info("socket").dup():
                transport.pause_reading()
                getattr(transport, ending)()
                await protocol.lost
                peer.send(b"x")
                await asyncio.sleep(0.01)
                began = time.process_time()
                await asyncio.sleep(0.2)
                assert time.process_time() - began < 0.1

    run(aio, main())


def test_buffered_protocol_and_switching(aio):
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(4)
            self.data = bytearray()
            self.hints: list[int] = []

        def get_buffer(self, sizehint: int) -> bytearray:
            self.hints.append(sizehint)
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]

    async def main() -> None:
        async with connected(protocol=Buffered) as (transport, protocol, peer):
            peer.send(b"0123456789")
            await until(lambda: len(protocol.data) == 10)
            assert protocol.data == b"0123456789"
            assert set(protocol.hints) == {-1}
            plain = Log()
            transport.set_protocol(plain)
            assert transport.get_protocol() is plain
            peer.send(b"abc")
            await until(lambda: plain.data == b"abc")
            transport.set_protocol(protocol)
            peer.send(b"xyz")
            await until(lambda: protocol.data == b"0123456789xyz")

    run(aio, main())


@pytest.mark.parametrize(
    ("buffer", "text"),
    [
        (b"", "get_buffer\\(\\) returned an empty buffer"),
        (b"readonly", "read-write|read-only|writable"),
        (5, "object of type 'int' has no len"),
    ],
)
def test_bad_buffers(aio, buffer, text):
    class Bad(asyncio.BufferedProtocol):
        lost: Any = None

        def get_buffer(self, sizehint: int) -> Any:
            return buffer

        def connection_lost(self, exc: Any) -> None:
            self.lost = exc

    reports = Reports()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        async with connected(protocol=Bad) as (_, protocol, peer):
            peer.send(b"x")
            await until(lambda: protocol.lost is not None)
            with pytest.raises((RuntimeError, TypeError, BufferError), match=text):
                raise protocol.lost
            assert len(reports.contexts) == 1

    run(aio, main())


# -- contexts --------------------------------------------------------------------------------------------------------------


def test_contexts(aio):
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")
    seen: dict[str, str] = {}

    class Contexts(Log):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            seen["made"] = var.get()
            var.set("made")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            seen[data.decode()] = var.get()
            var.set("data")

        def connection_lost(self, exc: Any) -> None:
            seen["lost"] = var.get()
            super().connection_lost(exc)

    async def main() -> None:
        var.set("main")
        async with connected(protocol=Contexts) as (_, protocol, peer):
            assert var.get() == "main"
            peer.send(b"first")
            await until(lambda: "first" in seen)
            peer.send(b"second")
            await until(lambda: "second" in seen)
            peer.close()
            await protocol.lost
            assert var.get() == "main"

    run(aio, main())
    assert seen["made"] == "main"
    assert seen["second"] == "data"
    assert seen["first"] == ("main" if sys.version_info < (3, 15) else seen["first"])


# -- descriptors and memory ------------------------------------------------------------------------------------------------


def test_descriptor_is_reserved(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected() as (transport, protocol, _):
            fd = transport.get_extra_info("socket").fileno()
            for method in (loop.add_reader, loop.add_writer):
                with pytest.raises(RuntimeError, match=f"File descriptor {fd} is used by transport <_Selector"):
                    method(fd, print)
            for method in (loop.remove_reader, loop.remove_writer):
                with pytest.raises(RuntimeError, match="is used by transport"):
                    method(fd)
            transport.abort()
            await protocol.lost

    run(aio, main())


def test_descriptors_are_closed(aio):
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        async with connected():
            pass
        before = descriptors()
        for _ in range(20):
            async with connected() as (transport, _, peer):
                transport.write(b"x")
                peer.send(b"y")
        await asyncio.sleep(0.01)
        assert descriptors() == before

    run(aio, main())


def test_unclosed_transport_warns(aio):
    async def main() -> None:
        transport, _, peer = await over("tcp")
        transport.pause_reading()
        text = repr(transport)
        fd = transport.get_extra_info("socket").fileno()
        transport.get_protocol().transport = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport
            gc.collect()
        told = (f"unclosed transport {text}", "asyncio/selector_events.py")
        assert told in [(str(warning.message), place_of(warning)) for warning in caught]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        peer.close()

    run(aio, main())


def test_socket_closed_behind_our_back(aio):
    """Another file may get the number: nothing is read from it or written to it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, peer = socket.socketpair()
        transport, protocol = await loop.connect_accepted_socket(Log, ours)
        number = ours.fileno()
        ours.close()
        left, right = socket.socketpair()
        if left.fileno() != number:
            os.dup2(left.fileno(), number)
        right.send(b"not for you")
        transport.write(b"nor from you")
        error = await asyncio.wait_for(protocol.lost, 5)
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF
        assert protocol.data == b""
        right.setblocking(False)
        with pytest.raises(BlockingIOError):
            right.recv(100)
        if left.fileno() != number:
            os.close(number)
        for sock in (left, right, peer):
            sock.close()

    run(aio, main())


def test_collected_in_a_cycle(aio):
    async def main() -> None:
        transport, protocol, peer = await over("tcp")
        transport.pause_reading()
        transport.itself = transport
        reference = weakref.ref(protocol)
        peer.close()
        del transport, protocol
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        assert reference() is None

    run(aio, main())


def test_closed_loop(aio):
    loop = aio.new_event_loop()

    async def main() -> tuple[Any, Any]:
        transport, _, peer = await over("tcp")
        return transport, peer

    transport, peer = loop.run_until_complete(main())
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    peer.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del transport
        gc.collect()


# -- random programs -------------------------------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 300_000), st.sampled_from([bytes, bytearray, memoryview])),
        st.tuples(st.just("writelines"), st.lists(st.integers(0, 70_000), max_size=5)),
        st.tuples(st.just("send"), st.integers(1, 200_000)),
        st.tuples(st.just("receive"), st.integers(1, 400_000)),
        st.tuples(st.just("pause")),
        st.tuples(st.just("resume")),
        st.tuples(st.just("turn"), st.integers(1, 3)),
        st.tuples(st.just("limits"), st.integers(0, 100_000)),
    ),
    max_size=25,
)


@pytest.mark.deadline(300)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(OPERATIONS, st.sampled_from(["tcp", "unix"]), st.sampled_from(["close", "write_eof"]), st.integers(0, 2**32))
def test_every_byte_arrives(aio, operations, family, ending, seed):
    """Random writes, reads and pauses on both sides; in the end each side has what the other has sent."""
    source = random.Random(seed)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected(family) as (transport, protocol, peer):
            sent, received, outgoing, incoming = bytearray(), bytearray(), bytearray(), bytearray()

            def take(limit: int) -> None:
                with contextlib.suppress(BlockingIOError):
                    received.extend(peer.recv(limit))

            def push() -> None:
                with contextlib.suppress(BlockingIOError):
                    del outgoing[: peer.send(outgoing)]

            for operation, *arguments in operations:
                if operation == "write":
                    size, kind = arguments
                    data = source.randbytes(size)
                    sent += data
                    transport.write(kind(data))
                elif operation == "writelines":
                    # (asyncio before 3.15 never gets rid of an empty piece)
                    pieces = [source.randbytes(size) for size in arguments[0] if size or not STDLIB]
                    sent += b"".join(pieces)
                    transport.writelines(pieces)
                elif operation == "send":
                    data = source.randbytes(arguments[0])
                    incoming += data
                    outgoing += data
                    push()
                elif operation == "receive":
                    take(arguments[0])
                elif operation == "pause":
                    transport.pause_reading()
                elif operation == "resume":
                    transport.resume_reading()
                elif operation == "limits":
                    transport.set_write_buffer_limits(high=arguments[0])
                else:
                    for _ in range(arguments[0]):
                        await asyncio.sleep(0)
            transport.resume_reading()
            end = loop.time() + 20
            while outgoing or len(protocol.data) < len(incoming):
                assert loop.time() < end
                if outgoing:
                    push()
                take(1 << 20)
                await asyncio.sleep(0)
            getattr(transport, ending)()
            while True:
                assert loop.time() < end
                try:
                    data = peer.recv(1 << 20)
                except BlockingIOError:
                    await asyncio.sleep(0)
                    continue
                if not data:
                    break
                received += data
            assert received == sent
            assert protocol.data == incoming
            assert protocol.events.count("pause") - protocol.events.count("resume") in (0, 1)

    run(aio, main())
