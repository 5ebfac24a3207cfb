"""User code that raises or re-enters at every point: ordinary exceptions and reports, never a crash, a hang or a lost wake-up."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
import signal
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import STDLIB, Reports, python, run, succeeds


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def loop(aio: Any, reports: Reports) -> Iterator[Any]:
    loop = aio.new_event_loop()
    loop.set_exception_handler(reports)
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    gc.collect()


def spin(loop: Any, turns: int = 3) -> None:
    """A few iterations of the loop."""
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


class Boom(Exception):
    pass


class BaseBoom(BaseException):
    pass


# -- callbacks that raise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Boom, BaseBoom, GeneratorExit, StopIteration, asyncio.CancelledError])
@pytest.mark.parametrize(
    "how", ["call_soon", "call_later", "call_at", "call_soon_threadsafe", "done_callback", "task_done"]
)
def test_callback_raises(aio, loop, reports, how, error):
    """It is reported once, with the handle, and everything else runs."""
    log = []

    def bad(*args: Any) -> None:
        log.append("bad")
        raise error("text")

    async def nothing() -> None:
        pass

    if how == "call_later":
        loop.call_later(0, bad)
    elif how == "call_at":
        loop.call_at(loop.time(), bad)
    elif how == "done_callback":
        future = loop.create_future()
        future.add_done_callback(bad)
        future.add_done_callback(lambda _: log.append("good"))
        future.set_result(None)
    elif how == "task_done":
        task = loop.create_task(nothing())
        task.add_done_callback(bad)
        task.add_done_callback(lambda _: log.append("good"))
    else:
        getattr(loop, how)(bad)
        loop.call_soon(log.append, "good")
    if how in ("call_later", "call_at"):
        loop.call_later(0.001, log.append, "good")
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert log == ["bad", "good"]
    (context,) = reports.contexts
    assert context["message"].startswith("Exception in callback test_callback_raises.<locals>.bad(")
    assert type(context["exception"]) is error
    assert isinstance(context["handle"], asyncio.Handle)


def test_exception_handler_raises(aio, loop, caplog):
    """Reported by the default handler; the loop goes on."""

    def handler(loop: Any, context: Any) -> None:
        raise Boom("in the handler")

    log = []
    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(log.append, "next")
    spin(loop)
    assert log == ["next"]
    (record,) = caplog.records
    assert record.getMessage().startswith("Unhandled error in exception handler")
    assert record.exc_info[0] is Boom
    loop.set_exception_handler(None)


def test_default_exception_handler_raises(aio, loop, caplog):
    class Loop(type(loop)):
        def default_exception_handler(self, context: Any) -> None:
            raise Boom("in the default handler")

    loop = Loop()
    log = []
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(log.append, "next")
    spin(loop)
    assert log == ["next"]
    assert [record.getMessage() for record in caplog.records] == ["Exception in default exception handler"]
    loop.close()


def test_default_handler_text(aio, caplog):
    loop = aio.new_event_loop()
    loop.call_exception_handler({"message": "it broke", "zebra": 1, "apple": [2], "exception": Boom("x")})
    (record,) = caplog.records
    assert record.getMessage() == "it broke\napple: [2]\nzebra: 1"
    assert record.exc_info[0] is Boom
    caplog.clear()
    loop.call_exception_handler({})
    assert [record.getMessage() for record in caplog.records] == ["Unhandled exception in event loop"]
    loop.close()


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    "where", ["callback", "timer", "done_callback", "task", "exception_handler", "eager_start", "threadsafe"]
)
def test_fatal_exceptions_leave_the_loop(aio, loop, fatal, where):
    """KeyboardInterrupt and SystemExit come out of run_forever(); the loop can run again, and what was ready still is."""
    log = []

    def die(*args: Any) -> None:
        raise fatal("now")

    async def task() -> None:
        die()

    future = loop.create_future()
    if where == "callback":
        loop.call_soon(die)
    elif where == "threadsafe":
        loop.call_soon_threadsafe(die)
    elif where == "timer":
        loop.call_later(0, die)
    elif where == "done_callback":
        future.add_done_callback(die)
        future.set_result(None)
    elif where == "exception_handler":
        loop.set_exception_handler(die)
        loop.call_soon(lambda: 1 / 0)
    elif where == "eager_start":
        if not hasattr(aio, "eager_task_factory"):
            pytest.skip("no eager tasks")
        loop.call_soon(lambda: aio.eager_task_factory(loop, task()))
    else:
        future = loop.create_task(task())
    if where != "timer":
        loop.call_soon(log.append, "ready")
    else:
        loop.call_later(0.001, log.append, "ready")
    loop.call_later(5, loop.stop)  # should nothing come out
    with pytest.raises(fatal, match="now"):
        loop.run_forever()
    assert log == []
    assert not loop.is_running()
    assert aio._get_running_loop() is None
    assert aio.current_task(loop) is None
    time.sleep(0.002)
    spin(loop)
    assert log == ["ready"]
    if where == "task":
        assert type(future.exception()) is fatal


def test_run_until_complete_with_fatal(aio, loop):
    """The task dies with the exception, which is not reported a second time."""

    async def main() -> None:
        await aio.sleep(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    gc.collect()


# -- done-callbacks and comparison -----------------------------------------------------------------------------------------


class Equal:
    """A callback whose `__eq__` runs user code."""

    def __init__(self, hook: Any, answer: Any = True) -> None:
        self.hook, self.answer = hook, answer

    def __call__(self, future: Any) -> None:
        pass

    def __eq__(self, other: object) -> Any:
        self.hook()
        return self.answer

    __hash__ = None  # type: ignore[assignment]


def noop(future: Any) -> None:
    pass


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("action", ["remove", "clear", "add", "set_result", "cancel", "init", "gc", "raise"])
def test_eq_mutates_callbacks(aio, loop, count, action):
    """remove_done_callback() compares with user code, which changes the list meanwhile."""
    future = aio.Future(loop=loop)
    armed = [True]

    def hook() -> None:
        if not armed[0]:
            return
        armed[0] = False
        if action == "remove":
            future.remove_done_callback(noop)
        elif action == "clear":
            for callback in callbacks:
                future.remove_done_callback(callback)
        elif action == "add":
            for _ in range(10):
                future.add_done_callback(noop)
        elif action == "set_result":
            future.set_result(1)
        elif action == "cancel":
            future.cancel()
        elif action == "init":
            try:
                future.__init__(loop=loop)
            except RuntimeError:
                pass
        elif action == "gc":
            callbacks.clear()
            gc.collect()
        else:
            raise Boom

    callbacks = [Equal(hook) for _ in range(count)]
    for callback in callbacks:
        future.add_done_callback(callback)
        future.add_done_callback(noop)
    try:
        removed = future.remove_done_callback(Equal(lambda: None))
    except Boom:
        assert action == "raise"
    else:
        assert removed >= 0
    armed[0] = False
    spin(loop)
    future.remove_done_callback(noop)
    repr(future)


@pytest.mark.parametrize("answer", [NotImplemented, 0, "", [], object()])
def test_eq_answers(aio, loop, answer):
    future = aio.Future(loop=loop)
    future.add_done_callback(Equal(lambda: None, answer))
    future.add_done_callback(Equal(lambda: None, answer))
    removed = future.remove_done_callback(noop)
    expected = 2 if answer is not NotImplemented and bool(answer) else 0
    assert removed == expected


def test_bool_of_eq_raises(aio, loop):
    class Bad:
        def __bool__(self) -> bool:
            raise Boom

    future = aio.Future(loop=loop)
    future.add_done_callback(Equal(lambda: None, Bad()))
    future.add_done_callback(Equal(lambda: None, Bad()))
    with pytest.raises(Boom):
        future.remove_done_callback(noop)
    future.cancel()
    spin(loop)


def test_done_callback_changes_the_future(aio, loop):
    """Callbacks run from the loop: adding and removing there concerns nobody who is already scheduled."""
    log = []

    def first(future: Any) -> None:
        log.append("first")
        assert future.remove_done_callback(second) == 0
        future.add_done_callback(lambda _: log.append("late"))

    def second(future: Any) -> None:
        log.append("second")

    future = aio.Future(loop=loop)
    future.add_done_callback(first)
    future.add_done_callback(second)
    future.set_result(None)
    spin(loop)
    assert log == ["first", "second", "late"]


@pytest.mark.parametrize("count", [1, 3])
def test_evil_call_soon(aio, count):
    """A loop whose call_soon() changes the future that is scheduling its callbacks."""

    class Loop:
        def __init__(self) -> None:
            self.log: list[Any] = []

        def get_debug(self) -> bool:
            return False

        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> None:
            self.log.append(callback)
            future.remove_done_callback(noop)
            future.add_done_callback(noop) if len(self.log) < 20 else None
            if callback is raises:
                raise Boom

    def raises(future: Any) -> None:
        pass

    loop = Loop()
    future = aio.Future(loop=loop)
    for _ in range(count):
        future.add_done_callback(noop)
    future.set_result(1)
    assert loop.log.count(noop) >= count
    future = aio.Future(loop=Loop())
    for _ in range(count):
        future.add_done_callback(raises)
    with pytest.raises(Boom):
        future.set_result(1)
    assert future.done()


def test_callback_args_die_late(aio, loop):
    """`__del__` of a callback's argument schedules more work; of the last one while the loop is being closed."""
    log = []

    class Last:
        def __init__(self, name: str) -> None:
            self.name = name

        def __del__(self) -> None:
            log.append(self.name)
            if not loop.is_closed():
                loop.call_soon(log.append, f"{self.name} scheduled")
                loop.call_later(0, log.append, f"{self.name} timed")
            else:
                try:
                    loop.call_soon(log.append, "too late")
                except RuntimeError as error:
                    log.append(str(error))

    loop.call_soon(lambda last: None, Last("ran"))
    spin(loop, 4)
    assert log[0] == "ran"
    assert sorted(log[1:]) == ["ran scheduled", "ran timed"]
    log.clear()
    loop.call_soon(lambda last: None, Last("never ran"))
    loop.call_later(100, lambda last: None, Last("never due"))
    future = loop.create_future()
    future.add_done_callback(lambda future, last=Last("never done"): None)
    loop.close()
    del future
    gc.collect()
    assert {"never ran", "never due", "never done"} <= set(log)
    assert "too late" not in log


