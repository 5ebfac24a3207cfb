"""When what is written goes out: at once, or with what a busy loop's other callbacks write in the same turn."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.certificates import client_context, server_context
from tests.support import STDLIB, Log, run, until

only_ours = pytest.mark.skipif(STDLIB, reason="asyncio sends each write at once")


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def arrived(peer: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        return bool(peer.recv(1, socket.MSG_PEEK))
    return False


class Busy:
    """Connections of a busy server."""

    def __init__(self, transports: list[Any], peers: list[socket.socket]) -> None:
        self.transports = transports
        self.peers = peers

    def which_arrived(self) -> list[bool]:
        return [arrived(peer) for peer in self.peers]

    async def turn(self, last: Callable[[], Any] | None = None, *, seconds: float = 30e-6) -> Any:
        """One callback for each, which takes so long and writes one byte; after them ``last`` in the same turn."""
        loop = asyncio.get_running_loop()
        outcome = loop.create_future()

        def answer(transport: Any) -> None:
            spin(seconds)
            transport.write(b"x")

        def end() -> None:
            try:
                outcome.set_result((last or self.which_arrived)())
            except Exception as error:
                outcome.set_exception(error)

        for transport in self.transports:
            loop.call_soon(answer, transport)
        loop.call_soon(end)
        result = await outcome
        assert all(self.which_arrived()), "whatever was held back has gone out when the turn is over"
        for peer in self.peers:
            assert peer.recv(100) == b"x"
        return result

    async def when_held(self, last: Callable[[], Any]) -> Any:
        """``last`` runs in a turn in which all that was written waits. (Another process may slow turns down, which ends
        that for a while.)"""
        held: list[bool] = []

        def unless_sent() -> Any:
            if any(self.which_arrived()):
                return None
            held.append(True)
            return last()

        for _ in range(3000):
            result = await self.turn(unless_sent)
            if held:
                return result
        return pytest.fail("nothing was ever held back")


@contextlib.asynccontextmanager
async def busy(count: int = 8) -> AsyncIterator[Busy]:
    loop = asyncio.get_running_loop()
    pairs = [socket.socketpair() for _ in range(count)]
    transports = [(await loop.connect_accepted_socket(Log, ours))[0] for ours, _ in pairs]
    for _, peer in pairs:
        peer.setblocking(False)
    try:
        yield Busy(transports, [peer for _, peer in pairs])
    finally:
        for transport, (_, peer) in zip(transports, pairs, strict=True):
            transport.abort()
            peer.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@only_ours
def test_answers_of_one_turn_go_out_together(aio):
    async def main() -> None:
        async with busy() as connections:
            assert all(await connections.turn()), "nothing is known of the pace yet"
            assert await connections.when_held(lambda: "held") == "held"

    run(aio, main())


def test_few_callbacks_send_at_once(aio):
    async def main() -> None:
        async with busy(2) as connections:
            for _ in range(50):
                assert all(await connections.turn())

    run(aio, main())


def test_quick_callbacks_send_at_once(aio):
    async def main() -> None:
        async with busy(8) as connections:
            # (when another process has made one of them slow, some dozen seem to take their time)
            in_a_row = 0
            for _ in range(3000):
                in_a_row = in_a_row + 1 if all(await connections.turn(seconds=0)) else 0
                if in_a_row == 20:
                    return
            pytest.fail("they are held back")

    run(aio, main())


def test_slow_callbacks_send_at_once(aio):
    async def main() -> None:
        async with busy(8) as connections:
            for _ in range(10):
                assert all(await connections.turn(seconds=0.001))

    run(aio, main())


@only_ours
def test_after_a_slow_callback_writes_go_out_at_once_for_a_while(aio):
    async def main() -> None:
        async with busy() as connections:
            await connections.when_held(lambda: time.sleep(0.1))
            for _ in range(10):
                assert all(await connections.turn())
            await connections.when_held(lambda: None)

    run(aio, main())


@only_ours
def test_what_is_held_back_does_not_wait_for_more_than_one_slow_callback(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with busy() as connections:
            for _ in range(3000):
                seen = loop.create_future()
                before: list[bool] = []
                loop.call_soon(connections.transports[0].write, b"y")
                loop.call_soon(lambda before=before: before.append(arrived(connections.peers[0])))
                loop.call_soon(spin, 0.001)
                loop.call_soon(lambda seen=seen: seen.set_result(arrived(connections.peers[0])))
                for _ in range(4):
                    loop.call_soon(int)
                assert await seen, "it was too long"
                assert connections.peers[0].recv(10) == b"y"
                if before == [False]:
                    return
                await connections.turn()
            pytest.fail("nothing was ever held back")

    run(aio, main())


@only_ours
def test_a_callback_that_blocks_again_and_again_makes_answers_late_now_and_then(aio):
    """Whether the turn has many that write beside it, or hardly one."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with busy(16) as connections:
            for writers, quick in ((1, 3), (8, 0), (12, 40)):
                few = Busy(connections.transports[:8], connections.peers[:8])
                await few.when_held(lambda: None)
                late = 0
                for _ in range(40):
                    done = loop.create_future()
                    sent: list[bool] = []

                    def block(sent: list[bool] = sent) -> None:
                        sent.append(arrived(connections.peers[0]))
                        spin(0.002)

                    for transport in connections.transports[:writers]:
                        loop.call_soon(transport.write, b"y")
                    loop.call_soon(block)
                    for _ in range(quick):
                        loop.call_soon(spin, 10e-6)
                    loop.call_soon(done.set_result, None)
                    await done
                    late += sent == [False]
                    for peer in connections.peers[:writers]:
                        assert peer.recv(10) == b"y"
                # (nothing is known of it at first, and it is forgotten after some dozen turns)
                assert late <= 5

    run(aio, main())


