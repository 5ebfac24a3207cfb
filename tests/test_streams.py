"""Streams: what is read is what was sent, whoever waits, cancels, looks at the buffer or is derived."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import sys
import warnings
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import streams_fuzz
from tests.support import STDLIB, Reports, newer, place_of, run, run_hops

MANY = b"0123456789abcdef" * 131072  # 2 MiB: more than a socket takes at once
FINALIZER = hasattr(asyncio.StreamWriter, "__del__")


@contextlib.asynccontextmanager
async def connected(
    aio: Any, handle: Any, *, family: str = "tcp", tmp_path: Any = None, **options: Any
) -> AsyncIterator[Any]:
    """A server whose connections are handled by `handle`, and one client's reader and writer."""
    served = []

    def watched(reader: Any, writer: Any) -> Any:
        served.append(writer)
        return handle(reader, writer)

    if family == "unix":
        path = str(tmp_path / "socket")
        server = await aio.start_unix_server(watched, path, **options)
        reader, writer = await aio.open_unix_connection(path, **options)
    else:
        server = await aio.start_server(watched, "127.0.0.1", 0, **options)
        reader, writer = await aio.open_connection(*server.sockets[0].getsockname(), **options)
    try:
        yield reader, writer
    finally:
        for one in (writer, *served):
            one.close()
            with contextlib.suppress(OSError):
                await one.wait_closed()
        server.close()
        await server.wait_closed()


async def echo(reader: Any, writer: Any) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def fed(aio: Any, *chunks: bytes, eof: bool = False, **options: Any) -> Any:
    """A reader of the running loop that has got all this."""
    reader = aio.StreamReader(**options)
    for chunk in chunks:
        reader.feed_data(chunk)
    if eof:
        reader.feed_eof()
    return reader