def test_del_reenters_cancel(aio, loop):
    """The old callbacks, results and messages of futures die while the future changes."""
    log = []

    class Reenter:
        def __init__(self, future: Any) -> None:
            self.future = weakref.ref(future)

        def __call__(self, *args: Any) -> None:
            pass

        def __del__(self) -> None:
            future = self.future()
            if future is None:
                return
            log.append("reentered")
            for call in (
                lambda: future.add_done_callback(noop),
                lambda: future.remove_done_callback(noop),
                lambda: future.cancel(),
                lambda: future.__init__(loop=loop),
            ):
                try:
                    call()
                except RuntimeError:
                    pass  # it may be uninitialised for a moment

    for finish in (
        lambda f: f.set_result(1),
        lambda f: f.cancel(),
        lambda f: f.set_exception(Boom()),
        lambda f: f.__init__(loop=loop),
    ):
        future = aio.Future(loop=loop)
        future.add_done_callback(Reenter(future))
        future.add_done_callback(Reenter(future))
        try:
            finish(future)
        except RuntimeError:
            pass
        spin(loop)
        if future.done() and not future.cancelled():
            future.exception()
        future.remove_done_callback(noop)
    assert log


def test_hash_and_eq_of_tasks_are_not_asked(aio, loop):
    """gather, wait and all_tasks() work by identity unless a subclass says otherwise, and survive one that raises."""

    class Sub(aio.Task):
        def __hash__(self) -> int:
            raise Boom

    async def child() -> int:
        return 1

    async def main() -> None:
        try:
            task = Sub(child(), loop=loop)
        except Boom:
            return  # asyncio registers tasks in a set
        for use in (lambda: aio.gather(task), lambda: aio.wait([task]), lambda: aio.shield(task), aio.all_tasks):
            try:
                result = use()
                if hasattr(result, "__await__"):
                    await result
            except Boom:
                pass

    loop.run_until_complete(main())
    gc.collect()


