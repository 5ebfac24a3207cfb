"""Runs a program on one implementation and records what happened, event by event.

Time is counted in *hops*: a callback that reschedules itself counts the iterations of the loop, and it also keeps the
ready queue from ever being empty, so no program waits for the clock. A virtual program runs on a loop whose `time()` is
the hop counter; an exact one runs on the implementation's own loop type with delays that are over at once or never
(a subclass may send an implementation down its slow paths, hence both).

What the comparison must not depend on, and how it is kept out:

* the order of equal timers (asyncio's is the heap's): every delay gets its own small fraction;
* the order of a set of tasks (asyncio's is by address): `wait` and `as_completed` get at most one finished future, and
  the reference's TaskGroup keeps its tasks in an ordered set (`implementations.py`);
* the order in which the run's end cancels what is left: that of the tasks' creation;
* when an object dies: the garbage collector is off while a program runs, everything is dropped at the end, and what
  finalizers report is compared sorted.
"""

from __future__ import annotations

import contextvars
import gc
import re
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from .program import Body, Op, Program, label

VAR: contextvars.ContextVar[int] = contextvars.ContextVar("VAR", default=0)
HOPS = {False: 50, True: 70}
LINGER = {False: 5, True: 12}
FINALIZER_REPORTS = ("was never retrieved", "was destroyed but it is pending")
#: what `Trace.loose` leaves out
_LOOSE = re.compile(
    r" <[-~=] .*?(?=  |$)|(?<=InvalidStateError)\(.*?\)#\d+|#\d+|(?<=RuntimeError)\(.(?:Task cannot await|yield was used).*?>.,\)"
)
#: what `Interpreter.clean` does
_VARIES = (
    (re.compile(r"0x[0-9a-f]+"), "0x"),
    (re.compile(r" (?:created )?at \S*/asyncio/\w+\.py:\d+| created at [^\s>]+"), ""),
    (re.compile(r"\((<\w+ ?\w*)\.\.\..*>\)"), r"(\1...>)"),  # an argument that reprlib cut short
    (re.compile(r" cb=\[.*\]"), ""),
    (re.compile(r"name='[^']*'"), "name"),  # 3.13.0 renames a factory's task to 'None'
)


class E1(Exception):
    pass


class E2(E1):
    pass


class Base(BaseException):
    pass


class Stop:
    """Travels up through nested bodies when a program says `return` (an exception would be seen by what it passes)."""

    def __init__(self, value: Any) -> None:
        self.value = value


class BadAwaitable:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self):  # type: ignore[no-untyped-def]
        return (yield self.value)


def _call(function: Callable[..., None], *args: Any) -> None:
    function(*args)


Event = tuple[Any, ...]


def heard(future: Any) -> list[Any]:
    """Its callbacks, but for the one with which `shield` keeps call graphs in order: the native one needs none."""
    callbacks = [callback for callback, _ in future._callbacks or ()]
    return [callback for callback in callbacks if getattr(callback, "__name__", "") != "_clear_awaited_by_callback"]


class Trace:
    """What a program did on an implementation. `events` in order; `final` states; `late` reports of finalizers, sorted."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.final: list[str] = []
        self.late: list[str] = []

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Trace)
            and self.events == other.events
            and self.final == other.final
            and self.late == other.late
        )

    __hash__ = None  # type: ignore[assignment]

    def loose(self) -> list[str]:
        """Without what differs between asyncio's own C and Python halves: chains, identities, a message."""
        return [_LOOSE.sub("", line) for line in self.lines()]

    def lines(self) -> list[str]:
        out = []
        for hop, actor, op, *rest in self.events:
            text = op if isinstance(op, str) else label(op)
            out.append(f"{hop:3} {actor:4} {text:28} -> " + "  ".join(str(part) for part in rest if part is not None))
        out += [f"end {line}" for line in self.final]
        out += [f"late {line}" for line in self.late]
        return out


def run(program: Program, implementation: Any) -> Trace:
    """Run the program; the caller compares the trace with another implementation's."""
    enabled = gc.isenabled()
    gc.disable()
    # What a garbage-collected coroutine complains about is not part of the comparison.
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = Interpreter(program, implementation)
            try:
                interpreter.drive()
            except Exception as error:
                interpreter.trace.events.append((interpreter.hop, "test", "broken", repr(error)))
            return interpreter.finish()
    finally:
        sys.unraisablehook = hook
        if enabled:
            gc.enable()


