"""A random program. All choices go through one `random.Random`, so a seed makes a program, and so does hypothesis.

`hypothesis.strategies.randoms()` hands out a `Random` whose draws hypothesis controls: the same code then gives
programs that hypothesis can shrink.
"""

from __future__ import annotations

import sys
from bisect import bisect
from collections.abc import Callable
from itertools import accumulate
from random import Random

from .program import Body, Op, Program

#: What each group mixes in, beyond the core ops.
GROUPS = ("tasks", "cancel", "timeouts", "groups", "callbacks", "locks", "conditions", "queues", "all")
#: KeyboardInterrupt and SystemExit leave the loop, so they come only when asked for.
FATAL = "fatal"

EXCEPTIONS = ("E1", "E2", "ValueError", "TimeoutError", "base", "cancel", "genexit", "stopasync")
MESSAGES = (None, None, None, "m1", "m2", 7)
#: exact programs run in real time: a delay is over at once, or never
EXACT_DELAYS = (0, 0, -1, 3600, 3600, None)
VIRTUAL_DELAYS = (0, 1, 2, 3, 4, 6, 9, None)
QUEUES = ("Queue", "Queue", "PriorityQueue", "LifoQueue")
QUEUE_SHUTDOWN = sys.version_info >= (3, 13)
EAGER = sys.version_info >= (3, 12)

Weights = dict[str, float]

SYNC: Weights = {
    "cancel": 5, "uncancel": 1.5, "cancelling": 1, "state": 3, "future": 1, "set_result": 3, "set_exc": 2,
    "add_cb": 2, "remove_cb": 0.8, "call_soon": 1.5, "call_later": 0.8, "cancel_handle": 0.6, "spawn": 2,
    "setvar": 0.6, "getvar": 0.6, "all_tasks": 0.3, "mkgather": 0.6, "mkshield": 0.6, "ensure": 0.3, "raise": 0.6,
}  # fmt: skip
CORE: Weights = SYNC | {
    "sleep": 7, "delay": 1, "await": 5, "try": 4, "spawn": 6, "gather": 1.5, "wait": 1, "wait_for": 1, "shield": 1,
    "as_completed": 0.5, "return": 0.4, "raise": 1.2, "bad_yield": 0.15, "agen": 0.3,
    "timeout": 0.7, "group": 0.7, "current": 0.2, "race": 1.5, "waiter": 2,
}  # fmt: skip
LOCKS: Weights = {
    "acquire": 3, "release": 3, "with_lock": 3, "locked": 0.5, "ev_set": 2, "ev_clear": 1, "ev_wait": 3, "sem_acquire": 3,
    "sem_release": 3, "with_sem": 3, "spawn": 4, "try": 3, "cancel": 4,
}  # fmt: skip
CONDITIONS: Weights = {
    "with_cond": 6, "cond_wait": 3, "cond_notify": 3, "cond_wait_for": 1.5, "bump": 2, "barrier_wait": 4, "with_barrier": 1.5,
    "barrier_reset": 0.7, "barrier_abort": 0.3, "barrier_state": 0.5, "spawn": 5, "try": 3, "cancel": 4,
}  # fmt: skip
QUEUE_OPS: Weights = {
    "put": 5, "get": 6, "put_nowait": 2, "get_nowait": 2, "task_done": 2, "join": 1, "qsize": 0.5, "spawn": 5, "try": 3,
    "cancel": 4, "wait_for": 1,
} | ({"shutdown": 0.8} if QUEUE_SHUTDOWN else {})  # fmt: skip
MIX: dict[str, Weights] = {
    "tasks": {},
    "cancel": {"cancel": 10, "uncancel": 3, "try": 7, "raise": 2, "shield": 2},
    "timeouts": {"timeout": 7, "wait_for": 5, "reschedule": 3, "delay": 4, "when": 0.5, "try": 6},
    "groups": {"group": 6, "tg_spawn": 14, "raise": 3, "try": 5},
    "callbacks": {
        "add_cb": 7,
        "remove_cb": 3,
        "call_soon": 6,
        "call_later": 4,
        "cancel_handle": 3,
        "set_exc": 3,
    },
    "locks": LOCKS,
    "conditions": CONDITIONS,
    "queues": QUEUE_OPS,
    "all": LOCKS | CONDITIONS | QUEUE_OPS | {"timeout": 3, "group": 3, "tg_spawn": 6, "spawn": 6, "reschedule": 1},
    FATAL: {"raise": 4, "group": 2, "tg_spawn": 6, "call_soon": 3, "add_cb": 3, "timeout": 1},
}
#: ops that a callback may do: they never await
SYNC_EXTRA = {
    "ev_set", "ev_clear", "release", "sem_release", "put_nowait", "get_nowait", "task_done", "qsize", "shutdown", "bump",
    "reschedule", "locked", "tg_spawn", "barrier_state", "cond_notify",
}  # fmt: skip
#: ops that make sense only inside a `with_cond` or a `group`: kept out of other places
IN_COND = {"cond_wait", "cond_wait_for", "cond_notify"}
#: ops whose exception may be caught just around them (what the interpreter awaits, and `raise`)
GUARDED = {
    "sleep", "delay", "await", "gather", "wait", "wait_for", "shield", "as_completed", "raise", "bad_yield",
    "agen", "timeout", "group", "acquire", "with_lock", "ev_wait", "sem_acquire", "with_sem", "with_cond", "cond_wait",
    "cond_wait_for", "barrier_wait", "with_barrier", "put", "get", "join",
}  # fmt: skip


