"""What event loops get wrong when they replace asyncio's: small things on which programs rely.

Each test is about one of them, on asyncio as the oracle. What belongs to one concept stands in the file of that concept.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import STDLIB, newer, run, succeeds
from tests.test_servers import no_descriptors_left
from tests.test_transports import MANY, Log, connected, receive, until


@pytest.fixture
def loop(aio: Any) -> Iterator[Any]:
    loop = aio.new_event_loop()
    yield loop
    loop.close()


# -- the loop --------------------------------------------------------------------------------------------------------------


def test_a_loop_is_an_event_loop_and_an_ordinary_object(aio, loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    loop.anything = 5
    assert loop.__dict__["anything"] == 5
    assert weakref.ref(loop)() is loop
    assert hash(loop) == hash(loop)


def test_negative_delays_fire_in_the_order_of_their_deadlines(aio, loop):
    log: list[int] = []
    for delay in (-1, -3, 0, -2):
        loop.call_later(delay, log.append, delay)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert log == [-3, -2, -1, 0]


def test_a_handle_shows_what_it_calls(aio, loop):
    for handle in (
        loop.call_soon(print, 1, 2),
        loop.call_later(5, print, 1, 2),
        loop.call_soon_threadsafe(print, 1, 2),
    ):
        assert isinstance(handle, asyncio.Handle)
        assert (handle._callback, handle._args) == (print, (1, 2))
        if hasattr(handle, "get_context"):
            assert handle.get_context() is handle._context
        handle.cancel()


def test_watching_takes_sockets_and_says_whether_it_stopped(aio, loop):
    left, right = socket.socketpair()
    with left, right:
        for thing in (left, left.fileno()):
            log: list[Any] = []
            assert loop.remove_reader(thing) is False
            assert loop.remove_writer(thing) is False
            loop.add_reader(thing, log.append, "read")
            loop.add_writer(thing, log.append, "write")
            right.send(b"x")
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
            assert {"read", "write"} == set(log)
            assert loop.remove_reader(thing) is True
            assert loop.remove_writer(thing) is True


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("sock_recv", (1,)),
        ("sock_recv_into", (bytearray(1),)),
        ("sock_sendall", (b"x",)),
        ("sock_connect", (("127.0.0.1", 1),)),
        ("sock_accept", ()),
        ("sock_recvfrom", (1,)),
        ("sock_recvfrom_into", (bytearray(1),)),
        ("sock_sendto", (b"x", ("127.0.0.1", 1))),
    ],
)
def test_methods_that_wait_return_coroutines(aio, method, arguments):
    """So they do nothing before they are awaited, and `create_task` takes them."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            coroutine = getattr(loop, method)(sock, *arguments)
            assert asyncio.iscoroutine(coroutine)
            task = loop.create_task(coroutine)
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await task

    run(aio, main())


@newer((3, 14))
@pytest.mark.skipif(sys.version_info < (3, 14), reason="since 3.14")
@pytest.mark.parametrize("eager", [True, False, None])
def test_create_task_takes_eager_start(aio, eager):
    async def main() -> None:
        log: list[int] = []

        async def child() -> None:
            log.append(1)

        task = asyncio.get_running_loop().create_task(child(), eager_start=eager)
        assert log == [1] * bool(eager)
        await task
        assert log == [1]

    run(aio, main())


def test_asynchronous_generators_are_closed(aio):
    log: list[str] = []

    async def generator() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    async def main() -> None:
        dropped = generator()
        async for _ in dropped:
            break
        del dropped
        gc.collect()
        await until(lambda: log == ["closed"])
        kept.append(generator())
        await kept[0].__anext__()

    kept: list[Any] = []
    run(aio, main())
    assert log == ["closed", "closed"]


def test_a_signal_right_after_its_handler_was_set(aio, loop):
    """The handler is there when `add_signal_handler` returns, and what was there before when it is removed."""
    log: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    for n in range(20):
        loop.add_signal_handler(signal.SIGUSR1, log.append, n)
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.call_later(0.001, loop.stop)
        while len(log) <= n:
            loop.run_forever()
            loop.call_later(0.001, loop.stop)
    assert log == list(range(20))
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.skipif(STDLIB, reason="asyncio's half-made loop complains in its __del__")
def test_a_loop_without_descriptors_is_an_error_and_leaves_nothing(aio):
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with no_descriptors_left(), pytest.raises(OSError, match="Too many open files") as info:
        aio.new_event_loop()
    assert info.value.errno == errno.EMFILE
    del info
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    aio.new_event_loop().close()


