"""Datagram endpoints: what a protocol is told, whom a datagram reaches, and which errors end what."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import gc
import logging
import os
import socket
import sys
import time
import warnings
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import STDLIB, DatagramLog, Reports, run, succeeds, until

ANY = ("127.0.0.1", 0)
#: since 3.13 an empty datagram is sent, and each that waits counts eight bytes more
SINCE_313 = sys.version_info >= (3, 13)


@contextlib.asynccontextmanager
async def endpoint(protocol: Any = DatagramLog, **kwargs: Any) -> AsyncIterator[tuple[Any, Any]]:
    if not kwargs:
        kwargs["local_addr"] = ANY
    transport, made = await asyncio.get_running_loop().create_datagram_endpoint(protocol, **kwargs)
    try:
        yield transport, made
    finally:
        # asyncio does not know that a transport is lost when its queue has run empty after close()
        with contextlib.suppress(*[AttributeError] * STDLIB):
            transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@contextlib.contextmanager
def peer(family: int = socket.AF_INET, address: Any = ANY, timeout: float = 20.0) -> Any:
    """A socket of the other side's, which blocks."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(timeout)
        yield sock


def full(kernel_buffer: int = 4096) -> tuple[socket.socket, socket.socket]:
    """A pair whose first end has no room for another datagram."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_buffer)
    ours.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"fill")
    theirs.settimeout(20)
    return ours, theirs


@contextlib.asynccontextmanager
async def stuffed(protocol: Any = DatagramLog) -> AsyncIterator[tuple[Any, Any, socket.socket]]:
    """An endpoint whose next datagrams have to wait, and the socket that can take them."""
    ours, theirs = full()
    loop = asyncio.get_running_loop()
    # a pair has no names: asyncio sends by `send()` if it knows of a peer
    made = protocol()
    transport = loop._make_datagram_transport(ours, made, None, None, {"peername": "peer"})
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    try:
        yield transport, made, theirs
    finally:
        theirs.close()
        with contextlib.suppress(*[AttributeError] * STDLIB):
            transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def take(sock: socket.socket, count: int) -> list[bytes]:
    """So many datagrams that are not filling."""
    taken: list[bytes] = []
    while len(taken) < count:
        data = sock.recv(1 << 18)
        if data != b"fill":
            taken.append(data)
    return taken


families = pytest.mark.parametrize(
    "family",
    [
        "ipv4",
        pytest.param("ipv6", marks=pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")),
    ],
)
LOCAL = {"ipv4": ANY, "ipv6": ("::1", 0)}
FAMILY = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


@pytest.fixture(autouse=True)
def _no_ipv6(request: pytest.FixtureRequest) -> None:
    if getattr(request.node, "callspec", None) and request.node.callspec.params.get("family") == "ipv6":
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind(("::1", 0))
            except OSError:
                pytest.skip("this machine has no IPv6")


# -- to and fro ------------------------------------------------------------------------------------


@families
def test_a_datagram_is_answered_to_whom_it_came_from(aio, family):
    class Echo(DatagramLog):
        def datagram_received(self, data: bytes, address: Any) -> None:
            super().datagram_received(data, address)
            self.transport.sendto(data.upper(), address)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with endpoint(Echo, local_addr=LOCAL[family]) as (transport, protocol):
            where = transport.get_extra_info("sockname")
            assert transport.get_extra_info("peername") is None
            with peer(FAMILY[family], LOCAL[family]) as one, peer(FAMILY[family], LOCAL[family]) as other:
                for text in [b"one", b"two", b"three"]:
                    for sock in (one, other):
                        sock.sendto(text, where[:2])
                        answer, sender = await loop.run_in_executor(None, sock.recvfrom, 100)
                        assert (answer, sender) == (text.upper(), where)
                assert protocol.events == ["made"] + [
                    (text, sock.getsockname()) for text in [b"one", b"two", b"three"] for sock in (one, other)
                ]
                assert {type(event[1]) for event in protocol.events[1:]} == {tuple}

    run(aio, main())


@families
def test_many_peers_are_told_apart_and_answered(aio, family):
    """More than the transport remembers, in turns; some are answered in the call, some later, some by a tuple of one's own."""

    class Echo(DatagramLog):
        def datagram_received(self, data: bytes, address: Any) -> None:
            super().datagram_received(data, address)
            match len(self.received) % 3:
                case 0:
                    self.transport.sendto(data.upper(), address)
                case 1:
                    asyncio.get_running_loop().call_soon(self.transport.sendto, data.upper(), address)
                case _:
                    self.transport.sendto(data.upper(), (*address,))
                    self.transport.sendto(b"", (*address,)[:2] if SINCE_313 else address)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with endpoint(Echo, local_addr=LOCAL[family]) as (transport, protocol):
            where = transport.get_extra_info("sockname")
            with contextlib.ExitStack() as stack:
                peers = [stack.enter_context(peer(FAMILY[family], LOCAL[family])) for _ in range(200)]
                expected = []
                for turn in range(4):
                    for number, sock in enumerate(peers):
                        text = f"{turn}-{number}-x".encode()
                        sock.setblocking(False)
                        sock.sendto(text, where[:2])
                        answer = b""
                        while not answer:  # (there may be an empty one from before)
                            answer = await asyncio.wait_for(loop.sock_recv(sock, 100), 5)
                        assert answer == text.upper()
                        expected.append((text, sock.getsockname()))
                assert protocol.events[1:] == expected

    run(aio, main())


def test_a_method_that_is_replaced_later_is_called_from_then_on(aio, monkeypatch):
    """On the class: instances of ``socket.socket`` take no attributes."""

    async def main() -> None:
        async with endpoint() as (transport, protocol):
            where = transport.get_extra_info("sockname")
            originals = {name: getattr(socket.socket, name) for name in ("recvfrom", "sendto")}
            calls: list[str] = []

            def replacement(name: str) -> Any:
                def method(self: Any, *args: Any) -> Any:
                    calls.append(name)
                    return originals[name](self, *args)

                return method

            for turn in range(4):
                with monkeypatch.context() as patch:
                    if turn % 2:
                        for name in originals:
                            patch.setattr(socket.socket, name, replacement(name), raising=False)
                    calls.clear()
                    transport.sendto(b"x", where)
                    await until(lambda turn=turn: len(protocol.received) == turn + 1)
                    assert set(calls) == ({"sendto", "recvfrom"} if turn % 2 else set())

    run(aio, main())


