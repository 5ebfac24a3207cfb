"""Random conversations by TLS, on asyncio and on aioxide with either engine: what a protocol sees must be the same.

A program connects a protocol to a peer that is moved by hand, over a transport of its own or over a socket. What the
peer says is cut into pieces of any size; both write, pause, close, abort, send garbage, break records, ask for
certificates. ``python -m tests.tls_fuzz --seconds 600`` runs until then or to the first difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any, Self

import aioxide
from tests.certificates import CLIENT, client_context, server_context
from tests.support import fuzz

Program = dict[str, Any]
#: how often a loop turns until everything that a step has set in motion has come to an end
TURNS = 6
#: after what the rest of what was written may be lost
ENDING = ("deliver", "close", "abort", "say goodbye", "end", "break", "garbage")


def contexts(version: ssl.TLSVersion, server_side: bool) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the protocol, and of its peer."""
    server, client = server_context(version), client_context(version)
    server.load_verify_locations(CLIENT.with_name("ca.pem"))
    server.verify_mode = ssl.CERT_OPTIONAL
    server.post_handshake_auth = client.post_handshake_auth = True
    client.load_cert_chain(CLIENT)
    return (server, client) if server_side else (client, server)


CONTEXTS = {
    (version, server_side): contexts(version, server_side)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    for server_side in (True, False)
}


def size(rng: random.Random) -> int:
    return rng.choice((0, 1, 2, 17, 100, 1000, 5000, 16384, 16385, rng.randrange(40_000), rng.randrange(120_000)))


def program(rng: random.Random) -> Program:
    piece = rng.choice((1, 2, 3, 5, 6, 100, 1000, 4096, 16 * 1024, 32 * 1024, 1 << 16))
    most = 600 if piece < 100 else 1 << 20

    def operation() -> tuple[Any, ...]:
        kind = rng.random()
        if kind < 0.2:
            return ("write", min(size(rng), most), rng.choice((bytes, bytes, bytearray, memoryview)))
        if kind < 0.25:
            return ("writelines", [min(size(rng), most) for _ in range(rng.randrange(4))])
        if kind < 0.55:
            return ("say", [min(size(rng), most) for _ in range(rng.choice((1, 1, 2, 3)))])
        if kind < 0.7:
            return ("deliver", rng.choice((None, None, rng.randrange(60), rng.randrange(40_000))))
        if kind < 0.76:
            return ("listen",)
        if kind < 0.82:
            return (rng.choice(("pause", "resume", "resume")),)
        if kind < 0.87:
            return ("turn",)
        if kind < 0.9:
            return ("no room" if rng.random() < 0.5 else "room",)
        if kind < 0.92:
            return ("ask for a certificate",)
        return rng.choice((("close",), ("abort",), ("say goodbye",), ("end",), ("break",), ("garbage",), ("turn",)))

    return {
        "version": rng.choice((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)),
        "server_side": rng.random() < 0.5,
        "over": rng.choice(("relay", "socket")),
        "protocol": rng.choice(("plain", "plain", "buffered")),
        "room": rng.choice((1, 7, 1000, 20_000)) if piece < 100 else rng.choice((1000, 20_000, 1 << 18)),
        "reaction": rng.choice((None, None, None, "echo", "pause", "close")),
        "piece": piece,
        "operations": [operation() for _ in range(rng.randrange(2, 16))],
    }


