"""``aioxide ps``: the tasks of a process, or the processes that can be asked.

``--tree`` shows who waits for whom. ``--check`` ends with 1 if something is wrong just now: a loop whose callback runs
for long, or tasks that wait for each other in a ring. ``--stuck 5`` looks for so many seconds, and shows (and ends with
1 for) tasks that have not moved meanwhile and wait for no timer and for no other task.
"""

from __future__ import annotations

import os
import time

from . import FOUND, NO_LOOP, OK, Failure
from .client import Connection, processes
from .command import Options, dumps
from .text import Places, count, duration, safe, table

# (importing typing takes longer than all the rest)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: A callback that has run so long blocks its loop.
BLOCKED = 0.1
#: On a busy loop a ring must be there twice, so long after each other.
SECOND_LOOK = 0.3


def run(options: Options) -> int:
    if options.process is None:
        return list_processes(options)
    span = options.seconds("--stuck", 5.0)
    with Connection(options.process) as connection:
        if "--stuck" in options.values:
            answer = stuck(connection, span)
            code = FOUND if answer["tasks"] else OK
        else:
            answer = connection.tasks(stacks="--tree" in options or "--json" in options)
            code = OK
            if "--check" in options:
                settle(connection, answer)
                code = check(answer)
        places = Places(connection.process.directory())
        if "--json" in options:
            print(dumps(answer))
        else:
            print("\n".join(heading(answer, places)))
            if answer["tasks"]:
                print(tree(answer["tasks"], places) if "--tree" in options else listing(answer["tasks"], places))
    return code


def list_processes(options: Options) -> int:
    found = processes()
    if "--json" in options:
        print(dumps([{"pid": process.pid, "uid": process.user, "command": process.command()} for process in found]))
        return OK
    if not found:
        raise Failure(NO_LOOP, "no process here has run an event loop of aioxide's")
    mine = os.geteuid()
    rows = [
        (str(process.pid), "" if mine in (0, process.user) else f"(user {process.user}'s)", safe(process.command()))
        for process in found
    ]
    print(table(("PID", "", "COMMAND"), rows))
    return OK


def settle(connection: Connection, answer: dict[str, Any]) -> None:
    """How long a loop that runs has been at it is known to the thread there that watches. If there is none
    (``AIOXIDE_BLOCK_MS=0``), it is asked twice: that may have begun just now, or long ago with nobody looking."""
    if any("busy" in loop and not loop["watched"] for loop in answer["loops"]):
        time.sleep(BLOCKED * 1.2)
        answer["loops"] = connection.ask("now")["loops"]
    answer["rings"] = rings(connection)


def rings(connection: Connection) -> list[list[str]] | None:
    """Tasks that wait for each other, and whose waits nothing else can end: each ring by the ids of its tasks. The
    loops say so themselves, by the rule of the reports of deadlocks. None: one did not come to look, as it is
    blocked."""
    found: list[list[str]] = []
    first = connection.ask("rings")["loops"]
    loops = [loop["rings"] for loop in first]
    if any(loop["rings"] and not loop["certain"] for loop in first):
        # it is busy: who is in a ring now may be on the way out of it
        time.sleep(SECOND_LOOK)
        again = {loop["loop"]: loop for loop in connection.ask("rings")["loops"]}
        for index, loop in enumerate(first):
            second = again.get(loop["loop"], {}).get("rings")
            if loops[index] and not loop["certain"]:
                loops[index] = second and [ring for ring in loops[index] if sorted(ring) in map(sorted, second)]
    if None in loops:
        return None
    for ring in loops:
        found += ring
    return found


def check(answer: dict[str, Any]) -> int:
    """Is something wrong?"""
    blocked = any(loop.get("busy", 0) >= BLOCKED for loop in answer["loops"])
    return FOUND if blocked or answer["rings"] else OK


def stuck(connection: Connection, seconds: float) -> dict[str, Any]:
    """The tasks that are at the very same step after so many seconds, and that only somebody else can move."""
    before = connection.tasks(stacks=True)
    time.sleep(seconds)
    after = connection.tasks(stacks=True)
    then = {task["id"]: step(task) for task in before["tasks"]}
    after["tasks"] = [
        task
        for task in after["tasks"]
        if task["state"] == "waiting"
        and not task.get("for")
        and not task.get("waits", "").startswith("sleep(")
        and then.get(task["id"]) == step(task)
    ]
    return after


