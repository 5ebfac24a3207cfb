"""The two engines of TLS: OpenSSL driven directly, and Python's `ssl` objects; and when it is which."""

from __future__ import annotations

import array
import asyncio
import fcntl
import gc
import os
import random
import ssl
import sys
import termios
import threading
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import tls_fuzz
from tests.certificates import client_context, server_context
from tests.support import STDLIB, interpreter, run, until
from tests.test_tls import TLS12, TLS13, Echo, Log, by_hand, connected, versions

pytestmark = pytest.mark.skipif(STDLIB, reason="asyncio has one engine")

PORTABLE = os.environ.get("AIOXIDE_TLS") == "portable"
#: what is true of the tests below only where this Python's `_ssl` is an extension module that is linked with OpenSSL
needs_openssl = pytest.mark.skipif(
    PORTABLE or not ssl.OPENSSL_VERSION.startswith("OpenSSL ") or not hasattr(sys.modules["_ssl"], "__file__"),
    reason="no OpenSSL that could be driven directly",
)


def is_direct(protocol: Any) -> bool:
    return protocol.transport._ssl_protocol._aioxide_direct


async def echoes(client: Any, data: bytes = b"x" * 100_000) -> None:
    client.transport.write(data)
    assert await client.receive(len(data)) == data


@needs_openssl
@versions
def test_data_goes_past_the_objects(aio, version):
    async def main() -> None:
        context = server_context(version)
        async with connected(server=Echo, server_tls=context) as (client, server):
            assert is_direct(client)
            assert is_direct(server)
            await echoes(client)
            assert is_direct(client)

    run(aio, main())


@needs_openssl
def test_who_has_the_object_may_be_using_it(aio):
    """In another thread, say: `_ssl` gives up the GIL while it reads."""

    async def main() -> None:
        async with connected(server=Echo) as (client, _):
            tls = client.transport._ssl_protocol
            ours = tls._sslobj._sslobj
            assert not is_direct(client)
            await echoes(client)
            del ours
            assert is_direct(client)
            await echoes(client)

    run(aio, main())


@needs_openssl
@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="two threads in one object are too many for older versions of _ssl"
)
def test_reading_in_another_thread(aio):
    """Nobody should; but whoever does gets bytes or an error, and the process lives."""

    async def main() -> None:
        async with connected(server=Echo) as (client, _):
            ssl_object = client.transport.get_extra_info("ssl_object")
            end = threading.Event()

            def read() -> None:
                while not end.is_set():
                    try:
                        ssl_object.read(1 << 16)
                    except ssl.SSLError:
                        pass

            thread = threading.Thread(target=read)
            thread.start()
            for _ in range(200):
                client.transport.write(b"x" * 10_000)
                await asyncio.sleep(0)
            end.set()
            await asyncio.to_thread(thread.join)

    run(aio, main())


@needs_openssl
def test_an_object_of_a_class_of_the_programs(aio):
    class Mine(ssl.SSLObject):
        pass

    async def main() -> None:
        context = client_context()
        context.sslobject_class = Mine
        async with connected(server=Echo, client_tls=context) as (client, server):
            assert not is_direct(client)
            assert is_direct(server)
            await echoes(client)

    run(aio, main())


