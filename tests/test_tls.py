"""TLS: `ssl=` of connections and servers, `start_tls`, TLS in TLS; other implementations at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import certificates, support
from tests.certificates import client_context, server_context
from tests.support import STDLIB, Reports, place_of, run, until

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
MANY = bytes(range(256)) * 20480  # 5 MiB

versions = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLSv1.2", "TLSv1.3"])
families = pytest.mark.parametrize("family", ["tcp", "unix"])


class Log(support.Log):
    """How the data was cut up is the network's affair."""

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        again = self.events[-1] == "data"
        super().data_received(data)
        if again:
            del self.events[-1]


class Echo(Log):
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


class BufferedLog(Log, asyncio.BufferedProtocol):
    """The same with a buffer of its own, which is small."""

    SIZE = 1000
    view = True

    def get_buffer(self, sizehint: int) -> Any:
        self.buffer = bytearray(self.SIZE)
        return memoryview(self.buffer) if self.view else self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert nbytes > 0
        self.data_received(bytes(self.buffer[:nbytes]))


@contextlib.asynccontextmanager
async def connected(
    family: str = "tcp",
    client: Callable[[], Any] = Log,
    server: Callable[[], Any] = Log,
    *,
    client_tls: ssl.SSLContext | None = None,
    server_tls: ssl.SSLContext | None = None,
    hostname: str = "localhost",
    **options: Any,
) -> AsyncIterator[tuple[Any, Any]]:
    """Two protocols that are connected by TLS."""
    loop = asyncio.get_running_loop()
    made = []

    def factory() -> Any:
        made.append(server())
        return made[-1]

    with contextlib.ExitStack() as stack:
        if family == "unix":
            path = f"\0aioxide-{os.getpid()}-{time.monotonic_ns()}"
            serving = await loop.create_unix_server(factory, path, ssl=server_tls or server_context())
            connecting = loop.create_unix_connection(
                client, path, ssl=client_tls or client_context(), server_hostname=hostname, **options
            )
        else:
            serving = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_tls or server_context())
            port = serving.sockets[0].getsockname()[1]
            connecting = loop.create_connection(
                client, "127.0.0.1", port, ssl=client_tls or client_context(), server_hostname=hostname, **options
            )
        stack.callback(serving.close)
        _, ours = await connecting
        await made[0].made.wait()
        try:
            yield ours, made[0]
        finally:
            for protocol in (ours, made[0]):
                protocol.transport.abort()
            await asyncio.gather(ours.lost, made[0].lost)


def reports() -> Reports:
    found = Reports()
    asyncio.get_running_loop().set_exception_handler(found)
    return found


# -- life ------------------------------------------------------------------------------------------------------------------


@families
@versions
def test_conversation(aio, family, version):
    async def main() -> None:
        tls = {"client_tls": client_context(version), "server_tls": server_context(version)}
        async with connected(family, server=Echo, **tls) as (client, server):
            transport = client.transport
            assert isinstance(transport, asyncio.Transport)
            assert type(transport).__name__ == "_SSLProtocolTransport"
            transport.write(b"hello")
            assert await client.receive(5) == b"hello"
            assert transport.is_reading()
            assert not transport.is_closing()
            transport.close()
            assert transport.is_closing()
            assert await client.lost is None
            assert await server.lost is None
            assert client.events == ["made", "data", "eof", "lost"]
            assert server.events == ["made", "data", "eof", "lost"]

    run(aio, main())


@versions
def test_extra_info(aio, version):
    async def main() -> None:
        tls = {"client_tls": client_context(version), "server_tls": server_context(version)}
        async with connected(**tls) as (client, server):
            info = client.transport.get_extra_info
            assert info("sslcontext") is tls["client_tls"]
            assert isinstance(info("ssl_object"), ssl.SSLObject)
            assert info("ssl_object").version() == version.name.replace("v1_", "v1.")
            assert info("cipher") == info("ssl_object").cipher()
            assert info("compression", "default") is None
            assert ("DNS", "localhost") in info("peercert")["subjectAltName"]
            assert server.transport.get_extra_info("peercert", "default") is None
            assert info("socket").family == socket.AF_INET
            assert info("peername") == server.transport.get_extra_info("sockname")
            assert info("sockname") == server.transport.get_extra_info("peername")
            assert info("nothing", 3) == 3
            assert info("nothing") is None
            client.transport.abort()
            await client.lost
            assert info("ssl_object").version() is not None
            assert info("socket", 4) == 4

    run(aio, main())


def test_a_transport_has_a_dict_and_weak_references(aio):
    async def main() -> None:
        async with connected() as (client, _):
            client.transport.thing = 3
            assert client.transport.thing == 3
            assert weakref.ref(client.transport)() is client.transport
            assert client.transport._ssl_protocol._app_transport is client.transport
            assert client.transport._ssl_protocol._transport.get_protocol() is client.transport._ssl_protocol
            assert client.transport._start_tls_compatible is True
            assert isinstance(client.transport, asyncio.sslproto._SSLProtocolTransport)
            assert client.transport.can_write_eof() is False
            with pytest.raises(NotImplementedError):
                client.transport.write_eof()

    run(aio, main())


def test_nothing_is_left_of_a_closed_connection(aio):
    async def main() -> tuple[Any, Any]:
        async with connected(server=Echo) as (client, _):
            client.transport.write(b"x")
            await client.receive(1)
            references = weakref.ref(client.transport), weakref.ref(client.transport._ssl_protocol)
            client.transport.close()
            await client.lost
            client.transport = Log()  # (what `connected` aborts)
            client.transport.abort = lambda: None
            await asyncio.sleep(0)
            return references

    gc.collect()
    gc.disable()
    try:
        references = run(aio, main())
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


def test_context_of_callbacks(aio):
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")
    seen = []

    class Client(Log):
        def data_received(self, data: bytes) -> None:
            seen.append(var.get())
            super().data_received(data)

    async def main() -> None:
        var.set("opener")
        async with connected(client=Client, server=Echo) as (client, _):
            client.transport.write(b"x")
            await client.receive(1)
        assert seen == ["opener"]

    run(aio, main())


# -- data ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [Log, BufferedLog])
@pytest.mark.parametrize("size", [1, 1000, 16384, 16385, 100_000, len(MANY)])
@versions
def test_no_byte_is_lost(aio, version, size, protocol):
    async def main() -> None:
        tls = {"client_tls": client_context(version), "server_tls": server_context(version)}
        async with connected(client=protocol, server=Echo, **tls) as (client, _):
            for _ in range(2):
                client.transport.write(MANY[:size])
                assert await client.receive(size) == MANY[:size]

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio reads into a copy of a slice of a bytearray")
def test_a_buffer_may_be_a_bytearray(aio):
    class Client(BufferedLog):
        view = False
        SIZE = 50_000

    async def main() -> None:
        async with connected(client=Client, server=Echo) as (client, _):
            client.transport.write(MANY[:200_000])
            assert await client.receive(200_000) == MANY[:200_000]

    run(aio, main())