@families
def test_a_connected_endpoint_hears_and_reaches_its_peer_alone(aio, family):
    async def main() -> None:
        with peer(FAMILY[family], LOCAL[family]) as sock, peer(FAMILY[family], LOCAL[family]) as stranger:
            where = sock.getsockname()
            async with endpoint(remote_addr=where[:2]) as (transport, protocol):
                assert transport.get_extra_info("peername") == where
                ours = transport.get_extra_info("sockname")
                transport.sendto(b"hello")
                transport.sendto(b"again", where)
                assert sock.recvfrom(100) == (b"hello", ours)
                assert sock.recvfrom(100) == (b"again", ours)
                with pytest.raises(ValueError, match="Invalid address: must be None or ") as raised:
                    transport.sendto(b"x", stranger.getsockname())
                assert str(raised.value) == f"Invalid address: must be None or {where}"
                stranger.sendto(b"stranger", ours[:2])
                sock.sendto(b"friend", ours[:2])
                await until(lambda: len(protocol.events) == 2)
                assert protocol.events[1] == (b"friend", where)

    run(aio, main())


def test_addresses_may_be_given_in_every_form_that_the_socket_takes(aio):
    class Port(int):
        pass

    async def main() -> None:
        async with endpoint() as (transport, protocol):
            with peer() as sock:
                host, port = sock.getsockname()
                for address in [
                    (host, port),
                    (host, Port(port)),
                    ("localhost", port),
                    (bytearray(host, "ascii"), port),
                ]:
                    transport.sendto(b"x", address)
                    assert sock.recv(10) == b"x"
            assert protocol.events == ["made"]

    run(aio, main())


@pytest.mark.parametrize("size", [1, 1024, 65507])
def test_a_datagram_comes_whole(aio, size):
    data = os.urandom(size)

    async def main() -> None:
        async with endpoint() as (transport, protocol), endpoint() as (other, _):
            for kind in (bytes, bytearray, memoryview):
                other.sendto(kind(data), transport.get_extra_info("sockname"))
            await until(lambda: len(protocol.received) == 3)
            assert protocol.received == [data] * 3
            assert {type(data) for data in protocol.received} == {bytes}

    run(aio, main())


def test_a_datagram_may_be_cut_short(aio):
    """A program may say how much of one it wants."""

    async def main() -> None:
        with peer() as other:
            async with endpoint() as (transport, protocol):
                to = transport.get_extra_info("sockname")
                transport.max_size = 3
                other.sendto(b"hello", to)
                await until(lambda: protocol.received)
                del transport.max_size
                other.sendto(b"hello", to)
                await until(lambda: len(protocol.received) == 2)
                assert protocol.received == [b"hel", b"hello"]

    run(aio, main())


def test_an_empty_datagram_comes_and_goes(aio):
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            where = transport.get_extra_info("sockname")
            with peer() as sock:
                sock.sendto(b"", where)
                sock.sendto(b"x", where)
                await until(lambda: len(protocol.received) == 2)
                assert protocol.received == [b"", b"x"]
                transport.sendto(b"", sock.getsockname())
                transport.sendto(b"y", sock.getsockname())
                assert sock.recv(10) == (b"" if SINCE_313 else b"y")

    run(aio, main())


def test_data_must_be_bytes(aio):
    async def main() -> None:
        async with endpoint() as (transport, _):
            for data in ("text", 5, None, [1]):
                with pytest.raises(TypeError) as raised:
                    transport.sendto(data, ANY)
                name = type(data).__name__
                assert str(raised.value) == f"data argument must be a bytes-like object, not {name!r}"

    run(aio, main())


# -- order -----------------------------------------------------------------------------------------


def test_what_a_datagram_arranges_for_happens_before_the_next_one(aio):
    class Protocol(DatagramLog):
        def datagram_received(self, data: bytes, address: Any) -> None:
            super().datagram_received(data, address)
            loop = asyncio.get_running_loop()
            loop.call_soon(self.events.append, b"after " + data)
            loop.call_soon(loop.call_soon, self.events.append, b"long after " + data)

    async def main() -> list[Any]:
        async with endpoint(Protocol) as (transport, protocol):
            with peer() as sock:
                for number in range(40):
                    sock.sendto(b"%d" % number, transport.get_extra_info("sockname"))
                await until(lambda: b"long after 39" in protocol.events)
            return [event[0] if isinstance(event, tuple) else event for event in protocol.events]

    events = run(aio, main())
    assert events[0] == "made"
    for number in range(40):
        assert events.index(b"%d" % number) < events.index(b"after %d" % number)
    for number in range(39):
        assert events.index(b"after %d" % number) < events.index(b"%d" % (number + 1))


def test_two_endpoints_and_their_callbacks_take_turns(aio):
    events: list[Any] = []

    class Protocol(DatagramLog):
        def datagram_received(self, data: bytes, address: Any) -> None:
            events.append(data)
            asyncio.get_running_loop().call_soon(events.append, b"after " + data)

    async def main() -> None:
        async with endpoint(Protocol) as (one, _), endpoint(Protocol) as (two, _):
            with peer() as sock:
                for number in range(20):
                    for name, transport in ((b"a", one), (b"b", two)):
                        sock.sendto(b"%s%d" % (name, number), transport.get_extra_info("sockname"))
            await until(lambda: len(events) == 80)

    run(aio, main())
    for number in range(19):
        for name in (b"a", b"b"):
            done = events.index(b"after %s%d" % (name, number))
            assert done < events.index(b"%s%d" % (name, number + 1))


