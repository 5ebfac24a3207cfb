"""Random programs against a StreamReader, on asyncio and on aioxide: what happens must be the same, turn by turn.

A program feeds a reader arbitrary chunks, reads from it in every way (often several at once), cancels, ends it, breaks
it, and looks at its private parts. ``python -m tests.streams_fuzz --seconds 600`` runs until then or to the first
difference.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any, Self

import aioxide
from tests.support import fuzz

TUPLES = sys.version_info >= (3, 13)
LETTERS = b"ab\n"

Program = dict[str, Any]


def text(rng: random.Random) -> bytes:
    size = rng.choice((0, 1, 1, 2, 3, 5, 8, 13, 40))
    if rng.random() < 0.02:
        size = rng.choice((5000, 70000))
    letters = LETTERS if rng.random() < 0.7 else b"ab"
    return bytes(rng.choices(letters, k=size)) if size < 100 else bytes(rng.choices(letters, k=8)) * (size // 8)


def separator(rng: random.Random) -> Any:
    one = bytes(rng.choices(LETTERS, k=rng.choice((1, 1, 2, 3))))
    kind = rng.random()
    if kind < 0.1:
        return bytearray(one)
    if kind < 0.13:
        return rng.choice((b"", "text", 5, None))
    if TUPLES and kind < 0.4:
        return tuple(
            bytes(rng.choices(LETTERS, k=rng.choice((1, 1, 2, 3)))) for _ in range(rng.choice((0, 1, 2, 2, 3)))
        )
    return one


def read(rng: random.Random) -> tuple[Any, ...]:
    method = rng.choice(("read", "read", "readline", "readline", "readexactly", "readexactly", "readuntil", "next"))
    if method == "read":
        return (method, rng.choice((-1, 0, 1, 2, 3, 5, 10, 100, 100000, True, None)))
    if method == "readexactly":
        return (method, rng.choice((-1, 0, 1, 2, 3, 5, 8, 13, 30, 6000)))
    if method == "readuntil":
        return (method, separator(rng))
    return (method,)


def program(rng: random.Random) -> Program:
    def operation() -> tuple[Any, ...]:
        kind = rng.random()
        if kind < 0.35:
            return ("feed", text(rng), rng.choice((bytes, bytes, bytes, bytearray, memoryview)))
        if kind < 0.65:
            return ("start", read(rng))
        if kind < 0.85:
            return ("turn", rng.choice((1, 1, 1, 2, 3)))
        if kind < 0.89:
            return ("cancel",)
        if kind < 0.91:
            return ("look",)
        if kind < 0.93:
            return ("hold",)
        if kind < 0.95:
            return ("edit", rng.choice(("delete", "extend", "clear", "replace")))
        if kind < 0.96:
            return ("let go",)
        if kind < 0.98:
            return ("eof",)
        return ("fail",) if rng.random() < 0.3 else ("turn", 1)

    return {
        "limit": rng.choice((1, 2, 3, 5, 10, 65536, 2**70)),
        "transport": rng.choice((None, "pauses", "pauses", "does not pause")),
        "kind": rng.choice(("plain", "plain", "attribute", "derived")),
        "operations": [operation() for _ in range(rng.randrange(2, 30))],
    }


class Transport:
    def __init__(self, log: list[Any], pauses: bool) -> None:
        self.log, self.pauses = log, pauses

    def pause_reading(self) -> None:
        self.log.append("pause")
        if not self.pauses:
            raise NotImplementedError

    def resume_reading(self) -> None:
        self.log.append("resume")

    def __repr__(self) -> str:
        return "transport"


def described(exception: BaseException | None) -> Any:
    if exception is None:
        return None
    fields = [getattr(exception, name, None) for name in ("partial", "expected", "consumed")]
    return (type(exception).__name__, str(exception), fields, described(exception.__context__))


def state(reader: Any) -> Any:
    return (bytes(reader._buffer), reader._eof, reader._paused, reader._waiter is None, reader.at_eof())


async def trace(aio: Any, program: Program) -> list[Any]:
    log: list[Any] = []
    loop = aio.get_running_loop()
    base = aio.StreamReader
    reader = (type("Derived", (base,), {}) if program["kind"] == "derived" else base)(program["limit"], loop)
    if program["kind"] == "attribute":
        reader.attribute = 1
    if program["transport"]:
        reader.set_transport(Transport(log, program["transport"] == "pauses"))
    tasks: list[Any] = []
    held: list[Any] = []

    async def attempt(number: int, method: str, *args: Any) -> None:
        try:
            result = await (anext(reader) if method == "next" else getattr(reader, method)(*args))
        except (Exception, asyncio.CancelledError) as exception:
            log.append((number, described(exception)))
        else:
            log.append((number, type(result), result))

    for operation in program["operations"]:
        log.append(operation[0])
        try:
            match operation:
                case ("feed", data, kind):
                    reader.feed_data(kind(data))
                case ("start", reading):
                    tasks.append(loop.create_task(attempt(len(tasks), *reading)))
                case ("turn", count):
                    for _ in range(count):
                        await aio.sleep(0)
                case ("cancel",):
                    waiting = [task for task in tasks if not task.done()]
                    if waiting:
                        waiting[len(waiting) // 2].cancel()
                case ("look",):
                    log.append((state(reader), repr(reader) if reader._waiter is None else None))
                case ("hold",):
                    held.append(reader._buffer)
                case ("let go",):
                    held.clear()
                case ("edit", "delete"):
                    del reader._buffer[:3]
                case ("edit", "extend"):
                    reader._buffer.extend(b"x\n")
                case ("edit", "clear"):
                    reader._buffer.clear()
                case ("edit", "replace"):
                    reader._buffer = bytearray(b"new\nones")
                case ("eof",):
                    reader.feed_eof()
                case ("fail",):
                    reader.set_exception(ConnectionResetError("broken"))
        except Exception as exception:
            log.append(described(exception))
        if held:
            log.append([bytes(array) for array in held])
    for task in tasks:
        task.cancel()
    await aio.gather(*tasks, return_exceptions=True)
    log.append((state(reader), reader.exception() and type(reader.exception())))
    return log


def run(aio: Any, program: Program) -> list[Any]:
    with aio.Runner(loop_factory=aio.new_event_loop) as runner:
        return runner.run(trace(aio, program))


class Pair:
    """Both implementations, each with one loop for all programs."""

    def __enter__(self) -> Self:
        self.runners = [(aio, aio.Runner(loop_factory=aio.new_event_loop)) for aio in (asyncio, aioxide)]
        return self

    def __exit__(self, *_: object) -> None:
        for _, runner in self.runners:
            runner.close()

    def differs(self, program: Program) -> str | None:
        """What is different, if anything is."""
        theirs, ours = (runner.run(trace(aio, program)) for aio, runner in self.runners)
        if theirs == ours:
            return None
        at = next((at for at, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]), -1)
        return f"{program}\nasyncio {theirs[: at + 1]}\naioxide {ours[: at + 1]}"


if __name__ == "__main__":
    sys.exit(fuzz("tests.streams_fuzz", __doc__, Pair(), program))