class Table:
    """Weighted choice."""

    def __init__(self, weights: Weights) -> None:
        self.names = list(weights)
        self.sums = list(accumulate(weights.values()))

    def pick(self, rng: Random) -> str:
        return self.names[min(bisect(self.sums, rng.random() * self.sums[-1]), len(self.names) - 1)]


#: what wakes somebody, by group: followed by a cancellation it makes the races that libraries get wrong
WAKERS: dict[str, tuple[str, ...]] = {
    "locks": ("release", "sem_release", "ev_set", "set_result"),
    "conditions": ("with_cond", "barrier_abort", "set_result"),
    "queues": ("put_nowait", "get_nowait", "task_done", "set_result"),
    "all": ("release", "sem_release", "put_nowait", "get_nowait", "set_result"),
}
#: what a task that only waits waits for
WAITS: dict[str, tuple[str, ...]] = {
    "locks": ("acquire", "with_lock", "sem_acquire", "with_sem", "ev_wait"),
    "conditions": ("with_cond", "with_cond", "barrier_wait"),
    "queues": ("get", "get", "put", "join"),
    "all": ("acquire", "get", "ev_wait", "await"),
}
#: never left out by `_swarm`
ALWAYS = {"race", "waiter", "sleep", "spawn", "try", "cancel", "await", "group", "tg_spawn", "with_cond", "set_result"}


def _weights(group: str) -> tuple[Weights, Weights]:
    asynchronous = CORE | MIX[group]
    extra = {name: weight for name, weight in MIX[group].items() if name in SYNC or name in SYNC_EXTRA}
    return asynchronous, SYNC | {name: weight for name, weight in extra.items() if name != "cond_notify"}


WEIGHTS = {group: _weights(group) for group in MIX}


def _swarm(rng: Random, weights: Weights) -> Table:
    """Half of the ops, a different half for each program: what is left meets itself more often."""
    return Table({name: weight for name, weight in weights.items() if name in ALWAYS or rng.random() < 0.55})


def generate(rng: Random, group: str | None = None) -> Program:
    """A program of the group (any of GROUPS when None)."""
    return _Generator(rng, group or rng.choice(GROUPS)).program()