@pytest.mark.parametrize("how", ["close", "abort", "pause_reading"])
def test_after_the_protocol_has_stopped_it_there_is_no_further_datagram(aio, how):
    class Protocol(DatagramLog):
        def datagram_received(self, data: bytes, address: Any) -> None:
            super().datagram_received(data, address)
            getattr(self.transport, how)()

    async def main() -> None:
        async with endpoint(Protocol) as (transport, protocol):
            with peer() as sock:
                for number in range(5):
                    sock.sendto(b"%d" % number, transport.get_extra_info("sockname"))
                await until(lambda: protocol.received)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert protocol.received == [b"0"]
                if how == "pause_reading":
                    for number in range(1, 5):
                        transport.resume_reading()
                        await until(lambda number=number: len(protocol.received) == number + 1)
                    assert protocol.received == [b"0", b"1", b"2", b"3", b"4"]
                else:
                    assert protocol.events[-1] == "lost"

    run(aio, main())


def test_timers_run_beside_a_flood(aio):
    """A socket that is never empty does not keep the loop from its timers and its other descriptors."""

    class Flood(DatagramLog):
        def datagram_received(self, data: bytes, address: Any) -> None:
            self.events.append(data)
            self.transport.sendto(data, address)

    async def main() -> None:
        async with endpoint(Flood) as (one, first), endpoint(Flood) as (two, _):
            for _ in range(8):
                one.sendto(b"x", two.get_extra_info("sockname"))
            async with endpoint() as (quiet, log):
                for turn in range(5):
                    await asyncio.sleep(0.01)
                    with peer() as sock:
                        sock.sendto(b"x", quiet.get_extra_info("sockname"))
                    await until(lambda turn=turn: len(log.received) == turn + 1)
            assert len(first.events) > 10

    run(aio, main())


# -- errors ----------------------------------------------------------------------------------------


def test_a_refused_datagram_is_told_and_closes_nothing(aio):
    async def main() -> None:
        with peer() as sock:
            nobody = sock.getsockname()
        async with endpoint(remote_addr=nobody) as (transport, protocol):
            transport.sendto(b"x")
            await until(lambda: protocol.errors)
            assert type(protocol.errors[0]) is ConnectionRefusedError
            assert protocol.errors[0].errno == errno.ECONNREFUSED
            assert not transport.is_closing()
            with peer(address=nobody) as sock:
                transport.sendto(b"y")  # (may be told of the first one instead)
                transport.sendto(b"z")
                assert b"z" in {sock.recv(10), sock.recv(10) if len(protocol.errors) == 1 else b"z"}
                sock.sendto(b"hello", transport.get_extra_info("sockname"))
                await until(lambda: protocol.received == [b"hello"])

    run(aio, main())


def test_a_datagram_that_is_too_long_is_told_at_once(aio):
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            transport.sendto(bytes(70_000), transport.get_extra_info("sockname"))
            assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
            assert not transport.is_closing()
            transport.sendto(b"x", transport.get_extra_info("sockname"))
            await until(lambda: protocol.received == [b"x"])

    run(aio, main())


def test_broadcast_has_to_be_allowed(aio):
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x", ("255.255.255.255", 9))
            assert [type(error) for error in protocol.errors] == [PermissionError]

    run(aio, main())


def test_an_endpoint_that_may_broadcast_is_not_connected(aio):
    async def main() -> None:
        with peer() as sock:
            where = sock.getsockname()
            async with endpoint(remote_addr=where, allow_broadcast=True) as (transport, protocol):
                shown = transport.get_extra_info("socket")
                assert shown.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
                assert transport.get_extra_info("peername") is None
                transport.sendto(b"x")
                data, ours = sock.recvfrom(10)
                assert data == b"x"
                with pytest.raises(ValueError, match="Invalid address"):
                    transport.sendto(b"x", ("127.0.0.1", 1))
                with peer() as stranger:
                    stranger.sendto(b"welcome", ours)
                    await until(lambda: protocol.received == [b"welcome"])

    run(aio, main())


@pytest.mark.parametrize(
    "address",
    [None, 5, ("127.0.0.1",), ("127.0.0.1", 65536), ("127.0.0.1", "http"), ("127.0.0.1", 1, 2)],
)
def test_an_address_that_is_none_ends_the_transport(aio, address):
    async def main() -> None:
        loop, reports = asyncio.get_running_loop(), Reports()
        loop.set_exception_handler(reports)
        async with endpoint() as (transport, protocol):
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
                pytest.raises((OSError, TypeError, OverflowError)) as expected,
            ):
                sock.sendto(b"x", address)
            transport.sendto(b"x", address)
            (context,) = reports.contexts
            assert context["message"] == "Fatal write error on datagram transport"
            assert type(context["exception"]) is expected.type
            assert str(context["exception"]) == str(expected.value)
            assert context["transport"] is transport
            assert context["protocol"] is protocol
            assert transport.is_closing()
            assert await protocol.lost is context["exception"]

    run(aio, main())


def test_an_address_of_another_family_is_what_the_socket_says_about_it(aio):
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports := Reports())
        async with endpoint() as (transport, protocol):
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
                pytest.raises((OSError, TypeError, OverflowError)) as expected,
            ):
                sock.sendto(b"x", ("::1", 9))
            transport.sendto(b"x", ("::1", 9))
            told = protocol.errors or [context["exception"] for context in reports.contexts]
            assert [(type(error), str(error)) for error in told] == [(expected.type, str(expected.value))]

    run(aio, main())