class Transport(asyncio.Transport):
    """Writes down what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.log.append("close")

    def abort(self) -> None:
        self.log.append("abort")

    def write(self, data: bytes) -> None:
        self.log.append(("write", bytes(data)))

    def writelines(self, data: Any) -> None:
        self.log.append(("writelines", list(data)))

    def write_eof(self) -> None:
        self.log.append("write_eof")

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.log.append("pause")

    def resume_reading(self) -> None:
        self.log.append("resume")


# --- connections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_echo(aio, family, tmp_path):
    async def main():
        async with connected(aio, echo, family=family, tmp_path=tmp_path) as (reader, writer):
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            writer.writelines([b"a", b"bc"])
            assert await reader.readexactly(3) == b"abc"
            writer.write(b"one;two|")
            assert await reader.readuntil(b";") == b"one;"
            assert await reader.readuntil(b"|") == b"two|"
            writer.write_eof()
            assert await reader.read() == b""
            assert reader.at_eof()

    run(aio, main())


@pytest.mark.parametrize("how", ["read", "readexactly", "readline", "until", "all"])
def test_many_bytes_arrive_in_order_whatever_reads_them(aio, how):
    lines = b"".join(b"%d\n" % number for number in range(300_000))

    async def main():
        async with connected(aio, echo) as (reader, writer):

            async def write():
                for start in range(0, len(lines), 100_003):
                    writer.write(lines[start : start + 100_003])
                    await writer.drain()
                writer.write_eof()

            writing = aio.create_task(write())
            found = bytearray()
            if how == "all":
                found += await reader.read()
            else:
                sizes = random.Random(1)
                while len(found) < len(lines):
                    match how:
                        case "read":
                            found += await reader.read(sizes.randrange(1, 200_000))
                        case "readexactly":
                            found += await reader.readexactly(min(sizes.randrange(1, 300_000), len(lines) - len(found)))
                        case "readline":
                            found += await reader.readline()
                        case _:
                            found += await reader.readuntil(b"7\n")
                            if len(lines) - len(found) < 40:
                                found += await reader.read()
            await writing
            assert bytes(found) == lines

    run(aio, main())


def test_pipelined_requests_are_answered_in_order(aio):
    async def answer(reader, writer):
        async for line in reader:
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    async def main():
        async with connected(aio, answer) as (reader, writer):
            for _ in range(20):
                writer.write(b"".join(b"request %d\n" % number for number in range(50)))
                for number in range(50):
                    assert await reader.readline() == b"REQUEST %d\n" % number

    run(aio, main())


def test_limit_is_that_of_every_connection(aio):
    async def main():
        limits = []

        async def handle(reader, writer):
            limits.append(reader._limit)
            writer.close()

        async with connected(aio, handle, limit=1234) as (reader, _):
            assert await reader.read() == b""
            limits.append(reader._limit)
        assert limits == [1234, 1234]

    run(aio, main())


def test_back_pressure_reaches_the_sender(aio):
    """A reader that does not read pauses its transport at twice its limit; `drain()` of the sender waits."""

    async def main():
        accepted = aio.get_running_loop().create_future()

        async def handle(reader, writer):
            accepted.set_result((reader, writer))

        async with connected(aio, handle, limit=1000) as (_, writer):
            writer.write(MANY)
            theirs, their_writer = await accepted
            draining = aio.create_task(writer.drain())
            while not theirs._paused:
                await aio.sleep(0)
            assert not draining.done() or writer.transport.get_write_buffer_size() <= 16384
            assert not their_writer.transport.is_reading()
            held = len(theirs._buffer)
            for _ in range(20):
                await aio.sleep(0)
            assert len(theirs._buffer) == held
            found = await theirs.readexactly(len(MANY))
            assert found == MANY
            await draining
            their_writer.close()

    run(aio, main())


def test_end_of_stream_while_one_waits(aio):
    async def handle(reader, writer):
        writer.write(b"no newline")
        writer.close()

    async def main():
        async with connected(aio, handle) as (reader, _):
            assert await reader.readline() == b"no newline"
            assert await reader.readline() == b""
        async with connected(aio, handle) as (reader, _):
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readexactly(20)
            assert (caught.value.partial, caught.value.expected) == (b"no newline", 20)
        async with connected(aio, handle) as (reader, _):
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readuntil(b"x")
            assert (caught.value.partial, caught.value.expected) == (b"no newline", None)
            assert str(caught.value) == "10 bytes read on a total of undefined expected bytes"

    run(aio, main())


def test_reset_is_raised_by_read_drain_and_wait_closed(aio):
    async def handle(reader, writer):
        await reader.read(1)
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async def main():
        async with connected(aio, handle) as (reader, writer):
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read(10)
            with pytest.raises(ConnectionResetError):
                await reader.readline()
            with pytest.raises(ConnectionResetError):
                await writer.drain()
            with pytest.raises(ConnectionResetError):
                await writer.wait_closed()
            assert isinstance(reader.exception(), ConnectionResetError)

    run(aio, main())


def test_drain_after_close_hears_that_the_connection_is_lost(aio):
    async def main():
        async with connected(aio, echo) as (_, writer):
            writer.close()
            assert writer.is_closing()
            with pytest.raises(ConnectionResetError, match="Connection lost"):
                await writer.drain()

    run(aio, main())


def test_an_exception_of_the_connection_that_nobody_asks_for_is_not_reported(aio):
    reports = Reports()

    async def main():
        aio.get_running_loop().set_exception_handler(reports)
        reader = aio.StreamReader()
        protocol = aio.StreamReaderProtocol(reader)
        closed = protocol._closed
        protocol.connection_lost(OSError("gone"))
        assert closed.done()
        del protocol, closed, reader
        gc.collect()

    run(aio, main())
    assert not reports.contexts


# --- reading --------------------------------------------------------------------------------------


def test_what_is_there_is_given_without_a_turn_of_the_loop(aio):
    async def main():
        reader = fed(aio, b"line\nexactly:until;rest", eof=True)
        return [
            await reader.readline(),
            await reader.readexactly(7),
            await reader.readuntil(b":"),
            await reader.readuntil(b";"),
            await reader.read(2),
            await reader.read(),
        ]

    found, hops = run_hops(aio, main())
    assert found == [b"line\n", b"exactly", b":", b"until;", b"re", b"st"]
    assert hops == 0


@pytest.mark.parametrize("method", ["read", "readline", "readexactly", "readuntil"])
def test_waking_takes_as_many_turns_as_in_asyncio(method):
    def attempt(aio):
        async def main():
            reader = aio.StreamReader()
            args = {"read": (5,), "readexactly": (2,)}.get(method, ())
            aio.get_running_loop().call_soon(reader.feed_data, b"a\n")
            return await getattr(reader, method)(*args)

        return run_hops(aio, main())

    import aioxide

    assert attempt(aioxide) == attempt(asyncio)


def test_nothing_is_lost_when_the_one_who_waits_is_cancelled_after_data_came(aio):
    async def main():
        reader = aio.StreamReader()
        task = aio.create_task(reader.readexactly(3))
        await aio.sleep(0)
        reader.feed_data(b"abcdef")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await reader.read(100) == b"abcdef"

    run(aio, main())


def test_read_under_a_timeout_loses_nothing(aio):
    async def main():
        reader = aio.StreamReader()
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with aio.timeout(0):
                    await reader.readline()
            reader.feed_data(b"x")
        reader.feed_data(b"\n")
        assert await reader.readline() == b"xxxxx\n"
        assert reader._waiter is None

    run(aio, main())


def test_a_second_reader_is_an_error(aio):
    async def main():
        reader = aio.StreamReader()
        first = aio.create_task(reader.read(1))
        await aio.sleep(0)
        for coroutine, name in [
            (reader.read(1), "read"),
            (reader.read(), "read"),
            (reader.readexactly(1), "readexactly"),
            (reader.readuntil(b"x"), "readuntil"),
            (reader.readline(), "readuntil"),
            (reader._wait_for_data("mine"), "mine"),
        ]:
            text = rf"{name}\(\) called while another coroutine is already waiting for incoming data"
            with pytest.raises(RuntimeError, match=text):
                await coroutine
        reader.feed_data(b"y")
        assert await first == b"y"

    run(aio, main())


def test_limits(aio):
    async def main():
        reader = fed(aio, b"0123456789", limit=5)
        with pytest.raises(
            asyncio.LimitOverrunError, match="Separator is not found, and chunk exceed the limit"
        ) as caught:
            await reader.readuntil(b"xyz")
        assert caught.value.consumed == 8
        assert await reader.readexactly(10) == b"0123456789"
        reader.feed_data(b"012345;")
        with pytest.raises(
            asyncio.LimitOverrunError, match="Separator is found, but chunk is longer than limit"
        ) as caught:
            await reader.readuntil(b";")
        assert caught.value.consumed == 6
        assert await reader.read(100) == b"012345;"
        reader.feed_data(b"12345\n123456\nnext\n")
        assert await reader.readline() == b"12345\n"
        with pytest.raises(ValueError, match="Separator is found, but chunk is longer than limit") as caught:
            await reader.readline()
        assert isinstance(caught.value.__context__, asyncio.LimitOverrunError)
        assert await reader.readline() == b"next\n"
        for limit in (0, -1, -0.5):
            with pytest.raises(ValueError, match="Limit cannot be <= 0"):
                aio.StreamReader(limit=limit)
        with pytest.raises(TypeError):
            aio.StreamReader(limit="1")

    run(aio, main())


def test_sizes_and_limits_that_are_no_integers(aio):
    """asyncio cuts its buffer at them, which a float cannot do; what it only compares may be one."""

    async def main():
        reader = fed(aio, b"0123456789")
        assert await reader.read(0.0) == b""
        with pytest.raises(TypeError, match="slice indices must be integers"):
            await reader.read(4.0)
        reader.feed_eof()
        assert await reader.read(-1.5) == b"0123456789"
        for limit in (65536.0, 10.5):
            reader = fed(aio, b"0123456789", limit=limit)
            reader.feed_eof()
            assert reader._limit == limit
            for _ in range(2):
                with pytest.raises(TypeError, match="slice indices must be integers"):
                    await reader.read()
            assert await reader.readexactly(10) == b"0123456789"
            with pytest.raises(TypeError, match="slice indices must be integers"):
                await reader.read()

    run(aio, main())


@newer((3, 13))
def test_readuntil_takes_several_separators(aio):
    async def main():
        reader = fed(aio, b"one\r\ntwo\nthree\rfour")
        separators = (b"\r\n", b"\n", b"\r")
        assert await reader.readuntil(separators) == b"one\r"
        assert await reader.readuntil(separators) == b"\n"
        assert await reader.readuntil(separators) == b"two\n"
        assert await reader.readuntil(separators) == b"three\r"
        reader.feed_data(b"END,")
        assert await reader.readuntil((b"D,", b"END")) == b"fourEND"
        assert await reader.readuntil((b",",)) == b","
        with pytest.raises(ValueError, match="Separator should contain at least one element"):
            await reader.readuntil(())
        with pytest.raises(ValueError, match="Separator should be at least one-byte string"):
            await reader.readuntil((b"x", b""))

    run(aio, main())


def test_arguments_are_looked_at_when_they_are_awaited(aio):
    async def main():
        reader = fed(aio, b"abc")
        for call in (
            lambda: reader.readexactly(-1),
            lambda: reader.readexactly(None),
            lambda: reader.read(None),
            lambda: reader.readuntil(b""),
            lambda: reader.readuntil(5),
            lambda: reader.readuntil("b"),
        ):
            coroutine = call()
            with pytest.raises((ValueError, TypeError)):
                await coroutine
        assert await reader.readexactly(0) == b""
        assert await reader.read(0) == b""
        assert await reader.read(True) == b"a"
        assert await reader.read(2**100) == b"bc"

    run(aio, main())


def test_any_exception_that_is_set_is_raised(aio):
    async def main():
        reader = aio.StreamReader()
        task = aio.create_task(reader.read(1))
        await aio.sleep(0)
        error = KeyError("set")
        reader.set_exception(error)
        for attempt in (task, reader.read(1), reader.read(), reader.readline(), reader.readexactly(1), anext(reader)):
            with pytest.raises(KeyError) as caught:
                await attempt
            assert caught.value is error
        assert reader.exception() is error

    run(aio, main())


def test_asynchronous_iteration(aio):
    async def main():
        reader = fed(aio, b"one\ntwo\nrest", eof=True)
        assert [line async for line in reader] == [b"one\n", b"two\n", b"rest"]
        with pytest.raises(StopAsyncIteration):
            await anext(reader)

    run(aio, main())


def test_feeding_after_the_end_is_an_error(aio):
    async def main():
        reader = fed(aio, b"x", eof=True)
        with pytest.raises(AssertionError, match="feed_data after feed_eof"):
            reader.feed_data(b"y")
        assert not reader.at_eof()
        assert await reader.read(5) == b"x"
        assert reader.at_eof()
        with pytest.raises(AssertionError, match="_wait_for_data after EOF"):
            await reader._wait_for_data("mine")

    run(aio, main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, list])
def test_feed_data_copies_what_can_change(aio, kind):
    async def main():
        reader = aio.StreamReader()
        data = kind(b"hello")
        reader.feed_data(data)
        if kind in (bytearray, list):
            data[0] = 0
        assert await reader.read(10) == b"hello"
        with pytest.raises(TypeError):
            reader.feed_data("text")

    run(aio, main())


def test_transport_is_paused_above_twice_the_limit_and_resumed_at_it(aio):
    async def main():
        transport = Transport()
        reader = aio.StreamReader(limit=5)
        reader.set_transport(transport)
        with pytest.raises(AssertionError, match="Transport already set"):
            reader.set_transport(transport)
        reader.feed_data(b"0123456789")
        assert transport.log == []
        reader.feed_data(b"a")
        assert (transport.log, reader._paused) == (["pause"], True)
        await reader.read(5)
        assert transport.log == ["pause"]
        await reader.read(1)
        assert (transport.log, reader._paused) == (["pause", "resume"], False)
        reader.feed_data(b"0123456789")
        task = aio.create_task(reader.readexactly(20))
        await aio.sleep(0)
        assert transport.log == ["pause", "resume", "pause", "resume"]
        reader.feed_data(b"01234")
        assert await task == b"6789a" + b"0123456789" + b"01234"

    run(aio, main())


def test_transport_that_cannot_be_paused_is_not_asked_again(aio):
    class Unpausable(Transport):
        def pause_reading(self):
            super().pause_reading()
            raise NotImplementedError

    async def main():
        transport = Unpausable()
        reader = aio.StreamReader(limit=1)
        reader.set_transport(transport)
        reader.feed_data(b"abc")
        reader.feed_data(b"def")
        assert transport.log == ["pause"]
        assert not reader._paused
        assert reader._transport is None

    run(aio, main())


# --- private parts --------------------------------------------------------------------------------


def test_buffer_is_a_bytearray_that_a_program_may_change(aio):
    async def main():
        reader = fed(aio, b"abcdef")
        buffer = reader._buffer
        assert isinstance(buffer, bytearray)
        assert buffer == b"abcdef"
        del buffer[:2]
        buffer += b"!"
        assert await reader.readexactly(3) == b"cde"
        assert buffer == b"f!"
        reader.feed_data(b"more")
        assert buffer == b"f!more"
        buffer.clear()
        task = aio.create_task(reader.read(10))
        await aio.sleep(0)
        reader.feed_data(b"x")
        assert await task == b"x"
        reader._buffer = bytearray(b"new\nones")
        del buffer
        assert await reader.readline() == b"new\n"
        assert len(reader._buffer) == 4
        assert reader._buffer
        assert await reader.read(10) == b"ones"
        assert not reader._buffer

    run(aio, main())


def test_a_view_of_the_buffer_forbids_taking_from_it(aio):
    async def main():
        reader = fed(aio, b"abcdef")
        with memoryview(reader._buffer), pytest.raises(BufferError):
            await reader.read(3)
        with memoryview(reader._buffer), pytest.raises(BufferError):
            reader.feed_data(b"x")

    run(aio, main())


def test_reprs(aio):
    async def main():
        reader = fed(aio, b"abc", eof=True, limit=10)
        assert repr(reader) == "<StreamReader 3 bytes eof limit=10>"
        reader.set_exception(ValueError("v"))
        assert repr(reader) == "<StreamReader 3 bytes eof limit=10 exception=ValueError('v')>"
        reader = aio.StreamReader()
        task = aio.create_task(reader.read(1))
        await aio.sleep(0)
        assert repr(reader).startswith("<StreamReader waiter=<Future pending cb=[")
        reader.feed_data(b"abcd" * 100_000)
        assert await task == b"a"
        transport = Transport()
        reader.set_transport(transport)
        protocol = aio.StreamReaderProtocol(reader)
        writer = aio.StreamWriter(transport, protocol, reader, aio.get_running_loop())
        assert repr(writer) == f"<StreamWriter transport={transport!r} reader={reader!r}>"
        transport.closing = True

        class Mine(aio.StreamWriter):
            pass

        assert repr(Mine(transport, protocol, None, aio.get_running_loop())) == f"<Mine transport={transport!r}>"

    run(aio, main())


def test_private_attributes_can_be_read_and_set(aio):
    async def main():
        loop = aio.get_running_loop()
        reader = aio.StreamReader()
        protocol = aio.StreamReaderProtocol(reader)
        transport = Transport()
        transport.closing = True
        writer = aio.StreamWriter(transport, protocol, reader, loop)
        assert (reader._limit, reader._eof, reader._paused, reader._loop) == (65536, False, False, loop)
        assert (reader._waiter, reader._exception, reader._transport) == (None, None, None)
        assert (writer._transport, writer._protocol, writer._reader, writer._loop) == (
            transport,
            protocol,
            reader,
            loop,
        )
        assert writer._complete_fut.result() is None
        assert protocol._stream_reader is reader
        assert protocol._stream_reader_wr() is reader
        assert (protocol._paused, protocol._connection_lost, protocol._over_ssl) == (False, False, False)
        assert (protocol._client_connected_cb, protocol._task, protocol._transport) == (None, None, None)
        assert list(protocol._drain_waiters) == []
        assert not hasattr(protocol, "_strong_reader")
        assert protocol._get_close_waiter(writer) is protocol._closed
        reader._limit, reader._eof, reader._transport = 7, True, transport
        writer._transport = protocol._transport = transport
        protocol._over_ssl = True
        assert (reader._limit, reader.at_eof(), reader._transport) == (7, True, transport)
        assert protocol.eof_received() is False

    run(aio, main())


def test_debug_mode_remembers_where_a_reader_was_made(aio):
    async def main():
        reader = aio.StreamReader()
        assert reader._source_traceback[-1].name == "main"
        assert aio.StreamReaderProtocol(reader)._source_traceback is reader._source_traceback

    run(aio, main(), debug=True)


def test_without_a_loop_the_current_one_is_taken(aio):
    async def main():
        loop = aio.get_running_loop()
        return loop is aio.StreamReader()._loop is aio.StreamReaderProtocol(aio.StreamReader())._loop

    assert run(aio, main())


# --- derived classes ------------------------------------------------------------------------------


def test_overridden_methods_are_called(aio):
    calls: list[str] = []

    class Mine(aio.StreamReader):
        async def readuntil(self, separator=b"\n"):
            calls.append("readuntil")
            return await super().readuntil(separator)

        async def read(self, n=-1):
            calls.append(f"read({n})")
            return await super().read(n)

        async def _wait_for_data(self, name):
            calls.append(f"wait({name})")
            await super()._wait_for_data(name)

        def _wakeup_waiter(self):
            calls.append("wake")
            super()._wakeup_waiter()

        def _maybe_resume_transport(self):
            calls.append("resume")
            super()._maybe_resume_transport()

    async def main():
        reader = Mine(limit=100)
        task = aio.create_task(reader.readline())
        await aio.sleep(0)
        reader.feed_data(b"a\nb")
        assert await task == b"a\n"
        assert calls == ["readuntil", "wait(readuntil)", "wake", "resume"]
        calls.clear()
        reader.feed_eof()
        assert await reader.read() == b"b"
        assert calls == ["wake", "read(-1)", "read(100)", "resume", "read(100)", "resume"]
        reader = Mine(limit=1)
        reader.feed_data(b"abc\ndef")
        with pytest.raises(ValueError, match="chunk is longer than limit"):
            await reader.readline()
        assert reader._buffer == b"def"

    run(aio, main())


def test_methods_put_on_an_instance_are_called(aio):
    async def main():
        reader = aio.StreamReader()
        seen = []
        original = reader.feed_data
        reader.feed_data = lambda data: (seen.append(bytes(data)), original(data))
        protocol = aio.StreamReaderProtocol(reader)
        protocol.data_received(b"hello")
        assert seen == [b"hello"]
        assert await reader.read(10) == b"hello"

    run(aio, main())


def test_derived_protocol_and_reader_serve_a_connection(aio):
    seen = []

    class Reader(aio.StreamReader):
        def feed_data(self, data):
            seen.append(bytes(data))
            super().feed_data(data)

    class Protocol(aio.StreamReaderProtocol):
        def connection_made(self, transport):
            seen.append("made")
            super().connection_made(transport)

        def connection_lost(self, exc):
            seen.append("lost")
            super().connection_lost(exc)

    async def main():
        done = aio.Event()

        async def handle(reader, writer):
            await echo(reader, writer)
            await writer.wait_closed()
            done.set()

        server = await aio.start_server(handle, "127.0.0.1", 0)
        loop = aio.get_running_loop()
        reader = Reader()
        protocol = Protocol(reader)
        transport, _ = await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname())
        writer = aio.StreamWriter(transport, protocol, reader, loop)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()
        await done.wait()
        server.close()
        await server.wait_closed()

    run(aio, main())
    assert seen == ["made", b"hello", "lost"]


@pytest.mark.skipif(STDLIB, reason="asyncio's own is asyncio's own")
def test_readers_are_asyncio_s_for_those_who_ask(aio):
    async def main():
        reader = aio.StreamReader()
        protocol = aio.StreamReaderProtocol(reader)
        transport = Transport()
        transport.closing = True
        writer = aio.StreamWriter(transport, protocol, reader, aio.get_running_loop())
        assert isinstance(reader, asyncio.StreamReader)
        assert isinstance(writer, asyncio.StreamWriter)
        assert isinstance(protocol, asyncio.StreamReaderProtocol)
        assert isinstance(protocol, asyncio.Protocol)
        # and asyncio's own go together with ours
        theirs = asyncio.StreamReader(loop=aio.get_running_loop())
        assert aio.StreamWriter(transport, protocol, theirs, aio.get_running_loop())._reader is theirs

    run(aio, main())


def test_a_protocol_that_is_none_of_ours_is_asked_by_name(aio):
    """asyncio's own FlowControlMixin, as for a pipe."""

    async def main():
        loop = aio.get_running_loop()
        protocol = asyncio.streams.FlowControlMixin(loop)
        transport = Transport()
        writer = aio.StreamWriter(transport, protocol, None, loop)
        writer.write(b"x")
        await writer.drain()
        protocol.pause_writing()
        draining = aio.create_task(writer.drain())
        await aio.sleep(0)
        assert not draining.done()
        protocol.resume_writing()
        await draining
        assert transport.log == [("write", b"x")]
        writer.close()

    run(aio, main())


