"""Pipes, FIFOs and terminals: what a protocol is told, in which order, and that no byte is lost."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import random
import socket
import tty
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests import support
from tests.support import STDLIB, Reports, place_of, run, until

MANY = b"0123456789abcdef" * 65536  # 1 MiB: more than a pipe takes


class Log(support.Log):
    """What `eof_received()` answers makes no difference to a pipe; and this one does not keep its transport alive."""

    keep_open = True

    def connection_made(self, transport: Any) -> None:
        self.events.append("made")


@contextlib.contextmanager
def ends(kind: str) -> Iterator[tuple[Any, Any]]:
    """The two ends, as file objects: to read from, to write to."""
    if kind == "pipe":
        read, write = os.pipe()
    elif kind == "socket":
        read, write = (one.detach() for one in socket.socketpair())
    else:
        read, write = os.openpty()
        tty.setraw(write)
    with open(read, "rb", 0) as reader, open(write, "wb", 0) as writer:
        yield reader, writer


kinds = pytest.mark.parametrize("kind", ["pipe", "socket", "pty"])


async def reading(pipe: Any, protocol: Any = Log) -> tuple[Any, Any]:
    return await asyncio.get_running_loop().connect_read_pipe(protocol, pipe)


async def writing(pipe: Any, protocol: Any = Log) -> tuple[Any, Any]:
    return await asyncio.get_running_loop().connect_write_pipe(protocol, pipe)


async def hops(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# -- reading ---------------------------------------------------------------------------------------------------------------


@kinds
def test_read(aio, kind):
    async def main() -> None:
        with ends(kind) as (reader, writer):
            transport, protocol = await reading(reader)
            assert protocol.events == ["made"]
            assert transport.is_reading()
            writer.write(b"one")
            await until(lambda: protocol.data == b"one")
            writer.write(b"two")
            await until(lambda: protocol.data == b"onetwo")
            writer.close()
            assert await protocol.lost is None or kind == "pty"
            assert protocol.events[-2:] == (["eof", "lost"] if kind != "pty" else ["data", "lost"])
            assert protocol.events.count("lost") == 1
            assert transport.is_closing()
            assert reader.closed

    run(aio, main())


def test_end_is_told_in_two_turns_of_the_protocol(aio):
    """`eof_received` cannot keep it open, and may still pause and close."""

    class Closes(Log):
        def eof_received(self) -> bool:
            super().eof_received()
            transports[0].close()
            transports[0].pause_reading()
            transports[0].resume_reading()
            return True

    transports: list[Any] = []

    async def main() -> None:
        with ends("pipe") as (reader, writer):
            transport, protocol = await reading(reader, Closes)
            transports.append(transport)
            writer.close()
            assert await protocol.lost is None
            assert protocol.events == ["made", "eof", "lost"]

    run(aio, main())


@pytest.mark.parametrize("size", [1, 1000, 65536, len(MANY)])
def test_every_byte_arrives(aio, size):
    async def main() -> None:
        with ends("pipe") as (reader, writer):
            _, received = await reading(reader)
            transport, _ = await writing(writer)
            for start in range(0, len(MANY), max(size, 4096)):
                transport.write(MANY[start : start + max(size, 4096)])
            transport.write(b"end")
            transport.close()
            assert await received.lost is None
            assert received.data == MANY + b"end"

    run(aio, main())


def test_pause_reading(aio):
    async def main() -> None:
        with ends("pipe") as (reader, writer):
            transport, protocol = await reading(reader)
            for _ in range(2):
                transport.pause_reading()
                transport.pause_reading()
                assert not transport.is_reading()
                writer.write(b"later")
                await asyncio.sleep(0.02)
                assert not protocol.data
                transport.resume_reading()
                transport.resume_reading()
                assert transport.is_reading()
                await until(lambda: protocol.data == b"later")
                protocol.data.clear()
            transport.pause_reading()
            transport.close()
            assert await protocol.lost is None
            transport.pause_reading()
            transport.resume_reading()
            assert not transport.is_reading()

    run(aio, main())


def test_paused_in_connection_made(aio):
    class Paused(Log):
        def connection_made(self, transport: Any) -> None:
            transport.pause_reading()

    async def main() -> None:
        with ends("pipe") as (reader, writer):
            writer.write(b"x")
            transport, protocol = await reading(reader, Paused)
            await asyncio.sleep(0.01)
            assert not protocol.data
            transport.resume_reading()
            await until(lambda: protocol.data == b"x")
            transport.close()
            await protocol.lost

    run(aio, main())


def test_data_received_raises(aio):
    """It is reported, and the pipe goes on."""
    reports = Reports()

    class Bad(Log):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"bad":
                raise ZeroDivisionError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        with ends("pipe") as (reader, writer):
            transport, protocol = await reading(reader, Bad)
            writer.write(b"bad")
            await until(lambda: protocol.data == b"bad")
            writer.write(b"good")
            await until(lambda: protocol.data == b"badgood")
            transport.close()
            assert await protocol.lost is None
        assert len(reports.contexts) == 1
        assert "Exception in callback _UnixReadPipeTransport._read_ready()" in reports.messages[0]
        assert isinstance(reports.contexts[0]["exception"], ZeroDivisionError)

    run(aio, main())


@pytest.mark.parametrize("method", ["connection_made", "eof_received", "connection_lost"])
def test_protocol_raises(aio, method):
    reports = Reports()

    class Bad(Log):
        pass

    def bad(self: Any, *args: Any) -> None:
        getattr(Log, method)(self, *args)
        raise ZeroDivisionError

    setattr(Bad, method, bad)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        with ends("pipe") as (reader, writer):
            _, protocol = await reading(reader, Bad)
            writer.write(b"x")
            writer.close()
            assert await protocol.lost is None
            await hops()
            assert protocol.events == ["made", "data", "eof", "lost"]
            assert reader.closed
        assert len(reports.contexts) == 1
        assert reports.messages[0].startswith("Exception in callback ")
        assert isinstance(reports.contexts[0]["exception"], ZeroDivisionError)

    run(aio, main())


def test_read_error(aio, monkeypatch):
    """A terminal whose other side has gone (EIO) is no news; every other error is."""
    reports = Reports()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        with ends("pty") as (reader, writer):
            transport, protocol = await reading(reader)
            writer.close()
            error = await protocol.lost
            assert isinstance(error, OSError)
            assert error.errno == errno.EIO
            assert not reports.contexts
        with ends("pipe") as (reader, writer):
            transport, protocol = await reading(reader)
            directory = os.open(".", os.O_RDONLY)
            os.dup2(directory, reader.fileno())  # behind its back; what is watched is still the pipe
            os.close(directory)
            transport._read_ready()
            error = await protocol.lost
            assert isinstance(error, IsADirectoryError)
            assert reports.messages == ["Fatal read error on pipe transport"]
            assert reports.contexts[0]["transport"] is transport
            assert reports.contexts[0]["protocol"] is protocol

    run(aio, main())


# -- writing ---------------------------------------------------------------------------------------------------------------


@kinds
def test_write(aio, kind):
    async def main() -> None:
        with ends(kind) as (reader, writer):
            transport, protocol = await writing(writer)
            assert protocol.events == ["made"]
            transport.write(b"one")
            transport.write(bytearray(b"two"))
            transport.write(memoryview(b"three"))
            transport.writelines([b"four", bytearray(b"five")])
            transport.write(b"")
            assert transport.get_write_buffer_size() == 0
            came = b""
            while len(came) < 19:  # (a terminal hands on what it has got so far)
                came += os.read(reader.fileno(), 100)
            assert came == b"onetwothreefourfive"
            assert transport.can_write_eof()
            transport.close()
            transport.close()
            assert transport.is_closing()
            assert "lost" not in protocol.events, "never from inside of the call"
            assert await protocol.lost is None
            assert protocol.events == ["made", "lost"]
            assert writer.closed

    run(aio, main())


@pytest.mark.parametrize("method", ["close", "write_eof"])
def test_close_writes_what_is_queued(aio, method):
    async def main() -> None:
        with ends("pipe") as (reader, writer):
            transport, protocol = await writing(writer)
            transport.write(MANY)
            transport.write(b"end")
            assert protocol.events == ["made", "pause"]
            waiting = transport.get_write_buffer_size()
            assert 0 < waiting < len(MANY)
            assert len(transport._buffer) == waiting
            assert transport._buffer.endswith(b"end")
            getattr(transport, method)()
            transport.write(b"after the end")
            assert transport.get_write_buffer_size() == waiting
            _, received = await reading(reader)
            assert await received.lost is None
            assert received.data == MANY + b"end"
            assert await protocol.lost is None
            assert protocol.events == ["made", "pause", "resume", "lost"]

    run(aio, main())


def test_abort_drops_it(aio):
    async def main() -> None:
        with ends("pipe") as (reader, writer):
            transport, protocol = await writing(writer)
            transport.write(MANY)
            taken = len(MANY) - transport.get_write_buffer_size()
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            assert await protocol.lost is None
            await hops()
            assert protocol.events.count("lost") == 1
            with open(reader.fileno(), "rb", closefd=False) as rest:
                assert len(rest.read()) == taken

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio says it twice, to nobody the second time")
def test_closed_and_aborted(aio):
    reports = Reports()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        with ends("pipe") as (_, writer):
            transport, protocol = await writing(writer)
            transport.close()
            transport.abort()
            assert await protocol.lost is None
            await hops()
            transport.abort()
            transport.close()
            await hops()
            assert protocol.events == ["made", "lost"]
        assert not reports.contexts

    run(aio, main())


def test_what_is_not_data(aio):
    async def main() -> None:
        with ends("pipe") as (_, writer):
            transport, protocol = await writing(writer)
            for wrong in ("text", None, 5, [b"x"]):
                with pytest.raises(AssertionError) as raised:
                    transport.write(wrong)
                assert str(raised.value) == repr(wrong)
            transport.close()
            await protocol.lost

    run(aio, main())


def test_changed_after_the_write(aio):
    async def main() -> None:
        with ends("pipe") as (reader, writer):
            transport, _ = await writing(writer)
            data = bytearray(MANY)
            transport.write(data)
            data[:] = bytes(len(data))
            transport.write(memoryview(data)[:5])
            transport.close()
            _, received = await reading(reader)
            await received.lost
            assert received.data == MANY + bytes(5)

    run(aio, main())


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_reader_goes(aio, kind):
    async def main() -> None:
        with ends(kind) as (reader, writer):
            transport, protocol = await writing(writer)
            transport.write(b"unread")
            reader.close()
            assert await protocol.lost is None
            assert protocol.events == ["made", "lost"]
            assert writer.closed

    run(aio, main())


@pytest.mark.parametrize("closing", [False, True])
def test_reader_goes_while_there_is_a_queue(aio, closing):
    async def main() -> None:
        with ends("pipe") as (reader, writer):
            transport, protocol = await writing(writer)
            transport.write(MANY)
            if closing:
                transport.close()
            reader.close()
            error = await protocol.lost
            assert type(error) is BrokenPipeError
            assert error.args == ()
            assert transport.get_write_buffer_size() == 0

    run(aio, main())


def test_reader_has_gone_before_the_write(aio, caplog):
    async def main() -> None:
        with ends("pipe") as (reader, writer):
            transport, protocol = await writing(writer)
            reader.close()
            transport.write(b"nobody hears this")
            assert transport.is_closing()
            for _ in range(10):
                transport.write(b"nor this")
            error = await protocol.lost
            assert type(error) is BrokenPipeError
            assert error.errno == errno.EPIPE
            assert protocol.events == ["made", "lost"]
        texts = [record.getMessage() for record in caplog.records]
        assert texts == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 6

    run(aio, main())


def test_what_waits_can_be_put_in_its_place(aio):
    async def main() -> None:
        with ends("pipe") as (reader, writer):
            transport, protocol = await writing(writer)
            transport.write(MANY)
            taken = len(MANY) - transport.get_write_buffer_size()
            transport._buffer = bytearray(b"instead")
            assert transport.get_write_buffer_size() == 7
            with pytest.raises(TypeError):
                transport._buffer = None
            assert transport._buffer == b"instead"
            transport.close()
            assert await asyncio.to_thread(reader.readall) == MANY[:taken] + b"instead"
            assert await protocol.lost is None

    if STDLIB:
        pytest.skip("asyncio takes None, and stumbles over it later")
    run(aio, main())


def test_water_marks(aio):
    async def main() -> None:
        with ends("pipe") as (reader, writer):
            transport, protocol = await writing(writer)
            assert transport.get_write_buffer_limits() == (16384, 65536)
            transport.set_write_buffer_limits(high=10, low=5)
            assert transport.get_write_buffer_limits() == (5, 10)
            while not transport.get_write_buffer_size():
                transport.write(b"x" * 4096)
            assert protocol.events == ["made", "pause"]
            await until(lambda: os.read(reader.fileno(), 65536) and protocol.events == ["made", "pause", "resume"])
            with pytest.raises(ValueError, match=r"high \(5\) must be >= low \(10\) must be >= 0"):
                transport.set_write_buffer_limits(high=5, low=10)
            transport.close()
            await protocol.lost

    run(aio, main())


def test_written_to_by_resume_writing(aio):
    class Writes(Log):
        more = 3

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.transport = transport

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.more:
                self.more -= 1
                self.transport.write(MANY)
            else:
                self.transport.close()

    async def main() -> None:
        with ends("pipe") as (reader, writer):
            transport, protocol = await writing(writer, Writes)
            transport.write(MANY)
            _, received = await reading(reader)
            await received.lost
            assert received.data == MANY * 4
            assert await protocol.lost is None

    run(aio, main())


def test_terminal_is_not_watched_for_its_end(aio):
    """Somebody typing is not somebody going."""

    async def main() -> None:
        master, slave = os.openpty()
        with open(master, "rb", 0) as typing, open(slave, "wb", 0) as terminal:
            transport, protocol = await writing(terminal)
            os.write(master, b"typed\n")
            await asyncio.sleep(0.02)
            assert not transport.is_closing()
            transport.write(b"shown")
            await until(lambda: b"shown" in typing.read(100))
            transport.close()
            assert await protocol.lost is None

    run(aio, main())


def test_device_without_end(aio):
    async def main() -> None:
        with open(os.devnull, "wb", 0) as null:
            transport, protocol = await writing(null)
            transport.write(MANY)
            assert transport.get_write_buffer_size() == 0
            transport.close()
            assert await protocol.lost is None

    run(aio, main())


def test_fifo(aio, tmp_path):
    async def main() -> None:
        name = tmp_path / "fifo"
        os.mkfifo(name)
        with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK), "rb", 0) as reader, open(name, "wb", 0) as writer:
            _, received = await reading(reader)
            transport, _ = await writing(writer)
            transport.write(b"through a file")
            transport.close()
            assert await received.lost is None
            assert received.data == b"through a file"

    run(aio, main())


def test_random_conversation(aio):
    """Writes, pauses and resumes in any order: every byte comes, in order."""

    async def main() -> None:
        chance = random.Random(5)
        for _ in range(5):
            with ends("pipe") as (reader, writer):
                source, received = await reading(reader)
                sink, _ = await writing(writer)
                sent = bytearray()
                for _ in range(200):
                    match chance.randrange(5):
                        case 0:
                            source.pause_reading()
                        case 1:
                            source.resume_reading()
                        case 2:
                            await asyncio.sleep(0)
                        case _:
                            data = chance.randbytes(chance.choice([1, 100, 5000, 70_000]))
                            sent += data
                            sink.write(data)
                source.resume_reading()
                sink.close()
                assert await received.lost is None
                assert received.data == sent

    run(aio, main())


# -- both ------------------------------------------------------------------------------------------------------------------

both = pytest.mark.parametrize("side", ["read", "write"])


@contextlib.contextmanager
def one_end(side: str) -> Iterator[tuple[Any, Any]]:
    with ends("pipe") as (reader, writer):
        yield (reader, writer) if side == "read" else (writer, reader)


async def connect(side: str, pipe: Any, protocol: Any = Log) -> tuple[Any, Any]:
    return await (reading if side == "read" else writing)(pipe, protocol)


@both
def test_class(aio, side):
    async def main() -> None:
        with one_end(side) as (pipe, _):
            transport, protocol = await connect(side, pipe)
            if side == "read":
                assert type(transport).__name__ == "_UnixReadPipeTransport"
                assert isinstance(transport, asyncio.ReadTransport)
                assert not isinstance(transport, asyncio.WriteTransport)
                assert transport.max_size == 256 * 1024
            else:
                assert type(transport).__name__ == "_UnixWritePipeTransport"
                assert isinstance(transport, asyncio.WriteTransport)
                assert isinstance(transport, asyncio.transports._FlowControlMixin)
            assert isinstance(transport, asyncio.BaseTransport)
            assert transport.__class__.__module__ == "asyncio.unix_events"
            assert transport.get_extra_info("pipe") is pipe
            assert transport.get_extra_info("socket") is None
            assert transport.get_extra_info("peername", 7) == 7
            assert transport.get_protocol() is protocol
            transport.anything = 5
            assert transport.__dict__["anything"] == 5 or STDLIB
            assert weakref.ref(transport)() is transport
            assert transport._pipe is pipe
            assert transport._fileno == pipe.fileno()
            assert transport._loop is asyncio.get_running_loop()
            if not STDLIB:
                with pytest.raises(TypeError):
                    type(transport)()
            other = Log()
            transport.set_protocol(other)
            assert transport.get_protocol() is other
            transport.close()
            assert await other.lost is None
            assert transport.get_extra_info("pipe") is pipe
            assert transport._pipe is None

    run(aio, main())


@both
def test_repr(aio, side):
    async def main() -> Any:
        with one_end(side) as (pipe, _):
            transport, protocol = await connect(side, pipe)
            fd = pipe.fileno()
            name = f"_Unix{side.title()}PipeTransport"
            if side == "read":
                assert repr(transport) == f"<{name} fd={fd} polling>"
                transport.pause_reading()
                assert repr(transport) == f"<{name} fd={fd} idle>"
            else:
                assert repr(transport) == f"<{name} fd={fd} idle bufsize=0>"
                while not (size := transport.get_write_buffer_size()):
                    transport.write(MANY)
                assert repr(transport) == f"<{name} fd={fd} polling bufsize={size}>"
            transport.close()
            assert repr(transport).startswith(f"<{name} closing fd={fd} ")
            with contextlib.suppress(AttributeError):
                transport.abort()
            await protocol.lost
            assert repr(transport) == f"<{name} closed fd={fd} closed>"

    run(aio, main())


@both
def test_not_a_pipe(aio, side, tmp_path):
    """The file is still the program's."""

    async def main() -> None:
        with open(tmp_path / "file", "wb") as file:
            text = "for pipes/sockets only" if side == "read" else "only for pipes, sockets and character devices"
            with pytest.raises(ValueError, match=text):
                await connect(side, file)
            assert not file.closed
        if STDLIB:
            return  # its finalizer stumbles over the rest
        with pytest.raises(ValueError, match="closed file"):
            await connect(side, file)
        with pytest.raises(AttributeError):
            await connect(side, object())

    run(aio, main())


