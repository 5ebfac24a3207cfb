"""aioxide beside asyncio: tasks and futures of three families await each other, on either loop, and libraries mix."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import importlib
import itertools
import sys
import threading
from asyncio import futures, tasks
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.support import Reports, newer, run, succeeds

# not `import _asyncio` on top: whoever imports it before asyncio gets an asyncio that half ignores it
_asyncio = importlib.import_module("_asyncio")

FAMILIES = ("tested", "c", "python")
LOOPS = ("tested", "stdlib")


def make_task(aio: Any, family: str, coroutine: Coroutine[Any, Any, Any], loop: Any) -> Any:
    kinds = {"tested": aio.Task, "c": _asyncio.Task, "python": tasks._PyTask}
    return kinds[family](coroutine, loop=loop)


def make_future(aio: Any, family: str, loop: Any) -> Any:
    kinds = {"tested": aio.Future, "c": _asyncio.Future, "python": futures._PyFuture}
    return kinds[family](loop=loop)


def only_where_it_is_current(task_family: str) -> None:
    if task_family == "python" and sys.version_info >= (3, 14):
        pytest.skip("since 3.14 a pure-Python task tells nobody but pure-Python functions that it is current")


@pytest.fixture(params=LOOPS)
def loop(aio: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """aioxide's loop, and asyncio's."""
    loop = aio.new_event_loop() if request.param == "tested" else asyncio.SelectorEventLoop()
    loop.reports = Reports()
    loop.set_exception_handler(loop.reports)
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    gc.collect()
    assert loop.reports.messages == []


# -- every family awaits every family ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_family", FAMILIES)
@pytest.mark.parametrize("future_family", FAMILIES)
class TestFamilies:
    @pytest.fixture
    def pair(self, aio, loop, task_family, future_family) -> Callable[..., tuple[Any, Any]]:
        def make(*, sleepless: bool = False) -> tuple[Any, Any]:
            future = make_future(aio, future_family, loop)

            async def body() -> Any:
                return "got", await future

            return make_task(aio, task_family, body(), loop), future

        return make

    def test_result(self, loop, pair):
        task, future = pair()
        loop.call_later(0.001, future.set_result, 42)
        assert loop.run_until_complete(task) == ("got", 42)

    def test_result_is_there(self, loop, pair):
        task, future = pair()
        future.set_result(43)
        assert loop.run_until_complete(task) == ("got", 43)

    def test_exception(self, loop, pair):
        task, future = pair()
        error = LookupError("no")
        loop.call_soon(future.set_exception, error)
        with pytest.raises(LookupError) as raised:
            loop.run_until_complete(task)
        assert raised.value is error

    def test_cancel_task(self, loop, pair):
        """Cancelling the task cancels what it waits for, with the message."""
        task, future = pair()
        loop.call_soon(lambda: loop.call_soon(task.cancel, "enough"))
        with pytest.raises(asyncio.CancelledError) as raised:
            loop.run_until_complete(task)
        assert raised.value.args == ("enough",)
        assert future.cancelled()
        assert task.cancelled()
        assert task.cancelling() == 1

    def test_cancel_future(self, loop, pair):
        task, future = pair()
        loop.call_soon(lambda: loop.call_soon(future.cancel, "gone"))
        with pytest.raises(asyncio.CancelledError) as raised:
            loop.run_until_complete(task)
        assert raised.value.args == ("gone",)
        assert task.cancelled()
        assert task.cancelling() == 0

    def test_waits_for(self, loop, pair):
        task, future = pair()
        seen = []
        loop.call_soon(lambda: loop.call_soon(lambda: seen.append(task._fut_waiter)))
        loop.call_later(0.002, future.set_result, None)
        loop.run_until_complete(task)
        assert seen == [future]
        assert task._fut_waiter is None

    def test_wrong_loop(self, aio, loop, task_family, future_family):
        other = asyncio.SelectorEventLoop()
        future = make_future(aio, future_family, other)

        async def body() -> None:
            with pytest.raises(RuntimeError, match="attached to a different loop"):
                await future

        loop.run_until_complete(make_task(aio, task_family, body(), loop))
        other.close()

    def test_task_awaits_task(self, aio, loop, task_family, future_family):
        """Both parameters are the families of tasks here."""

        async def inner() -> str:
            await asyncio.sleep(0)
            return "inner"

        async def fails() -> None:
            raise LookupError

        async def forever() -> None:
            await loop.create_future()

        async def outer() -> None:
            assert await make_task(aio, future_family, inner(), loop) == "inner"
            with pytest.raises(LookupError):
                await make_task(aio, future_family, fails(), loop)
            stuck = make_task(aio, future_family, forever(), loop)
            loop.call_later(0.001, stuck.cancel, "stop")
            with pytest.raises(asyncio.CancelledError, match="stop"):
                await stuck

        loop.run_until_complete(make_task(aio, task_family, outer(), loop))

    def test_cancellation_passes_through(self, aio, loop, task_family, future_family):
        async def forever() -> None:
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                log.append("inner")
                raise

        async def outer() -> None:
            try:
                await inner
            except asyncio.CancelledError:
                log.append("outer")
                raise

        log: list[str] = []
        inner = make_task(aio, future_family, forever(), loop)
        task = make_task(aio, task_family, outer(), loop)
        loop.call_later(0.001, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        assert log == ["inner", "outer"]
        assert inner.cancelled()

    def test_library_of_the_tested(self, aio, loop, task_family, future_family):
        """aioxide's gather, wait, shield, … on any task, any future, any loop."""
        only_where_it_is_current(task_family)
        loop.run_until_complete(make_task(aio, task_family, library(aio, aio, future_family), loop))

    def test_library_of_asyncio(self, aio, loop, task_family, future_family):
        """asyncio's own, likewise."""
        only_where_it_is_current(task_family)
        loop.run_until_complete(make_task(aio, task_family, library(asyncio, aio, future_family), loop))