# --- the writer -----------------------------------------------------------------------------------


def test_writer_hands_everything_to_its_transport(aio):
    async def main():
        transport = Transport()
        transport._extra = {"name": "value"}
        protocol = aio.StreamReaderProtocol(aio.StreamReader())
        writer = aio.StreamWriter(transport, protocol, None, aio.get_running_loop())
        assert writer.transport is transport
        writer.write(b"a")
        writer.writelines([b"b", b"c"])
        writer.write_eof()
        assert writer.can_write_eof()
        assert writer.get_extra_info("name") == "value"
        assert writer.get_extra_info("other", 5) == 5
        assert not writer.is_closing()
        writer.close()
        assert writer.is_closing()
        assert transport.log == [("write", b"a"), ("writelines", [b"b", b"c"]), "write_eof", "close"]
        with pytest.raises(AssertionError):
            aio.StreamWriter(transport, protocol, "reader", aio.get_running_loop())

    run(aio, main())


def test_drain_does_not_suspend_below_the_mark(aio):
    async def main():
        async with connected(aio, echo) as (reader, writer):
            writer.write(b"x")
            ticks = []
            aio.get_running_loop().call_soon(ticks.append, 1)
            for _ in range(10):
                await writer.drain()
            assert not ticks
            assert await reader.read(1) == b"x"

    run(aio, main())