# -- factories ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["create_task", "gather", "group", "wait_for", "shield", "runner", "as_completed"])
def test_task_factory_raises(aio, use):
    def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
        coro.close()
        raise Boom("factory")

    async def child() -> None:
        pass

    async def main() -> None:
        loop = aio.get_running_loop()
        loop.set_task_factory(factory)
        try:
            if use == "create_task":
                aio.create_task(child())
            elif use == "gather":
                await aio.gather(child())
            elif use == "group":
                async with aio.TaskGroup() as group:
                    group.create_task(child())
            elif use == "shield":
                await aio.shield(child())
            elif use == "as_completed":
                for item in aio.as_completed([child()]):
                    await item
            elif use == "wait_for":
                await aio.wait_for(child(), 1)
            else:
                raise Boom("factory")
        finally:
            loop.set_task_factory(None)

    if use == "group":
        with pytest.raises(ExceptionGroup) as raised:
            run(aio, main())
        assert isinstance(raised.value.exceptions[0], Boom)
    elif use == "wait_for" and sys.version_info >= (3, 12):
        run(aio, main())  # no task is made
    else:
        with pytest.raises(Boom, match="factory"):
            run(aio, main())


@pytest.mark.parametrize("odd", [None, 5, "future", "done", "string"])
def test_task_factory_returns_oddities(aio, loop, odd):
    """asyncio hands out what the factory returns, whatever it is."""

    def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
        coro.close()
        if odd in ("future", "done"):
            future = aio.Future(loop=loop)
            if odd == "done":
                future.set_result("r")
            return future
        return odd

    async def child() -> None:
        pass

    async def main() -> None:
        loop.set_task_factory(factory)
        coroutine = child()
        try:
            result = loop.create_task(coroutine)
        except Exception as error:
            assert isinstance(error, AttributeError | TypeError)
        else:
            assert result is odd or odd in ("future", "done")
        for call in (lambda: aio.gather(child()), lambda: aio.shield(child()), lambda: aio.ensure_future(child())):
            try:
                aio.isfuture(made := call())
            except (AttributeError, TypeError, AssertionError, ValueError):
                continue
            if aio.isfuture(made):
                made.cancel()
                await aio.sleep(0)
        loop.set_task_factory(None)

    loop.run_until_complete(main())


def test_factories_must_be_callable(aio, loop):
    for bad in (5, "x"):
        with pytest.raises(TypeError):
            loop.set_task_factory(bad)
        with pytest.raises(TypeError):
            loop.set_exception_handler(bad)
    assert loop.get_task_factory() is None


# -- weird coroutines and awaitables -----------------------------------------------------------------------------------------


class Coroutine:
    """A `collections.abc.Coroutine` by shape, driven by a list of what each send() does."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.thrown: list[BaseException] = []

    def send(self, value: Any) -> Any:
        step = self.script.pop(0)
        if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
            raise step
        return step(self) if callable(step) else step

    def throw(self, error: Any, value: Any = None, tb: Any = None) -> Any:
        self.thrown.append(error)
        step = self.script.pop(0)
        if step == "again":
            raise error
        return self.send(self.script.insert(0, step))

    def close(self) -> None:
        self.script.append("closed")

    def __await__(self) -> Any:
        return self

    __iter__ = __await__

    def __next__(self) -> Any:
        return self.send(None)


asyncio.coroutines.collections.abc.Coroutine.register(Coroutine)


@pytest.mark.parametrize("result", [StopIteration(), StopIteration("r"), StopIteration(1, 2), StopIteration(("t",))])
def test_custom_coroutine_result(aio, loop, result):
    task = aio.Task(Coroutine(None, result), loop=loop)
    assert loop.run_until_complete(task) == result.value


def test_custom_coroutine_oddities(aio, loop, reports):
    """What its steps may do wrong; the task gets the exception, at once or thrown in."""
    cases: list[tuple[Coroutine, Any]] = [
        (Coroutine(Boom()), Boom),
        (Coroutine(Boom), Boom),
        (Coroutine(StopAsyncIteration()), StopAsyncIteration),
        (Coroutine(5, "again"), RuntimeError),
        (Coroutine("text", StopIteration("swallowed")), "swallowed"),
        (Coroutine(lambda _: loop.create_future(), "again"), RuntimeError),
        (Coroutine(lambda c: c, "again"), RuntimeError),
        (Coroutine(lambda c: (n for n in "ab"), "again"), RuntimeError),
        (Coroutine(lambda c: current(aio, loop), "again"), RuntimeError),
        (Coroutine(None, None, None, StopIteration("end")), "end"),
    ]
    for coroutine, expected in cases:
        task = aio.Task(coroutine, loop=loop)
        if isinstance(expected, str):
            assert loop.run_until_complete(task) == expected
        else:
            with pytest.raises(expected):
                loop.run_until_complete(task)
    assert reports.messages == []


def current(aio: Any, loop: Any) -> Any:
    return aio.current_task(loop)


def test_coroutine_that_reenters_its_task(aio, loop):
    """Steps that cancel, wait for or ask their own task, from inside send()."""

    def reenter(coroutine: Coroutine) -> None:
        task = aio.current_task(loop)
        assert task.cancel() is True
        assert task.cancelling() == 1
        task.uncancel()
        task.add_done_callback(noop)
        repr(task)
        task.get_stack()
        gc.collect()

    task = aio.Task(Coroutine(reenter, lambda c: None, StopIteration("x"), StopIteration("y")), loop=loop)
    try:
        assert loop.run_until_complete(task) in ("x", "y")
    except asyncio.CancelledError:
        assert sys.version_info < (3, 13)  # from 3.13 on, uncancel() to zero takes the request back


def test_not_coroutines(aio, loop):
    for bad in (None, 5, "x", print, object(), aio.Future(loop=loop), Coroutine):
        with pytest.raises(TypeError, match="a coroutine was expected"):
            aio.Task(bad, loop=loop)
    with pytest.raises(TypeError):
        loop.run_until_complete(5)


class Await:
    def __init__(self, make: Any) -> None:
        self.make = make

    def __await__(self) -> Any:
        return self.make()


@pytest.mark.parametrize(
    "make", [lambda: None, lambda: 5, lambda: [], lambda: "ab", Boom, lambda: (_ for _ in ()).throw(Boom)], ids=str
)
def test_bad_await(aio, loop, make):
    """`__await__` that returns no iterator, or raises."""

    async def main() -> None:
        await Await(make)

    with pytest.raises((TypeError, Boom)):
        loop.run_until_complete(main())
    # 3.11 wraps the awaitable in a generator, whose `yield from` takes any iterable
    for use in (lambda: aio.wait_for(Await(make), 1), lambda: aio.gather(Await(make)), lambda: aio.shield(Await(make))):

        async def outer(use: Any = use) -> Any:
            return await use()

        try:
            loop.run_until_complete(outer())
        except (TypeError, Boom):
            pass
        except RuntimeError as error:
            assert "bad yield" in str(error)
        else:
            assert isinstance(make(), list)


def test_future_like_that_lies(aio, loop, reports):
    """`_asyncio_future_blocking` and friends raise or answer nonsense."""

    class Lies:
        def __init__(self, **answers: Any) -> None:
            self.__dict__.update(answers)

        def __getattr__(self, name: str) -> Any:
            if name == "_asyncio_future_blocking":
                raise AttributeError(name)
            raise Boom(name)

        def __await__(self) -> Any:
            yield self

    async def main(lie: Any) -> None:
        await lie

    blocking: dict[str, Any] = {"_asyncio_future_blocking": True}
    lies = [
        Lies(),
        Lies(**blocking),
        Lies(**blocking, get_loop=lambda: loop),
        Lies(**blocking, get_loop=lambda: 5),
        Lies(**blocking, get_loop=lambda: loop, add_done_callback=5),
        Lies(**blocking, get_loop=lambda: loop, add_done_callback=lambda *args: None),
        Lies(_asyncio_future_blocking=5, get_loop=lambda: loop),
        Lies(_asyncio_future_blocking=Bad()),
    ]
    for lie in lies:
        reports.contexts.clear()
        task = loop.create_task(main(lie))
        spin(loop, 5)
        if task.done():
            assert isinstance(task.exception(), Boom | RuntimeError | TypeError)
        else:  # asyncio lets some escape from the step: then the handler has them, and nobody wakes the task
            assert [type(context["exception"]) for context in reports.contexts] in ([Boom], [TypeError])
            task._log_destroy_pending = False


class Bad:
    def __bool__(self) -> bool:
        raise Boom("bool")


def test_future_iterator_protocol(aio, loop):
    """send, throw and close of a future's own iterator, at the wrong times."""
    future = aio.Future(loop=loop)
    iterator = iter(future)
    assert next(iterator) is future
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)
    future.set_result("r")
    iterator = iter(future)
    with pytest.raises(StopIteration) as stopped:
        iterator.send(None)
    assert stopped.value.value == "r"
    iterator = iter(aio.Future(loop=loop))
    next(iterator)
    with pytest.raises(Boom):
        iterator.throw(Boom())
    with pytest.raises((StopIteration, RuntimeError)):
        next(iterator)
    iterator = iter(aio.Future(loop=loop))
    iterator.close()
    with pytest.raises((StopIteration, RuntimeError, SystemError) if STDLIB else (StopIteration, RuntimeError)):
        iterator.send(None)
    iterator = iter(aio.Future(loop=loop))
    with pytest.raises(TypeError):
        iterator.throw(5)
    with warnings.catch_warnings(), pytest.raises(TypeError):
        warnings.simplefilter("ignore")  # three arguments are deprecated from 3.12 on
        iterator.throw(Boom("a"), "b")