async def library(lib: Any, aio: Any, family: str) -> None:
    loop = asyncio.get_running_loop()

    def future(result: Any = None, delay: float | None = None) -> Any:
        made = make_future(aio, family, loop)
        if delay is not None:
            loop.call_later(delay, lambda: made.done() or made.set_result(result))
        return made

    async def value(result: Any) -> Any:
        await lib.sleep(0)
        return result

    def task(result: Any) -> Any:
        return make_task(aio, family, value(result), loop)

    assert await lib.gather(future(1, 0.001), task(2), value(3)) == [1, 2, 3]
    failed = future()
    failed.set_exception(LookupError("x"))
    result = await lib.gather(failed, task(2), return_exceptions=True)
    assert repr(result) == "[LookupError('x'), 2]"
    never = future()
    done, pending = await lib.wait([never, quick := task(1)], return_when=lib.FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {never})
    assert await lib.wait_for(future("f", 0.001), 10) == "f"
    with pytest.raises(TimeoutError):
        await lib.wait_for(late := future(), 0.001)
    assert late.cancelled()
    assert await lib.shield(task("s")) == "s"
    protected = future()
    with pytest.raises(TimeoutError):
        async with lib.timeout(0.001):
            await lib.shield(protected)
    assert not protected.done()
    with pytest.raises(TimeoutError):
        async with lib.timeout(0.001):
            await never
    assert never.cancelled()
    assert [await item for item in lib.as_completed([future(1, 0.001), future(2, 0.02)])] == [1, 2]
    assert lib.ensure_future(protected) is protected
    assert lib.isfuture(protected)
    async with lib.TaskGroup() as group:
        one = group.create_task(value("one"))
        waits = group.create_task(wait_on(future("two", 0.001)))
    assert (one.result(), waits.result()) == ("one", "two")
    with pytest.raises(ExceptionGroup):
        async with lib.TaskGroup() as group:
            group.create_task(wait_on(failed))
            await future()
    assert asyncio.current_task().cancelling() == 0
    lock, queue, event = lib.Lock(), lib.Queue(1), lib.Event()
    async with lock:
        waiter = make_task(aio, family, lock.acquire(), loop)
        await lib.sleep(0)
    assert await waiter is True
    getter = make_task(aio, family, queue.get(), loop)
    await queue.put("item")
    assert await getter == "item"
    waiter = make_task(aio, family, event.wait(), loop)
    loop.call_later(0.001, event.set)
    assert await waiter is True


async def wait_on(awaitable: Any) -> Any:
    return await awaitable


# -- who is who ----------------------------------------------------------------------------------------------------------