@both
def test_factory_raises(aio, side):
    async def main() -> None:
        with one_end(side) as (pipe, _):

            def factory() -> None:
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await connect(side, pipe, factory)
            assert not pipe.closed

    run(aio, main())


@both
def test_cancelled(aio, side):
    """Whoever is cancelled while it waits leaves no open pipe behind."""

    async def main() -> None:
        with one_end(side) as (pipe, _):
            protocols = []

            def factory() -> Log:
                protocols.append(Log())
                return protocols[0]

            connecting = asyncio.ensure_future(connect(side, pipe, factory))
            await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert await protocols[0].lost is None
            assert pipe.closed

    run(aio, main())


@both
def test_does_not_block(aio, side):
    async def main() -> None:
        with one_end(side) as (pipe, _):
            assert os.get_blocking(pipe.fileno())
            transport, protocol = await connect(side, pipe)
            assert not os.get_blocking(pipe.fileno())
            transport.close()
            await protocol.lost

    run(aio, main())


@both
def test_unclosed(aio, side):
    async def main() -> None:
        with one_end(side) as (pipe, _):
            transport, _ = await connect(side, pipe)
            if side == "read":
                transport.pause_reading()
            else:
                # else the loop keeps it alive, to hear of the reader's end
                asyncio.get_running_loop()._remove_reader(pipe.fileno())
            text = repr(transport)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del transport
                gc.collect()
            assert [str(warning.message) for warning in caught] == [f"unclosed transport {text}"]
            assert place_of(caught[0]) == "asyncio/unix_events.py"
            assert pipe.closed

    run(aio, main())


