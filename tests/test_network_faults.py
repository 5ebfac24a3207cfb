"""Connections that break, peers that are slow or silent, descriptors that are gone: nothing is lost, spins or leaks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import random
import socket
import struct
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support import STDLIB, DatagramLog, Log, Reports, run, until
from tests.test_transports import MANY, connected, over


def reset(peer: socket.socket) -> None:
    """The peer breaks the connection off."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


#: how large a packet may be, of those that a datagram is cut into (<linux/in6.h>)
IPV6_MTU = 24
#: messages between processes (<linux/netlink.h>)
NETLINK_USERSOCK = 2


@contextlib.asynccontextmanager
async def calm(seconds: float = 0.2) -> AsyncIterator[None]:
    """At the end of the block the loop has nothing to do: in some time it uses next to none of the processor's."""
    yield
    await asyncio.sleep(0.02)
    began = time.process_time()
    await asyncio.sleep(seconds)
    assert time.process_time() - began < seconds / 2, "it spins"


# -- resets ------------------------------------------------------------------------------------------------------------------

#: what happens before the peer resets, and what the protocol may be told of it
STATES = [
    "made",
    "written",
    "reading",
    "unread",
    "paused",
    "held up",
    "closing",
    "half-closed",
    "half-closed held up",
    "ended",
]


class Reads(Log):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.write(b"hello")


@pytest.mark.parametrize("state", STATES)
def test_reset_in_every_state(aio, state):
    reports = Reports()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(reports)
        async with connected():
            pass
        before = descriptors()
        transport, protocol, peer = await over("tcp", Reads if state == "written" else Log)
        if state == "reading":
            peer.send(b"x")
            await until(lambda protocol=protocol: protocol.data == b"x")
        elif state == "unread":
            peer.send(b"x")
        elif state == "paused":
            transport.pause_reading()
            peer.send(b"x")
        elif state in ("held up", "closing", "half-closed held up"):
            transport.write(MANY)
            assert protocol.events[-1] == "pause"
        if state == "closing":
            transport.close()
        elif state.startswith("half-closed"):
            transport.write_eof()
        elif state == "ended":
            protocol.keep_open = True
            peer.shutdown(socket.SHUT_WR)
            await protocol.ended.wait()
        reset(peer)
        if state in ("paused", "ended"):
            # nobody looks: the next write finds out
            await asyncio.sleep(0.01)
            transport.write(b"x")
        error = await asyncio.wait_for(protocol.lost, 20)
        assert isinstance(error, (ConnectionResetError, BrokenPipeError))
        async with calm(0.05):
            pass
        assert protocol.events.count("lost") == 1
        assert protocol.events[-1] == "lost"
        assert "resume" not in protocol.events
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert reports.contexts == []
        reference = weakref.ref(transport)
        del transport, protocol.transport, protocol, error
        assert descriptors() == before
        assert reference() is None

    run(aio, main())


@pytest.mark.parametrize("debug", [False, True])
def test_reset_before_the_protocol_hears_of_the_connection(aio, debug):
    """Servers whose clients are gone before `connection_made`, which writes to them."""
    made: list[Reads] = []

    def factory() -> Reads:
        made.append(Reads())
        return made[-1]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        before = descriptors()
        for _ in range(30):
            reset(socket.create_connection(server.sockets[0].getsockname()))
        await until(lambda: len(made) == 30 and all(protocol.lost.done() for protocol in made), 20)
        for protocol in made:
            assert protocol.events in (["made", "lost"], ["made", "eof", "lost"])
            protocol.transport = None
        async with calm(0.05):
            pass
        assert descriptors() == before
        server.close()
        await asyncio.wait_for(server.wait_closed(), 20)

    run(aio, main(), debug=debug)


@pytest.mark.skipif(STDLIB, reason="asyncio before 3.15 calls connection_lost twice")
def test_reset_while_the_protocol_is_called(aio):
    """Inside of `data_received`, `pause_writing`, `resume_writing` and `eof_received` the connection breaks."""

    class Breaks(Log):
        def broken(self) -> None:
            reset(self.peer)
            self.transport.write(b"to nobody")
            self.transport.write(b"to nobody")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.where == "data":
                self.broken()

        def eof_received(self) -> bool:
            super().eof_received()
            if self.where == "eof":
                self.broken()
            return True

        def pause_writing(self) -> None:
            super().pause_writing()
            if self.where == "pause":
                self.broken()

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.where == "resume":
                self.broken()

    async def main() -> None:
        for where in ("data", "eof", "pause", "resume"):
            transport, protocol, peer = await over("tcp", Breaks)
            protocol.where, protocol.peer = where, peer
            if where == "data":
                peer.send(b"x")
            elif where == "eof":
                peer.shutdown(socket.SHUT_WR)
            else:
                transport.write(MANY)
                if where == "resume":
                    with contextlib.suppress(OSError):
                        while "resume" not in protocol.events:
                            with contextlib.suppress(BlockingIOError):
                                peer.recv(1 << 20)
                            await asyncio.sleep(0)
            if where == "eof":
                # an answer to what was sent comes too late to be told of by the reader
                for _ in range(5):
                    await asyncio.sleep(0.01)
                    transport.write(b"x")
            assert isinstance(await asyncio.wait_for(protocol.lost, 20), (ConnectionResetError, BrokenPipeError)), where
            await asyncio.sleep(0)
            assert protocol.events.count("lost") == 1
            assert protocol.events[-1] == "lost"

    run(aio, main())