def test_context_already_entered(aio, loop, reports, caplog):
    """The error goes to the exception handler and the loop stays usable."""
    context = contextvars.copy_context()
    log = []

    def inner() -> None:
        loop.call_soon(log.append, "in context", context=context)
        loop.call_soon(log.append, "after")
        loop.call_soon(loop.stop)
        loop.run_forever()

    context.run(inner)
    assert log == ["after"]
    # from 3.12 on the handler runs in the same context, and so fails as well
    told = [str(context["exception"]) for context in reports.contexts] + [
        record.getMessage() for record in caplog.records
    ]
    assert len(told) == 1
    assert "cannot enter context" in told[0]
    spin(loop)


@pytest.mark.parametrize("context", [5, "x", object()])
def test_context_of_wrong_type(aio, loop, reports, context):
    """Refused, or reported when it runs; never a crash."""
    try:
        loop.call_soon(noop, None, context=context)
    except TypeError:
        pass
    future = aio.Future(loop=loop)
    try:
        future.add_done_callback(noop, context=context)
    except TypeError:
        pass
    future.set_result(None)
    spin(loop)


def test_deep_recursion(aio, loop):
    """Chains of a thousand tasks, futures and callbacks; recursion inside a step ends in RecursionError."""

    async def link(n: int) -> int:
        return n if n == 0 else await aio.create_task(link(n - 1))

    async def recurse() -> None:
        await recurse()

    assert loop.run_until_complete(link(500)) == 0
    task = loop.create_task(recurse())
    with pytest.raises(RecursionError):
        loop.run_until_complete(task)

    async def forever() -> None:
        await loop.create_future()

    async def wait_chain() -> None:
        tasks = [loop.create_task(forever())]
        for _ in range(150):
            tasks.append(loop.create_task(wait_on(tasks[-1])))
        await aio.sleep(0)
        await aio.sleep(0)
        assert tasks[-1].cancel()
        await aio.wait(tasks)
        assert all(task.cancelled() for task in tasks)

    loop.run_until_complete(wait_chain())


async def wait_on(awaitable: Any) -> Any:
    return await awaitable


def test_long_chain_dies_without_recursion(aio):
    """A hundred thousand futures in a row are freed without exhausting the C stack."""
    succeeds(
        """
        loop = aio.new_event_loop()
        def chain(n):
            last = aio.Future(loop=loop)
            for _ in range(n):
                future = aio.Future(loop=loop)
                future.add_done_callback(last.set_result)
                future.attribute = last
                last = future
        chain(100_000)
        def results(n):
            last = None
            for _ in range(n):
                future = aio.Future(loop=loop)
                future.set_result(last)
                last = future
        results(100_000)
        loop.close()
        """
    )


def test_cancel_ring(aio):
    """Tasks that wait for each other in a ring: cancel() ends in RecursionError, not in a crash."""
    succeeds(
        """
        async def wait(name):
            await aio.sleep(0)
            await tasks[name]

        async def main():
            tasks["a"] = aio.create_task(wait("b"))
            tasks["b"] = aio.create_task(wait("a"))
            await aio.sleep(0)
            await aio.sleep(0)
            try:
                tasks["a"].cancel()
            except RecursionError:
                pass
            tasks["a"]._log_destroy_pending = tasks["b"]._log_destroy_pending = False

        tasks = {}
        loop = aio.new_event_loop()
        loop.set_exception_handler(lambda *args: None)
        loop.run_until_complete(main())
        loop.close()
        """
    )