def step(task: dict[str, Any]) -> tuple[Any, ...]:
    """What changes when a task moves."""
    return task.get("steps"), task["state"], tuple(map(tuple, task.get("stack", ())))


def heading(answer: dict[str, Any], places: Places) -> Iterator[str]:
    """The process and its loops, in words."""
    python, version = safe(answer["python"]), safe(answer["aioxide"])
    yield f"process {answer['pid']}: Python {python}, aioxide {version}, {count(answer['total'], 'task')}"
    for loop in answer["loops"]:
        line = f"loop {loop['loop']}, thread {loop['thread']}: {safe(loop['state'])}"
        if loop.get("busy", 0) >= BLOCKED:
            line += f", in one callback for {duration(loop['busy'])}"
        if loop.get("task") is not None and loop["state"] != "asleep":
            names = {task["id"]: task["name"] for task in answer["tasks"]}
            line += f", in {safe(names.get(loop['task'], '?'))}"
        if loop.get("at"):
            line += f", at {places.frame(loop['at'])}"
        yield line
    if answer["unreadable"]:
        yield f"stacks cannot be read there: {safe(answer['unreadable'])}"
    if not answer["consistent"]:
        yield "tasks came and went while they were read: some may be missing"


def where(task: dict[str, Any], places: Places) -> str:
    return places.frame(task["at"]) if "at" in task else ""


def waiting(task: dict[str, Any], names: dict[str, str]) -> str:
    """What it waits for, and whose."""
    text = safe(task.get("waits", ""))
    others = task.get("for", [])
    if others:
        text += " " + ", ".join(safe(names.get(other, "?")) for other in others[:3])
        if len(others) > 3:
            text += f" and {len(others) - 3} more"
    elif task.get("held"):
        text += " held by " + ", ".join(safe(names.get(holder, "a task that has ended")) for holder in task["held"])
    if task.get("cancelling"):
        text += " (being cancelled)"
    return text.strip()


def listing(tasks: list[dict[str, Any]], places: Places) -> str:
    names = {task["id"]: task["name"] for task in tasks}
    rows = [
        (safe(task["name"]), task["state"], safe(task.get("coro", "?")), where(task, places), waiting(task, names))
        for task in tasks
    ]
    return table(("TASK", "STATE", "COROUTINE", "AT", "WAITS FOR"), rows)


def tree(tasks: list[dict[str, Any]], places: Places) -> str:
    """Who waits is above what it waits for. A task that several wait for is shown in full once."""
    by_id = {task["id"]: task for task in tasks}
    names = {task["id"]: task["name"] for task in tasks}
    below = {task["id"]: list(dict.fromkeys([*task.get("for", []), *task.get("children", [])])) for task in tasks}
    awaited = {other for others in below.values() for other in others}
    lines: list[str] = []
    shown: set[str] = set()
    # (what is in a ring is awaited by somebody, so it comes after what is not)
    for root in [*(task["id"] for task in tasks if task["id"] not in awaited), *by_id]:
        if root in shown:
            continue
        # without recursion: a chain may be longer than Python's stack
        todo = [(root, "", "", frozenset[str]())]
        while todo:
            name, first, rest, above = todo.pop()
            task = by_id.get(name)
            if task is None:
                continue
            line = f"{first}{safe(task['name'])}  {steps(task, places, names)}"
            if name in above:
                lines.append(f"{line}  (a ring: see above)")
                continue
            if name in shown and below[name]:
                lines.append(f"{line}  (see above)")
                continue
            lines.append(line)
            shown.add(name)
            others = [other for other in below[name] if other in by_id]
            above = above | {name} if len(above) < 200 else above
            for index, other in reversed(list(enumerate(others))):
                last = index == len(others) - 1
                todo.append((other, rest + ("└ " if last else "├ "), rest + ("  " if last else "│ "), above))
    return "\n".join(lines)


def steps(task: dict[str, Any], places: Places, names: dict[str, str]) -> str:
    """The coroutines of a task from outside in, with their lines."""
    frames = [frame for frame in task.get("stack", []) if frame[1] > 0]
    path = " > ".join(places.frame(frame) for frame in frames) or safe(task.get("coro", "?"))
    if task["state"] != "waiting":
        return f"{path}  [{task['state']}]"
    what = safe(task.get("waits", ""))
    if task.get("held") and not task.get("for"):
        what = waiting(task, names)
    return f"{path}  [{what}]" if what else path