@pytest.mark.parametrize("method", ["datagram_received", "error_received"])
def test_what_a_protocol_raises_is_reported_and_the_transport_goes_on(aio, method):
    class Protocol(DatagramLog):
        pass

    def fails(self: Any, *args: Any) -> None:
        self.events.append(args)
        if len(self.events) < 4:
            raise ZeroDivisionError(method)

    setattr(Protocol, method, fails)

    async def main() -> None:
        loop, reports = asyncio.get_running_loop(), Reports()
        loop.set_exception_handler(reports)
        with peer() as sock:
            where = sock.getsockname()
            if method == "error_received":
                sock.close()
            async with endpoint(Protocol, remote_addr=where) as (transport, protocol):
                for number in range(3):
                    if method == "error_received":
                        with contextlib.suppress(ZeroDivisionError):
                            transport.sendto(b"x")
                    else:
                        sock.sendto(b"x", transport.get_extra_info("sockname"))
                    await until(lambda number=number: len(protocol.events) >= number + 2)
                assert not transport.is_closing()
                if method == "datagram_received":
                    assert len(reports.contexts) == 2
                for context in reports.contexts:
                    assert type(context["exception"]) is ZeroDivisionError
                    assert context["message"].startswith("Exception in callback _SelectorDatagramTransport._read_ready")

    run(aio, main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_protocol_leaves_the_loop_and_loses_no_datagram(aio, error):
    class Protocol(DatagramLog):
        def datagram_received(self, data: bytes, address: Any) -> None:
            super().datagram_received(data, address)
            if data == b"0":
                raise error

    async def start() -> Any:
        return await asyncio.get_running_loop().create_datagram_endpoint(Protocol, local_addr=ANY)

    async def finish(protocol: Any) -> None:
        await until(lambda: len(protocol.received) == 4)

    loop = aio.new_event_loop()
    try:
        transport, protocol = loop.run_until_complete(start())
        with peer() as sock:
            for number in range(4):
                sock.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        with pytest.raises(error):
            loop.run_forever()
        loop.run_until_complete(finish(protocol))
        assert protocol.received == [b"0", b"1", b"2", b"3"]
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


def test_a_socket_that_is_closed_behind_its_back_is_an_error_told(aio):
    async def main() -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(ANY)
        where = sock.getsockname()
        async with endpoint(sock=sock) as (transport, protocol):
            sock.close()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:  # has its number now
                transport.sendto(b"x", where)
                assert [error.errno for error in protocol.errors] == [errno.EBADF]
                del other

    run(aio, main())


@pytest.mark.parametrize("method", ["sendto", "recvfrom"])
@pytest.mark.parametrize(
    "error",
    [
        BlockingIOError(),
        InterruptedError(),
        OSError(errno.ENOBUFS, "no room"),
        PermissionError(errno.EPERM, "not allowed"),
        ValueError("odd"),
    ],
    ids=repr,
)
def test_what_a_socket_raises_is_told_by_its_kind(aio, method, error):
    """Would block: it is tried again. Of the network: told, and no more. Anything else ends the transport."""

    to_raise = [error]

    def raise_once() -> None:
        if to_raise:
            raise to_raise.pop()

    class Own(socket.socket):
        def sendto(self, *args: Any) -> Any:
            if method == "sendto":
                raise_once()
            return super().sendto(*args)

        def recvfrom(self, *args: Any) -> Any:
            if method == "recvfrom":
                raise_once()
            return super().recvfrom(*args)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports := Reports())
        own = Own(socket.AF_INET, socket.SOCK_DGRAM)
        own.bind(ANY)
        async with endpoint(sock=own) as (transport, protocol):
            transport.sendto(b"one", own.getsockname())
            if isinstance(error, ValueError):
                assert await protocol.lost is error
                kind = "write" if method == "sendto" else "read"
                assert reports.messages == [f"Fatal {kind} error on datagram transport"]
                return
            lost = method == "sendto" and not isinstance(error, (BlockingIOError, InterruptedError))
            if lost:
                transport.sendto(b"one", own.getsockname())
            await until(lambda: protocol.received == [b"one"])
            told = not isinstance(error, (BlockingIOError, InterruptedError))
            assert protocol.errors == [error] * told
            assert not reports.contexts

    run(aio, main())


@pytest.mark.parametrize("flood", [False, True])
def test_a_socket_is_seldom_asked_in_vain(aio, flood):
    asked: list[Any] = []

    class Own(socket.socket):
        def recvfrom(self, *args: Any) -> Any:
            asked.append(args)
            return super().recvfrom(*args)

    async def main() -> None:
        own = Own(socket.AF_INET, socket.SOCK_DGRAM)
        own.bind(ANY)
        async with endpoint(sock=own) as (transport, protocol):
            for number in range(90):
                transport.sendto(b"x", own.getsockname())
                if not flood:
                    await until(lambda number=number: len(protocol.received) > number)
            await until(lambda: len(protocol.received) == 90)
            assert len(asked) <= 101

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio goes by the number, and disturbs whoever has it now")
@pytest.mark.parametrize("how", ["close", "abort", "pause_reading", "resume_reading", "drop"])
@pytest.mark.parametrize("next_owner", ["connection", "reader"])
def test_a_transport_whose_socket_was_closed_leaves_the_next_owner_of_its_number_alone(aio, how, next_owner):
    class Received(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.append(data)

    received: list[bytes] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stale, log = await loop.create_datagram_endpoint(DatagramLog, sock=sock)
        number = sock.fileno()
        async with await loop.create_server(Received, *ANY) as server:
            with contextlib.closing(socket.socket()) as client:
                if how == "resume_reading":
                    stale.pause_reading()
                sock.close()
                if next_owner == "connection":
                    client.connect(server.sockets[0].getsockname())
                    await until(lambda: os.path.exists(f"/proc/self/fd/{number}"))
                    peer_end = client
                else:
                    peer_end, ours = socket.socketpair()
                    assert number in (peer_end.fileno(), ours.fileno())
                    if ours.fileno() != number:
                        peer_end, ours = ours, peer_end
                    ours.setblocking(False)
                    loop._add_reader(ours, lambda: received.append(ours.recv(10)))
                await asyncio.sleep(0)
                if how == "drop":
                    log.transport = None
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", ResourceWarning)
                        del stale
                        gc.collect()
                else:
                    getattr(stale, how)()
                for turn in range(3):
                    peer_end.send(b"x")
                    await until(lambda turn=turn: len(received) == turn + 1)
                if how != "drop":
                    stale.abort()
                    await log.lost
                peer_end.send(b"x")
                await until(lambda: len(received) == 4)
                if next_owner == "reader":
                    assert loop._remove_reader(ours)
                    ours.close()
                peer_end.close()

    run(aio, main())


def test_attempts_that_fail_leave_no_descriptor(aio):
    succeeds(
        """
        import asyncio, errno, os, resource, socket

        async def attempt(**kwargs):
            try:
                await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, **kwargs)
            except OSError as error:
                return errno.errorcode[error.errno]

        async def main():
            here = ("127.0.0.1", 0)
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(here)
                taken = sock.getsockname()
                before = len(os.listdir("/proc/self/fd"))
                assert await attempt(local_addr=taken) == "EADDRINUSE"
                assert await attempt(family=socket.AF_UNIX, local_addr="/nowhere/at/all") == "ENOENT"
                assert await attempt(family=socket.AF_UNIX, remote_addr="/nowhere/at/all") == "ENOENT"
                assert len(os.listdir("/proc/self/fd")) == before
            full = []
            try:
                while True:
                    full.append(os.dup(0))
            except OSError:
                assert await attempt(local_addr=here) == "EMFILE"
            for fd in full:
                os.close(fd)
            assert await attempt(local_addr=here) is None

        with aio.Runner(loop_factory=aio.new_event_loop) as runner:
            runner.run(main())
        """
    )


def test_a_group_of_endpoints_hears_what_is_sent_to_all(aio):
    group = "239.255.13.37"

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            logs, port = [], 0
            for _ in range(2):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("", port))
                port = sock.getsockname()[1]
                transport, log = await stack.enter_async_context(endpoint(sock=sock))
                member = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
                logs.append(log)
            sender, _ = await stack.enter_async_context(endpoint())
            here = socket.inet_aton("127.0.0.1")
            sender.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
            sender.sendto(b"all", (group, port))
            await until(lambda: all(log.received == [b"all"] for log in logs))

    run(aio, main())