@pytest.mark.parametrize("at", ["step", "callback", "done_callback", "factory", "handler"])
def test_memory_error(aio, loop, reports, at):
    """MemoryError is an exception like any other."""

    def fail(*args: Any, **kwargs: Any) -> Any:
        if args and hasattr(args[-1], "close") and at == "factory":
            args[-1].close()
        raise MemoryError

    async def step() -> None:
        raise MemoryError

    if at == "step":
        with pytest.raises(MemoryError):
            loop.run_until_complete(step())
        return
    if at == "factory":
        loop.set_task_factory(fail)
        with pytest.raises(MemoryError):
            loop.create_task(step())
        loop.set_task_factory(None)
        return
    if at == "callback":
        loop.call_soon(fail)
    elif at == "done_callback":
        future = loop.create_future()
        future.add_done_callback(fail)
        future.cancel()
    else:
        loop.set_exception_handler(fail)
        loop.call_soon(lambda: 1 / 0)
    spin(loop)
    if at != "handler":
        assert [type(context["exception"]) for context in reports.contexts] == [MemoryError]


# -- the loop re-entered -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["run_forever", "run_until_complete", "close", "run", "runner"])
def test_reentering_the_loop(aio, loop, call):
    async def nothing() -> None:
        pass

    def again() -> None:
        coroutine = nothing()
        try:
            if call == "run_until_complete":
                loop.run_until_complete(coroutine)
            elif call == "run":
                aio.run(coroutine)
            elif call == "runner":
                aio.Runner().run(coroutine)
            else:
                getattr(loop, call)()
        except RuntimeError as error:
            log.append(str(error))
        finally:
            coroutine.close()

    log: list[str] = []
    loop.call_soon(again)
    spin(loop)
    expected = {
        "run_forever": "This event loop is already running",
        "run_until_complete": "This event loop is already running",
        "close": "Cannot close a running event loop",
        "run": "asyncio.run() cannot be called from a running event loop",
        "runner": "Runner.run() cannot be called from a running event loop",
    }
    assert log == [expected[call]]
    assert not loop.is_closed()


def test_other_loop_inside(aio, loop):
    other = aio.new_event_loop()

    def inside() -> None:
        with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is running"):
            other.run_forever()
        log.append("refused")

    log: list[str] = []
    loop.call_soon(inside)
    spin(loop)
    assert log == ["refused"]
    other.close()


def test_stop_finishes_the_turn(aio, loop):
    log = []
    loop.call_soon(lambda: (log.append(1), loop.stop()))
    loop.call_soon(log.append, 2)
    loop.call_soon(lambda: loop.call_soon(log.append, 4))
    loop.call_soon(log.append, 3)
    loop.run_forever()
    assert log == [1, 2, 3]
    spin(loop)
    assert log == [1, 2, 3, 4]


def test_stop_before_run(aio, loop):
    log = []
    loop.stop()
    loop.call_soon(log.append, "one turn")
    loop.run_forever()
    assert log == ["one turn"]


def test_closed_loop(aio, loop):
    async def nothing() -> None:
        pass

    loop.close()
    loop.close()
    assert loop.is_closed()
    coroutine = nothing()
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.run_forever(),
        lambda: loop.run_until_complete(coroutine),
        lambda: loop.create_task(coroutine),
        lambda: loop.run_in_executor(None, print),
        lambda: loop.add_signal_handler(signal.SIGUSR1, print),
    ):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call()
    coroutine.close()
    loop.stop()
    loop.create_future().cancel()
    repr(loop)


def test_future_outlives_its_loop(aio, loop):
    """set_result() on a future whose loop is closed: fine without callbacks, RuntimeError with."""
    lonely, watched = loop.create_future(), loop.create_future()
    watched.add_done_callback(noop)
    loop.close()
    lonely.set_result(1)
    assert lonely.result() == 1
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        watched.set_result(1)


def test_cancel_inside_everything(aio, loop):
    """cancel() of the running task from a done-callback, an exception handler, a factory, a context manager's exit."""

    async def main() -> None:
        me = aio.current_task()
        future = loop.create_future()
        future.add_done_callback(lambda _: me.cancel("done-callback"))
        loop.call_soon(future.set_result, None)
        with pytest.raises(asyncio.CancelledError, match="done-callback"):
            await loop.create_future()
        loop.set_exception_handler(lambda loop, context: me.cancel("handler"))
        loop.call_soon(lambda: 1 / 0)
        with pytest.raises(asyncio.CancelledError, match="handler"):
            await loop.create_future()
        loop.set_task_factory(
            lambda loop, coro, **kwargs: (me.cancel("factory"), aio.Task(coro, loop=loop, **kwargs))[1]
        )
        task = aio.create_task(aio.sleep(0))
        loop.set_task_factory(None)
        with pytest.raises(asyncio.CancelledError, match="factory"):
            await task
        for _ in range(3):
            me.uncancel()

    loop.run_until_complete(main())


# -- finalizers -------------------------------------------------------------------------------------------------------------


def test_destroyed_pending_task(aio, loop, reports):
    async def forever() -> None:
        await loop.create_future()

    task = loop.create_task(forever(), name="lost")
    spin(loop)
    del task
    gc.collect()
    (context,) = reports.contexts
    assert context["message"] == "Task was destroyed but it is pending!"
    assert sorted(context) == ["message", "task"]
    assert context["task"].get_name() == "lost"


def test_destroyed_task_is_resurrected(aio, loop):
    """The report gets the task itself; keeping it is allowed, and it is not reported a second time."""

    async def forever() -> None:
        await loop.create_future()

    kept = []
    loop.set_exception_handler(lambda loop, context: kept.append(context["task"]))
    loop.create_task(forever())
    spin(loop)
    gc.collect()
    (task,) = kept
    assert not task.done()
    repr(task)
    kept.clear()
    del task
    gc.collect()
    assert kept == []