# -- peers that do nothing ---------------------------------------------------------------------------------------------------


def test_a_silent_peer_costs_nothing(aio):
    """Half-open connections, with something to send and without."""

    async def main() -> None:
        async with connected() as (idle, _, _), connected() as (full, protocol, _), calm():
            full.write(MANY)
            await asyncio.sleep(0)
            size = full.get_write_buffer_size()
            assert size > 0
            assert idle.get_write_buffer_size() == 0
        assert await protocol.lost is None

    run(aio, main())


@pytest.mark.parametrize("high", [None, 0, 1000, 300_000])
@pytest.mark.parametrize("several", [False, True])
def test_a_slow_reader_bounds_the_buffer(aio, high, several):
    """A protocol that heeds `pause_writing` has never more waiting than the high mark and one write."""

    class Heeds(Log):
        paused = False

        def pause_writing(self) -> None:
            super().pause_writing()
            self.paused = True

        def resume_writing(self) -> None:
            super().resume_writing()
            self.paused = False

    async def main() -> None:
        async with connected(protocol=Heeds) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high)
            _, most = transport.get_write_buffer_limits()
            written, taken, chunk = 0, 0, 7_000
            source = random.Random(1)
            expected, found = bytearray(), bytearray()
            end = time.monotonic() + 40
            while written < 6_000_000 or taken < written:
                assert time.monotonic() < end
                if written < 6_000_000:
                    for _ in range(5 if several else 1):
                        if protocol.paused:
                            break
                        data = source.randbytes(chunk)
                        transport.write(data)
                        expected += data
                        written += chunk
                        if not several:
                            assert transport.get_write_buffer_size() <= most + chunk
                    assert transport.get_write_buffer_size() <= most + chunk
                with contextlib.suppress(BlockingIOError):
                    data = peer.recv(source.choice([1000, 100_000]))
                    found += data
                    taken += len(data)
                await asyncio.sleep(0)
            assert found == expected
            assert not protocol.paused

    run(aio, main())


# -- no memory ---------------------------------------------------------------------------------------------------------------


def made_socket(*arguments: Any) -> socket.socket:
    try:
        return socket.socket(*arguments)
    except OSError as error:
        pytest.skip(f"no such sockets here: {error}")


@pytest.mark.parametrize("connected_to_peer", [True, False])
def test_no_buffer_space_for_what_is_sent(aio, connected_to_peer):
    """ENOBUFS: a datagram that is cut into more pieces than the socket's buffer holds is lost, and nothing else."""
    large = bytes(20_000)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with made_socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
            ours = made_socket(socket.AF_INET6, socket.SOCK_DGRAM)
            peer.bind(("::1", 0))
            peer.setblocking(False)
            ours.setblocking(False)
            ours.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU, 1280)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            if connected_to_peer:
                ours.connect(peer.getsockname())
            else:
                with pytest.raises(OSError, match="No buffer space") as info:
                    await loop.sock_sendto(ours, large, peer.getsockname())
                assert info.value.errno == errno.ENOBUFS
            transport, protocol = await loop.create_datagram_endpoint(DatagramLog, sock=ours)
            to = None if connected_to_peer else peer.getsockname()
            for n in range(20):
                transport.sendto(b"%d" % n, to)
                transport.sendto(large, to)
                assert [error.errno for error in protocol.errors] == [errno.ENOBUFS] * (n + 1)
                assert transport.get_write_buffer_size() == 0
                assert await loop.sock_recv(peer, 100) == b"%d" % n
            async with calm(0.1):
                assert protocol.events == ["made", *protocol.errors]
            assert not transport.is_closing()
            transport.close()
            assert await protocol.lost is None

    run(aio, main())