def test_isinstance(aio, loop):
    async def main() -> None:
        task = aio.current_task()
        future = aio.Future()
        assert isinstance(task, asyncio.Task)
        assert isinstance(task, asyncio.Future)
        assert isinstance(future, asyncio.Future)
        assert not isinstance(future, asyncio.Task)
        assert asyncio.isfuture(task)
        assert asyncio.isfuture(future)
        assert aio.isfuture(task)
        assert asyncio.ensure_future(task) is task
        assert aio.ensure_future(task) is task
        for outer in (aio.gather(future), aio.shield(future)):
            assert isinstance(outer, asyncio.Future)
        future.set_result(None)
        c_future = _asyncio.Future()
        assert aio.isfuture(c_future)  # (isinstance(c_future, aioxide.Future) is False: README, "Differences")

    loop.run_until_complete(aio.Task(main(), loop=loop))


def test_loop_is_an_asyncio_loop(aio):
    loop = aio.new_event_loop()
    assert isinstance(loop, asyncio.AbstractEventLoop)
    handle, timer = loop.call_soon(print), loop.call_later(1, print)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(timer, asyncio.TimerHandle)
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)
    loop.close()


def test_same_exceptions(aio):
    """`except asyncio.X` in a library must catch what aioxide raises."""
    names = [name for name in dir(asyncio) if isinstance(getattr(asyncio, name), type)]
    errors = [name for name in names if issubclass(getattr(asyncio, name), BaseException)]
    assert len(errors) >= 9
    for name in errors:
        assert getattr(aio, name) is getattr(asyncio, name)


@pytest.mark.parametrize("name", ["current_task", "all_tasks", "get_running_loop", "_get_running_loop"])
def test_stdlib_functions_see_tested_tasks(aio, loop, name):
    async def sibling() -> None:
        await asyncio.sleep(0.001)

    async def main() -> None:
        me = aio.current_task()
        other = aio.Task(sibling(), loop=loop)
        expected = {"current_task": me, "all_tasks": {me, other}}.get(name, loop)
        assert getattr(asyncio, name)() == expected
        assert getattr(aio, name)() == expected
        assert getattr(_asyncio, name, getattr(asyncio, name))() == expected
        if name in ("current_task", "all_tasks"):
            assert getattr(asyncio, name)(loop) == expected
        await other
        await loop.run_in_executor(None, elsewhere)

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        if name == "current_task":
            # (it may be here before the task that sent it is suspended)
            while sys.version_info >= (3, 14) and asyncio.current_task(loop) is not None:
                pass

    loop.run_until_complete(aio.Task(main(), loop=loop))
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    assert asyncio.current_task(loop) is None
    assert asyncio.all_tasks(loop) == set()


def test_functions_imported_before():
    """`from asyncio import current_task` before aioxide: what sniffio, anyio and logging do."""
    out = succeeds(
        """
        from asyncio import all_tasks, create_task, current_task, get_running_loop, isfuture, sleep
        from asyncio import _get_running_loop, _enter_task, _leave_task
        import asyncio, importlib, sys
        aio = importlib.import_module(sys.argv[1])

        async def child():
            assert current_task().get_name() == "child"
            assert asyncio.current_task() is aio.current_task() is current_task()
            await sleep(0)
            assert current_task().get_name() == "child"

        async def main():
            loop = aio.get_running_loop()
            assert get_running_loop() is _get_running_loop() is loop
            me = current_task()
            assert me is aio.current_task() and isinstance(me, asyncio.Task) and isfuture(me)
            loop.call_soon(lambda: seen.append(current_task()))
            task = aio.create_task(child(), name="child")
            assert {t.get_name() for t in all_tasks()} == {me.get_name(), "child"}
            assert all_tasks() == aio.all_tasks() == asyncio.all_tasks(loop)
            assert current_task(loop) is me
            await task
            assert current_task() is me
            assert all_tasks() == {me}
            other = create_task(child(), name="child")
            await other
            return loop

        seen = []
        loop = aio.run(main())
        assert seen == [None]
        assert _get_running_loop() is None
        assert current_task(loop) is None and all_tasks(loop) == set()
        print("fine")
        """,
        __import__("tests.support", fromlist=["IMPLEMENTATION"]).IMPLEMENTATION,
        aio=False,
    )
    assert out == "fine\n"


def guarded(future: Any, function: Callable[[], Any]) -> None:
    """Run the function as a callback of the loop, its outcome into the future."""
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)


