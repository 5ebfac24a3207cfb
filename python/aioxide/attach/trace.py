"""``aioxide trace PID -d 5s -o FILE``: which task runs when, for https://ui.perfetto.dev or chrome://tracing.

The process is looked at every few milliseconds, from its own thread that answers: a sample says what the loop was at,
and short steps fall between two of them. (The flight recorder of the process, if it is on, has every step.)
"""

from __future__ import annotations

import os
import sys
import time

from . import OK, USAGE, Failure
from .client import Connection
from .command import Options, dumps
from .text import Places, safe

# (importing typing takes longer than all the rest)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Milliseconds between two samples, and how many of them one request brings.
EVERY = 2
SPAN = 250


def run(options: Options) -> int:
    assert options.process is not None
    seconds = options.seconds("-d", 5.0, least=0.01)
    path = options.values.get("-o", f"aioxide-{options.process}.json")
    with Connection(options.process) as connection:
        places = Places(connection.process.directory())
        samples = record(connection, seconds)
    trace = events(samples, options.process, places)
    text = dumps({"traceEvents": trace, "displayTimeUnit": "ms", "otherData": {"every_ms": EVERY}})
    if path == "-":
        print(text)
        return OK
    try:
        # whoever may ask may read it, and nobody else
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise Failure(USAGE, f"{path}: {error.strerror}") from None
    with open(file, "w", encoding="ascii") as stream:
        stream.write(text)
    print(f"{len(samples):,} samples in {path}; open it in https://ui.perfetto.dev", file=sys.stderr)
    return OK


def record(connection: Connection, seconds: float) -> list[list[Any]]:
    samples: list[list[Any]] = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        span = max(1, min(SPAN, int(left * 1000)))
        samples += connection.ask(f"sample ms={span} every={EVERY}")["samples"]
    return samples


def events(samples: list[list[Any]], pid: int, places: Places) -> list[dict[str, Any]]:
    """Slices: as long as samples find the same task at the same function, it is one."""
    trace: list[dict[str, Any]] = [{"ph": "M", "name": "process_name", "pid": pid, "args": {"name": f"aioxide {pid}"}}]
    last: dict[int, dict[str, Any]] = {}
    for sample in samples:
        at, loop, state, task, name, *frame = sample
        if loop not in last:
            trace.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": loop, "args": {"name": f"loop {loop}"}})
        before = last.get(loop)
        place = places.frame(frame[0]) if frame else ""
        label = safe(name) if name else ("asleep" if state == "asleep" else "(no task)")
        if before is not None:
            before["dur"] = max(0, at - before["ts"])
            if before["name"] == label and before["args"]["at"] == place:
                continue
        slice_ = {
            "ph": "X",
            "name": label,
            "cat": state,
            "pid": pid,
            "tid": loop,
            "ts": at,
            "dur": EVERY * 1000,
            "args": {"at": place, "task": task},
        }
        last[loop] = slice_
        trace.append(slice_)
    # what sleeps is a gap, and no slice
    return [event for event in trace if event.get("cat") != "asleep"]