# -- what has to wait ------------------------------------------------------------------------------


def test_what_the_kernel_does_not_take_is_sent_later_in_order(aio):
    async def main() -> None:
        async with stuffed() as (transport, protocol, theirs):
            data = bytearray(b"0" * 100)
            for number in range(20):
                data[:] = b"%d" % (number % 10) * 100
                transport.sendto(data)
            data[:] = b"x" * 100
            header = 8 if SINCE_313 else 0
            assert transport.get_write_buffer_size() == 20 * (100 + header)
            loop = asyncio.get_running_loop()
            taken = await loop.run_in_executor(None, take, theirs, 20)
            assert taken == [b"%d" % (number % 10) * 100 for number in range(20)]
            await until(lambda: not list(transport._buffer))
            if not STDLIB:
                # (3.13 forgets to take the headers off again)
                assert transport.get_write_buffer_size() == 0
            assert protocol.events == ["made"]

    run(aio, main())


def test_the_protocol_is_paused_inside_of_sendto_and_resumed(aio):
    async def main() -> None:
        async with stuffed() as (transport, protocol, theirs):
            header = 8 if SINCE_313 else 0
            assert transport.get_write_buffer_limits() == (16384, 65536)
            transport.set_write_buffer_limits(high=300 + 3 * header, low=3 * header)
            assert transport.get_write_buffer_limits() == (3 * header, 300 + 3 * header)
            for _ in range(3):
                transport.sendto(b"x" * 100)
            assert protocol.events == ["made"]
            transport.sendto(memoryview(b"x"))
            assert protocol.events == ["made", "pause"]
            await asyncio.get_running_loop().run_in_executor(None, take, theirs, 4)
            if not STDLIB or sys.version_info[:2] != (3, 13):
                await until(lambda: protocol.events == ["made", "pause", "resume"])

    run(aio, main())


def test_close_sends_what_waits_and_abort_does_not(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with stuffed() as (transport, protocol, theirs):
            transport.sendto(b"last")
            transport.close()
            assert transport.is_closing()
            for _ in range(5):
                await asyncio.sleep(0)
            assert protocol.events == ["made"]
            assert await loop.run_in_executor(None, take, theirs, 1) == [b"last"]
            assert await protocol.lost is None
        async with stuffed() as (transport, protocol, theirs):
            transport.sendto(b"last")
            transport.abort()
            assert transport.get_write_buffer_size() == 0 or STDLIB
            assert await protocol.lost is None
            theirs.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    assert theirs.recv(100) == b"fill"

    run(aio, main())


def test_an_error_while_sending_later_loses_that_datagram_alone(aio):
    async def main() -> None:
        async with stuffed() as (transport, protocol, theirs):
            transport.sendto(b"a")
            transport.sendto(bytes(1 << 20))  # too long
            transport.sendto(b"b")
            assert await asyncio.get_running_loop().run_in_executor(None, take, theirs, 2) == [b"a", b"b"]
            assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
            assert not transport.is_closing()

    run(aio, main())


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.sampled_from([bytes, bytearray, memoryview]), st.integers(1, 3000)),
            st.tuples(st.just("drain"), st.just(None), st.integers(1, 5)),
            st.tuples(st.just("hop"), st.just(None), st.integers(1, 3)),
        ),
        max_size=30,
    )
)
def test_nothing_is_lost_doubled_or_cut_whatever_waits(aio, steps):
    async def main() -> None:
        async with stuffed() as (transport, _, theirs):
            theirs.setblocking(False)
            sent: list[bytes] = []
            came: list[bytes] = []

            def drain(count: int) -> None:
                for _ in range(count):
                    with contextlib.suppress(BlockingIOError):
                        came.append(theirs.recv(1 << 16))

            for step, kind, count in steps:
                if step == "send":
                    data = b"%d:" % len(sent) + bytes(count)
                    transport.sendto(kind(data))
                    sent.append(data)
                elif step == "drain":
                    drain(count)
                else:
                    for _ in range(count):
                        await asyncio.sleep(0)
            waiting = [data for data, _ in transport._buffer]
            assert sent[len(sent) - len(waiting) :] == waiting

            def all_came() -> bool:
                drain(1)
                return len(came) - came.count(b"fill") == len(sent)

            await until(all_came)
            assert [data for data in came if data != b"fill"] == sent

    run(aio, main())


# -- the end ---------------------------------------------------------------------------------------