def test_no_buffer_space_for_what_comes(aio):
    """ENOBUFS: the kernel has dropped messages for want of room, and says so once; what comes later, comes."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours = made_socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_USERSOCK)
        with made_socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_USERSOCK) as peer:
            ours.bind((0, 1))
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            transport, protocol = await loop.create_datagram_endpoint(DatagramLog, sock=ours)

            def send(data: bytes) -> None:
                # (to everybody: that one of them had no room is no failure, but told as one)
                with contextlib.suppress(ConnectionRefusedError):
                    peer.sendto(data, (0, 1))

            for n in range(3):
                for _ in range(20):
                    send(bytes(400))
                await until(lambda n=n: len(protocol.errors) == n + 1)
                assert protocol.errors[-1].errno == errno.ENOBUFS
                await asyncio.sleep(0.01)
                send(b"later")
                await until(lambda n=n: protocol.received.count(b"later") == n + 1)
            async with calm(0.1):
                assert len(protocol.errors) == 3
            assert not transport.is_closing()
            transport.close()
            assert await protocol.lost is None

    run(aio, main())


# -- descriptors that are gone -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(STDLIB, reason="asyncio cannot close the transport any more")
@pytest.mark.parametrize("asked", [True, False])
def test_a_descriptor_closed_under_a_transport(aio, asked):
    """By number, so that not even the socket object, if there is one, knows: the next write is told."""
    reports = Reports()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(reports)
        made: list[Log] = []

        def factory() -> Log:
            made.append(Log())
            return made[-1]

        async with contextlib.AsyncExitStack() as stack:
            server = await loop.create_server(factory, "127.0.0.1", 0)
            stack.callback(server.close)
            peer = stack.enter_context(socket.create_connection(server.sockets[0].getsockname()))
            await until(lambda: made)
            (protocol,) = made
            transport = protocol.transport
            number = transport.get_extra_info("socket").fileno() if asked else transport._sock_fd
            stack.callback(os.close, os.dup(number))
            os.close(number)
            async with calm(0.1):
                peer.send(b"x")
            transport.write(b"x")
            error = await asyncio.wait_for(protocol.lost, 20)
            assert isinstance(error, OSError)
            assert not isinstance(error, TimeoutError)
            await asyncio.sleep(0.01)
            assert protocol.events[-1] == "lost"

    run(aio, main())
    # (the socket object finds its number gone when it is closed, and says so)
    assert all(isinstance(report["exception"], OSError) for report in reports.contexts)
    assert len(reports.contexts) == asked


@pytest.mark.skipif(STDLIB, reason="asyncio cannot remove it any more")
def test_a_watched_descriptor_that_is_closed(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        log: list[int] = []
        left, right = socket.socketpair()
        number = left.fileno()
        loop.add_reader(number, log.append, 1)
        loop.add_writer(number, log.append, 2)
        await asyncio.sleep(0.01)
        assert log
        left.close()
        right.close()
        log.clear()
        async with calm(0.1):
            assert loop.remove_reader(number) is True
            assert loop.remove_writer(number) is True
            assert loop.remove_reader(number) is False
        # the next file with that number is watched as if nothing had been
        left, right = socket.socketpair()
        with left, right:
            assert number in (left.fileno(), right.fileno())
            other = right if left.fileno() == number else left
            loop.add_reader(number, log.append, 3)
            other.send(b"x")
            await until(lambda: log, 20)
            assert set(log) == {3}
            loop.remove_reader(number)

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio cannot close the server any more")
def test_a_listening_socket_closed_under_its_server(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listening = socket.create_server(("127.0.0.1", 0))
        server = await loop.create_server(Log, sock=listening)
        listening.close()
        async with calm(0.1):
            pass
        server.close()
        await asyncio.wait_for(server.wait_closed(), 20)

    run(aio, main())


# -- memory --------------------------------------------------------------------------------------------------------------------


def test_broken_connections_leave_nothing(aio):
    """A thousand of them, in different states, while the peer resets or goes."""

    async def one(n: int) -> None:
        transport, protocol, peer = await over("tcp" if n % 3 else "unix")
        if n % 2:
            transport.write(MANY)
        if n % 5 == 0:
            transport.pause_reading()
        peer.send(b"x")
        if n % 7 == 0:
            await asyncio.sleep(0)
        if n % 3:
            reset(peer)
        else:
            peer.close()
        if n % 4 == 0:
            transport.close()
        if n % 5 == 0 or n % 4 == 0:
            transport.abort()
        await asyncio.wait_for(protocol.lost, 20)
        protocol.transport = None

    async def main() -> None:
        for n in range(50):
            await one(n)
        before = descriptors()
        objects = len(gc.get_objects())
        for n in range(400):
            await one(n)
        await asyncio.sleep(0.01)
        assert descriptors() == before
        assert len(gc.get_objects()) < objects + 200

    if STDLIB:
        pytest.skip("asyncio before 3.15 calls connection_lost twice when it is aborted while it closes")
    run(aio, main())


# -- random lives --------------------------------------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 400_000)),
        st.tuples(st.just("writelines"), st.lists(st.integers(1, 60_000), max_size=4)),
        st.tuples(st.just("send"), st.integers(1, 200_000)),
        st.tuples(st.just("receive"), st.integers(1, 400_000)),
        st.tuples(
            st.sampled_from(
                ["pause", "resume", "write_eof", "close", "abort", "peer ends", "peer closes", "peer resets"]
            )
        ),
        st.tuples(st.just("turn"), st.integers(1, 3)),
    ),
    max_size=20,
)


class Grammar(Log):
    """Complains when it is told something out of order."""

    def told(self, what: str) -> None:
        assert self.events, what
        assert "lost" not in self.events, what
        assert what in ("lost", "pause", "resume") or "eof" not in self.events, what
        flow = [event for event in self.events if event in ("pause", "resume")]
        assert what != "resume" or flow[-1:] == ["pause"]
        assert what != "pause" or flow[-1:] != ["pause"]

    def data_received(self, data: bytes) -> None:
        assert data
        self.told("data")
        super().data_received(data)

    def eof_received(self) -> bool:
        self.told("eof")
        return super().eof_received()

    def pause_writing(self) -> None:
        self.told("pause")
        super().pause_writing()

    def resume_writing(self) -> None:
        self.told("resume")
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.told("lost")
        super().connection_lost(exc)


@pytest.mark.deadline(400)
@pytest.mark.skipif(STDLIB, reason="asyncio before 3.15 calls connection_lost twice")
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(ACTIONS, st.sampled_from(["tcp", "unix"]), st.booleans(), st.booleans(), st.integers(0, 2**32))
@example([("write", 1), ("write", 1), ("peer closes",), ("write_eof",), ("write", 0)], "tcp", False, False, 0)
def test_whatever_happens_happens_in_order(aio, actions, family, keep_open, debug, seed):
    """Each side gets a beginning of what the other has sent, all of it if nobody broke off; the end comes once."""
    source = random.Random(seed)
    reports = Reports()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(reports)
        before = descriptors()
        transport, protocol, peer = await over(family, Grammar)
        protocol.keep_open = keep_open
        sent, received, incoming = bytearray(), bytearray(), bytearray()
        peer_open, peer_sends, peer_saw_end = True, True, False
        broken = ended = False

        def take(limit: int) -> None:
            nonlocal peer_saw_end
            if peer_open and not peer_saw_end:
                with contextlib.suppress(BlockingIOError, ConnectionResetError):
                    data = peer.recv(limit)
                    received.extend(data)
                    peer_saw_end = not data

        for action, *arguments in actions:
            if action == "write" and not ended:
                data = source.randbytes(arguments[0])
                closing = transport.is_closing()
                transport.write(data)
                if not closing:
                    sent += data
            elif action == "writelines" and not ended:
                pieces = [source.randbytes(size) for size in arguments[0]]
                closing = transport.is_closing()
                transport.writelines(pieces)
                if not closing:
                    sent += b"".join(pieces)
            elif action == "send" and peer_sends and not peer_saw_end:
                data = source.randbytes(arguments[0])
                with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                    incoming += data[: peer.send(data)]
            elif action == "receive":
                take(arguments[0])
            elif action == "pause":
                transport.pause_reading()
            elif action == "resume":
                transport.resume_reading()
            elif action == "write_eof":
                # (a reset that nobody has seen yet: the socket refuses, as it does in asyncio; and it was the last word)
                ended = ended or not transport.is_closing()
                try:
                    transport.write_eof()
                except OSError as error:
                    assert (error.errno, peer_open) == (errno.ENOTCONN, False)
            elif action == "close":
                transport.close()
                broken = True  # what the peer sends from now on is not read, and may end in a reset
                ended = True
            elif action == "abort":
                transport.abort()
                broken = ended = True
            elif action == "peer ends" and peer_sends:
                peer_sends = False
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_WR)
            elif action == "peer closes" and peer_open:
                peer_open = peer_sends = False
                broken = True
                peer.close()
            elif action == "peer resets" and peer_open:
                peer_open = peer_sends = False
                broken = True
                reset(peer)
            elif action == "turn":
                for _ in range(arguments[0]):
                    await asyncio.sleep(0)
        if not broken:
            transport.resume_reading()
            end = loop.time() + 20
            while len(received) < len(sent) or len(protocol.data) < len(incoming):
                assert loop.time() < end
                take(1 << 20)
                await asyncio.sleep(0)
            assert received == sent
            assert protocol.data == incoming
        transport.abort()
        await asyncio.wait_for(protocol.lost, 20)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        peer.close()
        assert sent.startswith(received)
        assert incoming.startswith(protocol.data)
        assert protocol.events.count("lost") == 1
        assert reports.contexts == []
        protocol.transport = None
        del transport, protocol
        assert descriptors() == before

    run(aio, main(), debug=debug)