def test_foreign_task_through_the_registry(aio, loop):
    """_register_task, _enter_task & co. are how other task types (and other loops) join in."""

    class Foreign:
        def get_loop(self) -> Any:
            return loop

        def done(self) -> bool:
            return False

    foreign = Foreign()

    def check() -> None:
        asyncio._register_task(foreign)
        assert foreign in aio.all_tasks()
        assert foreign in asyncio.all_tasks()
        asyncio._enter_task(loop, foreign)
        try:
            assert aio.current_task() is foreign
            assert asyncio.current_task() is foreign
        finally:
            asyncio._leave_task(loop, foreign)
        assert aio.current_task() is None
        aio._enter_task(loop, foreign)
        assert asyncio.current_task() is foreign
        with pytest.raises(RuntimeError, match="Cannot enter into task"):
            aio._enter_task(loop, 5)
        with pytest.raises(RuntimeError, match="does not match the current task|Invalid attempt to leave task 5"):
            aio._leave_task(loop, 5)
        aio._leave_task(loop, foreign)
        aio._unregister_task(foreign)
        assert foreign not in asyncio.all_tasks()

    finished = loop.create_future()
    loop.call_soon(guarded, finished, check)
    loop.run_until_complete(finished)


def test_native_and_foreign_steps_nest(aio, loop):
    """current_task() after tasks of all families took turns."""
    log = []

    async def body(name: str) -> None:
        for _ in range(3):
            log.append((name, asyncio.current_task() is made[name], aio.current_task() is made[name]))
            await asyncio.sleep(0)

    made = {family: make_task(aio, family, body(family), loop) for family in FAMILIES}
    loop.run_until_complete(asyncio.wait(made.values()))
    told = {family: family != "python" or sys.version_info < (3, 14) for family in FAMILIES}
    assert log == [(family, told[family], told[family]) for _ in range(3) for family in FAMILIES]


# -- foreign futures -------------------------------------------------------------------------------------------------------


class FutureLike:
    """The documented minimum: `_asyncio_future_blocking`, callbacks, `__await__` that yields itself."""

    _asyncio_future_blocking = False

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.callbacks: list[tuple[Any, Any]] = []
        self.finished = False
        self.was_cancelled = False

    def get_loop(self) -> Any:
        return self.loop

    def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
        self.callbacks.append((callback, context))

    def remove_done_callback(self, callback: Any) -> int:
        before = len(self.callbacks)
        self.callbacks = [pair for pair in self.callbacks if pair[0] != callback]
        return before - len(self.callbacks)

    def done(self) -> bool:
        return self.finished

    def cancelled(self) -> bool:
        return self.was_cancelled

    def exception(self) -> None:
        return None

    def result(self) -> str:
        if self.was_cancelled:
            raise asyncio.CancelledError("like")
        return "like"

    def cancel(self, msg: Any = None) -> bool:
        self.was_cancelled = True
        self.finish()
        return True

    def finish(self) -> None:
        self.finished = True
        for callback, context in self.callbacks:
            self.loop.call_soon(callback, self, context=context)

    def __await__(self):
        if not self.finished:
            self._asyncio_future_blocking = True
            yield self
        return self.result()


@pytest.mark.parametrize("family", FAMILIES)
def test_future_like(aio, loop, family):
    only_where_it_is_current(family)

    async def main() -> None:
        loop.call_soon((future := FutureLike(loop)).finish)
        assert aio.isfuture(future)
        assert await future == "like"
        loop.call_soon((future := FutureLike(loop)).finish)
        assert await aio.gather(future) == ["like"]
        loop.call_soon((future := FutureLike(loop)).finish)
        assert await aio.wait_for(future, 5) == "like"
        loop.call_soon((future := FutureLike(loop)).finish)
        assert await aio.shield(future) == "like"
        future = FutureLike(loop)
        waiting = make_task(aio, family, wait_on(future), loop)
        await aio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError, match="like"):
            await waiting
        assert future.was_cancelled

    loop.run_until_complete(make_task(aio, family, main(), loop))


