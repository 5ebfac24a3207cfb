"""``aioxide trace PID -d 5s -o FILE``: what each loop does, step by step, for https://ui.perfetto.dev.

The flight recorder of the process is on meanwhile: every step of a task, every callback, and who has made whom ready.
If the program has it on anyway, it is that recording. Of a loop that does much it is the last quarter of a million of
events; how many came before is told.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time

from . import OK, USAGE, Failure
from .client import Connection
from .command import Options
from .ps import BLOCKED
from .text import Places, count, duration

# (importing typing takes longer than all the rest)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How often one shows at least that one is still there, in seconds: who is silent for a minute is let go of.
SIGN = 10.0
#: What stands before what is said of the loops, at the end of the file. (In a text there is no such quote.)
OTHER = '"otherData":'
#: How many files of one name there may be.
ATTEMPTS = 1000


def run(options: Options) -> int:
    assert options.process is not None
    seconds = options.seconds("-d", 5.0, least=0.01)
    with Connection(options.process) as connection:
        places = Places(connection.process.directory())
        # (first, so that nobody waits for a file that cannot be)
        path, file = create(options)
        try:
            trace = record(connection, seconds)
            loops = connection.ask("now")["loops"]
            if file < 0:
                print(trace, end="")
            else:
                with open(file, "w", encoding="ascii", closefd=False) as out:
                    out.write(trace)
        except BaseException:
            if "-o" not in options.values:
                os.unlink(path)
            raise
        finally:
            if file >= 0:
                os.close(file)
    tell(trace, loops, path, places)
    return OK


def create(options: Options) -> tuple[str, int]:
    """The file, for its owner alone: whoever may ask may read it, and nobody else. One that was named may be there
    already; one that was not is new, and no link of somebody's. -1: standard output."""
    named = options.values.get("-o")
    if named == "-":
        return named, -1
    stem = f"aioxide-{options.process}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    attempt = 1
    while True:
        path = named or (f"{stem}.json" if attempt == 1 else f"{stem}-{attempt}.json")
        try:
            return path, os.open(path, flags | (os.O_TRUNC if named else os.O_EXCL | os.O_NOFOLLOW), 0o600)
        except FileExistsError as error:
            attempt += 1
            if named or attempt > ATTEMPTS:
                raise Failure(USAGE, f"{path}: {error.strerror}") from None
        except OSError as error:
            raise Failure(USAGE, f"{path}: {error.strerror}") from None


def record(connection: Connection, seconds: float) -> str:
    """What happens in so many seconds. In ASCII: names may be anything, and this may be a terminal."""
    end = time.monotonic() + seconds
    number = connection.ask("record")["trace"]
    while (left := end - time.monotonic()) > 0:
        if left < seconds - SIGN:
            connection.ask("now")
        time.sleep(min(left, SIGN))
    text = connection.ask_for_file(f"trace trace={number}").decode()
    return re.sub("[^\0-~]", escaped, text)


def escaped(letter: re.Match[str]) -> str:
    """As JSON has it."""
    return json.dumps(letter[0])[1:-1]


def tell(trace: str, loops: list[dict[str, Any]], path: str, places: Places) -> None:
    """How much of it there is."""
    about = json.loads(trace[trace.rindex(OTHER) + len(OTHER) : trace.rindex("}")])
    known = [of for name, of in about.items() if name.startswith("loop ")]
    events, lost = sum(of["events"] for of in known), sum(of["lost"] for of in known)
    for loop in loops:
        # (the recorder is on from the loop's next callback on)
        if f"loop {loop['loop']}" not in about and loop.get("busy", 0) >= BLOCKED:
            at = f" at {places.frame(loop['at'])}" if loop.get("at") else ""
            print(f"loop {loop['loop']} is in one callback{at} for {duration(loop['busy'])}", file=sys.stderr)
    if path != "-":
        before = f" ({lost:,} before them are lost)" if lost else ""
        print(f"{count(events, 'event')} in {path}{before}; open it in https://ui.perfetto.dev", file=sys.stderr)
