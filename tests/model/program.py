"""What a program is: plain JSON data, so that it can be printed, stored, replayed and made smaller.

    {"group": "tasks", "virtual": false, "debug": false, "factory": null,
     "futures": 2, "sems": [1], "barriers": [2], "queues": [["Queue", 1]],
     "scripts": [[op, …], …],            what callbacks do (sync ops only)
     "body": [op, …]}                    what the root task t0 does

An op is a list: its name, then its arguments. Ids are numbers fixed in the program: task 3 is whatever `["spawn", 3, …]`
made; an op that names a task which does not exist yet records "none" and goes on, so every sub-program of a program is
a program too (that is what makes reduction simple).

A *ref* names something awaitable: `["t", 3]` a task, `["f", 1]` a future (gather and shield futures are among them).
A *child* is a ref or `["coro", id, body]`, a fresh coroutine that the op itself wraps in a task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Op = list[Any]
Body = list[Op]
Program = dict[str, Any]

#: Where an op keeps bodies: op name -> indices of arguments that are bodies.
BODIES: dict[str, tuple[int, ...]] = {
    "spawn": (2,),
    "tg_spawn": (3,),
    "try": (1, 3, 4),
    "timeout": (3,),
    "group": (2,),
    "with_lock": (2,),
    "with_sem": (2,),
    "with_cond": (2,),
    "with_barrier": (2,),
    "agen": (2,),
}

#: Where an op keeps children (refs or inline coroutines): one child, or a list of children.
CHILD: dict[str, int] = {"wait_for": 1, "shield": 1, "mkshield": 2, "ensure": 2}
CHILDREN: dict[str, int] = {"gather": 1, "mkgather": 2}


def bodies_of(op: Op) -> Iterator[Body]:
    """Every body directly inside `op` (the lists themselves, so that a caller may edit them)."""
    for index in BODIES.get(op[0], ()):
        yield op[index]
    if op[0] in CHILD and op[CHILD[op[0]]][0] == "coro":
        yield op[CHILD[op[0]]][2]
    if op[0] in CHILDREN:
        for child in op[CHILDREN[op[0]]]:
            if child[0] == "coro":
                yield child[2]


def all_bodies(program: Program) -> Iterator[Body]:
    """Every body of the program, outermost first."""
    stack: list[Body] = [*reversed(program["scripts"]), program["body"]]
    while stack:
        body = stack.pop()
        yield body
        for op in reversed(body):
            stack.extend(reversed(list(bodies_of(op))))


def size(program: Program) -> int:
    """How much there is to read: ops, and the text as a tie-break."""
    return sum(map(len, all_bodies(program))) * 1000 + min(999, len(json.dumps(program)) // 10)


def label(op: Op) -> str:
    """An op in a trace: without the bodies inside it."""
    hidden = set(BODIES.get(op[0], ()))
    out = []
    for index, arg in enumerate(op):
        if index in hidden:
            continue
        if index == CHILD.get(op[0]):
            arg = arg[:2]
        elif index == CHILDREN.get(op[0]):
            arg = [child[:2] for child in arg]
        out.append(arg if isinstance(arg, str) else json.dumps(arg, separators=(",", ":")))
    return " ".join(out)


def dumps(program: Program) -> str:
    """JSON with one op a line, indented by nesting: readable, and still JSON."""
    lines = ["{"]
    for key in program:
        if key in ("scripts", "body"):
            continue
        lines.append(f" {json.dumps(key)}: {json.dumps(program[key])},")
    scripts = ",\n".join(_body_text(script, "  ") for script in program["scripts"])
    lines.append(f' "scripts": [{scripts}],')
    lines.append(f' "body": {_body_text(program["body"], " ")}')
    lines.append("}")
    return "\n".join(lines)


def _body_text(body: Body, indent: str) -> str:
    if not body:
        return "[]"
    inner = indent + "  "
    return "[\n" + ",\n".join(inner + _op_text(op, inner) for op in body) + "]"


def _op_text(op: Op, indent: str) -> str:
    if not any(bodies_of(op)):
        return json.dumps(op)
    hidden = set(BODIES.get(op[0], ()))
    parts = []
    for index, arg in enumerate(op):
        if index in hidden:
            parts.append(_body_text(arg, indent))
        elif index == CHILD.get(op[0]):
            parts.append(_child_text(arg, indent))
        elif index == CHILDREN.get(op[0]):
            parts.append("[" + ", ".join(_child_text(child, indent) for child in arg) + "]")
        else:
            parts.append(json.dumps(arg))
    return "[" + ", ".join(parts) + "]"


def _child_text(child: list[Any], indent: str) -> str:
    if child[0] != "coro":
        return json.dumps(child)
    return f'["coro", {child[1]}, {_body_text(child[2], indent)}]'