def test_subclass_hooks_are_honoured(aio, loop):
    """A subclass that overrides a method must see it called, whoever the caller is."""
    log = []

    class Sub(aio.Future):
        def add_done_callback(self, *args: Any, **kwargs: Any) -> None:
            log.append("add_done_callback")
            super().add_done_callback(*args, **kwargs)

        def result(self) -> Any:
            log.append("result")
            return super().result()

        def cancel(self, msg: Any = None) -> bool:
            log.append("cancel")
            return super().cancel(msg)

        def get_loop(self) -> Any:
            log.append("get_loop")
            return super().get_loop()

    async def main(cancel: bool) -> Any:
        future = Sub(loop=loop)
        log.clear()
        loop.call_soon(aio.current_task().cancel if cancel else lambda: future.set_result(5))
        return await future

    for family in FAMILIES[: 2 if sys.version_info >= (3, 14) else 3]:
        assert loop.run_until_complete(make_task(aio, family, main(False), loop)) == 5
        assert "add_done_callback" in log
        assert "get_loop" in log
        assert "result" in log
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(make_task(aio, family, main(True), loop))
        assert "cancel" in log


def test_task_subclass(aio, loop):
    class Sub(aio.Task):
        stops = 0

        def cancel(self, msg: Any = None) -> bool:
            type(self).stops += 1
            return super().cancel(msg)

        def set_name(self, value: object) -> None:
            super().set_name(f"sub {value}")

    async def forever() -> None:
        await loop.create_future()

    async def main() -> None:
        loop.set_task_factory(lambda loop, coro, **kwargs: Sub(coro, loop=loop, **kwargs))
        task = loop.create_task(forever())
        assert type(task) is Sub
        await aio.sleep(0)
        with pytest.raises(TimeoutError):
            await aio.wait_for(task, 0.001)
        with pytest.raises(ZeroDivisionError):
            try:
                async with aio.TaskGroup() as group:
                    group.create_task(forever())
                    await aio.sleep(0)
                    1 / 0  # noqa: B018
            except* ZeroDivisionError as errors:
                raise errors.exceptions[0] from None
        outer = aio.gather(loop.create_task(forever()))
        await aio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        loop.set_task_factory(None)

    loop.run_until_complete(aio.Task(main(), loop=loop))
    assert Sub.stops >= 3


