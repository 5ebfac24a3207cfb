"""``aioxide top PID``: a process's loops, live.

Once a second: how busy each loop is, how much processor time its thread takes, how many callbacks it runs, what it runs
just now, and where tasks wait most. ``--once`` shows one interval and ends; so does a pipe, after each interval a new
block of lines.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter

from . import OK
from .client import Connection
from .command import Options, dumps
from .ps import BLOCKED, where
from .text import Places, count, duration, safe, table

# (importing typing takes longer than all the rest)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CLEAR = "\x1b[H\x1b[J"
#: How many rows of places there are.
PLACES = 10


def run(options: Options) -> int:
    assert options.process is not None
    interval = options.seconds("--interval", 1.0, least=0.05)
    with Connection(options.process) as connection:
        places = Places(connection.process.directory())
        live = sys.stdout.isatty() and "--once" not in options
        before = sample(connection)
        while True:
            time.sleep(interval)
            after = sample(connection)
            if "--json" in options:
                print(dumps(difference(before, after)), flush=True)
            else:
                text = screen(difference(before, after), places, width() if live else None)
                print(f"{CLEAR}{text}" if live else f"{text}\n", flush=True)
            if "--once" in options:
                return OK
            before = after


def width() -> tuple[int, int]:
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return (100, 40)
    return (size.columns, size.lines)


def sample(connection: Connection) -> dict[str, Any]:
    answer = connection.tasks()
    answer["time"] = time.monotonic()
    return answer


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What has happened between two samples."""
    seconds = max(after["time"] - before["time"], 1e-6)
    known = {loop["loop"]: loop for loop in before["loops"]}
    loops = []
    for loop in after["loops"]:
        then = known.get(loop["loop"], loop)

        loops.append(
            {
                **loop,
                "callbacks_per_second": rate(then, loop, "entries", seconds),
                "processor": rate(then, loop, "cpu", seconds),
                "utilisation": rate(then, loop, "awake", seconds),
            }
        )
    return {**after, "seconds": seconds, "loops": loops}


def rate(before: dict[str, Any], after: dict[str, Any], field: str, seconds: float) -> float | None:
    """How much a number has grown in a second, if there is one."""
    if before.get(field) is None or after.get(field) is None:
        return None
    return (float(after[field]) - float(before[field])) / seconds


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * min(max(value, 0.0), 1.0):.0f} %"


def screen(answer: dict[str, Any], places: Places, size: tuple[int, int] | None) -> str:
    names = {task["id"]: task["name"] for task in answer["tasks"]}
    states = Counter(task["state"] for task in answer["tasks"])
    parts = ", ".join(f"{number:,} {safe(state)}" for state, number in states.most_common())
    lines = [
        f"process {answer['pid']}: Python {safe(answer['python'])}, aioxide {safe(answer['aioxide'])}, "
        f"{count(answer['total'], 'task')}" + (f" ({parts})" if parts else ""),
        "",
    ]
    rows = []
    for loop in answer["loops"]:
        doing = safe(loop["state"])
        if loop["state"] != "asleep":
            if loop.get("task") is not None:
                doing = safe(names.get(loop["task"], "?"))
            if loop.get("at"):
                doing += f" at {places.frame(loop['at'])}"
            if loop.get("busy", 0) >= BLOCKED:
                doing += f" for {duration(loop['busy'])}"
        rate = loop["callbacks_per_second"]
        rows.append(
            (
                str(loop["loop"]),
                str(loop["thread"]),
                percent(loop["utilisation"]),
                percent(loop["processor"]),
                "" if rate is None else f"{rate:,.0f}",
                doing,
            )
        )
    lines += [table(("LOOP", "THREAD", "BUSY", "CPU", "CALLBACKS/S", "DOES"), rows), ""]
    found: Counter[tuple[str, str, str]] = Counter(
        (safe(task.get("coro", "?")), where(task, places), safe(task.get("waits", task["state"])))
        for task in answer["tasks"]
    )
    rest = [(f"{number:,}", *place) for place, number in found.most_common(PLACES)]
    if rest:
        lines.append(table(("TASKS", "COROUTINE", "AT", "WAITS FOR"), rest))
    text = "\n".join(lines)
    if size is not None:
        columns, rows_there = size
        text = "\n".join(line[:columns] for line in text.splitlines()[: rows_there - 1])
    return text