def test_sending_after_the_end_is_counted_and_complained_about(aio, caplog):
    async def main() -> None:
        with peer() as sock:
            async with endpoint(remote_addr=sock.getsockname()) as (transport, protocol):
                transport.abort()
                await protocol.lost
                with caplog.at_level(logging.WARNING, "asyncio"):
                    for _ in range(4):
                        transport.sendto(b"x")
                    assert not caplog.records
                    transport.sendto(b"x")
                assert [record.message for record in caplog.records] == ["socket.send() raised exception."]
                assert transport._conn_lost == 6

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio stumbles over its missing loop")
def test_an_unconnected_endpoint_that_is_closed_takes_datagrams_and_loses_them(aio):
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            transport.close()
            await protocol.lost
            transport.sendto(b"x", ANY)
            assert protocol.events == ["made", "lost"]

    run(aio, main())


def test_a_closed_endpoint_still_sends_until_it_is_lost(aio):
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            with peer() as sock:
                transport.close()
                transport.sendto(b"x", sock.getsockname())
                assert sock.recv(10) == b"x"
                assert await protocol.lost is None

    run(aio, main())


def test_a_transport_that_nobody_closed_complains_and_closes_its_socket(aio):
    async def main() -> None:
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(DatagramLog, local_addr=ANY)
        transport.pause_reading()
        sock = transport._sock
        gone = weakref.ref(transport)
        protocol.transport = None
        with pytest.warns(ResourceWarning, match=r"unclosed transport <_SelectorDatagramTransport fd=\d+ read=idle"):
            del transport
            gc.collect()
        assert gone() is None
        assert sock.fileno() == -1

    run(aio, main())


def test_a_transport_says_what_it_is(aio):
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            fd = transport._sock_fd
            assert isinstance(transport, asyncio.DatagramTransport) or sys.version_info < (3, 12)
            assert isinstance(transport, asyncio.Transport)
            assert type(transport).__name__ == "_SelectorDatagramTransport"
            assert repr(transport) == (f"<_SelectorDatagramTransport fd={fd} read=polling write=<idle, bufsize=0>>")
            transport.note = 1
            assert transport.__dict__["note"] == 1
            assert transport.get_protocol() is protocol
            assert transport.max_size == 256 * 1024
            assert transport._address is None
            assert not transport._buffer
            assert hasattr(transport, "_header_size") == (sys.version_info >= (3, 14))
            with pytest.raises(NotImplementedError):
                transport.write(b"x")
            transport.close()
            assert repr(transport).startswith(f"<_SelectorDatagramTransport closing fd={fd} read=idle")
            await protocol.lost
            await asyncio.sleep(0)
            assert repr(transport) == f"<_SelectorDatagramTransport closed fd={fd}>"

    run(aio, main())


def test_another_protocol_gets_what_comes_next(aio):
    async def main() -> None:
        async with endpoint() as (transport, first):
            second = DatagramLog()
            with peer() as sock:
                sock.sendto(b"1", transport.get_extra_info("sockname"))
                await until(lambda: first.received)
                transport.set_protocol(second)
                sock.sendto(b"2", transport.get_extra_info("sockname"))
                await until(lambda: second.received)
            assert (first.received, second.received) == ([b"1"], [b"2"])

    run(aio, main())


# -- contexts and debug mode -----------------------------------------------------------------------

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


def test_datagrams_come_in_the_context_in_which_the_endpoint_was_made(aio):
    seen: list[Any] = []

    class Protocol(DatagramLog):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            seen.append(VARIABLE.get())
            VARIABLE.set("made")

        def datagram_received(self, data: bytes, address: Any) -> None:
            super().datagram_received(data, address)
            seen.append(VARIABLE.get())
            VARIABLE.set("received")

        def connection_lost(self, exc: BaseException | None) -> None:
            seen.append(VARIABLE.get())
            super().connection_lost(exc)

    async def main() -> None:
        VARIABLE.set("main")
        async with endpoint(Protocol) as (transport, protocol):
            with peer() as sock:
                for number in range(2):
                    sock.sendto(b"x", transport.get_extra_info("sockname"))
                    await until(lambda number=number: len(protocol.received) == number + 1)
            VARIABLE.set("closing")
            transport.close()
            await protocol.lost

    run(aio, main())
    assert seen == ["main", "main", "received", "closing"]


def test_debug_mode_times_and_logs(aio, caplog):
    class Slow(DatagramLog):
        def datagram_received(self, data: bytes, address: Any) -> None:
            super().datagram_received(data, address)
            time.sleep(0.02)

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.01
        with caplog.at_level(logging.DEBUG, "asyncio"):
            async with endpoint(Slow) as (transport, protocol):
                with peer() as sock:
                    for _ in range(3):
                        sock.sendto(b"x", transport.get_extra_info("sockname"))
                    await until(lambda: len(protocol.received) == 3)
            with peer() as sock:
                async with endpoint(remote_addr=sock.getsockname()) as (transport, protocol):
                    pass

    run(aio, main(), debug=True)
    texts = [record.getMessage() for record in caplog.records]
    assert any(
        text.startswith("Datagram endpoint local_addr=('127.0.0.1', 0) remote_addr=None created: ") for text in texts
    )
    assert any(text.startswith("Datagram endpoint remote_addr=('127.0.0.1', ") for text in texts)
    assert sum("_SelectorDatagramTransport._read_ready" in text and "took" in text for text in texts) == 3


# -- create_datagram_endpoint ----------------------------------------------------------------------