def test_many_tiny_records(aio):
    async def main() -> None:
        async with connected(server=Echo) as (client, _):
            for index in range(3000):
                client.transport.write(MANY[index : index + 1])
            assert await client.receive(3000) == MANY[:3000]

    run(aio, main())


def test_what_is_written_may_be_changed_afterwards(aio):
    async def main() -> None:
        async with connected(server=Echo) as (client, _):
            data = bytearray(b"abc" * 30000)
            client.transport.write(data)
            client.transport.write(memoryview(data)[3:])
            client.transport.writelines([b"1", bytearray(b"2"), memoryview(b"3")])
            data[:] = bytes(len(data))
            data.clear  # noqa: B018
            assert await client.receive(179_997 + 3) == b"abc" * 30000 + b"abc" * 29999 + b"123"

    run(aio, main())


def test_only_bytes_can_be_written(aio):
    async def main() -> None:
        async with connected() as (client, _):
            with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got str"):
                client.transport.write("text")
            client.transport.write(b"")
            with pytest.raises(TypeError):
                client.transport.writelines([1])
            found = reports()
            client.transport.writelines(["text"])
            assert found.messages == ["Fatal error on SSL protocol"]
            assert isinstance(await client.lost, TypeError)

    run(aio, main())


class Peer:
    """TLS by hand, over any socket."""

    def __init__(self, context: ssl.SSLContext | None = None, *, server_side: bool = False) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = context or (server_context() if server_side else client_context())
        name = None if server_side else "localhost"
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side, server_hostname=name)

    async def over(self, sock: socket.socket, what: Callable[[], Any], piece: int | None = None) -> Any:
        """Does something until the engine is content; `piece`: sends so many bytes at a time."""
        loop = asyncio.get_running_loop()
        while True:
            again = False
            try:
                result = what()
            except ssl.SSLWantReadError:
                again = True
            data = self.outgoing.read()
            step = piece or max(len(data), 1)
            for start in range(0, len(data), step):
                await loop.sock_sendall(sock, data[start : start + step])
                if piece:
                    await asyncio.sleep(0)
            if not again:
                return result
            received = await loop.sock_recv(sock, 1 << 16)
            if not received:
                raise EOFError
            self.incoming.write(received)


@contextlib.asynccontextmanager
async def by_hand(
    protocol: Callable[[], Any] = Log, context: ssl.SSLContext | None = None, piece: int | None = None, **options: Any
) -> AsyncIterator[tuple[Any, Peer, socket.socket]]:
    """A server's protocol, and a client that the test moves by hand."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    peer = Peer()
    accepting = loop.create_task(
        loop.connect_accepted_socket(protocol, ours, ssl=context or server_context(), **options)
    )
    await peer.over(theirs, peer.object.do_handshake, piece)
    _, made = await accepting
    try:
        yield made, peer, theirs
    finally:
        theirs.close()
        made.transport.abort()
        await made.lost


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
def test_records_may_come_in_pieces(aio, piece):
    async def main() -> None:
        async with by_hand(Echo, piece=piece) as (_, peer, sock):
            await peer.over(sock, lambda: peer.object.write(b"x" * 1000), piece)
            assert await peer.over(sock, lambda: peer.object.read(5000)) == b"x" * 1000

    run(aio, main())


def test_records_cut_at_every_byte(aio):
    """Two records, cut in two at every place: what comes after the cut changes nothing."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with by_hand() as (protocol, peer, sock):
            length = None
            cut = 0
            while length is None or cut <= length:
                peer.object.write(b"a" * 40)
                peer.object.write(b"b" * 41)
                data = peer.outgoing.read()
                length = len(data)
                await loop.sock_sendall(sock, data[:cut])
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                await loop.sock_sendall(sock, data[cut:])
                assert await protocol.receive(81) == b"a" * 40 + b"b" * 41
                cut += 1

    run(aio, main())


class Relay(asyncio.Transport):
    """A transport of a user's: what is written goes to a function."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self.write = write
        self.closed: list[Any] = []
        self.calls: list[str] = []

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"relay": self}.get(name, default)

    def is_closing(self) -> bool:
        return bool(self.closed)

    def close(self) -> None:
        self.closed.append("close")

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, exc: Any) -> None:
        self.closed.append(exc)

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def feed(protocol: Any, data: bytes, piece: int = 1 << 20) -> None:
    """What a transport does with a BufferedProtocol."""
    while data:
        buffer = memoryview(protocol.get_buffer(-1))
        count = min(len(buffer), len(data), piece)
        buffer[:count] = data[:count]
        del buffer
        protocol.buffer_updated(count)
        data = data[count:]


@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
def test_over_a_transport_of_the_user(aio, piece):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        app, peer = Log(), Peer()
        protocol = aio.sslproto.SSLProtocol(loop, app, server_context(), waiter, server_side=True)
        assert isinstance(protocol, asyncio.BufferedProtocol)
        answers = bytearray()
        relay = Relay(answers.extend)
        protocol.connection_made(relay)

        def talk(what: Callable[[], Any]) -> Any:
            for _ in range(10):
                try:
                    return what()
                except ssl.SSLWantReadError:
                    feed(protocol, peer.outgoing.read(), piece)
                    peer.incoming.write(bytes(answers))
                    answers.clear()
            raise AssertionError("no end")

        talk(peer.object.do_handshake)
        feed(protocol, peer.outgoing.read(), piece)
        await waiter
        assert app.events == ["made"]
        assert app.transport.get_extra_info("relay") is relay
        peer.object.write(MANY[:100_000])
        feed(protocol, peer.outgoing.read(), piece * 1000)
        assert bytes(app.data) == MANY[:100_000]
        app.transport.write(b"answer")
        assert talk(lambda: peer.object.read(100)) == b"answer"
        with pytest.raises(ssl.SSLWantReadError):
            peer.object.unwrap()
        feed(protocol, peer.outgoing.read())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert app.events == ["made", "data", "eof"]
        assert relay.closed == ["close"]
        protocol.connection_lost(None)
        assert await app.lost is None

    run(aio, main())


class Chunked(Log):
    """Writes down what it was told and with which bytes, whatever the size of the pieces."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if b"!" in data:
            self.transport.close()


actions = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 40_000)),
        st.tuples(st.just("writelines"), st.lists(st.integers(0, 5_000), max_size=4)),
        st.tuples(st.just("answer"), st.integers(1, 40_000)),
        st.tuples(st.just("pause"), st.none()),
        st.tuples(st.just("resume"), st.none()),
        st.tuples(st.just("turn"), st.none()),
    ),
    max_size=12,
)
endings = st.sampled_from(["close", "abort", "peer closes", "peer ends", "peer asks to close", "garbage"])


