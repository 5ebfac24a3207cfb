"""Files over connections: `loop.sendfile` and `loop.sock_sendfile`, natively and where a file must be read."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import os
import socket
import struct
import sys
import tempfile
import termios
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import STDLIB, Log, run, until
from tests.test_transports import MANY, connected, families, over, receive


@contextlib.contextmanager
def file_of(data: bytes) -> Iterator[Any]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        yield file


class Unreal(io.BytesIO):
    """A file without a descriptor: it has to be read."""


@contextlib.contextmanager
def unreal(data: bytes) -> Iterator[Any]:
    yield Unreal(data)


kinds = pytest.mark.parametrize("kind", [file_of, unreal], ids=["native", "fallback"])


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


async def fill(aio: Any, transport: Any, peer: socket.socket, file: Any) -> Any:
    """A task that sends the file, stuck half way because the peer does not read."""
    task = asyncio.ensure_future(asyncio.get_running_loop().sendfile(transport, file))
    waiting, before = bytearray(4), b"none"
    while waiting != before or not any(waiting):
        before = bytes(waiting)
        await asyncio.sleep(0.02)
        fcntl.ioctl(peer, termios.FIONREAD, waiting)
    assert not task.done()
    return task


# -- what is sent ----------------------------------------------------------------------------------------------------------


@families
@kinds
@pytest.mark.parametrize(
    ("offset", "count", "sent"),
    [(0, None, 100_000), (7, None, 99_993), (7, 90_000, 90_000), (7, 10, 10), (99_990, 100, 10), (100_000, 5, 0)],
)
def test_what_is_sent(aio, family, kind, offset, count, sent):
    data = bytes(range(250)) * 400

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected(family) as (transport, _, peer):
            with kind(data) as file:
                receiving = asyncio.ensure_future(receive(peer, sent))
                assert await loop.sendfile(transport, file, offset, count) == sent
                assert await receiving == data[offset : offset + sent]
                assert file.tell() == (offset + sent if sent or kind is unreal or sys.version_info >= (3, 14) else 0)

    run(aio, main())


@kinds
def test_more_than_a_socket_takes(aio, kind):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            with kind(MANY) as file:
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(transport, file))
                assert await receive(peer, len(MANY)) == MANY
                assert await sending == len(MANY) == file.tell()
            assert "lost" not in protocol.events

    run(aio, main())


@kinds
def test_order(aio, kind):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected() as (transport, _, peer):
            with kind(b"file " * 1000) as file:
                transport.write(MANY)
                sending = asyncio.ensure_future(loop.sendfile(transport, file))
                sending.add_done_callback(lambda _: transport.write(b"after"))
                assert await receive(peer, len(MANY) + 5005) == MANY + b"file " * 1000 + b"after"

    run(aio, main())


def test_empty_file(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected() as (transport, _, peer):
            with file_of(b"") as file:
                assert await loop.sendfile(transport, file) == 0
            with unreal(b"") as file:
                assert await loop.sendfile(transport, file) == 0
            transport.write(b"x")
            assert await receive(peer, 1) == b"x"

    run(aio, main())


def test_file_that_grows(aio):
    """Without a count it goes on up to where the end is then."""

    async def main() -> None:
        async with connected() as (transport, _, peer):
            with file_of(MANY) as file:
                sending = await fill(aio, transport, peer, file)
                os.pwrite(file.fileno(), b"more", len(MANY))
                assert await receive(peer, len(MANY) + 4) == MANY + b"more"
                assert await sending == len(MANY) + 4

    run(aio, main())


def test_count_as_limit_of_a_file_that_has_no_size(aio):
    async def main() -> None:
        with open("/proc/self/status", "rb") as file:
            async with connected() as (transport, _, peer):
                assert await asyncio.get_running_loop().sendfile(transport, file) == 0
                assert await asyncio.get_running_loop().sendfile(transport, file, 0, 5) == 5
                assert await receive(peer, 5) == b"Name:"

    run(aio, main())


# -- the transport in the meantime ------------------------------------------------------------------------------------------


def test_nobody_else_writes(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            with file_of(MANY) as file:
                sending = await fill(aio, transport, peer, file)
                with pytest.raises(RuntimeError, match="unable to write; sendfile is in progress"):
                    transport.write(b"x")
                peer.send(b"not read before the end")
                assert await receive(peer, len(MANY)) == MANY
                assert not protocol.data
                await sending
            await until(lambda: protocol.data == b"not read before the end")
            transport.write(b"x")
            assert await receive(peer, 1) == b"x"

    run(aio, main())


def test_one_at_a_time(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected() as (transport, _, peer):
            with file_of(MANY) as file, file_of(b"second") as second:
                sending = await fill(aio, transport, peer, file)
                # (asyncio's is the KeyError of a table)
                with pytest.raises(KeyError if STDLIB else RuntimeError):
                    await loop.sendfile(transport, second)
                assert await receive(peer, len(MANY)) == MANY
                assert await sending == len(MANY)
                assert await loop.sendfile(transport, second) == 6
                assert await receive(peer, 6) == b"second"

    run(aio, main())


def test_paused_transport_stays_paused(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            transport.pause_reading()
            peer.send(b"later")
            with file_of(b"file") as file:
                await asyncio.get_running_loop().sendfile(transport, file)
            assert not transport.is_reading()
            await asyncio.sleep(0.02)
            assert not protocol.data
            transport.resume_reading()
            await until(lambda: protocol.data == b"later")

    run(aio, main())


@pytest.mark.parametrize("stuck", ["sending", "queued"])
def test_cancelled(aio, stuck):
    """The position of the file says how much was sent, and the transport goes on."""
    if STDLIB and stuck == "queued":
        pytest.skip("asyncio's transport can never be written to again")

    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            with file_of(MANY) as file:
                before = 0
                if stuck == "queued":
                    transport.write(MANY)
                    before = len(MANY)
                    sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(transport, file))
                    await asyncio.sleep(0.01)
                else:
                    sending = await fill(aio, transport, peer, file)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                sent = file.tell()
                if STDLIB:
                    return  # forgets to move the file
                assert (sent == 0) == (stuck == "queued")
            transport.write(b"end")
            got = await receive(peer, before + sent + 3)
            assert len(got) == before + sent + 3
            assert got[-3:] == b"end"
            peer.send(b"still read")
            await until(lambda: protocol.data == b"still read")

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio's sendfile never ends then")
@pytest.mark.parametrize("method", ["close", "abort"])
def test_closed_under_it(aio, method):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            with file_of(MANY) as file:
                sending = await fill(aio, transport, peer, file)
                getattr(transport, method)()
                with pytest.raises(ConnectionError, match="Connection is closed by peer"):
                    await sending
                sent = file.tell()
                await protocol.lost
            got = 0
            while chunk := await asyncio.get_running_loop().sock_recv(peer, 1 << 20):
                got += len(chunk)
            assert got == sent

    run(aio, main())


@kinds
def test_peer_gone(aio, kind):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            with kind(MANY) as file:
                sending = await fill(aio, transport, peer, file)
                reset(peer)
                with pytest.raises(ConnectionError):
                    await sending
                assert 0 < file.tell() < len(MANY)
            await protocol.lost

    run(aio, main())


def test_long_file_lets_others_run(aio):
    ticks = 0

    async def main() -> None:
        async with connected() as (transport, _, peer):
            with file_of(MANY) as file:
                sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(transport, file))
                reading = asyncio.ensure_future(receive(peer, len(MANY)))
                nonlocal ticks
                while not sending.done():
                    ticks += 1
                    await asyncio.sleep(0)
                assert await reading == MANY

    run(aio, main())
    assert ticks > 5


# -- falling back -----------------------------------------------------------------------------------------------------------


def test_fallback_not_wanted(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected() as (transport, _, peer):
            with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
                await loop.sendfile(transport, Unreal(b"x"), fallback=False)
            with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
                await loop.sendfile(transport, object(), fallback=False)
            read, write = os.pipe()
            # since 3.14 the file is moved to where it was read up to, even if nothing was read
            fails = asyncio.SendfileNotAvailableError if sys.version_info < (3, 14) else OSError
            with open(read, "rb") as reading, open(write, "wb"):
                with pytest.raises(fails, match=r"os\.sendfile call failed|Illegal seek"):
                    await loop.sendfile(transport, reading, 0, 5, fallback=False)
            transport.write(b"usable")
            assert await receive(peer, 6) == b"usable"

    run(aio, main())


def test_fallback_for_what_has_no_position(aio):
    """`sendfile(2)` does not read from sockets; reading and sending goes, up to the point where the file is moved."""

    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            ours, theirs = socket.socketpair()
            theirs.send(b"over another socket")
            with ours, theirs, ours.makefile("rb") as file:
                with pytest.raises(io.UnsupportedOperation if sys.version_info < (3, 14) else OSError):
                    await asyncio.get_running_loop().sendfile(transport, file, 0, 19)
            if sys.version_info < (3, 14):
                assert await receive(peer, 19) == b"over another socket"
            assert transport.get_protocol() is protocol or STDLIB
            assert transport.is_reading() or STDLIB

    run(aio, main())


def test_fallback_waits_for_room(aio):
    events: list[str] = []

    class Paused(Log):
        def pause_writing(self) -> None:
            events.append("pause")

        def resume_writing(self) -> None:
            events.append("resume")

    async def main() -> None:
        transport, protocol, peer = await over("tcp", Paused)
        with unreal(MANY) as file:
            sending = await fill(aio, transport, peer, file)
            assert transport.get_write_buffer_size() < 200_000
            assert transport.get_protocol() is not protocol
            assert not events, "the protocol has nothing to do with it"
            assert await receive(peer, len(MANY)) == MANY
            assert await sending == len(MANY)
        assert transport.get_protocol() is protocol
        peer.close()
        await protocol.lost

    run(aio, main())


def test_fallback_of_a_paused_protocol(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            transport.write(MANY)
            assert protocol.events == ["made", "pause"]
            sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(transport, Unreal(b"file")))
            assert await receive(peer, len(MANY) + 4) == MANY + b"file"
            await sending
            assert protocol.events == ["made", "pause", "resume"]

    run(aio, main())


def test_exception_of_the_file(aio):
    class Bad(Unreal):
        def readinto(self, buffer: Any) -> int:
            raise ZeroDivisionError

    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            with pytest.raises(ZeroDivisionError):
                await asyncio.get_running_loop().sendfile(transport, Bad(b"x"))
            assert transport.get_protocol() is protocol
            assert transport.is_reading()
            transport.write(b"usable")
            assert await receive(peer, 6) == b"usable"

    run(aio, main())


# -- errors ----------------------------------------------------------------------------------------------------------------


def test_arguments(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected() as (transport, _, peer):
            with file_of(b"x" * 10) as file:
                for error, text, arguments in [
                    (TypeError, r"count must be a positive integer \(got 1.5\)", (0, 1.5)),
                    (ValueError, r"count must be a positive integer \(got 0\)", (0, 0)),
                    (ValueError, r"count must be a positive integer \(got -1\)", (0, -1)),
                    (TypeError, r"offset must be a non-negative integer \(got 0.5\)", (0.5,)),
                    (ValueError, r"offset must be a non-negative integer \(got -5\)", (-5,)),
                ]:
                    with pytest.raises(error, match=text):
                        await loop.sendfile(transport, file, *arguments)
                with open(file.fileno(), closefd=False) as text_file:
                    with pytest.raises(ValueError, match="file should be opened in binary mode"):
                        await loop.sendfile(transport, text_file)
                assert await loop.sendfile(transport, file) == 10
                assert await receive(peer, 10) == b"x" * 10

    run(aio, main())


def test_wrong_transport(aio):
    class Odd(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

    class Fallback(Odd):
        _sendfile_compatible = asyncio.constants._SendfileMode.FALLBACK

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with file_of(b"x") as file:
            with pytest.raises(RuntimeError, match="sendfile is not supported for transport <"):
                await loop.sendfile(Odd(), file)
            with pytest.raises(RuntimeError, match="fallback is disabled and native sendfile is not supported for tr"):
                await loop.sendfile(Fallback(), file, fallback=False)
            with pytest.raises(TypeError, match="transport should be _FlowControlMixin instance"):
                await loop.sendfile(Fallback(), file)
            async with connected() as (transport, _, _):
                transport.close()
                with pytest.raises(RuntimeError, match="Transport is closing"):
                    await loop.sendfile(transport, file)

    run(aio, main())


# -- what a program overrides ------------------------------------------------------------------------------------------------


def test_overridden(aio):
    calls = []

    class Loop(aio.SelectorEventLoop):
        async def sock_sendfile(self, sock, file, offset=0, count=None, *, fallback=True):
            calls.append((type(sock), offset, count, fallback))
            return await super().sock_sendfile(sock, file, offset, count, fallback=fallback)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected() as (transport, protocol, peer):
            with file_of(MANY) as file:
                sending = asyncio.ensure_future(loop.sendfile(transport, file, 1))
                assert await receive(peer, len(MANY) - 1) == MANY[1:]
                assert await sending == len(MANY) - 1
            assert calls == [(socket.socket, 1, None, False)]
            # the descriptor is the transport's again
            with pytest.raises(RuntimeError, match="is used by transport"):
                loop.add_reader(transport.get_extra_info("socket").fileno(), print)
            peer.send(b"read")
            await until(lambda: protocol.data == b"read")

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def test_native_part_replaced(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def refuse(*args: Any) -> None:
            raise asyncio.SendfileNotAvailableError("not today")

        loop._sendfile_native = refuse
        async with connected() as (transport, _, peer):
            with file_of(b"read and sent") as file:
                with pytest.raises(asyncio.SendfileNotAvailableError, match="not today"):
                    await loop.sendfile(transport, file, fallback=False)
                assert await loop.sendfile(transport, file) == 13
                assert file.tell() == 13
            assert await receive(peer, 13) == b"read and sent"

    run(aio, main())


# -- sockets ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, peer:
        for one in (ours, peer):
            one.setblocking(False)
        yield ours, peer


@kinds
def test_socket(aio, kind):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pair() as (ours, peer), kind(MANY) as file:
            sending = asyncio.ensure_future(loop.sock_sendfile(ours, file, 5))
            assert await receive(peer, len(MANY) - 5) == MANY[5:]
            assert await sending == len(MANY) - 5
            assert file.tell() == len(MANY)
            assert not loop.remove_writer(ours.fileno())

    run(aio, main())


def test_socket_cancelled(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pair() as (ours, peer), file_of(MANY) as file:
            sending = asyncio.ensure_future(loop.sock_sendfile(ours, file))
            while not (await asyncio.sleep(0.005) or len(await loop.sock_recv(peer, 1))):
                pass
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            sent = file.tell()
            if STDLIB:
                return  # forgets to move the file
            assert 0 < sent < len(MANY)
            assert not loop.remove_writer(ours.fileno())
            assert len(await receive(peer, sent - 1)) == sent - 1

    run(aio, main())


def test_datagrams_refused(aio):
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, file_of(b"x") as file:
            sock.setblocking(False)
            with pytest.raises(ValueError, match="only SOCK_STREAM type sockets are supported"):
                await asyncio.get_running_loop().sock_sendfile(sock, file)

    run(aio, main())