# -- factories -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_task_factory(aio, loop, family):
    def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
        return make_task(aio, family, coro, loop)

    async def main() -> list[str]:
        loop.set_task_factory(factory)
        made = []
        made.append(aio.create_task(wait_on(aio.sleep(0, "a")), name="named"))
        made.append(asyncio.create_task(wait_on(asyncio.sleep(0, "b"))))
        made.append(aio.ensure_future(wait_on(aio.sleep(0, "c"))))
        async with aio.TaskGroup() as group:
            made.append(group.create_task(wait_on(aio.sleep(0, "d"))))
        result = await aio.gather(*made)
        kind = {"tested": aio.Task, "c": _asyncio.Task, "python": tasks._PyTask}[family]
        assert all(type(task) is kind for task in made) or family == "tested"
        loop.set_task_factory(None)
        return result

    assert loop.run_until_complete(main()) == ["a", "b", "c", "d"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has no eager tasks")
@pytest.mark.parametrize("families", list(itertools.product(("tested", "c"), repeat=4)), ids="-".join)
def test_eager_tasks_inside_each_other(aio, families):
    """Whoever asks, and whenever, is told the innermost task that runs: asking is not what makes it right."""

    def nest(lib: Any, where: tuple[str, int], sleeps: bool) -> None:
        def start(level: int, **eager: Any) -> Any:
            family = aio.Task if families[level] == "tested" else asyncio.Task
            return family(run_level(level), loop=loop, name=f"level {level}", **eager)

        def ask(place: str, level: int) -> None:
            if (place, level) == where:
                assert lib.current_task(loop).get_name() == f"level {level}"

        async def run_level(level: int) -> None:
            ask("begins", level)
            if level == 3:
                return
            inner = start(level + 1, eager_start=True)
            ask("goes on", level)
            if sleeps:
                await asyncio.sleep(0)
                ask("slept", level)
            await inner

        loop = aio.new_event_loop()
        loop.run_until_complete(start(0))
        assert aio.current_task(loop) is asyncio.current_task(loop) is None
        loop.close()

    places = list(itertools.product(("begins", "goes on", "slept"), range(4)))
    for case in itertools.product((aio, asyncio), places, (False, True)):
        nest(*case)


@newer((3, 12))
@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio before 3.12")
@pytest.mark.parametrize("lib", ["tested", "stdlib"])
def test_eager_factory(aio, loop, lib):
    factory = (aio if lib == "tested" else asyncio).eager_task_factory

    async def child() -> str:
        log.append(asyncio.current_task())
        await aio.sleep(0)
        log.append(aio.current_task())
        return "child"

    async def quick() -> Any:
        return aio.current_task()

    async def main() -> None:
        loop.set_task_factory(factory)
        me = aio.current_task()
        task = aio.create_task(child(), name="eager")
        assert log == [task]
        assert aio.current_task() is asyncio.current_task() is me
        assert task in aio.all_tasks()
        assert task in asyncio.all_tasks()
        assert await task == "child"
        assert log == [task, task]
        done = aio.create_task(quick(), name="quick")
        assert done.done()
        assert done.result() is done
        loop.set_task_factory(None)

    log: list[Any] = []
    loop.run_until_complete(main())


@newer((3, 12))
@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio before 3.12 has no eager tasks")
@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize("outermost", ["task", "callback"])
@pytest.mark.parametrize("kinds", list(itertools.product(("tested", "c"), repeat=3)), ids="-".join)
def test_current_task_in_eager_tasks_inside_each_other(aio, loop, kinds, outermost, looks):
    """Whoever is asked names the innermost one, whoever was asked before."""
    classes = {"tested": aio.Task, "c": _asyncio.Task}
    made: list[Any] = []

    def check(name: str) -> None:
        current = aio.current_task()
        assert current is asyncio.current_task()
        assert current is _asyncio.current_task()
        assert current.get_name() == name

    async def nested(depth: int) -> None:
        if looks:
            check(f"task {depth}")
        start(depth + 1)
        check(f"task {depth}")
        await aio.sleep(0)
        check(f"task {depth}")

    def start(depth: int) -> None:
        if depth == len(kinds):
            return
        task = classes[kinds[depth]](nested(depth), loop=loop, eager_start=True, name=f"task {depth}")
        made.append(task)

    async def main() -> None:
        me = aio.current_task()
        if outermost == "task":
            start(0)
            assert aio.current_task() is asyncio.current_task() is me
        else:
            loop.call_soon(start, 0)
            loop.call_soon(lambda: made.append(asyncio.current_task()))
        await aio.sleep(0)
        await aio.sleep(0)
        await aio.sleep(0)
        assert aio.current_task() is me
        assert None not in made or outermost == "callback"
        for task in filter(None, made):
            await task

    loop.run_until_complete(main())
    assert len([task for task in made if task]) == 3
    if sys.version_info < (3, 14):
        assert not _asyncio._current_tasks


# -- threads and executors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lib", ["tested", "stdlib"])
def test_run_coroutine_threadsafe(aio, loop, lib):
    submit = (aio if lib == "tested" else asyncio).run_coroutine_threadsafe

    async def value() -> int:
        await aio.sleep(0)
        return threading.get_ident()

    async def fails() -> None:
        raise LookupError("there")

    async def forever() -> None:
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    def thread() -> None:
        log.append(submit(value(), loop).result(10) == main_thread)
        with pytest.raises(LookupError, match="there"):
            submit(fails(), loop).result(10)
        stuck = submit(forever(), loop)
        submit(aio.sleep(0.001), loop).result(10)
        assert stuck.cancel()
        submit(aio.sleep(0.001), loop).result(10)
        log.append(stuck.cancelled())

    log: list[Any] = []
    main_thread = threading.get_ident()
    loop.run_until_complete(loop.run_in_executor(None, thread))
    loop.run_until_complete(loop.shutdown_default_executor())
    assert log == [True, "cancelled", True]


def test_wrap_future(aio, loop):
    async def main() -> None:
        source: concurrent.futures.Future[int] = concurrent.futures.Future()
        wrapped = aio.wrap_future(source)
        assert isinstance(wrapped, asyncio.Future)
        assert aio.wrap_future(wrapped) is wrapped
        threading.Timer(0.001, source.set_result, (5,)).start()
        assert await wrapped == 5
        source = concurrent.futures.Future()
        wrapped = aio.wrap_future(source)
        threading.Timer(0.001, source.set_exception, (concurrent.futures.TimeoutError("t"),)).start()
        with pytest.raises(TimeoutError):
            await wrapped
        source = concurrent.futures.Future()
        wrapped = aio.wrap_future(source)
        wrapped.cancel()
        await aio.sleep(0)
        assert source.cancelled()

    loop.run_until_complete(main())


def test_executor(aio, loop):
    context = contextvars.ContextVar("context", default="none")

    async def main() -> None:
        context.set("set")
        assert await loop.run_in_executor(None, context.get) == "none"
        assert await aio.to_thread(context.get) == "set"
        assert await asyncio.to_thread(context.get) == "set"
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            blocked = threading.Event()
            first = loop.run_in_executor(pool, blocked.wait)
            second = loop.run_in_executor(pool, print)
            second.cancel()
            blocked.set()
            assert await first
            assert second.cancelled()
        results = await aio.gather(*(loop.run_in_executor(None, pow, 2, n) for n in range(50)))
        assert results == [2**n for n in range(50)]

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, print)


