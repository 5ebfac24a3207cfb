"""The clients: HTTP/1.1 on asyncio's streams, keep-alive, at a steady pace, and rude now and then."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from .ledger import Ledger

#: seconds after which an answer is lost
PATIENCE = 30.0
#: of the requests
CUTS, LEAVES = 0.05, 0.03
#: with this a close is a reset
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Errand:
    """A request, and the only right answer to it."""

    number: int
    path: str
    expected: bytes
    body: bytes = b""

    @property
    def writes(self) -> bool:
        return self.path.startswith("/write")

    def head(self, *, last: bool) -> bytes:
        lines = [
            f"{'POST' if self.writes else 'GET'} {self.path} HTTP/1.1",
            "host: localhost",
            f"x-number: {self.number}",
            f"connection: {'close' if last else 'keep-alive'}",
            *([f"content-length: {len(self.body)}"] if self.writes else []),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def errand(number: int, chance: random.Random) -> Errand:
    n = chance.randrange(1, 200)
    kind = chance.choice(["plain", "plain", "rows", "rows", "write", "write", "stream", "thread", "together"])
    if kind == "write":
        body = chance.randbytes(int(2 ** chance.uniform(0, 16)))
        kept = f"{hashlib.sha256(body).hexdigest()} {number}"
        return Errand(number, f"/write/{number}", compact({"kept": kept}), body)
    expected = {
        "plain": lambda: compact({"n": n, "square": n * n}),
        "rows": lambda: compact({"sum": n * (n + 1) // 2, "length": n * (n + 1) // 2}),
        "stream": lambda: b"".join(b"%d\n" % line for line in range(n)),
        "thread": lambda: compact({"n": n}),
        "together": lambda: compact({"three": [str(n), n + 1, "late"]}),
    }
    return Errand(number, f"/{kind}/{n}", expected[kind]())


class Connection:
    """One to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def read_some(self) -> None:
        await self._reader.read(64)

    async def answer(self) -> tuple[int, bytes]:
        """Status and body. OSError or EOFError if the connection ends before the answer does."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        if b"transfer-encoding: chunked" in head:
            return status, b"".join([chunk async for chunk in self._chunks()])
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return status, await self._reader.readexactly(int(length))

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = await self._reader.readexactly(size + 2)
            if not size:
                return
            yield chunk[:-2]

    async def close(self, *, reset: bool = False) -> None:
        if reset:
            # the service may have closed it, and asyncio its socket
            with contextlib.suppress(OSError):
                self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._writer.transport.abort()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Visitor:
    """Asks, one request after the other, ``rate`` a second, until it is told to stop."""

    def __init__(self, port: int, ledger: Ledger, numbers: Iterator[int], rate: float, chance: random.Random) -> None:
        self._port, self._ledger, self._numbers = port, ledger, numbers
        self._rate, self._chance = rate, chance
        self._connection: Connection | None = None
        self.leaving = False

    async def run(self) -> None:
        while not self.leaving:
            await asyncio.sleep(self._chance.expovariate(self._rate))
            task = errand(next(self._numbers), self._chance)
            self._ledger.counts["asked"] += 1
            if self._chance.random() < CUTS:
                await self._cut(task)
            else:
                await self._ask(task)
        await self._leave()

    async def _leave(self, *, reset: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(reset=reset)

    async def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = await Connection.open(self._port)
        return self._connection

    async def _ask(self, task: Errand) -> None:
        asked = time.monotonic()
        while True:
            last = self._chance.random() < LEAVES
            try:
                async with asyncio.timeout(PATIENCE):
                    connection = await self._connected()
                    connection.send(task.head(last=last) + task.body)
                    status, body = await connection.answer()
            except TimeoutError:
                self._ledger.wrong(f"{task.number}: no answer in {PATIENCE:.0f} s: {task.path}")
                await self._leave(reset=True)
                return
            except (OSError, EOFError) as error:
                await self._leave()
                if not self._ledger.ended(task.number, asked, error):
                    return
                continue
            self._ledger.answered(task.number, asked, status, body, task.expected, writes=task.writes)
            if last:
                await self._leave()
            return

    async def _cut(self, task: Errand) -> None:
        """Within the request, between it and its answer, or within the answer."""
        whole = task.head(last=False) + task.body
        where = self._chance.choice(["request", "between", "answer"])
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                connection = await self._connected()
                connection.send(whole[: self._chance.randrange(len(whole))] if where == "request" else whole)
                if where == "answer":
                    await connection.read_some()
                else:
                    await asyncio.sleep(self._chance.choice([0, 0, 0.001, 0.01]))
        self._ledger.cut(task.number, writes=task.writes)
        await self._leave(reset=self._chance.random() < 0.5)


def visitors(port: int, ledger: Ledger, count: int, rate: float, seed: int) -> list[Visitor]:
    """So many, which ask ``rate`` requests a second together."""

    def numbers() -> Iterator[int]:
        number = 0
        while True:
            number += 1
            yield number

    shared = numbers()
    return [Visitor(port, ledger, shared, rate / count, random.Random(seed * 1000 + n)) for n in range(count)]