def conversation(aio: Any, piece: int, steps: list[Any], ending: str, protocol: Any = Chunked) -> Any:
    """A random conversation, cut into pieces: what the peer got, what the protocol was told, how it was lost."""

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        found = reports()
        app, peer = protocol(), Peer()
        tls = aio.sslproto.SSLProtocol(loop, app, server_context(), None, server_side=True)
        outgoing = bytearray()
        relay = Relay(outgoing.extend)
        got = bytearray()
        tls.connection_made(relay)

        def exchange() -> None:
            for _ in range(100):
                data = peer.outgoing.read()
                if relay.closed:
                    break
                feed(tls, data, piece)
                if not data and not outgoing:
                    break
                peer.incoming.write(bytes(outgoing))
                outgoing.clear()
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                    while data := peer.object.read(1 << 16):
                        got.extend(data)

        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.object.do_handshake()
            exchange()
        assert app.events == ["made"]
        expected = bytearray()
        for what, size in steps:
            if what == "write":
                app.transport.write(b"w" * size)
                expected += b"w" * size
            elif what == "writelines":
                app.transport.writelines([b"l" * one for one in size])
                expected += b"l" * sum(size)
            elif what == "answer":
                peer.object.write(b"a" * size)
                exchange()
            elif what == "pause":
                app.transport.pause_reading()
            elif what == "resume":
                app.transport.resume_reading()
            elif what == "turn":
                await asyncio.sleep(0)
            exchange()
        app.transport.resume_reading()
        await asyncio.sleep(0)
        exchange()
        assert got == expected
        if ending == "close":
            app.transport.close()
        elif ending == "abort":
            app.transport.abort()
        elif ending == "peer closes":
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.object.unwrap()
        elif ending == "peer ends":
            tls.eof_received()
        elif ending == "peer asks to close":
            peer.object.write(b"bye!")
        else:
            feed(tls, b"\x17\x03\x03\x00\x20" + bytes(32), piece)
        exchange()
        await asyncio.sleep(0)
        closed = [type(one) if isinstance(one, BaseException) else one for one in relay.closed]
        tls.connection_lost(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return app.events, bytes(app.data), closed, found.messages

    return run(aio, main())


@pytest.mark.deadline(300)
@settings(
    max_examples=int(os.environ.get("AIOXIDE_FUZZ", "60")), deadline=None, suppress_health_check=list(HealthCheck)
)
@given(st.sampled_from([1, 2, 5, 100, 5000, 1 << 20]), actions, endings)
def test_random_conversations(aio, piece, steps, ending):
    """Whatever is said, and however it is cut, asyncio's own protocol tells and does the same."""
    if piece < 100:
        steps = [(what, size % 500 if isinstance(size, int) else size) for what, size in steps]
    assert conversation(aio, piece, steps, ending) == conversation(asyncio, piece, steps, ending)


# -- the user's context ----------------------------------------------------------------------------------------------------


@versions
def test_alpn(aio, version):
    async def main() -> None:
        server_tls, client_tls = server_context(version), client_context(version)
        server_tls.set_alpn_protocols(["h2", "http/1.1"])
        client_tls.set_alpn_protocols(["http/1.1"])
        async with connected(client_tls=client_tls, server_tls=server_tls) as (client, server):
            for protocol in (client, server):
                chosen = protocol.transport.get_extra_info("ssl_object").selected_alpn_protocol()
                assert chosen == "http/1.1"

    run(aio, main())


@versions
def test_sni_callback_chooses_the_certificate(aio, version):
    async def main() -> None:
        server_tls, other_tls = server_context(version), server_context(version, certificate=certificates.OTHER)
        asked = []

        def choose(sslobject: Any, name: str, context: Any) -> None:
            asked.append((type(sslobject), name, context is server_tls))
            if name == "other.example":
                sslobject.context = other_tls

        server_tls.sni_callback = choose
        for name in ("localhost", "other.example"):
            tls = {"client_tls": client_context(version), "server_tls": server_tls}
            async with connected(hostname=name, **tls) as (client, _):
                names = client.transport.get_extra_info("peercert")["subjectAltName"]
                assert ("DNS", name) in names
        assert asked == [(ssl.SSLObject, name, True) for name in ("localhost", "other.example")]

    run(aio, main())


@versions
def test_client_certificate(aio, version):
    async def main() -> None:
        server_tls, client_tls = server_context(version), client_context(version)
        server_tls.verify_mode = ssl.CERT_REQUIRED
        server_tls.load_verify_locations(certificates.CA)
        client_tls.load_cert_chain(certificates.CLIENT)
        async with connected(client_tls=client_tls, server_tls=server_tls) as (_, server):
            subject = server.transport.get_extra_info("peercert")["subject"]
            assert subject == ((("commonName", "a client"),),)

    run(aio, main())


def test_client_without_certificate_is_refused(aio):
    async def main() -> None:
        found = reports()
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        server_tls = server_context(TLS12)
        server_tls.verify_mode = ssl.CERT_REQUIRED
        server_tls.load_verify_locations(certificates.CA)
        serving = await loop.create_server(Log, "127.0.0.1", 0, ssl=server_tls)
        port = serving.sockets[0].getsockname()[1]
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await loop.create_connection(Log, "127.0.0.1", port, ssl=client_context(), server_hostname="localhost")
        await until(lambda: found.contexts)
        (context,) = found.contexts
        assert context["message"] == "Error on transport creation for incoming connection"
        assert isinstance(context["exception"], ssl.SSLError)
        assert isinstance(context["protocol"], Log)
        assert context["protocol"].events == []
        assert type(context["transport"]).__name__ == "_SSLProtocolTransport"
        serving.close()
        await serving.wait_closed()

    run(aio, main())


def test_post_handshake_authentication(aio):
    async def main() -> None:
        server_tls, client_tls = server_context(TLS13), client_context(TLS13)
        server_tls.load_verify_locations(certificates.CA)
        server_tls.verify_mode = ssl.CERT_REQUIRED
        server_tls.post_handshake_auth = client_tls.post_handshake_auth = True
        client_tls.load_cert_chain(certificates.CLIENT)
        async with connected(client_tls=client_tls, server_tls=server_tls) as (client, server):
            tls = server.transport.get_extra_info("ssl_object")
            assert tls.getpeercert() is None or tls.getpeercert() == {}
            tls.verify_client_post_handshake()
            server.transport.write(b"who are you?")
            assert await client.receive(12) == b"who are you?"
            client.transport.write(b"me")
            assert await server.receive(2) == b"me"
            assert tls.getpeercert()["subject"] == ((("commonName", "a client"),),)

    run(aio, main())


def test_key_log(aio, tmp_path):
    async def main() -> None:
        client_tls = client_context()
        client_tls.keylog_filename = str(tmp_path / "keys")
        async with connected(client_tls=client_tls):
            assert "TRAFFIC_SECRET" in (tmp_path / "keys").read_text()

    run(aio, main())


def test_class_of_the_ssl_object(aio):
    """An SSLObject of the program's, whose methods count."""
    calls = []

    class Mine(ssl.SSLObject):
        def read(self, *args: Any) -> Any:
            calls.append("read")
            return super().read(*args)

        def write(self, data: Any) -> int:
            calls.append("write")
            return super().write(data)

    async def main() -> None:
        client_tls = client_context()
        client_tls.sslobject_class = Mine
        async with connected(client_tls=client_tls, server=Echo) as (client, _):
            client.transport.write(b"x")
            assert await client.receive(1) == b"x"
            assert isinstance(client.transport.get_extra_info("ssl_object"), Mine)
        assert {"read", "write"} <= set(calls)

    run(aio, main())


def test_default_context(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        serving = await loop.create_server(Log, "127.0.0.1", 0, ssl=server_context())
        port = serving.sockets[0].getsockname()[1]
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(Log, "127.0.0.1", port, ssl=True)
        serving.close()
        await serving.wait_closed()

    run(aio, main())


def test_a_self_signed_certificate_is_good_for_who_trusts_it(aio):
    """It is an authority, too; what matters is what OpenSSL thinks of that."""

    async def main() -> None:
        client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client_tls.load_verify_locations(certificates.SELF_SIGNED)
        server_tls = server_context(certificate=certificates.SELF_SIGNED)
        async with connected(server=Echo, client_tls=client_tls, server_tls=server_tls) as (client, _):
            client.transport.write(b"hello")
            assert await client.receive(5) == b"hello"
            assert ("DNS", "localhost") in client.transport.get_extra_info("peercert")["subjectAltName"]

    run(aio, main())


def test_the_settings_of_a_context_count(aio):
    """Those that were made in Python, before and after the first connection."""

    async def cipher(client_tls: ssl.SSLContext) -> tuple[str, str, int]:
        async with connected(client_tls=client_tls) as (client, server):
            found = client.transport.get_extra_info("cipher")
            assert server.transport.get_extra_info("cipher") == found
            return found

    async def main() -> None:
        found = reports()
        client_tls = client_context(TLS12)
        for name in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"):
            client_tls.set_ciphers(name)
            assert (await cipher(client_tls))[0] == name
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            async with connected(client_tls=client_tls, server_tls=server_context(TLS13)):
                pass
        client_tls = client_context()
        client_tls.check_hostname = False
        async with connected(client_tls=client_tls, hostname="wrong.example"):
            pass
        client_tls.verify_mode = ssl.CERT_NONE
        async with connected(client_tls=client_tls, server_tls=server_context(certificate=certificates.SELF_SIGNED)):
            pass
        await asyncio.sleep(0.01)
        assert found.contexts == []

    run(aio, main())


@pytest.mark.parametrize("hostname", ["wrong.example", "localhost"])
def test_verification_failure(aio, hostname):
    async def main() -> None:
        found = reports()
        tls = client_context()
        if hostname == "localhost":
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which trusts nobody
        with pytest.raises(ssl.SSLCertVerificationError) as raised:
            async with connected(client_tls=tls, hostname=hostname):
                pass
        assert raised.value.verify_code == (62 if hostname == "wrong.example" else 20)
        await asyncio.sleep(0.01)
        assert found.contexts == []

    run(aio, main())


# -- the end ---------------------------------------------------------------------------------------------------------------


def test_a_missing_close_notify_is_an_end(aio):
    """As asyncio has it: a protocol that must know whether something was cut off has to count."""

    async def main() -> None:
        async with by_hand() as (protocol, peer, sock):
            await peer.over(sock, lambda: peer.object.write(b"half"))
            assert await protocol.receive(4) == b"half"
            sock.shutdown(socket.SHUT_WR)
            assert await protocol.lost is None
            assert protocol.events == ["made", "data", "eof", "lost"]

    run(aio, main())


def test_a_reset_is_an_error(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made = []
        serving = await loop.create_server(lambda: made.append(Log()) or made[-1], "127.0.0.1", 0, ssl=server_context())
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, serving.sockets[0].getsockname())
        peer = Peer()
        await peer.over(sock, peer.object.do_handshake)
        await until(lambda: made)
        await made[0].made.wait()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        assert isinstance(await made[0].lost, ConnectionResetError)
        assert made[0].events == ["made", "lost"]
        serving.close()

    run(aio, main())


def test_garbage_is_fatal(aio):
    async def main() -> None:
        found = reports()
        async with by_hand() as (protocol, _, sock):
            await asyncio.get_running_loop().sock_sendall(sock, b"GET / HTTP/1.1\r\n\r\n")
            exc = await protocol.lost
            assert isinstance(exc, ssl.SSLError)
            assert protocol.events == ["made", "lost"]
        assert found.contexts == []

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio drops what came in the same piece as a record that is no good")
@pytest.mark.parametrize("protocol", [Log, BufferedLog])
def test_what_came_before_garbage_is_delivered(aio, protocol):
    async def main() -> None:
        async with by_hand(protocol) as (protocol_, peer, sock):
            peer.object.write(b"good")
            data = peer.outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32)
            await asyncio.get_running_loop().sock_sendall(sock, data)
            assert isinstance(await protocol_.lost, ssl.SSLError)
            assert protocol_.data == b"good"

    run(aio, main())


def test_close_sends_what_was_written(aio):
    async def main() -> None:
        async with connected() as (client, server):
            client.transport.write(MANY)
            client.transport.close()
            assert await server.receive(len(MANY)) == MANY
            assert await client.lost is None
            assert await server.lost is None

    run(aio, main())


def test_data_before_the_end_is_delivered_after_close(aio):
    """The server has sent before it got our close-notify; some of it lies here already."""

    async def main() -> None:
        async with connected() as (client, server):
            client.transport.pause_reading()
            server.transport.write(b"news")
            await until(lambda: client.transport.get_read_buffer_size() > 0)
            client.transport.resume_reading()
            client.transport.close()
            assert await client.lost is None
            assert client.data == b"news"

    run(aio, main())


def test_nothing_is_downloaded_after_close(aio):
    """A peer that goes on sending is cut off at once: it is not listened to until a timeout is over."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        class Flood(Log):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                self.go_on()

            def go_on(self) -> None:
                if not self.transport.is_closing():
                    self.transport.write(bytes(100_000))
                    loop.call_later(0.001, self.go_on)

        async with connected(server=Flood) as (client, _):
            await client.receive(1_000_000)
            begin = time.monotonic()
            client.transport.close()
            client.data.clear()
            exc = await client.lost
            assert exc is None or isinstance(exc, ssl.SSLError)
            assert time.monotonic() - begin < 10
            assert len(client.data) <= 1 << 20

    run(aio, main())


def test_handshake_timeout(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(ConnectionAbortedError) as raised:
                await loop.create_connection(
                    Log, "127.0.0.1", port, ssl=client_context(), server_hostname="x", ssl_handshake_timeout=0.05
                )
        text = "SSL handshake is taking longer than 0.05 seconds: aborting the connection"
        assert str(raised.value) == text

    run(aio, main())


def test_handshake_timeout_of_a_server(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        found = reports()
        made = []
        serving = await loop.create_server(
            lambda: made.append(Log()) or made[-1], "127.0.0.1", 0, ssl=server_context(), ssl_handshake_timeout=0.05
        )
        with socket.create_connection(serving.sockets[0].getsockname()) as sock:
            await until(lambda: found.contexts)
            assert found.messages == ["Error on transport creation for incoming connection"]
            assert isinstance(found.contexts[0]["exception"], ConnectionAbortedError)
            assert sock.recv(100) == b""
        assert made[0].events == []
        serving.close()
        await serving.wait_closed()

    run(aio, main())


def test_end_during_the_handshake(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        connecting = loop.create_task(loop.connect_accepted_socket(Log, ours, ssl=server_context()))
        await asyncio.sleep(0)
        theirs.close()
        with pytest.raises(ConnectionResetError):
            await connecting

    run(aio, main())


def test_shutdown_timeout(aio):
    async def main() -> None:
        async with by_hand(ssl_shutdown_timeout=0.05) as (protocol, _, _sock):
            protocol.transport.close()
            exc = await protocol.lost
            assert type(exc) is TimeoutError
            assert str(exc) == "SSL shutdown timed out"
            assert protocol.events == ["made", "lost"]

    run(aio, main())


def test_writing_after_the_end_warns_in_the_end(aio, caplog):
    async def main() -> None:
        async with connected() as (client, _):
            client.transport.abort()
            await client.lost
            for _ in range(10):
                client.transport.write(b"x")
        texts = [record.getMessage() for record in caplog.records]
        assert texts == ["SSL connection is closed"] * 6

    run(aio, main())


def test_abort(aio):
    async def main() -> None:
        async with connected() as (client, server):
            client.transport.write(b"x")
            client.transport.abort()
            assert client.events == ["made"]
            assert await client.lost is None
            await server.lost
            assert client.events == ["made", "lost"]
            client.transport.abort()

    run(aio, main())


def test_closing_twice(aio):
    async def main() -> None:
        async with connected() as (client, _):
            transport = client.transport
            transport.close()
            transport.close()
            assert await client.lost is None
            assert transport._ssl_protocol is None
            if not STDLIB:  # asyncio's raises AttributeError
                transport.write(b"x")
                transport.abort()
                transport.resume_reading()
                assert transport.get_extra_info("peername", 3) == 3
                assert transport.get_write_buffer_size() == 0
                assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
            client.transport = type("Gone", (), {"abort": lambda self: None})()

    run(aio, main())


def test_unclosed_transport_warns(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol = aio.sslproto.SSLProtocol(loop, Log(), client_context(), None, server_hostname="localhost")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del protocol
            gc.collect()
        told = [(str(one.message), place_of(one)) for one in caught if one.category is ResourceWarning]
        assert told == [("unclosed transport <asyncio._SSLProtocolTransport object>", "asyncio/sslproto.py")]

    run(aio, main())


# -- flow control ----------------------------------------------------------------------------------------------------------


def test_a_paused_protocol_stops_the_peer(aio):
    async def main() -> None:
        async with connected() as (client, server):
            client.transport.pause_reading()
            assert not client.transport.is_reading()
            sent = 0
            while "pause" not in server.events:
                server.transport.write(MANY[:100_000])
                sent += 1
                await asyncio.sleep(0)
            await until(lambda: not client.transport._ssl_protocol._transport.is_reading())
            assert client.events == ["made"]
            assert client.transport.get_read_buffer_size() >= 256 * 1024
            client.transport.resume_reading()
            assert client.events == ["made"], "data is delivered in a later turn"
            assert await client.receive(100_000 * sent) == MANY[:100_000] * sent
            assert server.events == ["made", "pause", "resume"]
            assert client.transport.get_read_buffer_size() == 0

    run(aio, main())


def test_the_end_of_a_paused_connection(aio):
    """The peer has sent and closed: all of it is there when the protocol reads again."""

    async def main() -> None:
        async with connected() as (client, server):
            client.transport.pause_reading()
            server.transport.write(b"x" * 50_000)
            server.transport.close()
            await asyncio.sleep(0.05)
            assert client.events == ["made"]
            client.transport.resume_reading()
            assert await client.lost is None
            assert bytes(client.data) == b"x" * 50_000
            assert client.events == ["made", "data", "eof", "lost"]

    run(aio, main())


def test_water_marks(aio):
    async def main() -> None:
        async with connected() as (client, server):
            transport = client.transport
            assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
            assert transport.get_read_buffer_limits() == (64 * 1024, 256 * 1024)
            transport.set_write_buffer_limits(high=1000)
            assert transport.get_write_buffer_limits() == (250, 1000)
            transport.set_read_buffer_limits(low=10)
            assert transport.get_read_buffer_limits() == (10, 40)
            with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
                transport.set_write_buffer_limits(high=1, low=2)
            server.transport.pause_reading()
            sent = 0
            while "pause" not in client.events:
                transport.write(bytes(50_000))
                sent += 50_000
                await asyncio.sleep(0)
            assert transport._protocol_paused
            assert transport.get_write_buffer_size() >= 1000
            server.transport.resume_reading()
            await server.receive(sent)
            await until(lambda: client.events[-1] == "resume")
            assert transport.get_write_buffer_size() == 0

    run(aio, main())


# -- writes of one callback ------------------------------------------------------------------------------------------------


async def records(peer: Peer, sock: socket.socket, count: int) -> list[int]:
    """The sizes of the records that come, until so many bytes of data have come."""
    loop = asyncio.get_running_loop()
    found, data, got = [], b"", 0
    while got < count:
        data += await loop.sock_recv(sock, 1 << 16)
        while len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[3:5]):
            record, data = data[: 5 + int.from_bytes(data[3:5])], data[5 + int.from_bytes(data[3:5]) :]
            peer.incoming.write(record)
            try:
                size = len(peer.object.read(1 << 16))
            except ssl.SSLWantReadError:  # a session ticket
                continue
            found.append(size)
            got += size
    return found


@pytest.mark.skipif(STDLIB, reason="asyncio makes a record of each write")
def test_small_writes_of_one_callback_are_few_records(aio):
    async def main() -> None:
        async with by_hand() as (protocol, peer, sock):
            for sizes, first in [([100] * 50, [100, 4900]), ([100] * 50, [5000]), ([7], [7]), ([7], [7])]:
                for size in sizes:
                    protocol.transport.write(bytes(size))
                await asyncio.sleep(0)
                assert await records(peer, sock, sum(sizes)) == first

    run(aio, main())


def test_the_first_write_of_a_callback_goes_out_at_once(aio):
    """A program may block the loop after it has written."""

    async def main() -> None:
        async with by_hand() as (protocol, peer, sock):
            protocol.transport.write(b"at once")
            peer.incoming.write(sock.recv(1 << 16))  # it does not block, and the loop has not run
            assert peer.object.read(100) == b"at once"

    run(aio, main())


@pytest.mark.parametrize(
    "look",
    [
        lambda transport: transport.get_write_buffer_size(),
        lambda transport: transport.get_extra_info("socket"),
        lambda transport: transport.set_write_buffer_limits(high=1000),
        lambda transport: transport._ssl_protocol,
        lambda transport: transport.close(),
        lambda transport: transport.abort(),
        lambda transport: transport.write(bytes(100_000)),
    ],
    ids=["size", "socket", "limits", "protocol", "close", "abort", "much"],
)
def test_what_is_held_back_goes_out_before_anybody_could_tell(aio, look):
    async def main() -> None:
        async with by_hand() as (protocol, peer, sock):
            transport = protocol.transport
            transport.writelines([b"x" * 10] * 3)
            transport.write(b"x")
            await records(peer, sock, 31)
            # now it is known that there will be more than one
            for _ in range(3):
                transport.write(b"x" * 10)
            look(transport)
            peer.incoming.write(sock.recv(1 << 18))
            assert peer.object.read(30) == b"x" * (10 if STDLIB else 30)

    run(aio, main())


def test_held_back_writes_survive_an_exception(aio):
    async def main() -> None:
        reports()
        async with by_hand() as (protocol, peer, sock):

            def fail() -> None:
                for _ in range(3):
                    protocol.transport.write(b"x" * 10)
                raise Mine

            asyncio.get_running_loop().call_soon(fail)
            await records(peer, sock, 30)

    run(aio, main())


def test_order_of_small_and_large_writes(aio):
    async def main() -> None:
        async with connected(server=Echo) as (client, _):
            for round_ in range(3):
                expected = bytearray()
                for index, size in enumerate([1, 20_000, 5, 5, 16_384, 3, 70_000, 1, 1, 200_000, 4]):
                    piece = bytes([65 + index + round_]) * size
                    expected += piece
                    client.transport.write(piece)
                assert await client.receive(len(expected)) == expected

    run(aio, main())


def test_writes_of_other_threads_are_their_own(aio):
    """Not allowed, but it works in asyncio as long as nobody else writes."""

    async def main() -> None:
        async with connected(server=Echo) as (client, _):
            thread = threading.Thread(target=lambda: [client.transport.write(b"y" * 10) for _ in range(3)])
            thread.start()
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
            assert await client.receive(30) == b"y" * 30

    run(aio, main())


# -- exceptions of the program's -------------------------------------------------------------------------------------------


class Mine(Exception):
    pass


@pytest.mark.parametrize(
    ("where", "messages"),
    [
        ("data_received", ["Fatal error on SSL protocol"]),
        ("eof_received", ["Error calling eof_received()"]),
        ("connection_made", ["Fatal error: protocol.buffer_updated() call failed."]),
        ("connection_lost", ["Exception in callback"]),
        ("pause_writing", ["protocol.pause_writing() failed"]),
    ],
)
def test_exception_in(aio, where, messages):
    async def main() -> None:
        found = reports()
        happened = asyncio.Event()

        def fail(self: Any, *args: Any) -> None:
            happened.set()
            raise Mine

        protocol = type("Failing", (Log,), {where: fail})
        loop = asyncio.get_running_loop()
        made: list[Any] = []
        serving = await loop.create_server(
            lambda: made.append(protocol()) or made[-1], "127.0.0.1", 0, ssl=server_context()
        )
        port = serving.sockets[0].getsockname()[1]
        _, client = await loop.create_connection(
            Log, "127.0.0.1", port, ssl=client_context(), server_hostname="localhost"
        )
        client.transport.write(b"x")
        if where == "pause_writing":
            await made[0].made.wait()
            client.transport.pause_reading()
            while not happened.is_set():
                made[0].transport.write(MANY[:100_000])
                await asyncio.sleep(0)
            client.transport.abort()
        elif where != "data_received":
            client.transport.close()
        await client.lost
        await happened.wait()
        await until(lambda: found.contexts)
        await asyncio.sleep(0.01)
        assert len(found.messages) == len(messages)
        assert found.messages[0].startswith(messages[0])
        assert isinstance(found.contexts[0]["exception"], Mine)
        for one in made:
            if one.transport is not None:
                one.transport.abort()
        await asyncio.sleep(0.01)
        serving.close()

    run(aio, main())


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
def test_fatal_exceptions_leave_the_loop(aio, fatal):
    class Fatal(Log):
        def data_received(self, data: bytes) -> None:
            raise fatal

    async def main() -> None:
        async with connected(client=Fatal) as (_, server):
            server.transport.write(b"x")
            await asyncio.sleep(20)

    with pytest.raises(fatal):
        run(aio, main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_closing_from_data_received(aio, how):
    class Closing(Log):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            getattr(self.transport, how)()

    async def main() -> None:
        found = reports()
        async with connected(server=Closing) as (client, server):
            client.transport.write(b"x")
            assert await server.lost is None
            assert server.events == (["made", "data", "eof", "lost"] if how == "close" else ["made", "data", "lost"])
        assert found.contexts == []

    run(aio, main())


@pytest.mark.skipif(STDLIB, reason="asyncio raises RuntimeError from close()")
def test_aborting_what_is_being_closed(aio):
    """close() delivers what has come; the protocol aborts while it gets it."""

    class Aborting(Log):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.abort()

    async def main() -> None:
        async with connected(client=Aborting) as (client, server):
            client.transport.pause_reading()
            server.transport.write(b"news")
            await until(lambda: client.transport.get_read_buffer_size() > 0)
            client.transport.resume_reading()
            client.transport.close()
            assert await client.lost is None
            assert client.events == ["made", "data", "lost"]

    run(aio, main())


def test_returning_true_from_eof_received_warns(aio, caplog):
    class Stubborn(Log):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    async def main() -> None:
        async with connected(client=Stubborn) as (client, server):
            server.transport.close()
            assert await client.lost is None
        texts = [record.getMessage() for record in caplog.records]
        assert texts == ["returning true from eof_received() has no effect when using ssl"]

    run(aio, main())


def test_debug_log(aio, caplog):
    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)
        async with by_hand() as (protocol, _, sock):
            sock.shutdown(socket.SHUT_WR)
            await protocol.lost
        texts = [record.getMessage() for record in caplog.records if "SSLProtocol object" in record.getMessage()]
        shown = [text.partition("> ")[2] or text.partition(">: ")[2] for text in texts]
        assert shown[0] == "starts SSL handshake"
        assert shown[1].startswith("SSL handshake took ")
        assert shown[1].endswith(" ms")
        assert shown[2] == "received EOF"

    caplog.set_level(logging.DEBUG, "asyncio")
    run(aio, main())


# -- arguments -------------------------------------------------------------------------------------------------------------


def failure(coroutine: Any) -> tuple[type, str]:
    with (
        asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner,
        pytest.raises((ValueError, TypeError)) as raised,
    ):
        runner.run(coroutine)
    return type(raised.value), str(raised.value)


ARGUMENTS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("create_connection", ("localhost", 1), {"server_hostname": "x"}),
    ("create_connection", ("localhost", 1), {"ssl_handshake_timeout": 1}),
    ("create_connection", ("localhost", 1), {"ssl_shutdown_timeout": 1}),
    ("create_connection", (None, None), {"ssl": True}),
    ("create_server", ("localhost", 0), {"ssl": True}),
    ("create_server", ("localhost", 0), {"ssl_handshake_timeout": 1}),
    ("create_server", ("localhost", 0), {"ssl_shutdown_timeout": 1}),
    ("create_unix_server", ("/nowhere",), {"ssl": True}),
    ("create_unix_server", ("/nowhere",), {"ssl_handshake_timeout": 1}),
    ("create_unix_server", ("/nowhere",), {"ssl_shutdown_timeout": 1}),
    ("create_unix_connection", ("/nowhere",), {"server_hostname": "x"}),
    ("create_unix_connection", ("/nowhere",), {"ssl": True}),
    ("create_unix_connection", ("/nowhere",), {"ssl_handshake_timeout": 1}),
    ("create_unix_connection", ("/nowhere",), {"ssl_shutdown_timeout": 1}),
]


@pytest.mark.parametrize(("method", "args", "kwargs"), ARGUMENTS)
def test_arguments_that_do_not_fit(aio, method, args, kwargs):
    async def main(loop: Any = None) -> None:
        await getattr(asyncio.get_running_loop(), method)(Log, *args, **kwargs)

    kind, text = failure(main())
    with pytest.raises(kind) as raised:
        run(aio, main())
    assert (type(raised.value), str(raised.value)) == (kind, text)


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("seconds", [0, -1.5])
def test_timeouts_are_positive(aio, name, seconds):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.raises(ValueError, match="positive number") as raised:
            await loop.connect_accepted_socket(Log, ours, ssl=server_context(), **{name: seconds})
        assert str(raised.value) == f"{name} should be a positive number, got {seconds}"

    run(aio, main())


def test_server_knows_its_context(aio):
    async def main() -> None:
        tls = server_context()
        serving = await asyncio.get_running_loop().create_server(
            Log, "127.0.0.1", 0, ssl=tls, ssl_handshake_timeout=3, ssl_shutdown_timeout=4
        )
        assert serving._ssl_context is tls
        assert (serving._ssl_handshake_timeout, serving._ssl_shutdown_timeout) == (3, 4)
        serving.close()

    run(aio, main())


# -- start_tls -------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def plain(server: Callable[[], Any] = Log) -> AsyncIterator[tuple[Any, Any]]:
    """Two protocols that are connected, without TLS."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    _, client = await loop.connect_accepted_socket(Log, ours)
    _, made = await loop.connect_accepted_socket(server, theirs)
    try:
        yield client, made
    finally:
        for protocol in (client, made):
            protocol.transport.abort()
        await asyncio.gather(client.lost, made.lost)


async def upgrade(client: Any, server: Any, **options: Any) -> None:
    """Both ends, at once."""
    loop = asyncio.get_running_loop()
    theirs = loop.start_tls(server.transport, server, server_context(), server_side=True, **options)
    ours = loop.start_tls(client.transport, client, client_context(), server_hostname="localhost", **options)
    server.transport, client.transport = await asyncio.gather(theirs, ours)


def test_start_tls(aio):
    async def main() -> None:
        async with plain(Echo) as (client, server):
            client.transport.write(b"plain")
            assert await client.receive(5) == b"plain"
            below = client.transport
            await upgrade(client, server)
            assert client.transport is not below
            assert client.transport._ssl_protocol._transport is below
            assert client.events == ["made", "data"], "connection_made is not called again"
            client.transport.write(b"secret")
            assert await client.receive(6) == b"secret"
            assert client.transport.get_extra_info("cipher")
            client.transport.close()
            assert await client.lost is None
            assert await server.lost is None

    run(aio, main())


def test_tls_in_tls(aio):
    async def main() -> None:
        async with connected(server=Echo) as (client, server):
            outer = client.transport.get_extra_info("ssl_object")
            for _ in range(2):
                await upgrade(client, server)
            assert client.transport.get_extra_info("ssl_object") is not outer
            client.transport.write(MANY)
            assert await client.receive(len(MANY)) == MANY
            client.transport.close()
            assert await client.lost is None
            assert await server.lost is None
            assert client.events[-2:] == ["eof", "lost"]

    run(aio, main())


def test_start_tls_failure_closes_the_connection(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with plain() as (client, server):
            theirs = loop.start_tls(server.transport, server, server_context(), server_side=True)
            ours = loop.start_tls(client.transport, client, client_context(), server_hostname="wrong.example")
            failures = await asyncio.gather(theirs, ours, return_exceptions=True)
            assert isinstance(failures[1], ssl.SSLCertVerificationError)
            assert isinstance(failures[0], (ssl.SSLError, ConnectionResetError))
            assert isinstance(await client.lost, ssl.SSLCertVerificationError)

    run(aio, main())


def test_start_tls_cancelled(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with plain() as (client, _):
            upgrading = loop.create_task(
                loop.start_tls(client.transport, client, client_context(), server_hostname="localhost")
            )
            await asyncio.sleep(0.01)
            upgrading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upgrading
            assert client.transport.is_closing()
            await asyncio.sleep(0.01)
            assert client.events == ["made"], "asyncio does not tell of a loss during the handshake"
            client.connection_lost(None)

    run(aio, main())


def test_start_tls_wants_a_context_and_a_transport(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with plain() as (client, _):
            with pytest.raises(TypeError, match="sslcontext is expected to be an instance of ssl.SSLContext, got None"):
                await loop.start_tls(client.transport, client, None)
            with pytest.raises(TypeError, match=r"transport None is not supported by start_tls\(\)"):
                await loop.start_tls(None, client, client_context())
            with pytest.raises(ValueError, match="ssl_handshake_timeout should be a positive number, got 0"):
                await loop.start_tls(client.transport, client, client_context(), ssl_handshake_timeout=0)

    run(aio, main())


@pytest.mark.skipif(STDLIB and sys.version_info < (3, 14), reason="asyncio before 3.14 loses what came before")
def test_start_tls_keeps_what_the_reader_has_read_ahead(aio):
    """A command and the beginning of the handshake come in one piece, as a proxy sends them."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        reader = asyncio.StreamReader(loop=loop)
        kept: list[Any] = []  # a writer that dies closes the connection
        protocol = asyncio.StreamReaderProtocol(reader, lambda *streams: kept.extend(streams), loop=loop)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, ours)
        peer = Peer()
        with pytest.raises(ssl.SSLWantReadError):
            peer.object.do_handshake()
        await loop.sock_sendall(theirs, b"PROXY TCP4\r\n" + peer.outgoing.read())
        assert await reader.readline() == b"PROXY TCP4\r\n"
        upgrading = loop.create_task(loop.start_tls(transport, protocol, server_context(), server_side=True))
        await peer.over(theirs, peer.object.do_handshake)
        upgraded = await upgrading
        await peer.over(theirs, lambda: peer.object.write(b"line\n"))
        assert await reader.readline() == b"line\n"
        theirs.close()
        kept[1].close()
        upgraded.abort()
        await asyncio.sleep(0.01)

    run(aio, main())


def test_what_is_written_before_the_handshake_waits_for_it(aio):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        app, peer = Log(), Peer()
        protocol = aio.sslproto.SSLProtocol(loop, app, server_context(), None, server_side=True)
        await loop.connect_accepted_socket(lambda: protocol, ours)
        early = bytearray(b"early")
        protocol._app_transport.write(early)
        early[:] = b"XXXXX" if not STDLIB else b"early"
        assert protocol._app_transport.get_write_buffer_size() == 5
        assert await peer.over(theirs, lambda: (peer.object.do_handshake(), peer.object.read(100))[1]) == b"early"
        protocol._app_transport.abort()
        theirs.close()
        await app.lost

    if STDLIB:
        pytest.skip("asyncio sends it when there is more to write")
    run(aio, main())


def test_sendfile(aio, tmp_path):
    """There is no sendfile(2) over TLS: the file is read and written."""

    async def main() -> None:
        path = tmp_path / "file"
        path.write_bytes(MANY)
        async with connected() as (client, server):
            with path.open("rb") as file:
                sent = await asyncio.get_running_loop().sendfile(client.transport, file)
                assert sent == len(MANY)
                assert file.tell() == len(MANY)
                with pytest.raises(RuntimeError, match="fallback is disabled"):
                    await asyncio.get_running_loop().sendfile(client.transport, file, fallback=False)
            assert await server.receive(len(MANY)) == MANY
            assert client.transport.get_protocol() is client

    run(aio, main())


# -- other implementations -------------------------------------------------------------------------------------------------

OPENSSL, CURL = shutil.which("openssl"), shutil.which("curl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="there is no openssl here")
needs_curl = pytest.mark.skipif(CURL is None, reason="there is no curl here")
OPTION = {TLS12: "-tls1_2", TLS13: "-tls1_3"}


@contextlib.asynccontextmanager
async def serving(protocol: Callable[[], Any], context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[Any]]]:
    made: list[Any] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: made.append(protocol()) or made[-1], "127.0.0.1", 0, ssl=context
    )
    try:
        yield server.sockets[0].getsockname()[1], made
    finally:
        server.close()
        for one in made:
            if one.transport is not None:
                one.transport.abort()
        await asyncio.sleep(0.01)


async def in_thread(*command: Any, data: bytes = b"", seconds: float = 40) -> Any:
    """Runs a program, beside the loop."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def work() -> None:
        try:
            result = subprocess.run([str(one) for one in command], input=data, capture_output=True, timeout=seconds)
        except BaseException as exc:
            loop.call_soon_threadsafe(done.set_exception, exc)
        else:
            loop.call_soon_threadsafe(done.set_result, result)

    threading.Thread(target=work, daemon=True).start()
    return await done


class CloseAfter(Echo):
    """Echoes a number of bytes, then closes."""

    COUNT = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(self.data) >= self.COUNT:
            self.transport.close()


@needs_openssl
@versions
@pytest.mark.parametrize("size", [1, 300_000])
def test_openssl_client(aio, version, size):
    async def main() -> None:
        protocol = type("Sized", (CloseAfter,), {"COUNT": size})
        server_tls = server_context(version)
        server_tls.verify_mode = ssl.CERT_REQUIRED
        server_tls.load_verify_locations(certificates.CA)
        server_tls.set_alpn_protocols(["two"])
        text = (b"0123456789abcde\n" * (size // 16 + 1))[:size]
        async with serving(protocol, server_tls) as (port, made):
            done = await in_thread(
                OPENSSL, "s_client", "-connect", f"127.0.0.1:{port}", OPTION[version], "-CAfile", certificates.CA,
                "-cert", certificates.CLIENT, "-key", certificates.CLIENT, "-verify_return_error",
                "-verify_hostname", "localhost", "-alpn", "one,two", "-quiet",
                data=text,
            )  # fmt: skip
            assert made
            assert made[0].transport.get_extra_info("ssl_object").selected_alpn_protocol() == "two"
            assert done.stdout == text, done.stderr

    run(aio, main())


@needs_openssl
def test_renegotiation_is_refused(aio):
    async def main() -> None:
        async with serving(Echo, server_context(TLS12)) as (port, made):
            done = await in_thread(
                OPENSSL, "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-CAfile", certificates.CA,
                data=b"R\n",
            )  # fmt: skip
            assert b"RENEGOTIATING" in done.stdout + done.stderr
            assert b"no renegotiation" in done.stderr
            assert done.returncode != 0
            assert made[0].data == b""

    run(aio, main())


@contextlib.contextmanager
def openssl_server(version: ssl.TLSVersion, *options: Any) -> Any:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            OPENSSL, "s_server", "-accept", f"127.0.0.1:{port}", OPTION[version], "-cert", certificates.SERVER,
            "-key", certificates.SERVER, "-naccept", "1", *map(str, options),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        while True:
            line = process.stdout.readline()
            if b"ACCEPT" in line:
                break
            assert line, "openssl s_server did not begin to serve"
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@needs_openssl
@versions
@pytest.mark.parametrize("size", [5, 400_000])
def test_openssl_server(aio, version, size):
    """s_server -rev: each line comes back reversed."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        options = ("-rev", "-Verify", "1", "-verify_return_error", "-CAfile", certificates.CA, "-alpn", "three")
        with openssl_server(version, *options) as port:
            client_tls = client_context(version)
            client_tls.load_cert_chain(certificates.CLIENT)
            client_tls.set_alpn_protocols(["three"])
            _, protocol = await loop.create_connection(
                Log, "127.0.0.1", port, ssl=client_tls, server_hostname="localhost"
            )
            assert protocol.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "three"
            count = 0
            while count < size:
                line = b"%07d" % count + bytes(range(97, 123)) * 100
                protocol.transport.write(line + b"\n")
                assert await protocol.receive(len(line) + 1) == line[::-1] + b"\n"
                count += len(line)
            protocol.transport.close()
            assert await protocol.lost is None

    run(aio, main())


class Http(Log):
    """Answers one request with the bytes that it came with."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        head, blank, body = bytes(self.data).partition(b"\r\n\r\n")
        if not blank:
            return
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if len(body) >= int(lengths[0].partition(b":")[2]):
            self.transport.writelines([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", body])
            self.transport.close()


@needs_curl
@versions
@pytest.mark.parametrize("size", [3, 3_000_000])
def test_curl(aio, version, size, tmp_path):
    async def main() -> None:
        sent = tmp_path / "sent"
        sent.write_bytes(MANY[:size])
        server_tls = server_context(version)
        server_tls.verify_mode = ssl.CERT_REQUIRED
        server_tls.load_verify_locations(certificates.CA)
        async with serving(Http, server_tls) as (port, _):
            done = await in_thread(
                CURL, "--silent", "--show-error", "--cacert", certificates.CA, "--cert", certificates.CLIENT,
                "--resolve", f"localhost:{port}:127.0.0.1", "--http1.1", "-H", "Expect:",
                "--data-binary", f"@{sent}", f"https://localhost:{port}/",
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert done.stdout == MANY[:size]

    run(aio, main())


@needs_openssl
@pytest.mark.parametrize("program", [Path(sys.executable)])
def test_python_of_the_other_kind(aio, program):
    """A blocking SSLSocket in a thread."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving(Echo, server_context()) as (port, _):
            result = loop.create_future()

            def work() -> None:
                with (
                    socket.create_connection(("127.0.0.1", port)) as raw,
                    client_context().wrap_socket(raw, server_hostname="localhost") as sock,
                ):
                    got = bytearray()
                    for start in range(0, 1_000_000, 50_000):
                        sock.sendall(MANY[start : start + 50_000])
                        while len(got) < start + 50_000:
                            got += sock.recv(1 << 16)
                    sock.unwrap()
                    loop.call_soon_threadsafe(result.set_result, bytes(got))

            threading.Thread(target=work, daemon=True).start()
            assert await result == MANY[:1_000_000]

    run(aio, main())