class Interpreter:
    def __init__(self, program: Program, implementation: Any) -> None:
        self.program = program
        self.implementation = implementation
        self.aio = implementation.aio
        self.virtual: bool = program["virtual"]
        self.trace = Trace()
        self.hop = 0
        self.fuel = 150  # callbacks may start each other for ever
        self.fraction = 0
        self.broken: BaseException | None = None
        self.dead = False  # nothing is recorded or done any more: the end of the run
        self.sealed = False  # not even what finalizers report: the trace has been handed out
        self.tasks: dict[str, Any] = {}
        self.names: dict[int, str] = {}
        self.futures: dict[str, Any] = {}
        self.handles: dict[int, Any] = {}
        self.timeouts: dict[int, Any] = {}
        self.groups: dict[int, Any] = {}
        self.deps: dict[str, list[str]] = {}
        self.callbacks: dict[int, Callable[..., None]] = {}
        self.exceptions: dict[int, int] = {}
        self.caught: dict[str, BaseException] = {}
        self.keep: list[Any] = []
        self.count = 0

    # -- the run -----------------------------------------------------------------------------------------------------

    def drive(self) -> None:
        aio = self.aio
        loop = self.loop = self.implementation.new_loop(self.virtual)
        loop.set_exception_handler(self.on_error)
        if self.program["debug"]:
            loop.set_debug(True)
            loop.slow_callback_duration = 1e9
        if self.program["factory"] == "custom":
            loop.set_task_factory(lambda loop, coro, **kwargs: aio.Task(coro, loop=loop, **kwargs))
        elif self.program["factory"] == "eager" and hasattr(aio, "eager_task_factory"):
            loop.set_task_factory(aio.eager_task_factory)
        self.locks = [aio.Lock()]
        self.events = [aio.Event()]
        self.conds = [aio.Condition()]
        self.sems = [aio.Semaphore(n) if n >= 0 else aio.BoundedSemaphore(-n) for n in self.program["sems"]]
        self.barriers = [aio.Barrier(parties) for parties in self.program["barriers"]]
        self.queues = [getattr(aio, kind)(size) for kind, size in self.program["queues"]]
        # two futures that any op can reach; the rest are made by ops
        for number in range(2):
            self.futures[f"f{number}"] = loop.create_future()
        self.stage = 0
        self.deadline = HOPS[self.virtual]
        self.idle = 0
        loop.call_soon(self.tick)
        # an eager root would need a running loop: it starts from a callback
        loop.call_soon(self.start)
        self.forever()

    def forever(self) -> None:
        while True:
            try:
                self.loop.run_forever()
                break
            except (KeyboardInterrupt, SystemExit) as error:
                self.record("loop", "escaped", self.exception(error))
        if self.broken is not None:
            raise self.broken

    def start(self) -> None:
        self.spawn("root", 0, self.program["body"], 0)

    def tick(self) -> None:
        try:
            self.turn()
        except BaseException as error:
            # without the ticker nothing would ever end the run
            self.broken = error
            self.loop.stop()

    def turn(self) -> None:
        self.hop += 1
        if self.virtual:
            self.loop.now += 1.0
        if self.stage == 0:
            busy = any(not task.done() for task in self.tasks.values())
            self.idle = 0 if busy else self.idle + 1
            if self.hop >= self.deadline or self.idle > LINGER[self.virtual]:
                self.stage = 1
                self.deadline = self.hop
        if self.stage and self.hop >= self.deadline:
            self.teardown()
            if self.stage > 25:
                self.loop.stop()
                return
        self.loop.call_soon(self.tick)

    def teardown(self) -> None:
        """Twice a cancellation of every task that is compared, then one that only gets rid of them."""
        self.stage += 1
        if self.stage <= 3:
            pending = [name for name, task in self.tasks.items() if not task.done()]
            if pending:
                self.record("loop", "teardown", *pending)
                for name in pending:
                    self.tasks[name].cancel(f"end{self.stage}")
                self.deadline = self.hop + 8
                return
            self.stage = 4
        if not self.dead:
            self.final_states()
            self.dead = True
        left = self.aio.all_tasks(self.loop)
        if not left:
            self.stage = 99
        # (a set: in what order they are cancelled may decide who retrieves whose exception)
        order = {id(task): number for number, task in enumerate(self.tasks.values())}
        for task in sorted(left, key=lambda task: order.get(id(task), len(order))):
            task.cancel()
        self.deadline = self.hop + 3

    def final_states(self) -> None:
        final = self.trace.final
        for name, task in self.tasks.items():
            waiter = task._fut_waiter
            extra = f" cancelling={task.cancelling()} must={task._must_cancel} waits={waiter is not None}"
            final.append(f"{name}: {self.private_state(task)}{extra}")
        for name, future in self.futures.items():
            final.append(f"{name}: {self.private_state(future)}")
        for number, handle in self.handles.items():
            final.append(f"handle {number}: cancelled={handle.cancelled()}")
        for number, timeout in self.timeouts.items():
            final.append(f"timeout {number}: {self.timeout_state(timeout)}")
        final.append(
            f"lock {self.locks[0].locked()} event {self.events[0].is_set()} cond {self.conds[0].locked()} sems"
            f" {[(sem.locked(), sem._value) for sem in self.sems]} barrier {self.barrier_state(0)} queues"
            f" {[(queue.qsize(), queue._unfinished_tasks) for queue in self.queues]}"
        )

    def finish(self) -> Trace:
        """Close the loop, drop everything, and collect what the finalizers say."""
        self.dead = True
        loop = self.loop
        loop.set_task_factory(None)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        slots = (self.tasks, self.futures, self.handles, self.timeouts, self.groups, self.callbacks)
        for slot in (*slots, self.exceptions, self.caught, self.keep):
            slot.clear()
        self.locks = self.events = self.conds = self.sems = self.barriers = self.queues = []
        # a finalizer that reports keeps what it reports alive until it is done: that is garbage of the next round
        for _ in range(10):
            if not gc.collect():
                break
        self.trace.late.sort()
        self.sealed = True
        return self.trace

    # -- recording -----------------------------------------------------------------------------------------------------

    def record(self, actor: str, op: Op | str, *outcome: Any) -> None:
        if not self.dead:
            self.trace.events.append((self.hop, actor, op, VAR.get(), *outcome))

    def on_error(self, loop: Any, context: dict[str, Any]) -> None:
        if self.sealed:
            return
        message = self.clean(context["message"])
        error = context.get("exception")
        keys = ",".join(sorted(context))
        if message.endswith(FINALIZER_REPORTS) or self.dead:
            text = f"{type(error).__name__}{self.clean(error.args)}" if error is not None else ""
            if not self.dead or message.endswith(FINALIZER_REPORTS):
                self.trace.late.append(f"{message} [{keys}] {text}")
            return
        subject = context.get("task", context.get("future"))
        own = "in callback" in message and "Interpreter." not in message
        # the context of an internal callback is nobody's business
        (contextvars.Context().run if own else _call)(
            self.record, "loop", message, keys, self.value(error), self.value(subject)
        )

    def clean(self, value: Any) -> str:
        """A text without what may differ: addresses, numbered names, a repr's callbacks, where asyncio's own live."""
        text = value if isinstance(value, str) else repr(value)
        if "<" in text:
            for pattern, replacement in _VARIES:
                text = pattern.sub(replacement, text)
        return text

    def value(self, value: Any) -> Any:
        """An object as text that is the same on every implementation."""
        if value is None or isinstance(value, (int, str)):
            return value
        if isinstance(value, BaseException):
            return self.exception(value)
        if isinstance(value, (list, tuple)):
            return str([self.exception_name(v) if isinstance(v, BaseException) else self.value(v) for v in value])
        return self.name(value)

    def name(self, awaitable: Any) -> str:
        name = self.names.get(id(awaitable))
        if name is not None:
            return name
        for key, future in self.futures.items():
            if future is awaitable:
                return key
        return "?"

    def exception(self, error: BaseException) -> str:
        """Type, arguments, identity (the nth exception that the trace saw) and what it is chained to."""
        text = self.exception_name(error)
        if isinstance(error, BaseExceptionGroup):
            text += " " + str([self.exception_name(item) for item in error.exceptions])
        seen, link = {id(error)}, error
        while len(seen) < 5:
            if link.__cause__ is not None:
                link, arrow = link.__cause__, " <= "
            elif link.__context__ is not None:
                link, arrow = link.__context__, " <~ " if link.__suppress_context__ else " <- "
            else:
                break
            text += arrow + self.exception_name(link)
            if id(link) in seen:
                break
            seen.add(id(link))
        return text

    def exception_name(self, error: BaseException) -> str:
        number = self.exceptions.setdefault(id(error), len(self.exceptions))
        if number == len(self.exceptions) - 1:
            self.keep.append(error)  # so that no other exception gets its id
        return f"{type(error).__name__}{self.clean(error.args)}#{number}"

    def state(self, future: Any) -> str:
        """The outcome by the public methods (which mark an exception as retrieved)."""
        if not future.done():
            return "pending"
        if future.cancelled():
            return "cancelled"
        error = future.exception()
        return f"result {self.value(future.result())}" if error is None else f"exception {self.exception(error)}"

    def private_state(self, future: Any) -> str:
        """The outcome by the attributes (which do not)."""
        return (
            f"{future._state} {self.value(future._result)} {self.value(future._exception)}"
            f"  {future._cancel_message!r} {future._log_traceback} {len(heard(future))}"
        )

    def timeout_state(self, timeout: Any) -> str:
        when = timeout.when()
        if when is not None:
            when = round(when, 4) if self.virtual else ("far" if when - self.loop.time() > 1000 else "near")
        return f"{when} {timeout.expired()} {self.clean(repr(timeout)).split(' when')[0]}"

    def barrier_state(self, number: int) -> str:
        barrier = self.barriers[number]
        return f"{barrier.n_waiting}/{barrier.parties} {barrier.broken}"

    # -- helpers of ops --------------------------------------------------------------------------------------------------

    def delay(self, delay: float | None) -> float | None:
        """In virtual time no two timers are due at the same moment: asyncio's heap would shuffle them."""
        if delay is None or not self.virtual:
            return delay
        self.fraction += 1
        return self.fraction * 1e-4 + (delay if delay > 0 else delay - 1)

    def error(self, kind: str, actor: str) -> BaseException:
        aio = self.aio
        match kind:
            case "E1":
                return E1(actor)
            case "E2":
                return E2(actor, 2)
            case "ValueError":
                return ValueError(actor)
            case "TimeoutError":
                return aio.TimeoutError()
            case "base":
                return Base(actor)
            case "cancel":
                return aio.CancelledError(f"raised by {actor}")
            case "genexit":
                return GeneratorExit(actor)
            case "stopasync":
                return StopAsyncIteration(actor)
            case "StopIteration":
                return StopIteration(actor)
            case "interrupt":
                return KeyboardInterrupt(actor)
            case "exit":
                return SystemExit(actor)
        raise AssertionError(kind)

    def find(self, ref: list[Any] | None, actor: str) -> tuple[str, Any]:
        key = actor if ref is None else f"{ref[0]}{ref[1]}"
        return key, self.tasks.get(key) if key[0] == "t" else self.futures.get(key)

    def child(self, child: list[Any], actor: str) -> tuple[str, Any]:
        """What a child stands for: an existing task or future, or a fresh coroutine."""
        if child[0] != "coro":
            return self.find(child, actor)
        return f"t{child[1]}", self.coroutine(child[1], child[2])

    def children(self, children: list[Any], actor: str) -> tuple[list[str], list[Any]]:
        found = [pair for child in children if (pair := self.child(child, actor))[1] is not None]
        keys, objects = [key for key, _ in found], [thing for _, thing in found]
        if self.cyclic(actor, keys):
            for thing in objects:
                if hasattr(thing, "close"):
                    thing.close()
            return [], []
        return keys, objects

    def few_done(self, awaitables: list[Any]) -> list[Any]:
        """Without the done ones but the first: asyncio walks over a set here, so two would come in any order."""
        done = [thing for thing in awaitables if thing.done()]
        return [thing for thing in awaitables if thing not in done[1:]]

    def cyclic(self, actor: str, keys: list[str]) -> bool:
        """Whether waiting for keys would make a ring of waiters.

        `cancel()` walks along waiters, so in a ring it recurses until the stack ends, and how deep that is belongs to
        the implementation.
        """
        actor = self.task_of(actor)
        stack, seen = list(keys), set(keys)
        while stack:
            key = self.task_of(stack.pop())
            if key == actor:
                return True
            for other in self.deps.get(key, ()):
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        return False

    def task_of(self, key: str) -> str:
        """The name of the task that runs `key`: from 3.12 on `wait_for` runs a coroutine in its caller's task."""
        return self.names.get(id(self.tasks.get(key)), key)

    async def waiting(self, actor: str, keys: list[str], make: Callable[[], Any]) -> Any:
        # known before the awaitable is made: an eager child runs inside gather()
        actor = self.task_of(actor)
        before, self.deps[actor] = self.deps.get(actor, []), keys
        try:
            return await make()
        finally:
            self.deps[actor] = before

    def coroutine(self, number: int, body: Body) -> Coroutine[Any, Any, Any]:
        return self.main(f"t{number}", body)

    async def main(self, name: str, body: Body) -> Any:
        """What every task of the program runs."""
        task = self.aio.current_task()
        if name not in self.tasks:  # made by the implementation (gather of a coroutine, …), or eager
            self.register(name, task)
        outcome = await self.body(name, body)
        return outcome.value if outcome is not None else name

    def register(self, name: str, task: Any) -> None:
        if task is not None:
            self.tasks[name] = task
            if id(task) not in self.names:
                self.names[id(task)] = name
                task.set_name(name)

    def spawn(self, actor: str, number: int, body: Body, context: int) -> str:
        name = f"t{number}"
        if name in self.tasks or self.dead:
            return "exists"
        coroutine = self.coroutine(number, body)
        if context:
            fresh = contextvars.copy_context()
            fresh.run(VAR.set, 9)
            task = self.aio.create_task(coroutine, name=name, context=fresh)
        else:
            task = self.aio.create_task(coroutine, name=name)
        self.register(name, task)
        return "spawned"

    def make_callback(self, number: int) -> Callable[..., None]:
        callback = self.callbacks.get(number)
        if callback is None:
            actor = f"cb{number}"
            script = self.program["scripts"][number % len(self.program["scripts"])]

            def callback(*args: Any) -> None:
                if self.dead or self.fuel <= 0:
                    return
                self.fuel -= 1
                self.record(actor, "runs", *[self.value(arg) for arg in args])
                for op in script:
                    self.sync_op(actor, op)

            self.callbacks[number] = callback
        return callback

    # -- the interpreter proper ------------------------------------------------------------------------------------------

    async def body(self, actor: str, body: Body) -> Stop | None:
        for op in body:
            if self.dead:
                return None
            handler = getattr(self, "async_" + op[0], None)
            if handler is None:
                outcome = self.sync_op(actor, op)
            else:
                try:
                    outcome = await handler(actor, *op[1:])
                except BaseException as error:
                    if not self.dead:
                        task = self.tasks.get(actor)
                        self.record(actor, op, "!", self.exception(error), task.cancelling() if task else None)
                    raise
                if type(outcome) is not Stop:
                    self.record(actor, op, self.value(outcome))
            if type(outcome) is Stop:
                self.record(actor, op, "return")
                return outcome
        return None

    def sync_op(self, actor: str, op: Op) -> Any:
        """An op that does not await. Its exceptions are recorded and end there; only `raise` raises."""
        name = op[0]
        if name == "raise":
            error = self.error(op[1], actor)
            self.record(actor, op, self.exception_name(error))
            raise error
        if name == "return":
            return Stop(op[1])
        if name == "reraise":
            error = self.caught.get(actor)
            if error is not None:
                self.record(actor, op)
                raise error
            return None
        try:
            outcome = getattr(self, "sync_" + name)(actor, *op[1:])
        except Exception as error:
            outcome = error
            self.record(actor, op, "!", self.exception(error))
        else:
            self.record(actor, op, self.value(outcome))
        return None

    # -- ops that do not await -------------------------------------------------------------------------------------------

    def sync_spawn(self, actor: str, number: int, body: Body, context: int) -> str:
        return self.spawn(actor, number, body, context)

    def sync_tg_spawn(self, actor: str, group: int, number: int, body: Body) -> str:
        name = f"t{number}"
        if group not in self.groups or name in self.tasks:
            return "none"
        task = self.groups[group].create_task(self.coroutine(number, body), name=name)
        self.register(name, task)
        return "spawned"

    def sync_cancel(self, actor: str, ref: list[Any], message: Any) -> Any:
        _, target = self.find(ref, actor)
        if target is None:
            return "none"
        return target.cancel() if message is None else target.cancel(message)

    def sync_uncancel(self, actor: str, ref: list[Any] | None) -> Any:
        _, target = self.find(ref, actor)
        return "none" if target is None else target.uncancel()

    def sync_cancelling(self, actor: str, ref: list[Any]) -> Any:
        _, target = self.find(ref, actor)
        return "none" if target is None else target.cancelling()

    def sync_state(self, actor: str, ref: list[Any]) -> str:
        _, target = self.find(ref, actor)
        return "none" if target is None else self.state(target)

    def sync_future(self, actor: str, number: int) -> str:
        if f"f{number}" in self.futures:
            return "exists"
        self.futures[f"f{number}"] = self.loop.create_future()
        return "made"

    def sync_set_result(self, actor: str, number: int, value: int) -> str:
        future = self.futures.get(f"f{number}")
        if future is None:
            return "none"
        future.set_result(value)
        return "set"

    def sync_set_exc(self, actor: str, number: int, kind: str) -> str:
        future = self.futures.get(f"f{number}")
        if future is None:
            return "none"
        future.set_exception(E1 if kind == "class" else self.error(kind, actor))
        return "set"

    def sync_add_cb(self, actor: str, ref: list[Any], script: int) -> str:
        _, target = self.find(ref, actor)
        if target is None:
            return "none"
        target.add_done_callback(self.make_callback(script))
        return "added"

    def sync_remove_cb(self, actor: str, ref: list[Any], script: int) -> Any:
        _, target = self.find(ref, actor)
        return "none" if target is None else target.remove_done_callback(self.make_callback(script))

    def sync_call_soon(self, actor: str, handle: int, script: int) -> None:
        self.handles[handle] = self.loop.call_soon(self.make_callback(script))

    def sync_call_later(self, actor: str, handle: int, delay: float, script: int) -> None:
        self.handles[handle] = self.loop.call_later(self.delay(delay), self.make_callback(script), handle)

    def sync_cancel_handle(self, actor: str, handle: int) -> Any:
        if handle not in self.handles:
            return "none"
        self.handles[handle].cancel()
        return int(self.handles[handle].cancelled())

    def sync_setvar(self, actor: str, value: int) -> None:
        VAR.set(value)

    def sync_getvar(self, actor: str) -> int:
        return VAR.get()

    def sync_all_tasks(self, actor: str) -> str:
        return str(sorted(self.name(task) for task in self.aio.all_tasks()))

    def sync_current(self, actor: str) -> Any:
        return self.value(self.aio.current_task())

    def sync_mkgather(self, actor: str, number: int, children: list[Any], return_exceptions: bool) -> str:
        key = f"f{number}"
        if key in self.futures:
            return "exists"
        keys, objects = self.children(children, actor)
        self.deps[key] = keys
        self.futures[key] = self.aio.gather(*objects, return_exceptions=return_exceptions)
        return "made"

    def sync_mkshield(self, actor: str, number: int, child: list[Any]) -> str:
        key = f"f{number}"
        if key in self.futures:
            return "exists"
        _, thing = self.child(child, actor)
        if thing is None:
            return "none"
        self.futures[key] = self.aio.shield(thing)
        return "made"

    def sync_ensure(self, actor: str, number: int, child: list[Any]) -> str:
        key = f"f{number}"
        if key in self.futures:
            return "exists"
        other, thing = self.child(child, actor)
        if thing is None:
            return "none"
        self.deps[key] = [other]
        self.futures[key] = self.aio.ensure_future(thing)
        return "made"

    def sync_reschedule(self, actor: str, number: int, delay: float | None) -> str:
        if number not in self.timeouts:
            return "none"
        delay = self.delay(delay)
        self.timeouts[number].reschedule(None if delay is None else self.loop.time() + delay)
        return self.timeout_state(self.timeouts[number])

    def sync_when(self, actor: str, number: int) -> str:
        return self.timeout_state(self.timeouts[number]) if number in self.timeouts else "none"

    def sync_locked(self, actor: str) -> str:
        return str([self.locks[0].locked(), *[sem.locked() for sem in self.sems]])

    def sync_release(self, actor: str) -> None:
        self.locks[0].release()

    def sync_sem_release(self, actor: str, number: int) -> None:
        self.sems[number].release()

    def sync_ev_set(self, actor: str) -> None:
        self.events[0].set()

    def sync_ev_clear(self, actor: str) -> None:
        self.events[0].clear()

    def sync_bump(self, actor: str) -> int:
        self.count += 1
        return self.count

    def sync_cond_notify(self, actor: str, n: Any) -> None:
        if n == "all":
            self.conds[0].notify_all()
        else:
            self.conds[0].notify(n)

    def sync_barrier_state(self, actor: str) -> str:
        return self.barrier_state(0)

    def sync_put_nowait(self, actor: str, queue: int, item: int) -> None:
        self.queues[queue].put_nowait(item)

    def sync_get_nowait(self, actor: str, queue: int) -> Any:
        return self.queues[queue].get_nowait()

    def sync_task_done(self, actor: str, queue: int) -> None:
        self.queues[queue].task_done()

    def sync_qsize(self, actor: str, queue: int) -> str:
        this = self.queues[queue]
        return f"{this.qsize()} {this.empty()} {this.full()} {this._unfinished_tasks}"

    def sync_shutdown(self, actor: str, queue: int, immediate: bool) -> None:
        self.queues[queue].shutdown(immediate)

    # -- ops that await ----------------------------------------------------------------------------------------------------

    async def async_sleep(self, actor: str, hops: int) -> None:
        for _ in range(hops):
            await self.aio.sleep(0)

    async def async_delay(self, actor: str, delay: float) -> Any:
        return await self.aio.sleep(self.delay(delay), "slept")

    async def async_await(self, actor: str, ref: list[Any]) -> Any:
        key, target = self.find(ref, actor)
        if target is None:
            return "none"
        if self.cyclic(actor, [key]):
            return "cycle"
        return await self.waiting(actor, [key], lambda: target)

    async def async_bad_yield(self, actor: str, kind: str) -> Any:
        value: Any = None
        if kind == "int":
            value = 5
        elif kind == "unblocked":
            value = self.futures["f0"]
        elif kind == "generator":
            value = (n for n in ())
        elif kind == "task":
            value = self.aio.current_task()
        return await BadAwaitable(value)

    async def async_try(self, actor: str, body: Body, kind: str, handler: Body, final: Body) -> Any:
        caught = {"cancel": self.aio.CancelledError, "exc": Exception, "base": BaseException}[kind]
        try:
            return await self.body(actor, body)
        except caught as error:
            if self.dead:
                raise
            self.record(actor, "caught", self.exception_name(error))
            self.caught[actor] = error
            return await self.body(actor, handler)
        finally:
            if final and not self.dead:
                await self.body(actor, final)

    async def async_gather(self, actor: str, children: list[Any], return_exceptions: bool) -> Any:
        keys, objects = self.children(children, actor)
        gather = self.aio.gather
        return await self.waiting(actor, keys, lambda: gather(*objects, return_exceptions=return_exceptions))

    async def async_shield(self, actor: str, child: list[Any]) -> Any:
        _, thing = self.child(child, actor)
        if thing is None:
            return "none"
        return await self.aio.shield(thing)

    async def async_wait(self, actor: str, refs: list[Any], timeout: float | None, return_when: str) -> str:
        objects = self.few_done(self.children(refs, actor)[1])
        done, pending = await self.aio.wait(objects, timeout=self.delay(timeout), return_when=return_when)
        return f"done {sorted(map(self.name, done))} pending {sorted(map(self.name, pending))}"

    async def async_wait_for(self, actor: str, child: list[Any], timeout: float | None) -> Any:
        key, thing = self.child(child, actor)
        if thing is None:
            return "none"
        if self.cyclic(actor, [key]):
            if child[0] == "coro":
                thing.close()
            return "cycle"
        return await self.waiting(actor, [key], lambda: self.aio.wait_for(thing, self.delay(timeout)))

    async def async_as_completed(
        self, actor: str, refs: list[Any], timeout: float | None, style: str, limit: int
    ) -> str:
        waiting = self.few_done(self.children(refs, actor)[1])
        out = []
        completed = self.aio.as_completed(waiting, timeout=self.delay(timeout))
        if style == "async" and sys.version_info >= (3, 13):
            async for thing in completed:
                out.append(self.name(thing))
                self.record(actor, "as_completed yields", self.name(thing))
                if len(out) >= limit:
                    break
            return str(out)
        for awaitable in completed:
            if len(out) >= limit:
                awaitable.close()
                continue
            try:
                result = await awaitable
            except Exception as error:
                if style != "swallow":
                    raise
                result = self.exception(error)
            out.append(str(self.value(result)))
            self.record(actor, "as_completed", out[-1])
        return str(out)

    async def async_timeout(self, actor: str, number: int, how: list[Any], body: Body) -> Any:
        kind, delay = how
        delay = self.delay(delay)
        if kind == "timeout":
            timeout = self.aio.timeout(delay)
        else:
            timeout = self.aio.timeout_at(None if delay is None else self.loop.time() + delay)
        self.timeouts[number] = timeout
        async with timeout:
            return await self.body(actor, body)

    async def async_group(self, actor: str, number: int, body: Body) -> Any:
        group = self.groups[number] = self.aio.TaskGroup()
        async with group:
            return await self.body(actor, body)

    async def async_agen(self, actor: str, number: int, body: Body, use: str) -> Any:
        async def generator() -> Any:
            try:
                for index, op in enumerate(body):
                    if await self.body(actor, [op]) is not None:
                        return
                    yield index
            finally:
                self.record(actor, "agen ends")
                await self.aio.sleep(0)
                self.record(actor, "agen ended")

        agen = generator()
        if use == "all":
            async for index in agen:
                self.record(actor, "agen yields", index)
            return None
        try:
            self.record(actor, "agen yields", await anext(agen))
        except StopAsyncIteration:
            return "empty"
        if use == "aclose":
            await agen.aclose()
        elif use == "throw":
            await agen.athrow(E1("thrown"))
        del agen
        return None

    # -- synchronisation ---------------------------------------------------------------------------------------------------

    async def async_acquire(self, actor: str) -> Any:
        return await self.locks[0].acquire()

    async def async_with_lock(self, actor: str, number: int, body: Body) -> Any:
        async with self.locks[0]:
            return await self.body(actor, body)

    async def async_ev_wait(self, actor: str) -> Any:
        return await self.events[0].wait()

    async def async_sem_acquire(self, actor: str, number: int) -> Any:
        return await self.sems[number].acquire()

    async def async_with_sem(self, actor: str, number: int, body: Body) -> Any:
        async with self.sems[number]:
            return await self.body(actor, body)

    async def async_with_cond(self, actor: str, number: int, body: Body) -> Any:
        async with self.conds[0]:
            return await self.body(actor, body)

    async def async_cond_wait(self, actor: str) -> Any:
        return await self.conds[0].wait()

    async def async_cond_wait_for(self, actor: str, count: int) -> Any:
        return await self.conds[0].wait_for(lambda: self.count >= count)

    async def async_barrier_wait(self, actor: str, number: int) -> Any:
        return await self.barriers[0].wait()

    async def async_with_barrier(self, actor: str, number: int, body: Body) -> Any:
        async with self.barriers[0] as position:
            self.record(actor, "in barrier", position)
            return await self.body(actor, body)

    async def async_barrier_reset(self, actor: str) -> Any:
        return await self.barriers[0].reset()

    async def async_barrier_abort(self, actor: str) -> Any:
        return await self.barriers[0].abort()

    # -- queues --------------------------------------------------------------------------------------------------------------

    async def async_put(self, actor: str, queue: int, item: int) -> Any:
        return await self.queues[queue].put(item)

    async def async_get(self, actor: str, queue: int) -> Any:
        return await self.queues[queue].get()

    async def async_join(self, actor: str, queue: int) -> Any:
        return await self.queues[queue].join()