@both
def test_pipe_taken_away(aio, side):
    """What CPython's own tests do with a transport that they have to get rid of."""

    async def main() -> None:
        with one_end(side) as (pipe, _):
            transport, _ = await connect(side, pipe)
            asyncio.get_running_loop()._remove_reader(pipe.fileno())
            transport._pipe = None
            assert " closed " in repr(transport)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del transport
                gc.collect()
            assert not caught
            assert not pipe.closed

    run(aio, main())


@both
def test_overridden(aio, side):
    made = []

    def method(self: Any, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None) -> Any:
        extra = {"more": 5}
        transport = getattr(super(Loop, self), f"_make_{side}_pipe_transport")(pipe, protocol, waiter, extra)
        made.append((transport, extra))
        return transport

    Loop = type("Loop", (aio.SelectorEventLoop,), {f"_make_{side}_pipe_transport": method})

    async def main() -> None:
        with one_end(side) as (pipe, _):
            transport, protocol = await connect(side, pipe)
            assert made[0][0] is transport
            assert transport.get_extra_info("more") == 5
            assert made[0][1]["pipe"] is pipe
            transport.close()
            await protocol.lost

    loop = Loop()
    try:
        loop.run_until_complete(main())
        asyncio.set_event_loop(None)
    finally:
        loop.close()