@pytest.mark.parametrize("kind", ["Future", "Task", "gather"])
def test_never_retrieved(aio, loop, reports, kind):
    """Logged exactly once, when it dies, with asyncio's text."""

    async def fails() -> None:
        raise Boom("lost")

    if kind == "Future":
        future = loop.create_future()
        future.set_exception(Boom("lost"))
    elif kind == "Task":
        future = loop.create_task(fails())
    else:
        child = loop.create_future()
        future = aio.gather(child)
        child.set_exception(Boom("lost"))
        del child
    spin(loop)
    assert reports.messages == []
    del future
    gc.collect()
    spin(loop)
    assert reports.messages == [f"{'_GatheringFuture' if kind == 'gather' else kind} exception was never retrieved"]
    (context,) = reports.contexts
    assert sorted(context) == ["exception", "future", "message"]
    assert str(context["exception"]) == "lost"


@pytest.mark.parametrize("look", ["result", "exception", "await", "log_traceback", "cancelled"])
def test_retrieved(aio, loop, reports, look):
    future = loop.create_future()
    if look == "cancelled":
        future.cancel()
    else:
        future.set_exception(Boom())
    if look == "result":
        with pytest.raises(Boom):
            future.result()
    elif look == "exception":
        future.exception()
    elif look == "await":
        with pytest.raises(Boom):
            loop.run_until_complete(future)
    elif look == "log_traceback":
        future._log_traceback = False
        with pytest.raises(ValueError, match="_log_traceback can only be set to False"):
            future._log_traceback = True
    del future
    gc.collect()
    assert reports.messages == []


def test_handler_raises_in_finalizer(aio, loop, caplog):
    def handler(loop: Any, context: Any) -> None:
        raise Boom

    loop.set_exception_handler(handler)
    loop.create_future().set_exception(Boom())
    gc.collect()
    assert any("Unhandled error in exception handler" in record.getMessage() for record in caplog.records)
    loop.set_exception_handler(None)


def test_default_logging_of_lost_exceptions(aio):
    """What a user sees on stderr at the end of a program."""
    from tests.support import python

    done = python(
        """
        async def fails():
            raise LookupError("lost")
        async def forever():
            await aio.get_running_loop().create_future()
        async def main():
            aio.create_task(fails(), name="one")
            task = aio.create_task(forever(), name="two")
            await aio.sleep(0)
            del task
        loop = aio.new_event_loop()
        loop.run_until_complete(main())
        import gc; gc.collect()
        loop.close()
        """
    )
    assert done.returncode == 0
    text = done.stderr
    assert text.count("Task exception was never retrieved\nfuture: <Task finished name='one' coro=<fails() done, ") == 1
    # the coroutine may be finalized before its task
    lost = (
        r"Task was destroyed but it is pending!\ntask: <Task pending name='two' coro=<forever\(\) (running at|done, )"
    )
    assert len(re.findall(lost, text)) == 1
    assert text.count("LookupError: lost") == 1


def test_never_awaited_coroutines(aio):
    from tests.support import python

    done = python(
        """
        async def main():
            aio.sleep(1); aio.Lock().acquire(); aio.Event().wait(); aio.Queue().get(); aio.wait_for(aio.Event().wait(), 1)
        aio.run(main())
        """
    )
    assert done.returncode == 0, done.stderr


# -- threads ----------------------------------------------------------------------------------------------------------------


def test_call_soon_threadsafe_from_four_threads(aio, loop):
    """Every call arrives, once, in each thread's order."""
    each = 5_000
    arrived: list[list[int]] = [[] for _ in range(4)]
    left = [4 * each]

    def arrive(thread: int, number: int) -> None:
        arrived[thread].append(number)
        left[0] -= 1
        if not left[0]:
            loop.stop()

    def hammer(thread: int) -> None:
        for number in range(each):
            loop.call_soon_threadsafe(arrive, thread, number)

    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert arrived == [list(range(each))] * 4


def test_threadsafe_wakes_a_sleeping_loop(aio, loop):
    """Each of many single wake-ups gets through while the loop sleeps without a timeout."""

    async def main() -> None:
        for _ in range(200):
            future = loop.create_future()
            threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, 1)).start()
            await future

    loop.run_until_complete(main())


def test_threadsafe_races_with_close(aio):
    """Callers get RuntimeError once it is closed; nobody crashes."""
    for _ in range(20):
        loop = aio.new_event_loop()
        started, errors = threading.Event(), []

        def hammer(loop: Any = loop, started: Any = started, errors: list[Any] = errors) -> None:
            try:
                for _ in range(100_000):
                    loop.call_soon_threadsafe(noop, None)
                    started.set()
            except RuntimeError as error:
                errors.append(str(error))

        threads = [threading.Thread(target=hammer) for _ in range(2)]
        for thread in threads:
            thread.start()
        started.wait()
        spin(loop, 5)
        loop.close()
        for thread in threads:
            thread.join()
        assert errors in ([], ["Event loop is closed"], ["Event loop is closed"] * 2)


def test_handle_cancel_from_another_thread(aio, loop):
    ran: list[int] = []
    handles = [loop.call_soon_threadsafe(ran.append, n) for n in range(1000)]
    thread = threading.Thread(target=lambda: [handle.cancel() for handle in handles[::2]])
    thread.start()
    thread.join()
    spin(loop)
    assert ran == list(range(1, 1000, 2))


