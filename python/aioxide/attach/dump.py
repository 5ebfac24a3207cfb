"""``aioxide dump PID``: every thread of Python's and every task, with their stacks: what to attach to a bug report."""

from __future__ import annotations

from . import OK
from .client import Connection
from .command import Options, dumps
from .ps import heading, waiting
from .text import Places, safe

# (importing typing takes longer than all the rest)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(options: Options) -> int:
    assert options.process is not None
    with Connection(options.process) as connection:
        answer = connection.tasks(stacks=True)
        threads = connection.ask("threads")
        places = Places(connection.process.directory())
    if "--json" in options:
        print(dumps({**answer, "threads": threads["threads"]}))
        return OK
    lines = [*heading(answer, places)]
    for thread in threads["threads"]:
        whose = f", loop {thread['loop']}" if thread["loop"] is not None else ""
        moving = "" if thread["consistent"] else " (it did not hold still)"
        lines += ["", f"thread {thread['native']}{whose}{moving}, innermost call first"]
        lines += [f"    {places.frame(frame)}" for frame in thread["stack"]] or ["    (no Python)"]
    names = {task["id"]: task["name"] for task in answer["tasks"]}
    for task in answer["tasks"]:
        lines += ["", f"task {safe(task['name'])} ({task['id']}): {task['state']}{reason(task, names)}"]
        lines += [f"    {places.frame(frame)}" for frame in reversed(task.get("stack", []))]
    print("\n".join(lines))
    return OK


def reason(task: dict[str, Any], names: dict[str, str]) -> str:
    text = waiting(task, names)
    return f", {text}" if text else ""