def test_importing_changes_nothing_of_others():
    succeeds(
        """
        import asyncio, importlib, ssl, sys, socket
        modules = [asyncio, asyncio.events, asyncio.streams, ssl, socket, socket.socket, ssl.SSLContext]
        before = [dict(vars(module)) for module in modules]
        importlib.import_module(sys.argv[1])
        for module, names in zip(modules, before):
            now = dict(vars(module))
            for name in names:
                assert now[name] is names[name], (module, name)
        """,
        "aioxide",
        aio=False,
    )


# -- names and addresses -----------------------------------------------------------------------------------------------------


LITERALS = [
    "127.0.0.1",
    "::1",
    "fe80::1%lo",
    "::ffff:127.0.0.1",
    "",
    None,
    b"127.0.0.1",
    "1",
    "127.1",
    "0x7f.1",
    "::",
    "[::1]",
]


@pytest.mark.parametrize("host", LITERALS, ids=repr)
def test_literals_resolve_as_the_socket_module_says(aio, host):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for port in (80, "80", b"80", None, 0, "http"):
            for family in (0, socket.AF_INET, socket.AF_INET6):
                for kind, proto in ((0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 0), (socket.SOCK_STREAM, 6)):
                    for flags in (0, socket.AI_PASSIVE, socket.AI_NUMERICHOST):
                        hints = {"family": family, "type": kind, "proto": proto, "flags": flags}
                        try:
                            expected = socket.getaddrinfo(host, port, **hints)
                        except socket.gaierror as error:
                            with pytest.raises(socket.gaierror) as info:
                                await loop.getaddrinfo(host, port, **hints)
                            assert info.value.args == error.args
                        else:
                            assert await loop.getaddrinfo(host, port, **hints) == expected

    run(aio, main())


def test_names_are_resolved_beside_a_busy_executor(aio):
    """Functions that block every thread of the default executor do not keep names from being looked up."""
    if STDLIB:
        pytest.skip("asyncio looks them up in the default executor")
    free = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        busy = [loop.run_in_executor(None, free.wait, 50) for _ in range(40)]
        try:
            assert await asyncio.wait_for(loop.getaddrinfo("localhost", 80), 40)
            assert await asyncio.wait_for(loop.getnameinfo(("127.0.0.1", 80)), 40)
        finally:
            free.set()
        await asyncio.gather(*busy)

    run(aio, main())


def test_an_empty_host_is_every_interface(aio):
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "", 0, family=socket.AF_INET)
        assert server.sockets[0].getsockname()[0] == "0.0.0.0"
        server.close()

    run(aio, main())


def test_a_connection_without_descriptors_is_an_error_and_leaves_nothing(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Log] = []

        def factory() -> Log:
            made.append(Log())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for make in (
            lambda: loop.create_connection(asyncio.Protocol, *address),
            lambda: loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address),
        ):
            gc.collect()
            before = len(os.listdir("/proc/self/fd"))
            with no_descriptors_left(), pytest.raises(OSError, match="Too many open files") as info:
                await make()
            assert info.value.errno == errno.EMFILE
            del info
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) == before
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        transport.abort()
        await until(lambda: made and made[0].lost.done())
        server.close()

    run(aio, main())


# -- transports ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_writing_after_the_end_is_no_error(aio, ending):
    async def main() -> None:
        async with connected() as (transport, protocol, _):
            getattr(transport, ending)()
            transport.write(b"x")
            if not STDLIB:
                transport.writelines([b"x"])
            await protocol.lost
            for _ in range(3):
                transport.write(b"x")
            assert transport.get_write_buffer_size() == 0
            assert protocol.events == ["made", "lost"]

    run(aio, main())


def test_writelines_heeds_the_marks(aio):
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            transport.writelines([MANY, MANY])
            assert protocol.events == ["made", "pause"]
            assert await receive(peer, 2 * len(MANY)) == MANY * 2
            await until(lambda: protocol.events == ["made", "pause", "resume"])

    if STDLIB and (3, 12) <= sys.version_info < (3, 12, 8):
        pytest.skip("asyncio forgot it in these versions")
    if STDLIB and (3, 13) <= sys.version_info < (3, 13, 1):
        pytest.skip("asyncio forgot it in these versions")
    run(aio, main())


def test_a_waiting_write_keeps_its_bytes(aio):
    """Whatever the program does to what it has written, and from whatever it was written."""
    if STDLIB:
        pytest.skip("asyncio sends what is in the memory of a `writelines` by then")

    async def main() -> None:
        async with connected() as (transport, _, peer):
            transport.write(MANY)  # so that everything else has to wait
            expected = bytearray(MANY)
            for kind in (
                bytearray,
                lambda data: memoryview(bytearray(data)),
                lambda data: memoryview(array.array("B", data)),
            ):
                data = kind(b"0123456789" * 100)
                transport.write(data)
                transport.writelines([data, data])
                expected += bytes(data) * 3
                view = memoryview(data)
                view[:] = bytes(len(view))
            assert await receive(peer, len(expected)) == expected

    run(aio, main())
