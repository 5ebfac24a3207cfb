"""Makes a failing program small: cut, try, keep what still fails. Any part of a program is a program, so this is simple."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

from .program import CHILDREN, Body, Op, Program, all_bodies, bodies_of, size


def reduce(program: Program, fails: Callable[[Program], bool], *, rounds: int = 2000) -> Program:
    """The smallest program found that still fails, in at most `rounds` tries."""
    best = copy.deepcopy(program)
    progress = True
    while progress:
        progress = False
        for candidate in _smaller(best):
            rounds -= 1
            if rounds < 0:
                return best
            if size(candidate) < size(best) and fails(candidate):
                best = candidate
                progress = True
                break
    return best


def _smaller(program: Program) -> Iterator[Program]:
    """Candidates, the boldest first. Each is a copy."""
    bodies = list(all_bodies(program))
    for index, body in enumerate(bodies):
        for start, stop in _cuts(len(body)):
            yield _edited(program, index, lambda body, start=start, stop=stop: body[:start] + body[stop:])
    for index, body in enumerate(bodies):
        for position, op in enumerate(body):
            for replacement in _replacements(op):
                yield _edited(
                    program, index, lambda body, at=position, new=replacement: body[:at] + new + body[at + 1 :]
                )
    for key, value in (("debug", False), ("factory", None), ("virtual", False), ("sems", [1, -1]), ("barriers", [2])):
        if program[key] != value:
            yield copy.deepcopy(program) | {key: value}
    for index, (kind, maxsize) in enumerate(program["queues"]):
        if (kind, maxsize) != ("Queue", 0):
            candidate = copy.deepcopy(program)
            candidate["queues"][index] = ["Queue", 0]
            yield candidate


def _cuts(length: int) -> Iterator[tuple[int, int]]:
    step = length
    while step:
        for start in range(0, length, step):
            yield start, min(start + step, length)
        step //= 2


def _edited(program: Program, index: int, edit: Callable[[Body], Body]) -> Program:
    candidate = copy.deepcopy(program)
    body = list(all_bodies(candidate))[index]
    body[:] = edit(body)
    return candidate


def _replacements(op: Op) -> Iterator[Body]:
    """What may stand for an op: what is inside it, or the same with simpler arguments."""
    for inner in bodies_of(op):
        if op[0] not in ("spawn", "tg_spawn"):
            yield copy.deepcopy(inner)
    if op[0] in CHILDREN:
        at = CHILDREN[op[0]]
        for position in range(len(op[at])):
            yield [[*op[:at], op[at][:position] + op[at][position + 1 :], *op[at + 1 :]]]
    if op[0] == "sleep" and op[1] > 1:
        yield [["sleep", op[1] - 1]]
    if op[0] in ("delay", "call_later", "timeout", "wait_for", "wait") and any(_is_number(arg) for arg in op[1:]):
        for position, arg in enumerate(op):
            if position and _is_number(arg) and arg > 1 and op[0] != "call_later":
                yield [[*op[:position], 1, *op[position + 1 :]]]
    if op[0] == "raise" and op[1] != "E1":
        yield [["raise", "E1"]]
    if op[0] == "cancel" and op[2] is not None:
        yield [["cancel", op[1], None]]


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