def refused(aio: Any, **kwargs: Any) -> BaseException:
    async def main() -> BaseException:
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(DatagramLog, **kwargs)
        except Exception as raised:
            return raised
        pytest.fail("it was not refused")

    return run(aio, main())


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({}, ValueError, "unexpected address family"),
        ({"local_addr": "127.0.0.1"}, TypeError, "2-tuple is expected"),
        ({"local_addr": ("127.0.0.1", 0, 0)}, TypeError, "2-tuple is expected"),
        ({"remote_addr": ["127.0.0.1", 0]}, TypeError, "2-tuple is expected"),
        (
            {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 9)},
            ValueError,
            "can not get address information",
        ),
        ({"family": socket.AF_UNIX, "local_addr": ("a", 1)}, TypeError, "string is expected"),
        ({"family": socket.AF_UNIX, "remote_addr": b"path"}, TypeError, "string is expected"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(aio, kwargs, error, text):
    raised = refused(aio, **kwargs)
    assert (type(raised), str(raised)) == (error, text)


def test_a_socket_comes_without_other_arguments(aio):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        raised = refused(
            aio, sock=sock, local_addr=ANY, family=1, proto=2, flags=3, reuse_port=True, allow_broadcast=True
        )
        assert str(raised) == (
            "socket modifier keyword arguments can not be used when sock is specified. "
            "(local_addr=('127.0.0.1', 0), family=1, proto=2, flags=3, reuse_port=True, allow_broadcast=True)"
        )
    with socket.socket() as sock:
        expected = "datagram socket" if SINCE_313 else "UDP Socket"
        assert str(refused(aio, sock=sock)) == f"A {expected} was expected, got {sock!r}"


def test_the_first_failure_is_what_is_told(aio):
    with peer() as sock:
        raised = refused(aio, local_addr=sock.getsockname())
        assert isinstance(raised, OSError)
        assert raised.errno == errno.EADDRINUSE


def test_several_sockets_share_a_port(aio):
    async def main() -> None:
        async with endpoint(local_addr=ANY, reuse_port=True) as (transport, _):
            where = transport.get_extra_info("sockname")
            assert transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
            async with endpoint(local_addr=where, reuse_port=True) as (other, _):
                assert other.get_extra_info("sockname") == where

    run(aio, main())


def test_a_socket_of_ones_own_may_be_connected(aio):
    async def main() -> None:
        with peer() as sock:
            own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            own.connect(sock.getsockname())
            async with endpoint(sock=own) as (transport, _):
                assert own.gettimeout() == 0
                assert transport.get_extra_info("peername") == sock.getsockname()
                transport.sendto(b"x")
                transport.sendto(b"y", ("127.0.0.1", 1))  # as in asyncio: the kernel knows better
                assert [sock.recv(10), sock.recv(10)] == [b"x", b"y"]
                shown = transport.get_extra_info("socket")
                assert type(shown).__name__ == "TransportSocket"
                assert shown.fileno() == own.fileno()

    run(aio, main())


def test_a_class_derived_from_socket_is_asked_itself(aio):
    calls: list[str] = []

    class Own(socket.socket):
        def recvfrom(self, *args: Any) -> Any:
            calls.append("recvfrom")
            return super().recvfrom(*args)

        def sendto(self, *args: Any) -> Any:
            calls.append("sendto")
            return super().sendto(*args)

    async def main() -> None:
        own = Own(socket.AF_INET, socket.SOCK_DGRAM)
        own.bind(ANY)
        async with endpoint(sock=own) as (transport, protocol):
            transport.sendto(b"x", own.getsockname())
            await until(lambda: protocol.received == [b"x"])
            assert {*calls} == {"sendto", "recvfrom"}

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio leaves it to the garbage collector")
def test_the_socket_is_closed_when_the_factory_raises(aio):
    def factory() -> Any:
        raise ZeroDivisionError

    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().create_datagram_endpoint(factory, local_addr=ANY)
        assert len(os.listdir("/proc/self/fd")) == before

    run(aio, main())


def test_a_socket_has_one_transport(aio):
    async def main() -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(ANY)
        async with endpoint(sock=sock) as (transport, protocol):
            for named in (sock, sock.fileno()):
                with pytest.raises(RuntimeError) as raised:
                    if named is sock:
                        await asyncio.get_running_loop().create_datagram_endpoint(DatagramLog, sock=sock)
                    asyncio.get_running_loop().add_reader(named, print)
                assert str(raised.value) == f"File descriptor {named!r} is used by transport {transport!r}"
            transport.sendto(b"x", sock.getsockname())
            await until(lambda: protocol.received == [b"x"])

    if STDLIB and sys.version_info < (3, 12):
        pytest.skip("asyncio before 3.12 makes two")
    run(aio, main())


def test_a_loop_may_make_transports_of_its_own(aio):
    base = asyncio.SelectorEventLoop if STDLIB else aio.EventLoop
    made: list[Any] = []

    class Loop(base):
        def _make_datagram_transport(self, *args: Any, **kwargs: Any) -> Any:
            made.append(args[:3])
            return super()._make_datagram_transport(*args, **kwargs)

    async def main() -> None:
        with peer() as sock:
            async with endpoint(remote_addr=sock.getsockname()) as (transport, protocol):
                assert made == [(transport._sock, protocol, sock.getsockname())]
                transport.sendto(b"x")
                assert sock.recv(10) == b"x"

    with contextlib.closing(Loop()) as loop:
        loop.run_until_complete(main())


def test_the_socket_modules_audit_events_are_raised(aio):
    succeeds(
        """
        import asyncio, sys
        events = []
        sys.addaudithook(lambda event, args: event.startswith("socket.") and events.append((event, args[1:])))
        async def main():
            loop = asyncio.get_running_loop()
            made = loop.create_datagram_endpoint
            server, _ = await made(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
            where = server.get_extra_info("sockname")
            client, _ = await made(asyncio.DatagramProtocol, remote_addr=where)
            events.clear()
            client.sendto(b"x")
            assert events == [], events
            server.sendto(b"x", where)
            assert events == [("socket.sendto", (where,))], events
            server.close(), client.close()
            await asyncio.sleep(0)
            events.clear()
            server, _ = await made(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0), remote_addr=where)
            server.close()
            await asyncio.sleep(0)
            assert [event for event, _ in events] == ["socket.__new__", "socket.bind", "socket.connect"], events
        with aio.Runner(loop_factory=aio.new_event_loop) as runner:
            runner.run(main())
        """
    )


# -- Unix ------------------------------------------------------------------------------------------


def test_unix_endpoints_have_paths_for_addresses(aio, tmp_path):
    path, other = str(tmp_path / "one"), str(tmp_path / "two")

    async def main() -> None:
        async with endpoint(family=socket.AF_UNIX, local_addr=path) as (server, log):
            assert server.get_extra_info("sockname") == path
            async with endpoint(family=socket.AF_UNIX, local_addr=other, remote_addr=path) as (client, answers):
                assert client.get_extra_info("peername") == path
                client.sendto(b"hello")
                client.sendto(os.urandom(100_000))
                await until(lambda: len(log.received) == 2)
                assert log.events[1] == (b"hello", other)
                assert len(log.received[1]) == 100_000
                server.sendto(b"answer", other)
                await until(lambda: answers.events[1:] == [(b"answer", path)])
            async with endpoint(family=socket.AF_UNIX, remote_addr=path) as (nameless, _):
                nameless.sendto(b"from nobody")
                await until(lambda: log.events[-1] == (b"from nobody", None))
            server.sendto(b"answer", other)
            assert [type(error) for error in log.errors] == [ConnectionRefusedError]

    run(aio, main())


def test_a_stale_socket_file_is_removed_and_nothing_else(aio, tmp_path):
    stale, taken = tmp_path / "stale", tmp_path / "file"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(stale))
    taken.write_text("precious")

    async def main() -> None:
        async with endpoint(family=socket.AF_UNIX, local_addr=str(stale)) as (transport, _):
            assert transport.get_extra_info("sockname") == str(stale)

    run(aio, main())
    raised = refused(aio, family=socket.AF_UNIX, local_addr=str(taken))
    assert isinstance(raised, OSError)
    assert raised.errno == errno.EADDRINUSE
    assert taken.read_text() == "precious"


