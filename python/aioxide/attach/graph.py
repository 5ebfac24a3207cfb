"""Who waits for whom, as a graph."""

from __future__ import annotations

# (importing typing takes longer than all the rest)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def awaited(task: dict[str, Any]) -> list[str]:
    """Whose doing moves it: tasks that it waits for, or who holds what it waits for."""
    return task.get("for") or task.get("held") or []


def rings(tasks: list[dict[str, Any]]) -> list[list[str]]:
    """Tasks that wait for each other: each waits for the next, the last for the first. Of tasks that wait for several
    (a gather), one in a ring is enough to keep them; that is how this counts them."""
    following = {task["id"]: awaited(task) for task in tasks}
    state: dict[str, int] = {}  # 1: on the path, 2: done
    found = []
    for start in following:
        if start in state:
            continue
        path = [start]
        todo = [iter(following[start])]
        state[start] = 1
        while todo:
            other = next(todo[-1], None)
            if other is None:
                todo.pop()
                state[path.pop()] = 2
            elif state.get(other) == 1:
                found.append(path[path.index(other) :])
            elif other in following and other not in state:
                state[other] = 1
                path.append(other)
                todo.append(iter(following[other]))
    return found