class _Generator:
    def __init__(self, rng: Random, group: str) -> None:
        self.rng = rng
        self.group = group
        asynchronous, synchronous = WEIGHTS[group]
        self.table, self.sync_table = _swarm(rng, asynchronous), _swarm(rng, synchronous)
        self.virtual = rng.random() < 0.3
        self.budget = rng.choice((10, 16, 24, 36, 50, 70))
        self.tasks = 1
        self.futures = 2
        self.timeouts = 0
        self.groups = 0
        self.handles = 0
        self.scripts_left = 4 if group == "callbacks" else 3
        self.scripts: list[Body] = []
        self.open_groups: list[int] = []
        self.open_timeouts: list[int] = []
        self.in_cond = 0
        self.exceptions = EXCEPTIONS + (("interrupt", "exit") if group == FATAL else ())

    def program(self) -> Program:
        rng = self.rng
        factory = None
        draw = rng.random()
        if draw < 0.06:
            factory = "custom"
        elif draw < 0.14 and EAGER:
            factory = "eager"
        program: Program = {
            "group": self.group,
            "virtual": self.virtual,
            "debug": rng.random() < 0.02,
            "factory": factory,
            "sems": [rng.choice((0, 1, 1, 2)), -rng.choice((1, 2))],
            "barriers": [rng.choice((1, 2, 2, 3))],
            "queues": [[rng.choice(QUEUES), rng.choice((0, 1, 1, 2))] for _ in range(2)],
        }
        body = self.root()
        while len(self.scripts) < 1:
            self.script()
        program["futures"] = self.futures
        program["scripts"] = self.scripts
        program["body"] = body
        return program

    # -- parts -----------------------------------------------------------------------------------------------------------

    def root(self) -> Body:
        """A few tasks first, then ops most of whose exceptions are caught: a root that dies early tests little."""
        rng = self.rng
        out: Body = [["spawn", *self.task(0), 0] for _ in range(rng.choice((1, 2, 2, 3, 4)))]
        while self.budget > 0:
            out.append(self.guarded(self.op(0), 0.8))
        return out

    def body(self, depth: int) -> Body:
        out: Body = []
        for _ in range(self.rng.choice((1, 2, 2, 3, 4, 5) if depth < 3 else (0, 1, 1, 2))):
            if self.budget <= 0:
                break
            out.append(self.guarded(self.op(depth), 0.2))
        return out

    def guarded(self, op: Op, share: float) -> Op:
        if op[0] in GUARDED and self.rng.random() < share:
            return ["try", [op], self.rng.choice(("cancel", "exc", "base", "base")), [], []]
        return op

    def op(self, depth: int) -> Op:
        self.budget -= 1
        while True:
            name = self.table.pick(self.rng)
            if depth >= 4 and name in (
                "try",
                "group",
                "spawn",
                "tg_spawn",
                "agen",
                "with_lock",
                "with_sem",
                "with_cond",
            ):
                continue
            if name in IN_COND and not self.in_cond:
                continue
            if name == "tg_spawn" and not self.groups:
                name = "group"
            return self.build(name, depth)

    def sync_op(self) -> Op:
        self.budget -= 1
        return self.build(self.sync_table.pick(self.rng), 3)

    def script(self) -> int:
        """The number of a script that a callback runs: an old one or a new one."""
        if self.scripts and (len(self.scripts) >= self.scripts_left or self.rng.random() < 0.3):
            return self.rng.randrange(len(self.scripts))
        number = len(self.scripts)
        script: Body = []
        self.scripts.append(script)
        script.extend(self.sync_op() for _ in range(self.rng.choice((1, 1, 2, 3))))
        return number

    def ref(self) -> list[object]:
        """Any task or future; now and then one that comes later."""
        rng = self.rng
        if rng.random() < 0.3:
            return ["f", rng.randrange(self.futures)]
        return ["t", self.task_number()]

    def task_number(self) -> int:
        """Seldom the root, now and then a task that comes later, else any."""
        rng = self.rng
        draw = rng.random()
        if draw < 0.06:
            return 0
        return rng.randrange(1, self.tasks + 2 if draw < 0.2 or self.tasks == 1 else self.tasks)

    def child(self, depth: int) -> list[object]:
        if self.rng.random() < 0.5 or self.budget <= 0 or depth >= 4:
            return self.ref()
        return ["coro", *self.task(depth)]

    def children(self, depth: int) -> list[object]:
        return [self.child(depth) for _ in range(self.rng.choice((0, 1, 2, 2, 3)))]

    def refs(self) -> list[object]:
        return [self.ref() for _ in range(self.rng.choice((0, 1, 2, 2, 3)))]

    def task(self, depth: int) -> tuple[int, Body]:
        number = self.tasks
        self.tasks += 1
        # a task's body is not inside its parent's `async with`
        saved, self.in_cond = self.in_cond, 0
        body = self.body(depth + 1)
        self.in_cond = saved
        return number, body

    def future(self) -> int:
        self.futures += 1
        return self.futures - 1

    def delay(self) -> object:
        return self.rng.choice(VIRTUAL_DELAYS if self.virtual else EXACT_DELAYS)

    def raising(self) -> str:
        return self.rng.choice(self.exceptions)

    # -- ops -------------------------------------------------------------------------------------------------------------

    def build(self, name: str, depth: int) -> Op:
        make: Callable[[int], Op] | None = getattr(self, "op_" + name, None)
        return make(depth) if make else [name]

    def op_sleep(self, depth: int) -> Op:
        return ["sleep", self.rng.choice((1, 1, 1, 2, 3, 5))]

    def op_delay(self, depth: int) -> Op:
        # a sleep that never ends holds its task until somebody cancels it: rare
        if self.virtual:
            return ["delay", self.rng.choice((0, 1, 2, 3, 5, 8))]
        return ["delay", self.rng.choice((0, 0, 0, -1, 3600))]

    def op_await(self, depth: int) -> Op:
        return ["await", self.ref()]

    def op_cancel(self, depth: int) -> Op:
        return ["cancel", self.ref(), self.rng.choice(MESSAGES)]

    def op_uncancel(self, depth: int) -> Op:
        return ["uncancel", ["t", self.task_number()] if self.rng.random() < 0.5 else None]

    def op_cancelling(self, depth: int) -> Op:
        return ["cancelling", ["t", self.task_number()]]

    def op_state(self, depth: int) -> Op:
        return ["state", self.ref()]

    def op_future(self, depth: int) -> Op:
        return ["future", self.future()]

    def op_set_result(self, depth: int) -> Op:
        return ["set_result", self.rng.randrange(self.futures), self.rng.randrange(9)]

    def op_set_exc(self, depth: int) -> Op:
        kinds = (*self.exceptions, "StopIteration", "class")
        return ["set_exc", self.rng.randrange(self.futures), self.rng.choice(kinds)]

    def op_add_cb(self, depth: int) -> Op:
        return ["add_cb", self.ref(), self.script()]

    def op_remove_cb(self, depth: int) -> Op:
        return ["remove_cb", self.ref(), self.script()]

    def op_call_soon(self, depth: int) -> Op:
        self.handles += 1
        return ["call_soon", self.handles - 1, self.script()]

    def op_call_later(self, depth: int) -> Op:
        self.handles += 1
        delay = self.delay()
        return ["call_later", self.handles - 1, 0 if delay is None else delay, self.script()]

    def op_cancel_handle(self, depth: int) -> Op:
        return ["cancel_handle", self.rng.randrange(self.handles + 1)]

    def op_setvar(self, depth: int) -> Op:
        return ["setvar", self.rng.randrange(1, 5)]

    def op_raise(self, depth: int) -> Op:
        return ["raise", self.raising()]

    def op_return(self, depth: int) -> Op:
        return ["return", self.rng.randrange(9)]

    def op_bad_yield(self, depth: int) -> Op:
        return ["bad_yield", self.rng.choice(("int", "none", "unblocked", "generator", "task"))]

    def op_spawn(self, depth: int) -> Op:
        number, body = self.task(depth)
        return ["spawn", number, body, int(self.rng.random() < 0.1)]

    def op_ensure(self, depth: int) -> Op:
        return ["ensure", self.future(), self.child(depth)]

    def op_waiter(self, depth: int) -> Op:
        number = self.tasks
        self.tasks += 1
        wait = self.build(self.rng.choice(WAITS.get(self.group, ("await", "await", "shield"))), 4)
        return ["spawn", number, [self.guarded(wait, 0.2)], 0]

    def op_race(self, depth: int) -> Op:
        wake = self.build(self.rng.choice(WAKERS.get(self.group, ("set_result", "set_exc"))), 4)
        both = [wake, self.op_cancel(depth)]
        if self.rng.random() < 0.2:
            both.reverse()
        return ["try", both, "exc", [], []]

    def op_agen(self, depth: int) -> Op:
        number = self.tasks
        self.tasks += 1
        return ["agen", number, self.body(depth + 1), self.rng.choice(("all", "drop", "aclose", "throw"))]

    def op_try(self, depth: int) -> Op:
        rng = self.rng
        body = self.body(depth + 1) or [["sleep", 1]]
        handler = self.body(depth + 1) if rng.random() < 0.6 else []
        final = self.body(depth + 1) if rng.random() < 0.15 else []
        if rng.random() < 0.15:
            handler.append(["reraise"])
        return ["try", body, rng.choice(("cancel", "cancel", "exc", "exc", "base")), handler, final]

    def op_gather(self, depth: int) -> Op:
        return ["gather", self.children(depth), self.rng.random() < 0.4]

    def op_mkgather(self, depth: int) -> Op:
        return ["mkgather", self.future(), self.children(depth), self.rng.random() < 0.4]

    def op_shield(self, depth: int) -> Op:
        return ["shield", self.child(depth)]

    def op_mkshield(self, depth: int) -> Op:
        return ["mkshield", self.future(), self.child(depth)]

    def op_wait(self, depth: int) -> Op:
        when = self.rng.choice(("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"))
        return ["wait", self.refs(), self.delay(), when]

    def op_wait_for(self, depth: int) -> Op:
        return ["wait_for", self.child(depth), self.delay()]

    def op_as_completed(self, depth: int) -> Op:
        style = self.rng.choice(("sync", "sync", "async", "swallow"))
        return ["as_completed", self.refs(), self.delay(), style, self.rng.choice((9, 9, 1))]

    def op_timeout(self, depth: int) -> Op:
        number = self.timeouts
        self.timeouts += 1
        kind = self.rng.choice(("timeout", "timeout", "timeout_at"))
        delay = self.delay()
        return ["timeout", number, [kind, delay], self.body(depth + 1) or [["sleep", 2]]]

    def op_reschedule(self, depth: int) -> Op:
        return ["reschedule", self.rng.randrange(self.timeouts + 1), self.delay()]

    def op_when(self, depth: int) -> Op:
        return ["when", self.rng.randrange(self.timeouts + 1)]

    def op_group(self, depth: int) -> Op:
        number = self.groups
        self.groups += 1
        self.open_groups.append(number)
        body = self.body(depth + 1)
        if self.budget > 0:
            body.insert(0, self.op_tg_spawn(depth + 1))
        self.open_groups.pop()
        return ["group", number, body]

    def op_tg_spawn(self, depth: int) -> Op:
        number, body = self.task(depth)
        if self.open_groups and self.rng.random() < 0.85:
            group = self.open_groups[-1]
        else:
            group = self.rng.randrange(self.groups + 1)
        return ["tg_spawn", group, number, body]

    # -- synchronisation ---------------------------------------------------------------------------------------------------

    def op_with_lock(self, depth: int) -> Op:
        return ["with_lock", 0, self.body(depth + 1)]

    def op_sem_acquire(self, depth: int) -> Op:
        return ["sem_acquire", self.rng.randrange(2)]

    def op_sem_release(self, depth: int) -> Op:
        return ["sem_release", self.rng.randrange(2)]

    def op_with_sem(self, depth: int) -> Op:
        return ["with_sem", self.rng.randrange(2), self.body(depth + 1)]

    def op_with_cond(self, depth: int) -> Op:
        draw = self.rng.random()
        if draw < 0.4:
            return ["with_cond", 0, [self.guarded(["cond_wait"], 0.3)]]
        if draw < 0.65:
            return ["with_cond", 0, [self.op_cond_notify(depth)]]
        self.in_cond += 1
        body = self.body(depth + 1)
        self.in_cond -= 1
        return ["with_cond", 0, body]

    def op_cond_notify(self, depth: int) -> Op:
        return ["cond_notify", self.rng.choice((1, 1, 2, "all"))]

    def op_cond_wait_for(self, depth: int) -> Op:
        return ["cond_wait_for", self.rng.choice((1, 1, 2, 3))]

    def op_barrier_wait(self, depth: int) -> Op:
        return ["barrier_wait", 0]

    def op_with_barrier(self, depth: int) -> Op:
        return ["with_barrier", 0, self.body(depth + 1)]

    # -- queues --------------------------------------------------------------------------------------------------------------

    def queue(self) -> int:
        return 0 if self.rng.random() < 0.8 else 1

    def op_put(self, depth: int) -> Op:
        return ["put", self.queue(), self.rng.randrange(20)]

    def op_put_nowait(self, depth: int) -> Op:
        return ["put_nowait", self.queue(), self.rng.randrange(20)]

    def op_get(self, depth: int) -> Op:
        return ["get", self.queue()]

    def op_get_nowait(self, depth: int) -> Op:
        return ["get_nowait", self.queue()]

    def op_task_done(self, depth: int) -> Op:
        return ["task_done", self.queue()]

    def op_join(self, depth: int) -> Op:
        return ["join", self.queue()]

    def op_qsize(self, depth: int) -> Op:
        return ["qsize", self.queue()]

    def op_shutdown(self, depth: int) -> Op:
        return ["shutdown", self.queue(), self.rng.random() < 0.4]
