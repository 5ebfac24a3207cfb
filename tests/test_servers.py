"""create_server, create_unix_server, and the Server that they give."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from benchmarks.endurance import look
from benchmarks.network import served
from tests.support import STDLIB, Reports, newer, run, until


class Echo(asyncio.Protocol):
    made: list[Echo]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Any) -> None:
        self.lost = True


@contextlib.asynccontextmanager
async def serving(factory: Any = Echo, **kwargs: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A server, and where it listens."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0, **kwargs)
    try:
        yield server, server.sockets[0].getsockname() if server.sockets else None
    finally:
        server.close()


async def connect(address: Any) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if isinstance(address, (str, bytes)) else socket.AF_INET)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 + max(int(fd) for fd in os.listdir("/proc/self/fd")), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


async def ask(sock: socket.socket, data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, data)
    return await asyncio.wait_for(loop.sock_recv(sock, 1000), 5)


# -- serving ---------------------------------------------------------------------------------------------------------------


def test_many_connections(aio):
    async def main() -> None:
        async with serving() as (server, address):
            assert server.is_serving()
            assert server.get_loop() is asyncio.get_running_loop()
            clients = await asyncio.gather(*(connect(address) for _ in range(150)))
            answers = await asyncio.gather(*(ask(sock, b"%d" % n) for n, sock in enumerate(clients)))
            assert answers == [b"%d" % n for n in range(150)]
            for sock in clients:
                sock.close()

    run(aio, main())


def test_class(aio):
    async def main() -> None:
        async with serving() as (server, _):
            assert isinstance(server, asyncio.base_events.Server)
            assert isinstance(server, asyncio.AbstractServer)
            if not STDLIB:
                assert isinstance(server, aio.Server)
            assert repr(server).startswith("<Server sockets=(<asyncio.TransportSocket fd=")
            assert weakref.ref(server)() is server
        assert repr(server) == "<Server sockets=()>"
        assert server.sockets == ()
        assert not server.is_serving()

    run(aio, main())


def test_start_serving_later(aio):
    async def main() -> None:
        async with serving(start_serving=False) as (server, address):
            assert not server.is_serving()
            with pytest.raises(ConnectionRefusedError):
                await connect(address)
            await server.start_serving()
            await server.start_serving()
            assert server.is_serving()
            with await connect(address) as sock:
                assert await ask(sock, b"x") == b"x"

    run(aio, main())


def test_serve_forever(aio):
    async def main() -> None:
        async with serving(start_serving=False) as (server, address):
            task = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0.01)
            with pytest.raises(RuntimeError, match=r"is already being awaited on serve_forever\(\)"):
                await server.serve_forever()
            with await connect(address) as sock:
                assert await ask(sock, b"x") == b"x"
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 5)
            assert not server.is_serving()
            with pytest.raises(RuntimeError, match="is closed"):
                await server.serve_forever()

    run(aio, main())


def test_serve_forever_ends_with_close(aio):
    async def main() -> None:
        async with serving() as (server, _):
            task = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0.01)
            server.close()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 5)

    run(aio, main())


def test_context_manager(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await connect(address)

    run(aio, main())


@newer((3, 12))
def test_wait_closed_waits_for_connections(aio):
    if aio.Server.wait_closed and __import__("sys").version_info < (3, 12, 1):
        pytest.skip("before 3.12.1 it does not wait")

    async def main() -> None:
        async with serving() as (server, address):
            sock = await connect(address)
            assert await ask(sock, b"x") == b"x"
            waiting = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            server.close()
            await asyncio.sleep(0.01)
            assert not waiting.done(), "a connection is left"
            assert await ask(sock, b"y") == b"y"
            sock.close()
            await asyncio.wait_for(waiting, 5)
            await server.wait_closed()

    run(aio, main())


@newer((3, 13))
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_clients(aio, method):
    async def main() -> None:
        protocols: list[Echo] = []

        def factory() -> Echo:
            protocols.append(Echo())
            return protocols[-1]

        async with serving(factory) as (server, address):
            clients = [await connect(address) for _ in range(3)]
            await until(lambda: len(protocols) == 3)
            clients[0].close()
            await until(lambda: protocols[0].lost)
            getattr(server, method)()
            await until(lambda: all(protocol.lost for protocol in protocols))
            server.close()
            await asyncio.wait_for(server.wait_closed(), 5)
            for sock in clients:
                sock.close()

    run(aio, main())


def test_abandoned_connection_leaves_the_server(aio):
    """A transport that nobody holds is collected, and the server does not wait for it."""

    class Forgets(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.pause_reading()

    async def main() -> None:
        async with serving(Forgets) as (server, address):
            with await connect(address):
                await asyncio.sleep(0.02)
                gc.collect()
                server.close()
                await asyncio.wait_for(server.wait_closed(), 5)

    if STDLIB:
        pytest.skip("asyncio counts it for ever before 3.13")
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        run(aio, main())


# -- arguments -------------------------------------------------------------------------------------------------------------


def test_wrong_arguments(aio, tmp_path):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            for kwargs, error, text in [
                ({}, ValueError, "Neither host/port nor sock were specified"),
                ({"host": "127.0.0.1", "port": 0, "sock": sock}, ValueError, "can not be specified at the same time"),
                ({"sock": datagrams}, ValueError, "A Stream Socket was expected, got"),
                ({"sock": sock, "ssl": True}, TypeError, "ssl argument must be an SSLContext or None"),
                ({"sock": sock, "ssl_handshake_timeout": 1}, ValueError, "ssl_handshake_timeout is only meaningful"),
                ({"sock": sock, "ssl_shutdown_timeout": 1}, ValueError, "ssl_shutdown_timeout is only meaningful"),
            ]:
                with pytest.raises(error, match=text):
                    await loop.create_server(Echo, **kwargs)
            for kwargs, error, text in [
                ({}, ValueError, "path was not specified, and no sock specified"),
                ({"path": "x", "sock": sock}, ValueError, "path and sock can not be specified at the same time"),
                ({"sock": sock}, ValueError, "A UNIX Domain Stream Socket was expected, got"),
                ({"path": "x", "ssl": False}, TypeError, "ssl argument must be an SSLContext or None"),
                ({"path": str(tmp_path / "no" / "such")}, FileNotFoundError, "No such file"),
            ]:
                with pytest.raises(error, match=text):
                    await loop.create_unix_server(Echo, **kwargs)

    run(aio, main())


def test_address_in_use(aio):
    async def main() -> None:
        async with serving() as (_, address):
            with pytest.raises(OSError, match="error while attempting to bind on address .*: .*address already in use"):
                await asyncio.get_running_loop().create_server(Echo, *address)
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(OSError, match="error while attempting to bind") as info:
                await asyncio.get_running_loop().create_server(Echo, ["127.0.0.1", "127.0.0.2"], address[1])
            assert info.value.errno == errno.EADDRINUSE
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) == before

    run(aio, main())


def test_several_hosts(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, ["127.0.0.1", "127.0.0.2", "127.0.0.1"], 0)
        assert sorted(sock.getsockname()[0] for sock in server.sockets) == ["127.0.0.1", "127.0.0.2"]
        for sock in server.sockets:
            with await connect(sock.getsockname()) as client:
                assert await ask(client, b"x") == b"x"
        server.close()

    run(aio, main())


def test_both_families(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, None, 0)
        families = {sock.family for sock in server.sockets}
        assert socket.AF_INET in families
        for sock in server.sockets:
            if sock.family == socket.AF_INET6:
                assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        server.close()

    run(aio, main())


def test_options(aio):
    async def main() -> None:
        async with serving(reuse_port=True, backlog=5) as (server, address):
            (sock,) = server.sockets
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
            second = await asyncio.get_running_loop().create_server(Echo, *address, reuse_port=True)
            second.close()
        if not STDLIB:
            async with serving(keep_alive=True, reuse_address=False) as (server, _):
                (sock,) = server.sockets
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)

    run(aio, main())


# -- Unix ------------------------------------------------------------------------------------------------------------------


def test_unix_server(aio, tmp_path):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for path in (str(tmp_path / "a"), os.fsencode(tmp_path / "b"), tmp_path / "c", f"\0aioxide-{os.getpid()}"):
            server = await loop.create_unix_server(Echo, path)
            where = server.sockets[0].getsockname()
            with await connect(where) as sock:
                assert await ask(sock, b"x") == b"x"
            server.close()
            await server.wait_closed()

    run(aio, main())


def test_stale_socket_is_replaced(aio, tmp_path):
    path = str(tmp_path / "s")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        server = await loop.create_unix_server(Echo, path)
        server.close()
        (tmp_path / "file").write_text("not a socket")
        with pytest.raises(OSError, match="is already in use") as info:
            await loop.create_unix_server(Echo, str(tmp_path / "file"))
        assert info.value.errno == errno.EADDRINUSE

    run(aio, main())


@newer((3, 13))
def test_socket_file_is_removed(aio, tmp_path):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = tmp_path / "s"
        server = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        server.close()
        assert not path.exists()
        server = await loop.create_unix_server(Echo, path, cleanup_socket=False)
        server.close()
        assert path.exists()
        server = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        path.unlink()
        other = await loop.create_unix_server(Echo, path, cleanup_socket=False)
        server.close()
        assert path.exists(), "it is somebody else's by now"
        other.close()

    run(aio, main())


# -- faults ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
def test_raising_factory(aio, debug):
    reports = Reports()
    calls = 0

    def factory() -> Echo:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError("factory")
        return Echo()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        async with serving(factory) as (_, address):
            with await connect(address) as sock:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1), 5) == b""
            with await connect(address) as sock:
                assert await ask(sock, b"x") == b"x"

    if STDLIB:
        pytest.skip("asyncio leaves the socket to the garbage collector")
    run(aio, main(), debug=debug)
    assert reports.messages == ["Error on transport creation for incoming connection"] * debug


def test_out_of_descriptors(aio):
    """EMFILE: the server says so, looks away, and recovers."""
    reports = Reports()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        async with serving() as (_, address):
            clients = [socket.socket() for _ in range(3)]
            with no_descriptors_left():
                for sock in clients:
                    sock.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        sock.connect(address)
                await until(lambda: reports.contexts)
                began = time.process_time()
                await asyncio.sleep(0.2)
                assert time.process_time() - began < 0.15, "it does not spin"
            assert set(reports.messages) == {"socket.accept() out of system resource"}
            assert len(reports.contexts) == 1 or STDLIB
            context = reports.contexts[0]
            assert context["exception"].errno == errno.EMFILE
            assert type(context["socket"]).__name__ == "TransportSocket"
            answers = await asyncio.wait_for(asyncio.gather(*(ask(sock, b"x") for sock in clients)), 5)
            assert answers == [b"x"] * 3
            for sock in clients:
                sock.close()

    run(aio, main())


def test_closed_while_it_looks_away(aio):
    reports = Reports()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(reports)
        async with serving() as (server, address):
            with socket.socket() as sock, no_descriptors_left():
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(address)
                await until(lambda: reports.contexts)
            server.close()
            await asyncio.sleep(1.1)
            assert len(reports.contexts) == 1

    if STDLIB:
        pytest.skip("asyncio tries to serve on the closed socket")
    run(aio, main())


def test_connections_that_come_and_go(aio):
    """Peers that are gone before they are accepted, and resets at once."""

    async def main() -> None:
        protocols: list[Echo] = []

        def factory() -> Echo:
            protocols.append(Echo())
            return protocols[-1]

        async with serving(factory) as (server, address):
            for _ in range(100):
                sock = socket.create_connection(address)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                sock.close()
            with await connect(address) as sock:
                assert await ask(sock, b"x") == b"x"
            await until(lambda: all(protocol.lost for protocol in protocols))
            server.close()
            await asyncio.wait_for(server.wait_closed(), 5)

    run(aio, main())


def test_server_is_collected(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()

        class Factory:
            def __call__(self) -> Echo:
                return Echo()

        factory = Factory()
        reference = weakref.ref(factory)
        server = await loop.create_server(factory, "127.0.0.1", 0)
        factory.server = server
        server.close()
        await server.wait_closed()
        del server, factory
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None

    run(aio, main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_fork_leaves_the_server_alone(aio):
    async def main() -> None:
        async with serving() as (_, address):
            sock = await connect(address)
            assert await ask(sock, b"x") == b"x"
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            assert await ask(sock, b"y") == b"y"
            with await connect(address) as other:
                assert await ask(other, b"z") == b"z"
            sock.close()

    run(aio, main())


# -- many of them: benchmarks/endurance.py in small ----------------------------------------------------------------------


def converse_with(where: str) -> None:
    host, port = where.removeprefix("tcp:").rsplit(":", 1)
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(b"hello")
        assert sock.recv(10) == b"hello"


@pytest.mark.skipif(STDLIB, reason="about aioxide's own size")
def test_connections_leave_nothing_behind():
    with served("aioxide", "protocol") as (where, process):
        samples = []
        for _ in range(6):
            for _ in range(200):
                converse_with(where)
            time.sleep(0.05)  # the last one has ended for the server, too
            samples.append(look(process))
    for what, allowed in {"resident": 192 * 1024, "descriptors": 4, "objects": 50, "blocks": 100}.items():
        values = [sample[what] for sample in samples]
        assert min(values[4:]) - max(values[2:4]) <= allowed, values


@pytest.mark.skipif(STDLIB, reason="about aioxide's own size")
def test_idle_connections_are_small():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(3000, hard - 200)
    try:
        with served("aioxide", "protocol") as (where, process), contextlib.ExitStack() as stack:
            host, port = where.removeprefix("tcp:").rsplit(":", 1)
            converse_with(where)
            before = look(process)
            for _ in range(count):
                stack.enter_context(socket.create_connection((host, int(port))))
            converse_with(where)
            after = look(process)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # (the connection before them may have been open still when the server was looked at)
    assert after["descriptors"] - before["descriptors"] >= count - 1
    assert (after["resident"] - before["resident"]) / count < 1000