def test_drain_waits_above_the_mark_and_several_may(aio):
    async def main():
        protocol = aio.StreamReaderProtocol(aio.StreamReader())
        writer = aio.StreamWriter(Transport(), protocol, None, aio.get_running_loop())
        protocol.pause_writing()
        with pytest.raises(AssertionError):
            protocol.pause_writing()
        tasks = [aio.create_task(writer.drain()) for _ in range(5)]
        await aio.sleep(0)
        assert len(protocol._drain_waiters) == 5
        tasks[2].cancel()
        await aio.sleep(0)
        assert len(protocol._drain_waiters) == 4
        protocol.resume_writing()
        with pytest.raises(AssertionError):
            protocol.resume_writing()
        results = await aio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results].count(asyncio.CancelledError) == 1
        assert len(protocol._drain_waiters) == 0
        protocol.pause_writing()
        tasks = [aio.create_task(writer.drain()) for _ in range(2)]
        await aio.sleep(0)
        error = ConnectionResetError("gone")
        protocol.connection_lost(error)
        assert await aio.gather(*tasks, return_exceptions=True) == [error, error]
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            await writer.drain()
        writer.close()

    run(aio, main())


@pytest.mark.skipif(not FINALIZER, reason="asyncio has it from 3.11.5 on")
def test_writer_that_is_dropped_closes_its_transport_and_warns(aio):
    async def main():
        transport = Transport()
        protocol = aio.StreamReaderProtocol(aio.StreamReader())
        writer = aio.StreamWriter(transport, protocol, None, aio.get_running_loop())
        text = repr(writer)
        with pytest.warns(ResourceWarning) as caught:
            del writer
            gc.collect()
        assert [str(warning.message) for warning in caught] == [f"unclosed {text}"]
        assert place_of(caught[0]) == "asyncio/streams.py"
        assert transport.log == ["close"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            writer = aio.StreamWriter(transport, protocol, None, aio.get_running_loop())
            del writer
            gc.collect()
        assert not caught

    run(aio, main())


@pytest.mark.skipif(not FINALIZER, reason="asyncio has it from 3.11.5 on")
def test_writer_of_a_closed_loop_only_warns(aio):
    transport = Transport()

    async def main():
        protocol = aio.StreamReaderProtocol(aio.StreamReader())
        return aio.StreamWriter(transport, protocol, None, aio.get_running_loop())

    writer = run(aio, main())
    with pytest.warns(ResourceWarning, match="loop is closed"):
        del writer
        gc.collect()
    assert transport.log == []


# --- the protocol ---------------------------------------------------------------------------------


def test_client_connected_cb_may_be_a_function(aio):
    async def main():
        came = aio.get_running_loop().create_future()

        def handle(reader, writer):
            writer.write(b"bye")
            writer.close()
            came.set_result(reader)

        async with connected(aio, handle) as (reader, _):
            assert await reader.read() == b"bye"
            await came

    run(aio, main())


def test_what_client_connected_cb_raises_is_reported_and_closes_the_connection(aio):
    reports = Reports()

    async def handle(reader, writer):
        raise ValueError("mine")

    async def main():
        aio.get_running_loop().set_exception_handler(reports)
        async with connected(aio, handle) as (reader, _):
            assert await reader.read() == b""

    run(aio, main())
    assert reports.messages == ["Unhandled exception in client_connected_cb"]
    assert isinstance(reports.contexts[0]["exception"], ValueError)
    assert set(reports.contexts[0]) == {"message", "exception", "transport"}


def test_a_function_that_raises_as_client_connected_cb(aio):
    """Since 3.14 as what a coroutine raises; before the loop reports that connection_made() has raised."""
    reports = Reports()

    def handle(reader, writer):
        writer.close()
        raise ValueError("mine")

    async def main():
        aio.get_running_loop().set_exception_handler(reports)
        async with connected(aio, handle) as (reader, _):
            assert await reader.read() == b""

    run(aio, main())
    [message] = reports.messages
    if sys.version_info >= (3, 14):
        assert message == "Unhandled exception in client_connected_cb"
    else:
        assert message.startswith("Exception in callback ")
        assert "connection_made" in message


def test_a_connection_whose_task_is_cancelled(aio):
    """Since 3.13 it is closed and nothing is said; before, its callback fails."""
    reports = Reports()

    async def handle(reader, writer):
        writer.close()
        aio.current_task().cancel()
        await aio.sleep(1)

    async def main():
        aio.get_running_loop().set_exception_handler(reports)
        async with connected(aio, handle) as (reader, _):
            assert await reader.read() == b""

    run(aio, main())
    if sys.version_info >= (3, 13):
        assert not reports.messages
    else:
        [message] = reports.messages
        assert message.startswith("Exception in callback StreamReaderProtocol.connection_made.<locals>.callback")


def test_connection_that_is_rejected(aio):
    reports = Reports()

    async def main():
        aio.get_running_loop().set_exception_handler(reports)
        protocol = aio.StreamReaderProtocol(aio.StreamReader())
        protocol._reject_connection = True
        transport = Transport()
        protocol.connection_made(transport)
        assert transport.log == ["abort"]

    run(aio, main())
    [message] = reports.messages
    assert message.startswith("An open stream was garbage collected prior to establishing network connection")


def test_protocol_does_not_keep_its_reader_alive(aio):
    async def main():
        reader = aio.StreamReader()
        protocol = aio.StreamReaderProtocol(reader)
        reference = weakref.ref(reader)
        del reader
        gc.collect()
        assert reference() is None
        assert protocol._stream_reader is None
        protocol.connection_made(Transport())
        protocol.data_received(b"x")
        assert protocol.eof_received() is True
        protocol.connection_lost(None)
        assert protocol._closed.result() is None
        # that of a server does, until it is connected
        reader = aio.StreamReader()
        protocol = aio.StreamReaderProtocol(reader, lambda reader, writer: writer.close())
        reference = weakref.ref(reader)
        del reader
        gc.collect()
        assert reference() is protocol._strong_reader
        protocol.connection_made(Transport())
        assert protocol._strong_reader is None

    run(aio, main())


def test_any_object_can_be_the_reader_of_a_protocol(aio):
    class Reader:
        _source_traceback = None

        def __init__(self):
            self.log = []

        def __getattr__(self, name):
            return lambda *args: self.log.append((name, *args))

    async def main():
        reader, transport = Reader(), Transport()
        protocol = aio.StreamReaderProtocol(reader)
        protocol.connection_made(transport)
        protocol.data_received(b"x")
        protocol.eof_received()
        protocol.connection_lost(OSError("gone"))
        names = [entry[0] for entry in reader.log]
        assert names == ["set_transport", "feed_data", "feed_eof", "set_exception"]
        with pytest.raises(OSError, match="gone"):
            await protocol._closed

    run(aio, main())


def test_start_tls_asks_the_loop_and_takes_the_new_transport(aio):
    class Loop(aio.SelectorEventLoop):
        async def start_tls(self, transport, protocol, context, **options):
            self.asked = (transport, protocol, context, options)
            return self.new

    new = Transport()
    new.closing = True
    new._extra = {"sslcontext": "context"}
    with contextlib.closing(Loop()) as loop:
        loop.new = new

        async def main():
            reader, old = aio.StreamReader(), Transport()
            protocol = aio.StreamReaderProtocol(reader, lambda reader, writer: None)
            old.closing = True
            protocol.connection_made(old)
            writer = aio.StreamWriter(old, protocol, reader, loop)
            await writer.start_tls("context", server_hostname="host", ssl_handshake_timeout=1)
            assert loop.asked[:3] == (old, protocol, "context")
            options = {"server_side": True, "server_hostname": "host", "ssl_handshake_timeout": 1}
            if sys.version_info >= (3, 12):
                options["ssl_shutdown_timeout"] = None
            assert loop.asked[3] == options
            assert writer.transport is new
            assert protocol._transport is new
            assert protocol._over_ssl
            assert protocol.eof_received() is False

        loop.run_until_complete(main())


# --- differences ----------------------------------------------------------------------------------


@pytest.mark.skipif(STDLIB, reason="compares with asyncio")
@pytest.mark.deadline(300)
@settings(
    max_examples=int(os.environ.get("AIOXIDE_STREAMS_PROGRAMS", "300")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(rng=st.randoms(use_true_random=False))
def test_random_programs_see_no_difference(rng):
    with streams_fuzz.Pair() as pair:
        difference = pair.differs(streams_fuzz.program(rng))
    assert difference is None, difference


@pytest.mark.skipif(STDLIB, reason="compares with asyncio")
def test_the_comparison_can_fail():
    class Wrong:
        def __getattr__(self, name):
            return getattr(asyncio, name)

        class StreamReader(asyncio.StreamReader):
            async def readline(self):
                return (await super().readline()).strip()

    rng = random.Random(1)
    with streams_fuzz.Pair() as pair:
        pair.runners[1] = (Wrong(), pair.runners[0][1])
        assert any(pair.differs(streams_fuzz.program(rng)) for _ in range(300))