def test_abstract_names_need_no_file(aio):
    name = f"\0aioxide-{os.getpid()}"

    async def main() -> None:
        async with endpoint(family=socket.AF_UNIX, local_addr=name) as (server, log):
            assert server.get_extra_info("sockname") == name.encode()
            async with endpoint(family=socket.AF_UNIX, remote_addr=name) as (client, _):
                client.sendto(b"x")
                await until(lambda: log.received == [b"x"])

    run(aio, main())


def test_a_family_alone_is_an_endpoint_without_a_name(aio):
    async def main() -> None:
        async with endpoint(family=socket.AF_INET) as (transport, _):
            assert transport.get_extra_info("sockname") == ("0.0.0.0", 0)
            with peer() as sock:
                transport.sendto(b"x", sock.getsockname())
                assert sock.recv(10) == b"x"

    run(aio, main())


# -- against asyncio -------------------------------------------------------------------------------


class Script:
    """One program on one implementation: everything that a protocol is told and every call comes to, in order."""

    def __init__(self, connected: bool) -> None:
        self.connected = connected
        self.log: list[Any] = []
        self.raises: list[str] = []

    def told(self, event: str, *args: Any) -> None:
        self.log.append((event, *args))
        if self.raises and event in ("data", "error"):
            raise ZeroDivisionError(self.raises.pop())

    def protocol(self, name: str) -> Any:
        script = self

        class Protocol(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                script.told("made", name)

            def datagram_received(self, data: bytes, address: Any) -> None:
                script.log.append(("call", len(data)))
                asyncio.get_running_loop().call_soon(script.log.append, ("after", data))
                script.told("data", name, data, address == script.where)

            def error_received(self, exc: OSError) -> None:
                script.told("error", name, type(exc).__name__, exc.errno)

            def connection_lost(self, exc: BaseException | None) -> None:
                script.told("lost", name, repr(exc))

        return Protocol()

    async def settle(self) -> None:
        """Until nothing happens any more."""
        quiet = 0
        while quiet < 4:
            before = len(self.log)
            await asyncio.sleep(0.0002)
            quiet = quiet + 1 if len(self.log) == before else 0

    async def play(self, steps: list[Any]) -> list[Any]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda loop, context: self.log.append((context["message"][:70], repr(context["exception"])))
        )
        with peer() as sock:
            self.where = sock.getsockname()
            kwargs = {"remote_addr": self.where} if self.connected else {"local_addr": ANY}
            transport, _ = await loop.create_datagram_endpoint(lambda: self.protocol("first"), **kwargs)
            ours = transport.get_extra_info("sockname")
            count = 0
            for step, argument in steps:
                self.log.append((step, argument))
                if step == "come":
                    for _ in range(argument):
                        with contextlib.suppress(ConnectionRefusedError):
                            sock.sendto(b"%d" % count, ours)
                        count += 1
                elif step == "settle":
                    await self.settle()
                elif step == "raise":
                    self.raises.append(argument)
                elif step == "protocol":
                    transport.set_protocol(self.protocol(argument))
                elif step == "send":
                    if transport.is_closing():
                        continue
                    to = {"nobody": None, "peer": self.where, "text": "nowhere", "port": ("127.0.0.1", 1)}[argument]
                    try:
                        transport.sendto(b"%d" % count, to)
                    except Exception as raised:
                        self.log.append(repr(raised).replace(str(self.where), "PEER"))
                else:
                    getattr(transport, step)()
                self.log.append((transport.is_closing(), transport.is_reading()))
            await self.settle()
            if not transport.is_closing():
                transport.abort()
            await self.settle()
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.log.append(("came", sock.recv(100)))
        return self.log


@pytest.mark.skipif(STDLIB, reason="it is compared with itself")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    connected=st.booleans(),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("come"), st.integers(1, 4)),
            st.tuples(st.just("settle"), st.none()),
            st.tuples(st.just("send"), st.sampled_from(["nobody", "peer", "text", "port"])),
            st.tuples(st.sampled_from(["pause_reading", "resume_reading", "close", "abort"]), st.none()),
            st.tuples(st.just("raise"), st.sampled_from(["one", "two"])),
            st.tuples(st.just("protocol"), st.just("second")),
        ),
        max_size=12,
    ),
)
def test_any_program_is_told_what_asyncio_tells_it(aio, connected, steps):
    logs = []
    for implementation in (asyncio, aio):
        with contextlib.closing(implementation.new_event_loop()) as loop:
            logs.append(loop.run_until_complete(Script(connected).play(steps)))
    assert logs[1] == logs[0]