# -- contexts, generators, debug ---------------------------------------------------------------------------------------------


def test_contexts(aio, loop):
    var = contextvars.ContextVar("var", default="start")

    async def child(value: str) -> str:
        before = var.get()
        var.set(value)
        await aio.sleep(0)
        return before + var.get()

    async def main() -> None:
        var.set("main")
        for family in FAMILIES:
            assert await make_task(aio, family, child("c"), loop) == "mainc"
        assert await aio.gather(child("x"), child("y")) == ["mainx", "mainy"]
        assert var.get() == "main"
        own = contextvars.copy_context()
        own.run(var.set, "own")
        assert await aio.create_task(child("z"), context=own) == "ownz"
        assert own[var] == "z"
        seen = []
        loop.call_soon(lambda: seen.append(var.get()))
        loop.call_soon(lambda: seen.append(var.get()), context=own)
        loop.call_later(0, lambda: seen.append(var.get()), context=own)
        future = loop.create_future()
        future.add_done_callback(lambda _: seen.append(var.get()))
        future.add_done_callback(lambda _: seen.append(var.get()), context=own)
        future.set_result(None)
        var.set("later")
        await aio.sleep(0.01)
        assert sorted(seen) == ["main", "main", "z", "z", "z"]

    loop.run_until_complete(main())
    assert var.get() == "start"


def test_async_generators(aio, loop):
    """The loop closes what nobody exhausted: at collection, and at shutdown_asyncgens()."""

    async def generator(name: str) -> Any:
        try:
            yield name
            yield name
        finally:
            await aio.sleep(0)
            log.append(name)

    async def main() -> None:
        async for _ in generator("dropped"):
            break
        gc.collect()
        await aio.sleep(0.01)
        assert log == ["dropped"]
        kept.append(generator("kept"))
        assert await anext(kept[0]) == "kept"

    log: list[str] = []
    kept: list[Any] = []
    hooks = sys.get_asyncgen_hooks()
    loop.run_until_complete(main())
    assert sys.get_asyncgen_hooks() == hooks
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert log == ["dropped", "kept"]


def test_debug_mode(aio, loop, caplog):
    """Native tasks in debug mode know where they were made; a slow callback is told."""
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01

    async def child() -> None:
        await aio.sleep(0)

    async def main() -> None:
        task = aio.create_task(child())
        assert "created at" in repr(task)
        assert task._source_traceback
        await task
        future = loop.create_future()
        assert future._source_traceback
        future.cancel()
        threading.Event().wait(0.02)

    loop.run_until_complete(main())
    assert any("took 0." in record.getMessage() for record in caplog.records)
    loop.set_debug(False)


def test_asyncio_runner_with_loop_factory(aio):
    with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
        loop = runner.get_loop()

        async def main() -> Any:
            assert asyncio.get_running_loop() is loop
            task = asyncio.create_task(asyncio.sleep(0, "x"))
            assert isinstance(task, asyncio.Task)
            return await task

        assert runner.run(main()) == "x"
        runner.run(library(asyncio, aio, "tested"))
        runner.run(library(aio, aio, "c"))


def test_tested_runner_with_stdlib_loop(aio):
    with aio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(library(aio, aio, "tested"))
        runner.run(library(asyncio, aio, "python"))


def test_logging_names_the_task(aio, caplog):
    """logging asks sys.modules["asyncio"] for the current task's name (3.12)."""
    import logging

    async def main() -> None:
        logging.getLogger("interop").warning("hello")

    run(aio, named(aio, main))
    (record,) = [record for record in caplog.records if record.name == "interop"]
    assert getattr(record, "taskName", "worker") == "worker"


async def named(aio: Any, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await aio.create_task(main(), name="worker")
