"""``aioxide why PID TASK``: what a task waits for, what that waits for, to the root of it.

The task is given by its name or by its id (as ``ps --json`` shows it). It ends with 1 if the root is a deadlock, tasks
that wait for each other in a ring of which nothing else can end a wait, or a loop that is blocked.
"""

from __future__ import annotations

from . import FOUND, OK, USAGE, Failure
from .client import Connection
from .command import Options, dumps
from .ps import BLOCKED, settle
from .text import Places, duration, safe

# (importing typing takes longer than all the rest)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How many lines are shown.
MOST = 200


def run(options: Options) -> int:
    assert options.process is not None
    assert options.task is not None
    with Connection(options.process) as connection:
        answer = connection.tasks(stacks=True)
        settle(connection, answer)
        places = Places(connection.process.directory())
    tasks = {task["id"]: task for task in answer["tasks"]}
    task = choose(tasks, options.task)
    explained = Explanation(tasks, answer["loops"], answer["rings"], places)
    explained.explain(task["id"])
    if "--json" in options:
        chain = [{**tasks[name], "depth": depth} for depth, name in explained.chain]
        print(dumps({"v": 1, "task": task["id"], "chain": chain, "found": explained.found, "text": explained.lines}))
    else:
        print("\n".join(explained.lines))
    return FOUND if explained.found else OK


def choose(tasks: dict[str, dict[str, Any]], given: str) -> dict[str, Any]:
    named = [task for task in tasks.values() if task["name"] == given]
    if len(named) == 1:
        return named[0]
    if not named and given in tasks:
        return tasks[given]
    if not named:
        raise Failure(USAGE, f"there is no task {safe(given)} (any more): ps shows which there are")
    ids = ", ".join(task["id"] for task in named[:10])
    raise Failure(USAGE, f"{len(named)} tasks are called {safe(given)}; their ids: {ids}{', …' if named[10:] else ''}")


def awaited(task: dict[str, Any]) -> list[str]:
    """Whose doing moves it: tasks that it waits for, or who holds what it waits for."""
    return task.get("for") or task.get("held") or []


class Explanation:
    """The chain of waits of a task, as lines."""

    def __init__(
        self,
        tasks: dict[str, dict[str, Any]],
        loops: list[dict[str, Any]],
        rings: list[list[str]] | None,
        places: Places,
    ) -> None:
        self.tasks = tasks
        self.loops = loops
        self.rings = rings
        self.places = places
        self.lines: list[str] = []
        self.chain: list[tuple[int, str]] = []
        #: something is wrong
        self.found = False

    def name(self, task: str) -> str:
        known = self.tasks.get(task)
        return safe(known["name"]) if known else f"a task that has ended ({safe(task)})"

    def explain(self, start: str) -> None:
        explained: set[str] = set()
        # (a task, how deep it stands, who stands above it)
        todo: list[tuple[str, tuple[str, ...]]] = [(start, ())]
        while todo:
            name, above = todo.pop()
            indent = "  " * len(above)
            if name in above:
                self.ring(indent, [*above[above.index(name) :], name])
                continue
            task = self.tasks.get(name)
            if task is None:
                # (that may be meant: a timer may do it, or anybody)
                self.lines.append(f"{indent}{self.name(name)}, without letting go: somebody else has to")
                continue
            if name in explained:
                self.lines.append(f"{indent}{self.name(name)}: see above")
                continue
            if len(self.lines) >= MOST:
                self.lines.append(f"{indent}…")
                return
            explained.add(name)
            self.chain.append((len(above), name))
            self.lines.append(f"{indent}{self.name(name)} {self.sentence(task)}")
            todo += [(other, (*above, name)) for other in reversed(awaited(task))]

    def ring(self, indent: str, ring: list[str]) -> None:
        """The chain has come back to a task that stands above."""
        names = " → ".join(map(self.name, ring))
        if self.rings is None:
            self.lines.append(f"{indent}a ring: {names} (whether anything else can end it is not known just now)")
        elif any(set(ring) <= set(known) for known in self.rings):
            self.lines.append(f"{indent}a ring: {names}")
            self.found = True
        else:
            # a timeout; or who holds a lock by acquire() and not by `async with`, for which anybody may call release()
            self.lines.append(f"{indent}a ring, but no deadlock: {names}; a timer or somebody else can end it")

    def sentence(self, task: dict[str, Any]) -> str:
        """What one task does."""
        at = f" at {self.places.frame(task['at'])}" if "at" in task else ""
        if task["state"] == "running":
            return f"runs{self._running(task)}"
        if task["state"] == "ready":
            return f"is ready to go on{at}{self._blocked(task)}"
        what = safe(task.get("waits", "")) or "something"
        if what.startswith("sleep("):
            return f"waits{at}: {what}, until its time has come"
        if task.get("for"):
            others = task["for"]
            whom = self.name(others[0]) if len(others) == 1 else f"{len(others)} tasks"
            return f"waits{at}: {'' if what == 'Task' else what + ', '}for {whom}"
        if task.get("held"):
            return f"waits{at}: {what}, held by {', '.join(map(self.name, task['held']))}"
        return f"waits{at}: {what}{ROOTS.get(what, '')}"

    def _loop(self, task: dict[str, Any]) -> dict[str, Any] | None:
        return next((loop for loop in self.loops if loop["loop"] == task.get("loop")), None)

    def _running(self, task: dict[str, Any]) -> str:
        loop = next((loop for loop in self.loops if loop.get("task") == task["id"]), None)
        if loop is None:
            return ""
        text = f" at {self.places.frame(loop['at'])}" if loop.get("at") else ""
        if loop.get("busy", 0) >= BLOCKED:
            self.found = True
            text += f", for {duration(loop['busy'])} in one step: the loop is blocked"
        return text

    def _blocked(self, task: dict[str, Any]) -> str:
        blocking = [loop for loop in self.loops if loop.get("busy", 0) >= BLOCKED]
        if not blocking:
            return ""
        self.found = True
        loop = blocking[0]
        who = f" by {self.name(loop['task'])}" if loop.get("task") else ""
        text = f" at {self.places.frame(loop['at'])}" if loop.get("at") else ""
        return f", but the loop is blocked for {duration(loop['busy'])}{who}{text}"


#: What ends a wait that is nobody's in particular.
ROOTS = {
    "Event.wait": ", until somebody calls set()",
    "Queue.get": ", until somebody puts an item",
    "Queue.put": ", until somebody takes an item",
    "Queue.join": ", until task_done() has been called for every item",
    "Condition.wait": ", until somebody notifies it",
    "Condition.wait_for": ", until somebody notifies it and its predicate is true",
    "Barrier.wait": ", until enough tasks have come",
    "Semaphore.acquire": ", until somebody releases a unit; who holds them is not known",
    "Lock.acquire": ", until it is released; who holds it is not known (no task of aioxide's has acquired it)",
    "Future": ", until somebody sets its result",
    "StreamReader.read": ", until the peer sends something",
    "StreamReader.readline": ", until the peer sends a line",
    "StreamReader.readuntil": ", until the peer sends the separator",
    "StreamReader.readexactly": ", until the peer has sent enough",
    "StreamWriter.drain": ", until the peer has read enough",
    "Process.wait": ", until the process ends",
}