class App(asyncio.Protocol):
    """Writes down what it is told."""

    def __init__(self, program: Program, log: list[Any]) -> None:
        self.reaction, self.room, self.log = program["reaction"], program["room"], log
        self.transport: Any = None
        self.closed = False

    def close(self, how: str = "close") -> None:
        # (asyncio's transport has no methods any more after the second time)
        if not self.closed and not self.transport.is_closing():
            self.closed = True
            getattr(self.transport, how)()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.log.append("made")

    def data_received(self, data: bytes) -> None:
        self.log.append(("data", bytes(data)))
        if self.reaction == "echo":
            self.transport.write(data)
        elif self.reaction == "pause":
            self.reaction = None
            self.transport.pause_reading()
        elif self.reaction == "close":
            self.close()

    def eof_received(self) -> None:
        self.log.append("eof")

    def pause_writing(self) -> None:
        self.log.append("pause writing")

    def resume_writing(self) -> None:
        self.log.append("resume writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.log.append(("lost", described(exc)))


class BufferedApp(App, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> Any:
        # (of anything else asyncio fills a copy)
        self.buffer = memoryview(bytearray(self.room))
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.data_received(self.buffer[:count])


class Peer:
    """The other end: an engine, and what it has said and heard."""

    def __init__(self, context: ssl.SSLContext, server_side: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side, server_hostname=name)
        self.said, self.heard = bytearray(), bytearray()
        self.end: Any = None

    def do(self, what: Callable[[], Any]) -> bool:
        """`True`: that is done; otherwise something has to come first, or never will."""
        done = False
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLError):
            what()
            done = True
        self.said += self.outgoing.read()
        return done

    def hear(self, data: bytes) -> None:
        self.incoming.write(data)
        try:
            while data := self.object.read(1 << 16):
                self.heard += data
            self.end = self.end or "close-notify"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as exception:
            self.end = self.end or exception.reason
        self.said += self.outgoing.read()


class Relay(asyncio.Transport):
    """The transport below, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed: Any = None
        self.reading = True

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def is_closing(self) -> bool:
        return self.closed is not None

    def close(self) -> None:
        self.closed = self.closed or ("closed", None)

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, exc: Any) -> None:
        self.closed = self.closed or ("forced", exc)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class OverRelay:
    """The protocol's connection over a `Relay`."""

    def __init__(self, aio: Any, program: Program, app: App) -> None:
        self.loop, self.relay = asyncio.get_running_loop(), Relay()
        context, _ = CONTEXTS[program["version"], program["server_side"]]
        name = None if program["server_side"] else "localhost"
        self.tls = aio.sslproto.SSLProtocol(
            self.loop, app, context, None, server_side=program["server_side"], server_hostname=name
        )
        self.ended = self.paused = False

    async def begin(self) -> None:
        self.tls.connection_made(self.relay)

    async def turn(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if self.relay.closed and not self.ended:
            self.ended = True
            self.tls.connection_lost(self.relay.closed[1])
            await asyncio.sleep(0)

    async def deliver(self, data: bytes, piece: int) -> bytes:
        """What could not be delivered."""
        while data and self.relay.reading and not self.relay.closed and not self.ended:
            buffer = memoryview(self.tls.get_buffer(-1))
            count = min(len(buffer), len(data), piece)
            buffer[:count] = data[:count]
            del buffer
            self.tls.buffer_updated(count)
            data = data[count:]
            if piece >= 100:
                await self.turn()
        return data

    def take(self) -> bytes:
        data = bytes(self.relay.written)
        self.relay.written.clear()
        return data

    def end(self) -> None:
        if not self.relay.closed and not self.tls.eof_received():
            self.relay.close()

    def make_room(self, room: bool) -> None:
        if self.paused is room and not self.ended:
            self.paused = not room
            (self.tls.resume_writing if room else self.tls.pause_writing)()

    async def finish(self) -> None:
        self.relay.abort()
        await self.turn()


class OverSocket:
    """The protocol's connection over a socket, and a transport of the loop's."""

    def __init__(self, aio: Any, program: Program, app: App) -> None:
        self.loop = asyncio.get_running_loop()
        self.app, self.server_side = app, program["server_side"]
        self.context, _ = CONTEXTS[program["version"], program["server_side"]]
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.bell, self.ringer = socket.socketpair()
        self.ringer.send(b"!")

    async def begin(self) -> None:
        if self.server_side:
            opening = self.loop.connect_accepted_socket(lambda: self.app, self.ours, ssl=self.context)
        else:
            opening = self.loop.create_connection(
                lambda: self.app, sock=self.ours, ssl=self.context, server_hostname="localhost"
            )
        self.opening = self.loop.create_task(opening)
        await self.turn()

    @property
    def tls(self) -> Any:
        return self.app.transport._ssl_protocol

    async def look(self) -> None:
        """Until the loop has asked the kernel, which it need not do in each turn."""
        rung = self.loop.create_future()
        self.loop.add_reader(self.bell, lambda: rung.done() or rung.set_result(None))
        await rung
        self.loop.remove_reader(self.bell)

    def waiting(self) -> int:
        """Bytes that wait for room in the socket: how many go at once is nobody's business either."""
        tls = getattr(self.app.transport, "_ssl_protocol", None)
        below = getattr(tls, "_transport", None)
        return below.get_write_buffer_size() if below else 0

    async def turn(self) -> None:
        before = None
        while before != (len(self.app.log), self.waiting()):
            before = (len(self.app.log), self.waiting())
            for _ in range(TURNS):
                await self.look()

    async def deliver(self, data: bytes, piece: int) -> bytes:
        while data:
            try:
                count = self.theirs.send(data[:piece])
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                return data
            data = data[count:]
            for _ in range(1 if piece < 100 else TURNS):
                await self.look()
        return data

    def take(self) -> bytes:
        data = bytearray()
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while more := self.theirs.recv(1 << 20):
                data += more
        return bytes(data)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.theirs.shutdown(socket.SHUT_WR)

    def make_room(self, room: bool) -> None:
        pass

    async def finish(self) -> None:
        self.theirs.close()
        self.app.transport.abort()
        await self.turn()
        await asyncio.wait([self.opening])
        self.bell.close()
        self.ringer.close()


def described(exception: BaseException | None) -> Any:
    return None if exception is None else (type(exception).__name__, str(exception))


def joined(log: list[Any]) -> list[Any]:
    """Pieces of data that follow each other as one: how much a socket gives at once is nobody's business."""
    result: list[Any] = []
    for entry in log:
        if result and entry[0] == result[-1][0] == "data":
            result[-1] = ("data", result[-1][1] + entry[1])
        else:
            result.append(entry)
    return result


class Warnings(logging.Handler):
    """What asyncio's logger is told goes to the log."""

    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        self.log.append(("warning", record.getMessage()))

    def __enter__(self) -> Self:
        self.logger = logging.getLogger("asyncio")
        self.logger.propagate = False
        self.logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
        self.logger.propagate = True


async def trace(aio: Any, program: Program, *, portable: bool = False) -> list[Any]:
    """What happens, in order."""
    log: list[Any] = []
    with Warnings(log):
        await converse(aio, program, log, portable)
    return log


async def converse(aio: Any, program: Program, log: list[Any], portable: bool) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _, context: log.append(("report", context["message"], described(context.get("exception"))))
    )
    app = (BufferedApp if program["protocol"] == "buffered" else App)(program, log)
    peer = Peer(CONTEXTS[program["version"], program["server_side"]][1], not program["server_side"])
    connection = (OverRelay if program["over"] == "relay" else OverSocket)(aio, program, app)
    piece = program["piece"]
    await connection.begin()

    async def deliver(most: int | None = None) -> None:
        data = bytes(peer.said)
        del peer.said[:]
        rest = data[len(data) if most is None else most :]
        peer.said += await connection.deliver(data[: len(data) - len(rest)], piece) + rest

    async def listen() -> None:
        while data := connection.take():
            peer.hear(data)
            if program["over"] == "relay":
                break
            await connection.turn()

    async def exchange() -> None:
        """Until nothing happens any more."""
        for _ in range(3000):
            before = len(log), len(peer.said)
            await listen()
            await deliver()
            await connection.turn()
            answer = connection.take()
            peer.hear(answer)
            if not answer and before == (len(log), len(peer.said)):
                break

    handshaken = False
    for _ in range(4):
        handshaken = handshaken or peer.do(peer.object.do_handshake)
        peer.said = bytearray(await connection.deliver(bytes(peer.said), max(piece, 100)))
        await connection.turn()
        answer = connection.take()
        peer.incoming.write(answer)
    assert log == ["made"], (log, peer.object.version(), handshaken, program)
    held = connection.tls._sslobj._sslobj if portable else None
    if aio is aioxide:
        # (somebody else who has the object may be using it)
        assert connection.tls._aioxide_direct is not (portable or not DIRECT)
    for operation in program["operations"]:
        if program["over"] == "socket" and operation[0] in ENDING:
            # (how much the kernel has taken is nobody's business, and the rest is lost)
            await listen()
        try:
            match operation:
                case ("write", count, kind):
                    app.transport.write(kind(b"w" * count))
                case ("writelines", counts):
                    app.transport.writelines([b"l" * count for count in counts])
                case ("say", counts):
                    for count in counts:
                        peer.do(lambda count=count: peer.object.write(bytes([65 + count % 26]) * count))
                case ("deliver", most):
                    await deliver(most)
                case ("listen",):
                    await listen()
                case ("pause",):
                    app.transport.pause_reading()
                case ("resume",):
                    app.transport.resume_reading()
                case ("turn",):
                    await connection.turn()
                case ("no room",):
                    connection.make_room(False)
                case ("room",):
                    connection.make_room(True)
                case ("ask for a certificate",):
                    if program["version"] is ssl.TLSVersion.TLSv1_3 and not program["server_side"]:
                        peer.do(peer.object.verify_client_post_handshake)
                case ("close",) | ("abort",):
                    app.close(operation[0])
                case ("say goodbye",):
                    peer.do(peer.object.unwrap)
                case ("end",):
                    await exchange()
                    connection.end()
                case ("break",) | ("garbage",):
                    # (what lies before it in the same read asyncio loses)
                    app.reaction = None
                    app.transport.resume_reading()
                    await exchange()
                    peer.do(lambda: peer.object.write(b"broken"))
                    if operation[0] == "garbage":
                        peer.said[:] = b"\x17\x03\x03\x00\x20" + bytes(32)
                    elif peer.said:
                        peer.said[-1] ^= 1
                    await deliver()
        except Exception as exception:
            log.append(described(exception))
        if program["over"] == "socket":
            await connection.turn()
    connection.make_room(True)
    app.transport.resume_reading()
    await connection.turn()
    await exchange()
    await exchange()
    await connection.finish()
    del held
    if program["over"] == "socket":
        log[:] = joined(log)
    log.append((bytes(peer.heard), peer.end))


#: Has this Python an OpenSSL that is driven directly? Whoever says no by this name wants no comparison with it.
DIRECT = os.environ.get("AIOXIDE_TLS") != "portable"


class Trio:
    """asyncio, and aioxide with either engine, each with one loop for all programs."""

    def __enter__(self) -> Self:
        self.kinds = [
            (name, aio, portable, asyncio.Runner(loop_factory=aio.new_event_loop))
            for name, aio, portable in (
                ("asyncio", asyncio, False),
                ("aioxide", aioxide, False),
                ("aioxide with Python's objects", aioxide, True),
            )
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for *_, runner in self.kinds:
            runner.close()
        gc.collect()

    def differs(self, program: Program) -> str | None:
        """What is different, if anything is."""
        (_, theirs), *others = [
            (name, runner.run(trace(aio, program, portable=portable))) for name, aio, portable, runner in self.kinds
        ]
        for name, ours in others:
            if theirs != ours:
                at = next((at for at, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]), -1)
                return f"{program}\nasyncio {short(theirs, at)}\n{name} {short(ours, at)}"
        return None


def short(log: list[Any], at: int) -> str:
    """The end of the log up to there, with long data cut."""
    shown = log[: at + 1 or None][-12:]
    return "\n  ".join(text if len(text) < 200 else f"{text[:120]}… ({len(text)})" for text in map(repr, shown))


if __name__ == "__main__":
    sys.exit(fuzz("tests.tls_fuzz", __doc__, Trio(), program))