@only_ours
def test_one_callback_that_writes_to_many_holds_back_no_more_than_sixteen(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with busy() as connections, busy(40) as more:
            for _ in range(3000):
                done = loop.create_future()

                def tell_all(done: asyncio.Future[list[bool]] = done) -> None:
                    for transport in more.transports:
                        transport.write(b"y")
                    done.set_result(more.which_arrived())

                loop.call_soon(tell_all)
                for _ in range(4):
                    loop.call_soon(int)
                sent = await done
                assert [peer.recv(10) for peer in more.peers] == [b"y"] * 40
                if not sent[0]:
                    assert sent == [False] * 16 + [True] * 24
                    return
                await connections.turn()
            pytest.fail("nothing was ever held back")

    run(aio, main())


@only_ours
def test_no_more_than_sixteen_wait(aio):
    async def main() -> None:
        async with busy(24) as connections:
            for _ in range(3000):
                sent = await connections.turn(seconds=12e-6)
                if sent == [True] * 16 + [False] * 8:
                    return
            pytest.fail("never so")

    run(aio, main())


@only_ours
@pytest.mark.parametrize(
    "look",
    [
        lambda transport: transport.get_write_buffer_size(),
        lambda transport: transport.get_extra_info("socket"),
        lambda transport: transport.set_write_buffer_limits(high=0),
    ],
    ids=["size", "socket", "limits"],
)
def test_who_looks_finds_it_sent(aio, look):
    async def main() -> None:
        async with busy() as connections:

            def last() -> list[bool]:
                assert look(connections.transports[3]) is not False
                return connections.which_arrived()

            assert (await connections.when_held(last))[3]

    run(aio, main())


@only_ours
@pytest.mark.parametrize("use", ["shutdown", "dup", "fileno"])
def test_the_socket_that_was_shown_before_is_used_after_it(aio, use):
    async def main() -> None:
        async with busy() as connections:
            shown = connections.transports[3].get_extra_info("socket")

            def last() -> bytes:
                result = getattr(shown, use)(*[socket.SHUT_WR] * (use == "shutdown"))
                if use == "dup":
                    result.close()
                return connections.peers[3].recv(1, socket.MSG_PEEK)

            assert await connections.when_held(last) == b"x"

    run(aio, main())


@only_ours
@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_the_end_comes_after_it(aio, end):
    async def main() -> None:
        async with busy() as connections:

            def last() -> bytes:
                getattr(connections.transports[3], end)()
                return connections.peers[3].recv(1, socket.MSG_PEEK)

            assert await connections.when_held(last) == b"x"
            await asyncio.sleep(0.01)
            assert connections.peers[3].recv(10) == b""

    run(aio, main())


@only_ours
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_finds_nothing_that_waits(aio):
    async def main() -> None:
        async with busy() as connections:

            def last() -> list[bool]:
                child = os.fork()
                if not child:
                    connections.transports[3].close()
                    os._exit(0)
                sent = connections.which_arrived()
                assert os.waitpid(child, 0)[1] == 0
                return sent

            assert all(await connections.when_held(last))

    run(aio, main())


@only_ours
def test_a_turn_within_the_turn_sends_first(aio):
    """As nest_asyncio does it: a callback runs the loop until the answer is there."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with busy() as connections:

            def last() -> list[bool]:
                loop.call_later(0.01, int)
                loop._run_once()
                return connections.which_arrived()

            assert all(await connections.when_held(last))

    run(aio, main())


@only_ours
def test_it_goes_out_beside_a_fatal_exception(aio):
    loop = aio.new_event_loop()
    kept: list[Any] = []

    async def main() -> None:
        async with busy() as connections:
            kept.append(connections)

            def last() -> None:
                raise KeyboardInterrupt

            await connections.when_held(last)

    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    (connections,) = kept
    assert all(connections.which_arrived())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


@only_ours
def test_it_goes_out_when_a_signal_handler_raises_between_two_callbacks(aio):
    loop = aio.new_event_loop()
    kept: list[Any] = []
    # (no bytecode runs after it that would run the handler)
    raise_signal = getattr(ctypes.CDLL(None), "raise")

    async def main() -> None:
        async with busy() as connections:
            kept.append(connections)
            await connections.when_held(lambda: None)
            for transport in connections.transports:
                loop.call_soon(transport.write, b"x")
            loop.call_soon(lambda: kept.append(connections.which_arrived()))
            loop.call_soon(raise_signal, signal.SIGINT)
            for _ in range(300):
                loop.call_soon(int)
            await asyncio.sleep(3600)

    for _ in range(100):
        task = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        connections, sent = kept
        assert all(connections.which_arrived())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        if not any(sent):
            break
        kept.clear()
    else:
        pytest.fail("nothing was ever held back")
    loop.close()


@only_ours
def test_an_exception_while_it_goes_out_keeps_back_nothing(aio, monkeypatch):
    """In debug mode a broken connection is logged, which runs code of the program's."""
    loop = aio.new_event_loop()
    kept: list[Any] = []
    unraisable: list[Any] = []

    def log(*_args: Any, **_kwargs: Any) -> None:
        raise SystemExit(7)

    async def main() -> None:
        async with busy() as connections:

            def break_two() -> None:
                kept.append(Busy([], connections.peers[2:]))
                for peer in connections.peers[:2]:
                    peer.close()
                monkeypatch.setattr(logging.getLogger("asyncio"), "debug", log)

            await connections.when_held(break_two)

    loop.set_debug(True)
    loop.slow_callback_duration = 60
    monkeypatch.setattr(sys, "unraisablehook", lambda what: unraisable.append(repr(what.exc_value)))
    task = loop.create_task(main())
    with pytest.raises(SystemExit, match="7"):
        loop.run_until_complete(task)
    assert all(kept[0].which_arrived())
    assert unraisable == ["SystemExit(7)"]
    monkeypatch.undo()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


class Refusing(asyncio.Protocol):
    """Says why, and raises."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"why")
        if data == b"wrong":
            raise ValueError


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_what_a_protocol_has_written_before_it_raises_arrives(aio, tls):
    def connect(address: Any) -> list[socket.socket]:
        peers = []
        for _ in range(8):
            sock = socket.create_connection(address, timeout=30)
            if tls:
                sock = client_context().wrap_socket(sock, server_hostname="localhost")
            peers.append(sock)
            sock.sendall(b"right")
            assert sock.recv(10) == b"why"
        return peers

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
        raised: list[Any] = []
        server = await loop.create_server(Refusing, "127.0.0.1", 0, ssl=server_context() if tls else None)
        for _ in range(3):
            peers = await asyncio.to_thread(connect, server.sockets[0].getsockname())
            async with busy() as connections:

                def ask(peers: list[socket.socket] = peers) -> None:
                    for peer in peers:
                        peer.sendall(b"wrong")

                if STDLIB:
                    ask()
                else:
                    await connections.when_held(ask)
            await until(lambda: len(raised) == 8)
            assert [await asyncio.to_thread(peer.recv, 10) for peer in peers] == [b"why"] * 8
            for peer in peers:
                peer.close()
            raised.clear()
        server.close()

    run(aio, main())


class Server(asyncio.Protocol):
    """Takes its time, and answers in pieces."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        spin(15e-6)
        for start in range(0, len(data), 100):
            self.transport.write(data[start : start + 100])


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_nothing_is_lost_or_exchanged(aio, tls):
    """Forty connections, asked by threads."""
    loop = aio.new_event_loop()
    server = loop.run_until_complete(
        loop.create_server(Server, "127.0.0.1", 0, ssl=server_context() if tls else None, backlog=100)
    )
    wrong: list[Any] = []

    def client(number: int) -> None:
        try:
            sock = socket.create_connection(server.sockets[0].getsockname(), timeout=30)
            if tls:
                sock = client_context().wrap_socket(sock, server_hostname="localhost")
            with sock:
                for turn in range(60):
                    asked = b"%d.%d " % (number, turn) * (1 + (number * turn) % 60)
                    sock.sendall(asked)
                    answer = b""
                    while len(answer) < len(asked):
                        answer += sock.recv(65536) or pytest.fail("the end came too early")
                    assert answer == asked
        except (Exception, pytest.fail.Exception) as error:
            wrong.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()

    async def until_asked() -> None:
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(until_asked())
    loop.close()
    assert not wrong