@needs_openssl
def test_a_context_of_a_class_of_the_programs(aio):
    class Mine(ssl.SSLContext):
        pass

    async def main() -> None:
        context = Mine(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(client_context.__globals__["CA"])
        async with connected(server=Echo, client_tls=context) as (client, _):
            assert is_direct(client)
            await echoes(client)

    run(aio, main())


@needs_openssl
def test_who_listens_to_messages_gets_them_from_the_object(aio):
    """What such a function raises is told by the object's next method."""
    heard: list[Any] = []

    async def main() -> None:
        context = client_context()
        context._msg_callback = lambda *message: heard.append(message)
        async with connected(server=Echo, client_tls=context) as (client, server):
            assert not is_direct(client)
            assert is_direct(server)
            await echoes(client)
            assert heard

    run(aio, main())


@needs_openssl
def test_a_context_chosen_by_a_callback(aio):
    """Another context than the object was made of; with a function that listens, it is left to the object."""

    async def main(listens: bool) -> None:
        chosen, context = server_context(), server_context()
        if listens:
            chosen._msg_callback = lambda *message: None
        context.sni_callback = lambda ssl_object, name, _: setattr(ssl_object, "context", chosen)
        async with connected(server=Echo, server_tls=context) as (client, server):
            assert server.transport.get_extra_info("ssl_object").context is chosen
            assert is_direct(server) is not listens
            await echoes(client)

    for listens in (False, True):
        run(aio, main(listens))


@needs_openssl
def test_something_else_in_the_place_of_an_object(aio):
    class Wrapped:
        def __init__(self, bio: Any) -> None:
            self.bio = bio

        def __getattr__(self, name: str) -> Any:
            return getattr(self.bio, name)

    async def main() -> None:
        async with connected(server=Echo) as (client, server):
            for name in ("_incoming", "_outgoing", "_sslobj"):
                tls = server.transport._ssl_protocol
                original = getattr(tls, name)
                setattr(tls, name, Wrapped(original))
                assert not is_direct(server)
                await echoes(client)
                setattr(tls, name, original)
                assert is_direct(server)
                await echoes(client)

    run(aio, main())


@needs_openssl
def test_an_object_that_was_taken_out_may_be_somebody_elses(aio):
    """The references are counted: one of them belongs to the SSLObject, if that has one."""

    async def main() -> None:
        async with connected(server=Echo) as (client, server):
            ssl_object = server.transport.get_extra_info("ssl_object")
            ssl_object._sslobj = None
            assert not is_direct(server)
            await echoes(client)
            held = [
                one
                for one in gc.get_referents(server.transport._ssl_protocol)
                if type(one) is type(client.transport.get_extra_info("ssl_object")._sslobj)
            ]
            ssl_object._sslobj = held.pop()
            assert is_direct(server)
            await echoes(client)

    run(aio, main())


@needs_openssl
def test_another_bio_is_not_mistaken_for_the_engines(aio):
    async def main() -> None:
        async with connected(server=Echo) as (client, _):
            tls = client.transport._ssl_protocol
            original = tls._incoming
            for other in (ssl.MemoryBIO(), tls._outgoing):
                tls._incoming = other
                assert not is_direct(client)
            tls._incoming = original
            assert is_direct(client)

    run(aio, main())


@pytest.mark.parametrize("portable", [False, True], ids=["direct", "objects"])
@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLSv1.2", "TLSv1.3"])
def test_a_broken_record_raises_what_it_does_in_asyncio(aio, version, portable):
    async def main(implementation: Any) -> Any:
        async with by_hand(Log, server_context(version)) as (protocol, peer, sock):
            held = protocol.transport._ssl_protocol._sslobj._sslobj if portable else None
            peer.object.write(b"whole")
            await asyncio.get_running_loop().sock_sendall(sock, peer.outgoing.read())
            assert await protocol.receive(5) == b"whole"
            peer.object.write(b"broken")
            data = bytearray(peer.outgoing.read())
            data[-1] ^= 1
            await asyncio.get_running_loop().sock_sendall(sock, data)
            exception = await protocol.lost
            del held
            return type(exception), exception.args, exception.reason, exception.library, str(exception)

    found = run(aio, main(aio))
    assert found == run(asyncio, main(asyncio))
    assert found[0] is ssl.SSLError
    assert found[2] in {"DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE"}  # since OpenSSL 3.2


@pytest.mark.deadline(300)
def test_everything_holds_of_pythons_objects_alone():
    """`AIOXIDE_TLS=portable`: what has no OpenSSL that could be driven directly."""
    if PORTABLE:
        pytest.skip("this is it")
    source = "import aioxide, ssl; from tests import test_tls_engine; assert test_tls_engine.PORTABLE"
    assert interpreter("-c", source, env={"AIOXIDE_TLS": "portable"}).returncode == 0
    command = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/test_tls.py", "tests/test_tls_engine.py")
    done = interpreter(*command, env={"AIOXIDE_TLS": "portable"}, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.deadline(300)
@settings(
    max_examples=int(os.environ.get("AIOXIDE_TLS_PROGRAMS", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(rng=st.randoms(use_true_random=False))
def test_random_conversations_see_no_difference(rng):
    with tls_fuzz.Trio() as trio:
        difference = trio.differs(tls_fuzz.program(rng))
    assert difference is None, difference


def test_the_comparison_can_fail():
    class Wrong:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        class sslproto:
            class SSLProtocol(asyncio.sslproto.SSLProtocol):
                def _call_eof_received(self) -> None:
                    pass

    rng = random.Random(1)
    with tls_fuzz.Trio() as trio:
        trio.kinds[1:] = [("wrong", Wrong(), False, trio.kinds[0][-1])]
        assert any(trio.differs(tls_fuzz.program(rng)) for _ in range(200))


class Failing:
    """A `MemoryBIO` that takes some pieces, and then there is no memory for more."""

    def __init__(self, bio: Any, pieces: int) -> None:
        self.bio, self.left = bio, pieces

    def write(self, data: Any) -> int:
        self.left -= 1
        if self.left < 0:
            raise MemoryError("of the test")
        return self.bio.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bio, name)


def test_what_is_decrypted_is_delivered_before_memory_runs_out(aio):
    """Much data that has come at once is given to the engine in pieces."""

    async def main() -> None:
        async with connected() as (client, server):
            tls = client.transport._ssl_protocol
            client.transport.get_extra_info("socket")
            tls._transport.pause_reading()
            data = os.urandom(400_000)
            server.transport.write(data)
            await until(lambda: waiting(client) > 100_000)
            tls._incoming = Failing(tls._incoming, 2)
            tls._transport.resume_reading()
            error = await client.lost
            assert type(error) is MemoryError
            assert len(client.data) > 32 * 1024
            assert data.startswith(bytes(client.data))

    def waiting(client: Any) -> int:
        size = array.array("i", [0])
        fcntl.ioctl(client.transport.get_extra_info("socket").fileno(), termios.FIONREAD, size)
        return size[0]

    run(aio, main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a buffer can be written in Python since 3.12")
def test_a_buffer_that_python_code_gives_out(aio):
    """While it does so, somebody may take the object: the look that counts comes afterwards."""

    class Given:
        def __init__(self, protocol: Any) -> None:
            self.protocol, self.memory = protocol, bytearray(1000)

        def __len__(self) -> int:
            return len(self.memory)

        def __buffer__(self, flags: int) -> memoryview:
            # from now on it may be in use elsewhere
            self.protocol.held = self.protocol.transport.get_extra_info("ssl_object")._sslobj
            self.protocol.seen.append(is_direct(self.protocol))
            return memoryview(self.memory)

    class Buffered(Log, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> Any:
            self.held = None
            self.given = Given(self)
            return self.given

        def buffer_updated(self, count: int) -> None:
            self.data_received(bytes(self.given.memory[:count]))

        seen: ClassVar[list[bool]] = []

    async def main() -> None:
        async with connected(client=Buffered, server=Echo) as (client, _):
            client.transport.write(b"x" * 5000)
            assert await client.receive(5000) == b"x" * 5000
            assert client.seen
            assert not any(client.seen)

    run(aio, main())