def test_two_loops_in_two_threads(aio):
    """Loops in threads of their own share nothing."""
    results: dict[int, Any] = {}

    def thread(number: int) -> None:
        async def child(n: int) -> int:
            await aio.sleep(0)
            return n

        async def main() -> int:
            total = 0
            for _ in range(20):
                total += sum(await aio.gather(*(child(n) for n in range(50))))
            assert len(aio.all_tasks()) == 1
            return total

        results[number] = run(aio, main())

    threads = [threading.Thread(target=thread, args=(n,)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == dict.fromkeys(range(4), 24_500)


def test_loop_collected_in_another_thread(aio):
    loop = aio.new_event_loop()
    holder = [loop]
    loop.close()
    del loop
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    gc.collect()


# -- signals -----------------------------------------------------------------------------------------------------------------


def test_add_signal_handler(aio, loop):
    log = []
    loop.add_signal_handler(signal.SIGUSR1, log.append, "usr1")
    loop.call_later(0.01, signal.raise_signal, signal.SIGUSR1)
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert log == ["usr1"]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_signal_handler_wakes_the_loop(aio):
    """A signal from outside ends an endless sleep."""
    succeeds(
        """
        import os, signal, threading
        loop = aio.new_event_loop()
        log = []
        def handler():
            log.append(1)
            if len(log) == 20:
                loop.stop()
            else:
                threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        loop.add_signal_handler(signal.SIGUSR2, handler)
        threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        loop.run_forever()
        assert len(log) == 20
        loop.close()
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
        """
    )


def test_signal_handler_arguments(aio, loop):
    async def coroutine() -> None:
        pass

    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine)
    with pytest.raises(ValueError, match="invalid signal number"):
        loop.add_signal_handler(signal.NSIG + 1, noop)
    with pytest.raises(TypeError):
        loop.add_signal_handler("x", noop)
    with pytest.raises(RuntimeError, match="sig 9 cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, noop)
    failed = []

    def elsewhere() -> None:
        try:
            loop.add_signal_handler(signal.SIGUSR1, noop)
        except (ValueError, RuntimeError) as error:
            failed.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(failed) == 1


def test_python_signal_handler_runs_while_the_loop_sleeps(aio):
    """An ordinary signal.signal() handler runs promptly, without any add_signal_handler()."""
    succeeds(
        """
        import os, signal, threading, time
        def handler(signum, frame):
            seen.append(time.monotonic())
            loop.call_soon_threadsafe(loop.stop)
        seen = []
        signal.signal(signal.SIGUSR1, handler)
        loop = aio.new_event_loop()
        threading.Timer(0.1, lambda: (seen.append(time.monotonic()), os.kill(os.getpid(), signal.SIGUSR1))).start()
        loop.run_forever()
        assert seen[1] - seen[0] < 2
        loop.close()
        """
    )


def test_signal_handler_raises_into_the_loop(aio):
    """An exception from a signal handler leaves run_forever(); the loop can go on."""
    succeeds(
        """
        import os, signal, threading
        class Stop(Exception): pass
        def handler(signum, frame):
            raise Stop
        signal.signal(signal.SIGUSR1, handler)
        loop = aio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: outside.append(context["exception"]))
        outside = []
        for _ in range(20):
            try:
                threading.Timer(0.003, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                loop.run_forever()
            except Stop:
                pass
            assert not loop.is_running() and aio._get_running_loop() is None
        async def main():
            await aio.sleep(0.001)
            return "fine"
        assert loop.run_until_complete(main()) == "fine"
        loop.close()
        """
    )


def test_sigint_of_a_runner(aio):
    """The first ^C cancels the main task, the second is KeyboardInterrupt."""
    succeeds(
        """
        import os, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = []
        async def polite():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await aio.sleep(10)
            except aio.CancelledError:
                log.append("cancelled")
                raise
        try:
            aio.run(polite())
        except KeyboardInterrupt:
            log.append("interrupt")
        assert log == ["cancelled", "interrupt"], log

        async def stubborn():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await aio.sleep(10)
            except aio.CancelledError:
                log.append("once")
                aio.current_task().uncancel()
                await aio.sleep(0)
                return "finished"
        log.clear()
        assert aio.run(stubborn()) == "finished"
        assert log == ["once"]

        async def twice():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await aio.sleep(10)
            except aio.CancelledError:
                log.append("once")
                os.kill(os.getpid(), signal.SIGINT)
                await aio.sleep(10)
        log.clear()
        try:
            aio.run(twice())
        except KeyboardInterrupt:
            log.append("interrupt")
        assert log == ["once", "interrupt"], log
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert aio._get_running_loop() is None
        """
    )


def test_sigint_from_outside_wakes_the_runner(aio):
    """The loop sleeps in the kernel when the signal comes."""
    succeeds(
        """
        import os, signal, threading
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        async def main():
            await aio.get_running_loop().create_future()
        try:
            aio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """
    )


@pytest.mark.deadline(120)
def test_sigint_at_random_times(aio):
    """A hundred interrupts anywhere in a busy loop: each comes out as KeyboardInterrupt, nothing is corrupted."""
    out = succeeds(
        """
        import os, random, signal, threading, time
        signal.signal(signal.SIGINT, signal.default_int_handler)
        async def child(n):
            await aio.sleep(0)
            return n
        async def main(queue):
            async def worker():
                while True:
                    await queue.get()
                    queue.task_done()
            workers = [aio.create_task(worker()) for _ in range(3)]
            while True:
                for n in range(5):
                    queue.put_nowait(n)
                await queue.join()
                await aio.gather(*(child(n) for n in range(5)))
                try:
                    async with aio.timeout(0):
                        await aio.sleep(1)
                except TimeoutError:
                    pass
        interrupted = 0
        for turn in range(100):
            timer = threading.Timer(random.Random(turn).uniform(0.001, 0.02), os.kill, (os.getpid(), signal.SIGINT))
            loop = aio.new_event_loop()
            loop.set_exception_handler(lambda *args: None)
            task = loop.create_task(main(aio.Queue()))
            loop.call_later(2, loop.stop)  # an interrupt inside a finalizer is ignored
            try:
                timer.start()
                loop.run_forever()
            except KeyboardInterrupt:
                interrupted += 1
            timer.join()
            assert not loop.is_running() and aio._get_running_loop() is None and aio.current_task(loop) is None
            while aio.__name__ != "asyncio":  # which may lose a wake-up to a signal in its own Python code
                left = aio.all_tasks(loop)
                if not left:
                    break
                for each in left:
                    each.cancel()
                try:
                    loop.run_until_complete(aio.wait(left, timeout=5))
                except KeyboardInterrupt:
                    interrupted += 1
            loop.close()
        print(interrupted)
        """,
        timeout=100,
    )
    assert int(out) >= (70 if STDLIB else 95)


# -- fork ---------------------------------------------------------------------------------------------------------------------


def test_fork_in_a_running_loop(aio):
    """The child sees no running loop and runs its own; the parent goes on, also as a target of wake-ups."""
    out = succeeds(
        """
        import os, sys, threading, warnings
        warnings.simplefilter("ignore")
        async def in_child():
            await aio.sleep(0.01)
            assert aio.current_task().get_name() == "child"
            assert aio.all_tasks() == {aio.current_task()}
            return 7
        async def main():
            loop = aio.get_running_loop()
            sibling = aio.create_task(aio.sleep(0.05, "sibling"))
            event = aio.Event()
            loop.call_later(0.03, event.set)
            await aio.sleep(0)
            pid = os.fork()
            if not pid:
                try:
                    assert aio._get_running_loop() is None
                    try:
                        aio.get_running_loop()
                    except RuntimeError:
                        pass
                    else:
                        os._exit(2)
                    async def top():
                        aio.current_task().set_name("child")
                        return await in_child()
                    os._exit(aio.run(top()))
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    sys.stderr.flush()
                    os._exit(3)
            assert aio.get_running_loop() is loop
            await event.wait()
            assert await sibling == "sibling"
            threading.Timer(0.01, loop.call_soon_threadsafe, (event.clear,)).start()
            while event.is_set():
                await aio.sleep(0.001)
            _, status = await aio.to_thread(os.waitpid, pid, 0)
            return os.waitstatus_to_exitcode(status)
        print(aio.run(main()))
        """
    )
    assert out == "7\n"


@pytest.mark.skipif(STDLIB, reason="asyncio shares its epoll descriptor with the child")
def test_fork_leaves_the_parents_descriptors_alone(aio):
    """A child that collects the parent's loop must not disturb the parent's poll or its wake-ups."""
    out = succeeds(
        """
        import gc, os, socket, threading, warnings
        warnings.simplefilter("ignore")
        async def main():
            loop = aio.get_running_loop()
            a, b = socket.socketpair()
            a.setblocking(False)
            got = loop.create_future()
            loop.add_reader(a, lambda: got.done() or got.set_result(a.recv(10)))
            pid = os.fork()
            if not pid:
                try:
                    loop.remove_reader(a)
                    loop.call_soon_threadsafe(print, "in the child")
                except Exception:
                    pass
                gc.collect()
                os._exit(0)
            os.waitpid(pid, 0)
            threading.Timer(0.02, b.send, (b"x",)).start()
            async with aio.timeout(5):
                assert await got == b"x"
            done = aio.Event()
            threading.Timer(0.02, loop.call_soon_threadsafe, (done.set,)).start()
            async with aio.timeout(5):
                await done.wait()
            loop.remove_reader(a)
            a.close(), b.close()
        aio.run(main())
        print("fine")
        """
    )
    assert out == "fine\n"


# -- interpreter shutdown -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "left",
    [
        "loop",
        "running_task",
        "future",
        "handler",
        "thread",
        "busy_threads",
        "executors",
        "module_cycle",
        "exit_in_task",
    ],
)
def test_interpreter_exit(aio, left):
    """What is alive when the interpreter ends."""
    body = {
        "loop": "loop = aio.new_event_loop(); loop.call_later(1, print); loop.call_soon(print)",
        "running_task": """
            loop = aio.new_event_loop()
            async def forever(): await loop.create_future()
            tasks = [loop.create_task(forever()) for _ in range(3)]
            loop.call_soon(loop.stop); loop.run_forever()
        """,
        "future": """
            loop = aio.new_event_loop(); future = loop.create_future(); future.set_exception(ValueError("x"))
            other = loop.create_future(); other.add_done_callback(print)
        """,
        "handler": """
            import signal
            loop = aio.new_event_loop(); loop.add_signal_handler(signal.SIGUSR1, print)
            loop.set_exception_handler(lambda loop, context: print(context["message"]))
        """,
        "thread": """
            import threading, time
            loop = aio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, daemon=True); thread.start()
            while not loop.is_running(): time.sleep(0.001)
        """,
        # Daemons that ask for the GIL when there is none any more, with frames of ours on their stack.
        "busy_threads": """
            import threading, time
            async def child():
                await aio.sleep(0)
                time.sleep(0.0001)
            async def main():
                while True:
                    async with aio.TaskGroup() as group:
                        for _ in range(5): group.create_task(child())
            for _ in range(3):
                threading.Thread(target=lambda: aio.new_event_loop().run_until_complete(main()), daemon=True).start()
            time.sleep(0.05)
        """,
        # Loops that end because there are no more threads, and the threads that wait for theirs to end.
        "executors": """
            import logging, os, threading, time
            logging.disable()
            threading.excepthook = lambda args: None
            async def main():
                loop = aio.get_running_loop()
                while True: await loop.run_in_executor(None, time.sleep, 0.01)
            for _ in range(4): threading.Thread(target=lambda: aio.run(main()), daemon=True).start()
            time.sleep(0.2)
        """,
        "module_cycle": """
            class Last:
                def __del__(self):
                    try:
                        loop = aio.new_event_loop(); loop.call_soon(print); loop.close(); aio.Future(loop=loop)
                    except BaseException: pass
            import builtins; builtins.last = Last(); aio.last = Last(); me = [Last()]; me.append(me)
        """,
        "exit_in_task": """
            async def main():
                aio.create_task(aio.sleep(100)); await aio.sleep(0); raise SystemExit(0)
            aio.run(main())
        """,
    }[left]
    import textwrap

    succeeds("import warnings; warnings.simplefilter('ignore')\n" + textwrap.dedent(body), timeout=20)


def test_report_while_the_interpreter_shuts_down(aio):
    """Nothing can be imported any more then: what a report needs is there already."""
    body = """
    import builtins, logging, sys, traceback

    class Late:
        def __del__(self):
            self.loop.call_exception_handler(self.context)

    async def fail():
        raise ValueError("never retrieved")

    async def main():
        async with aio.timeout(1000) as timeout:
            late = builtins.late = Late()
            builtins.task = aio.create_task(fail())
            await aio.sleep(0)
            late.timeout = aio.timeout_at(1e9 + 0.12345)
            await late.timeout.__aenter__()
            late.loop = aio.get_running_loop()
            stack = traceback.extract_stack()
            late.context = {"message": "too late", "source_traceback": stack, "timeout": late.timeout, "x": 3}
            late.context["exception"] = ValueError(1)

    aio.run(main())
    """
    done = python(body)
    assert done.returncode == 0
    assert "meta_path" not in done.stderr, done.stderr
    assert "Exception in default" not in done.stderr, done.stderr
    for part in (
        "too late\nsource_traceback: Object created at",
        "\ntimeout: <Timeout [active] when=1000000000.123>",
        "\nx: 3\nValueError: 1",
    ):
        assert part in done.stderr, done.stderr
    assert "exception was never retrieved" in done.stderr