@both
def test_contexts(aio, side):
    """`connection_made` has a copy of the opener's context, reading another, and so on."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    class Looks(Log):
        def connection_made(self, transport: Any) -> None:
            self.events.append(("made", variable.get()))
            variable.set("made")

        def data_received(self, data: bytes) -> None:
            self.events.append(("data", variable.get()))
            variable.set("data")

        def resume_writing(self) -> None:
            self.events.append(("resume", variable.get()))

        def eof_received(self) -> None:
            self.events.append(("eof", variable.get()))

        def connection_lost(self, exc: BaseException | None) -> None:
            self.events.append(("lost", variable.get()))
            super().connection_lost(exc)

    async def main() -> None:
        with one_end(side) as (pipe, other):
            variable.set("opener")
            transport, protocol = await connect(side, pipe, Looks)
            variable.set("later")
            if side == "read":
                other.write(b"x")
                await until(lambda: len(protocol.events) == 2)
                transport.pause_reading()
                transport.resume_reading()
                other.write(b"x")
                await until(lambda: len(protocol.events) == 3)
                other.close()
                await protocol.lost
                assert protocol.events == [
                    ("made", "opener"),
                    ("data", "opener"),
                    ("data", "later"),
                    ("eof", "data"),
                    ("lost", "data"),
                    "lost",
                ]
            else:
                transport.write(MANY)
                variable.set("closer")
                transport.close()
                _, received = await reading(other)
                await received.lost
                await protocol.lost
                assert protocol.events == [
                    ("made", "opener"),
                    "pause",
                    ("resume", "later"),
                    ("lost", "later"),
                    "lost",
                ]

    run(aio, main())


@both
def test_debug_mode(aio, side, caplog):
    caplog.set_level("DEBUG", "asyncio")

    async def main() -> None:
        with one_end(side) as (pipe, other):
            fd = pipe.fileno()
            transport, protocol = await connect(side, pipe)
            made = repr(transport)
            if side == "read":
                transport.pause_reading()
                transport.resume_reading()
            other.close()
            await protocol.lost
        # (as it was written when it happened)
        assert f"{side.title()} pipe {fd} connected: ({made}, {protocol!r})" in caplog.text
        assert f"{made} was closed by peer" in caplog.text
        if side == "read":
            assert f"{made[:-8]}idle> pauses reading" in caplog.text
            assert f"{made} resumes reading" in caplog.text

    run(aio, main(), debug=True)


@both
def test_closed_loop(aio, side):
    """The pipe of a loop that is closed can still be closed by the program."""
    with one_end(side) as (pipe, _):

        async def main() -> Any:
            return (await connect(side, pipe))[0]

        loop = aio.new_event_loop()
        transport = loop.run_until_complete(main())
        loop.close()
        assert repr(transport).endswith(("open>", "idle>", "bufsize=0>")) or STDLIB
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.close()
        transport._pipe = None


def test_same_file_for_both_directions(aio):
    """A terminal or a socket, opened once."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        master, slave = os.openpty()
        tty.setraw(slave)
        with theirs, ours, open(slave, "r+b", 0) as terminal, open(master, "r+b", 0) as user:
            reader, protocol = await reading(terminal)
            writer, _ = await writing(terminal)
            writer.write(b"question")
            assert user.read(8) == b"question"
            user.write(b"answer")
            await until(lambda: protocol.data == b"answer")
            reader.close()
            writer.abort()
            await hops(5)

    run(aio, main())
