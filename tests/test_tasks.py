"""asyncio.Task and what tasks.py offers around it: hops, cancellation, texts."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import io
import re
import sys
import types
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.support import Reports, newer, run, run_hops


class Boom(Exception):
    pass


async def leaf(result: Any = "leaf") -> Any:
    return result


async def waits(loop: Any) -> None:
    await loop.create_future()


@pytest.fixture
def loop(aio: Any) -> Iterator[Any]:
    loop = aio.new_event_loop()
    yield loop
    loop.close()
    gc.collect()


# -- how many iterations of the loop things take ---------------------------------------------------------------------------


async def via_queue(aio: Any) -> None:
    async def feed() -> None:
        queue.put_nowait(1)

    queue = aio.Queue()
    task = aio.create_task(feed())
    await queue.get()
    await task


async def via_group(aio: Any) -> None:
    async with aio.TaskGroup() as group:
        group.create_task(leaf())


async def via_as_completed(aio: Any) -> None:
    for item in aio.as_completed([leaf()]):
        await item


async def via_timeout(aio: Any) -> None:
    async with aio.timeout(10):
        pass


async def via_lock(aio: Any) -> None:
    async with aio.Lock():
        pass


async def via_event(aio: Any) -> None:
    event = aio.Event()
    aio.get_running_loop().call_soon(event.set)
    await event.wait()


HOPS: dict[str, tuple[Any, int]] = {
    "nothing": (lambda aio: leaf(), 0),
    "sleep(0)": (lambda aio: aio.sleep(0), 1),
    "sleep(-1)": (lambda aio: aio.sleep(-1), 1),
    "await create_task(leaf)": (lambda aio: awaited(aio.create_task, leaf), 2),
    "gather(leaf)": (lambda aio: awaited(aio.gather, leaf), 3),
    "shield(leaf)": (lambda aio: awaited(aio.shield, leaf), 3),
    "wait([task])": (lambda aio: awaited(lambda coro: aio.wait([aio.create_task(coro)]), leaf), 3),
    "wait_for(leaf, 1)": (lambda aio: aio.wait_for(leaf(), 1), 3 if sys.version_info < (3, 12) else 0),
    "wait_for(leaf, None)": (lambda aio: aio.wait_for(leaf(), None), 0),
    "queue.get": (via_queue, 2),
    "TaskGroup": (via_group, 3),
    "as_completed": (via_as_completed, 3),
    "timeout": (via_timeout, 0),
    "lock": (via_lock, 0),
    "event": (via_event, 2),
}


async def awaited(wrap: Any, make: Any) -> Any:
    return await wrap(make())


@pytest.mark.parametrize("name", HOPS)
def test_hops(aio, name):
    """Programs count on these with sleep(0); measured on asyncio 3.11 to 3.15."""
    make, expected = HOPS[name]

    async def main() -> None:
        await make(aio)

    assert run_hops(aio, main())[1] == expected


def test_gather_of_finished(aio):
    async def main() -> Any:
        tasks = [aio.create_task(leaf(n)) for n in range(3)]
        await aio.sleep(0)
        await aio.sleep(0)
        return await aio.gather(*tasks)

    # from 3.12 on, children that are all done make a gather that is done
    assert run_hops(aio, main()) == ([0, 1, 2], 4 if sys.version_info < (3, 12) else 2)


def test_order_of_tasks(aio):
    """First in, first out; sleep(0) goes to the end of the queue."""

    async def worker(name: str) -> None:
        for n in range(3):
            log.append(f"{name}{n}")
            await aio.sleep(0)

    async def main() -> None:
        await aio.gather(worker("a"), worker("b"), worker("c"))

    log: list[str] = []
    run(aio, main())
    assert "".join(log) == "a0b0c0a1b1c1a2b2c2"


# -- a task's own face -------------------------------------------------------------------------------------------------------


def test_names(aio):
    async def main() -> None:
        task = aio.create_task(leaf(), name="mine")
        assert task.get_name() == "mine"
        task.set_name(("a", 1))
        assert task.get_name() == "('a', 1)"
        first, second = (aio.create_task(leaf()) for _ in range(2))
        numbers = [int(re.fullmatch(r"Task-(\d+)", task.get_name())[1]) for task in (first, second)]
        assert numbers[1] == numbers[0] + 1
        assert aio.Task(leaf(), name=None).get_name().startswith("Task-")
        await aio.wait(aio.all_tasks() - {aio.current_task()})

    run(aio, main())


def test_members(aio):
    async def main() -> None:
        coroutine = leaf()
        task = aio.create_task(coroutine)
        assert task.get_coro() is coroutine
        assert task._coro is coroutine
        assert task.get_loop() is aio.get_running_loop()
        assert (task._fut_waiter, task._must_cancel, task.cancelling()) == (None, False, 0)
        for call in (lambda: task.set_result(1), lambda: task.set_exception(Boom())):
            with pytest.raises(RuntimeError, match="Task does not support set_(result|exception) operation"):
                call()
        assert await task == "leaf"
        assert task.uncancel() == 0
        assert task.cancel() is False
        assert task.cancelling() == 0

    run(aio, main())


@newer((3, 12))
def test_get_context(aio):
    async def main() -> None:
        if not hasattr(aio.Task, "get_context"):
            pytest.skip("no get_context()")
        context = contextvars.copy_context()
        assert aio.create_task(leaf(), context=context).get_context() is context
        assert isinstance(aio.current_task().get_context(), contextvars.Context)
        await aio.sleep(0)

    run(aio, main())


def test_repr(aio):
    async def main() -> None:
        task = aio.create_task(waits(aio.get_running_loop()), name="t")
        place = rf"{re.escape(__file__)}:\d+"
        assert re.fullmatch(rf"<Task pending name='t' coro=<waits\(\) running at {place}>>", repr(task))
        await aio.sleep(0)
        assert re.fullmatch(
            rf"<Task pending name='t' coro=<waits\(\) running at {place}> wait_for=<Future pending cb=\[.*\]>>",
            repr(task),
        )
        task.add_done_callback(print)
        assert " cb=[print()]>" in repr(task)
        task.cancel()
        assert repr(task).startswith("<Task cancelling name='t' ")
        await aio.wait([task])
        assert re.fullmatch(rf"<Task cancelled name='t' coro=<waits\(\) done, defined at {place}>>", repr(task))
        done = aio.create_task(leaf(5), name="d")
        await done
        assert re.fullmatch(rf"<Task finished name='d' coro=<leaf\(\) done, defined at {place}> result=5>", repr(done))

    run(aio, main())


def test_stack(aio):
    async def inner() -> None:
        await aio.sleep(0)

    async def outer() -> None:
        await inner()

    async def fails() -> None:
        raise Boom("x")

    async def main() -> None:
        task = aio.create_task(outer(), name="s")
        await aio.sleep(0)
        frames = task.get_stack()
        assert frames[-1].f_code.co_name in ("outer", "inner")
        assert task.get_stack(limit=1)
        text = io.StringIO()
        task.print_stack(file=text)
        assert text.getvalue().startswith("Stack for <Task pending name='s'")
        await task
        assert task.get_stack() == []
        text = io.StringIO()
        task.print_stack(file=text)
        assert text.getvalue().startswith("No stack for <Task finished")
        task = aio.create_task(fails())
        await aio.wait([task])
        text = io.StringIO()
        task.print_stack(file=text)
        assert text.getvalue().startswith("Traceback for <Task finished")
        assert text.getvalue().endswith("Boom: x\n")
        task.exception()

    run(aio, main())


async def joined(module: Any) -> None:
    queue = module.Queue()
    queue.put_nowait(1)
    await queue.join()


async def grouped(module: Any) -> None:
    async with module.TaskGroup() as group:
        group.create_task(module.sleep(10))


async def locked(module: Any) -> None:
    lock = module.Lock()
    await lock.acquire()
    async with lock:
        pass


async def one_of_two(module: Any) -> None:
    semaphore = module.Semaphore(0)
    async with semaphore:
        pass


async def on_condition(module: Any) -> None:
    condition = module.Condition()
    async with condition:
        await condition.wait_for(lambda: False)


async def next_done(module: Any) -> None:
    for one in module.as_completed([module.sleep(10)]):
        await one


async def first_of(module: Any) -> None:
    await module.wait([module.create_task(module.sleep(10))])


async def too_late(module: Any) -> None:
    async def stays() -> None:
        try:
            await module.sleep(10)
        except module.CancelledError:
            await module.sleep(10)

    task = module.create_task(stays())
    await module.sleep(0)
    await module.wait_for(task, 0)


async def read(module: Any, how: str) -> None:
    reader = module.StreamReader()
    await {"line": reader.readline, "until": reader.readuntil, "next": reader.__anext__}[how]()


WAITS: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "sleep": lambda module: module.sleep(10),
    "queue": lambda module: module.Queue().get(),
    "event": lambda module: module.Event().wait(),
    "join": joined,
    "group": grouped,
    "lock": locked,
    "semaphore": one_of_two,
    "condition": on_condition,
    "as_completed": next_done,
    "wait": first_of,
    "wait_for": lambda module: module.wait_for(module.sleep(10), 10),
    "wait_for, late": too_late,
    "read": lambda module: module.StreamReader().read(1),
    "readexactly": lambda module: module.StreamReader().readexactly(1),
    "readline": lambda module: read(module, "line"),
    "readuntil": lambda module: read(module, "until"),
    "__anext__": lambda module: read(module, "next"),
}


def waiting_frames(module: Any, wait: Callable[[Any], Coroutine[Any, Any, Any]]) -> list[str]:
    """The functions in which the coroutine hangs, from outside in."""

    async def main() -> list[str]:
        coroutine = wait(module)
        task = module.create_task(coroutine)
        for _ in range(4):
            await module.sleep(0)
        names = []
        while hasattr(coroutine, "cr_await"):
            assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
            assert coroutine.cr_frame.f_code is coroutine.cr_code
            assert type(coroutine.cr_frame) is types.FrameType
            names.append(coroutine.cr_code.co_name)
            coroutine = coroutine.cr_await
        assert [frame.f_code.co_name for frame in task.get_stack()] == names[:1]
        for _ in range(2):
            task.cancel()
            await module.wait([task], timeout=0)
        return names

    return run(module, main())


@pytest.mark.parametrize("wait", WAITS)
def test_functions_of_ours_are_seen_where_they_wait(aio, wait):
    """By `cr_await` and `cr_frame`, which call graphs, `get_stack()` and debuggers go by."""
    assert waiting_frames(aio, WAITS[wait]) == waiting_frames(asyncio, WAITS[wait])


def test_frame_of_a_coroutine(aio):
    async def main() -> None:
        coroutine = aio.sleep(0)
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
        assert coroutine.cr_frame.f_code.co_qualname == "sleep"
        assert coroutine.cr_frame is coroutine.cr_frame
        await coroutine
        assert coroutine.cr_frame is None
        assert coroutine.cr_code.co_name == "sleep"
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
        coroutine = aio.sleep(0)
        frame = weakref.ref(coroutine), coroutine.cr_frame.f_code
        coroutine.close()
        assert coroutine.cr_frame is None
        del coroutine
        assert frame[0]() is None

    run(aio, main())


def test_current_and_all(aio, loop):
    async def main() -> None:
        me = aio.current_task()
        assert me.get_coro().cr_code.co_name == "main"
        assert aio.all_tasks() == {me}
        child = aio.create_task(leaf())
        assert aio.all_tasks() == aio.all_tasks(aio.get_running_loop()) == {me, child}
        await child
        assert aio.all_tasks() == {me}
        assert aio.all_tasks(loop) == set()
        assert aio.current_task(loop) is None

    run(aio, main())
    for call in (aio.current_task, aio.all_tasks):
        with pytest.raises(RuntimeError, match="no running event loop"):
            call()


def test_wrong_things_to_await(aio):
    class Yields:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __await__(self) -> Any:
            return (yield self.value)

    async def main() -> None:
        me = aio.current_task()
        loop = aio.get_running_loop()
        future = loop.create_future()
        cases = [
            (Yields(5), "Task got bad yield: 5"),
            (Yields(future), "yield was used instead of yield from in task <Task .* with <Future pending>"),
            (
                Yields(x for x in ()),
                "yield was used instead of yield from for generator in task <Task .* with <generator",
            ),
            (me, "Task cannot await on itself: <Task pending"),
            (Yields(me), "Task cannot await on itself: <Task pending"),
        ]
        for awaitable, text in cases:
            with pytest.raises(RuntimeError, match=text):
                await awaitable
        me._asyncio_future_blocking = False
        future.cancel()

    run(aio, main())


def test_base_exceptions_in_tasks(aio):
    class Base(BaseException):
        pass

    async def raises(error: BaseException) -> None:
        raise error

    async def main() -> None:
        for error in (Base("b"), GeneratorExit("g")):
            task = aio.create_task(raises(error))
            await aio.wait([task])
            assert task.exception() is error
        task = aio.create_task(raises(aio.CancelledError("c")))
        await aio.wait([task])
        assert task.cancelled()
        with pytest.raises(aio.CancelledError, match="c"):
            task.result()

    run(aio, main())


def test_stop_iteration_from_a_coroutine(aio):
    async def raises() -> None:
        raise StopIteration("s")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
            await aio.create_task(raises())

    run(aio, main())


# -- cancellation --------------------------------------------------------------------------------------------------------------


def test_cancel_before_start(aio):
    async def body() -> None:
        log.append("ran")

    async def main() -> None:
        task = aio.create_task(body())
        assert task.cancel("early") is True
        assert task._must_cancel is True
        with pytest.raises(aio.CancelledError, match="early"):
            await task
        assert task.cancelled()

    log: list[str] = []
    run(aio, main())
    assert log == []


def test_cancel_counts(aio):
    async def body() -> str:
        me = aio.current_task()
        for n in range(1, 4):
            try:
                await aio.sleep(10)
            except aio.CancelledError as error:
                log.append((error.args, me.cancelling()))
                assert me.cancelling() == n
        assert [me.uncancel() for _ in range(5)] == [2, 1, 0, 0, 0]
        return "survived"

    async def main() -> None:
        task = aio.create_task(body())
        for n in range(3):
            await aio.sleep(0)
            assert task.cancel(n) is True
        assert await task == "survived"

    log: list[Any] = []
    run(aio, main())
    assert log == [((0,), 1), ((1,), 2), ((2,), 3)]


def test_cancel_twice_in_one_turn(aio):
    async def body() -> None:
        try:
            await aio.get_running_loop().create_future()
        except aio.CancelledError as error:
            log.append(error.args)
            raise

    async def main() -> None:
        task = aio.create_task(body())
        await aio.sleep(0)
        task.cancel("one")
        task.cancel("two")
        assert task.cancelling() == 2
        await aio.wait([task])
        with pytest.raises(aio.CancelledError) as raised:
            await task
        assert raised.value.args in (("one",), ("two",))

    log: list[Any] = []
    run(aio, main())
    assert len(log) == 1


def test_cancel_wins_over_a_result_in_the_same_turn(aio):
    """The future is done already: the cancellation replaces what the step would have brought."""

    async def body() -> Any:
        return await future

    async def main() -> None:
        nonlocal future
        future = aio.get_running_loop().create_future()
        task = aio.create_task(body())
        await aio.sleep(0)
        future.set_result("r")
        assert task.cancel() is True
        with pytest.raises(aio.CancelledError):
            await task

    future: Any = None
    run(aio, main())


def test_cancel_current_task(aio):
    async def body() -> str:
        aio.current_task().cancel("self")
        return "returned"

    async def swallowing() -> str:
        aio.current_task().cancel("self")
        try:
            await aio.sleep(0)
        except aio.CancelledError as error:
            return f"swallowed {error}"
        return "never"

    async def main() -> None:
        task = aio.create_task(body())
        with pytest.raises(aio.CancelledError, match="self"):
            await task  # it asked for it, and returned without a chance to notice
        assert await aio.create_task(swallowing()) == "swallowed self"

    run(aio, main())


def test_uncancel_to_zero_takes_the_request_back(aio):
    """From 3.13 on."""

    async def body() -> str:
        me = aio.current_task()
        me.cancel()
        assert me.uncancel() == 0
        assert me._must_cancel is (sys.version_info < (3, 13))
        await aio.sleep(0)
        return "went on"

    async def main() -> None:
        task = aio.create_task(body())
        await aio.wait([task])
        assert task.cancelled() is (sys.version_info < (3, 13))

    run(aio, main())


def test_cancelled_error_is_one_object(aio):
    """The exception that ended the task is the one that its first waiter gets."""

    async def body() -> None:
        try:
            await aio.sleep(10)
        except aio.CancelledError as error:
            errors.append(error)
            raise

    async def main() -> None:
        task = aio.create_task(body())
        await aio.sleep(0)
        task.cancel("m")
        for _ in range(2):
            try:
                await task
            except aio.CancelledError as error:
                errors.append(error)

    errors: list[Any] = []
    run(aio, main())
    assert errors[0] is errors[1]
    assert errors[2] is not errors[0]
    assert errors[2].args == ()


def test_cancel_reaches_the_innermost(aio):
    async def inner() -> None:
        try:
            await aio.sleep(10)
        finally:
            log.append("inner")

    async def middle() -> None:
        try:
            await aio.create_task(inner())
        finally:
            log.append("middle")

    async def main() -> None:
        task = aio.create_task(middle())
        await aio.sleep(0)
        await aio.sleep(0)
        task.cancel()
        with pytest.raises(aio.CancelledError):
            await task

    log: list[str] = []
    run(aio, main())
    assert log == ["inner", "middle"]


def test_context_of_the_raised_exception(aio):
    """Awaiting a failed future in an except block chains like a raise statement does."""

    async def main() -> None:
        future = aio.get_running_loop().create_future()
        future.set_exception(Boom("second"))
        cancelled = aio.get_running_loop().create_future()
        cancelled.cancel()
        for awaitable, kind in ((future, Boom), (cancelled, aio.CancelledError)):
            try:
                try:
                    raise LookupError("first")
                except LookupError:
                    await awaitable
            except kind as error:
                assert isinstance(error.__context__, LookupError)

    run(aio, main())


# -- gather, wait, shield, … ------------------------------------------------------------------------------------------------------


def test_gather(aio):
    async def fails() -> None:
        raise Boom("x")

    async def main() -> None:
        loop = aio.get_running_loop()
        one = aio.create_task(leaf(1))
        assert await aio.gather(one, leaf(2), one) == [1, 2, 1]
        assert await aio.gather() == []
        result = await aio.gather(fails(), leaf(2), return_exceptions=True)
        assert [type(item) for item in result] == [Boom, str] or isinstance(result[0], Boom)
        sibling = aio.create_task(aio.sleep(0.001, "sibling"))
        with pytest.raises(Boom):
            await aio.gather(fails(), sibling)
        assert not sibling.done()
        assert await sibling == "sibling"
        children = [loop.create_future() for _ in range(2)]
        outer = aio.gather(*children)
        assert repr(outer) == "<_GatheringFuture pending>"
        assert outer.cancel("all") is True
        with pytest.raises(aio.CancelledError, match="all"):
            await outer
        assert all(child.cancelled() for child in children)

    run(aio, main())


def test_gather_cancelled_message_is_the_last_childs(aio):
    """With return_exceptions, a cancelled gather raises what its last child would raise if it were cancelled."""

    async def main() -> None:
        future = aio.get_running_loop().create_future()
        outer = aio.gather(future, leaf(), return_exceptions=True)
        await aio.sleep(0)
        await aio.sleep(0)
        outer.cancel("message")
        with pytest.raises(aio.CancelledError) as raised:
            await outer
        assert raised.value.args == ()
        assert future.cancelled()

    run(aio, main())


def test_shield(aio):
    async def slow() -> str:
        await aio.sleep(0.002)
        return "inner"

    async def main() -> None:
        inner = aio.create_task(slow())
        outer = aio.shield(inner)
        await aio.sleep(0)
        outer.cancel()
        with pytest.raises(aio.CancelledError):
            await outer
        assert await inner == "inner"
        assert aio.shield(inner) is inner

    run(aio, main())


def test_wait(aio):
    async def fails() -> None:
        raise Boom

    async def main() -> None:
        loop = aio.get_running_loop()
        never = loop.create_future()
        with pytest.raises(ValueError, match="Set of Tasks/Futures is empty"):
            await aio.wait([])
        with pytest.raises(TypeError, match="Passing coroutines is forbidden"):
            coroutine = leaf()
            try:
                await aio.wait([coroutine])
            finally:
                coroutine.close()
        with pytest.raises(TypeError, match="expect a list of futures, not Future"):
            await aio.wait(never)
        with pytest.raises(ValueError, match="Invalid return_when value: 5"):
            await aio.wait([never], return_when=5)
        assert await aio.wait([never], timeout=0.001) == (set(), {never})
        task = aio.create_task(leaf())
        assert await aio.wait([never, task], return_when=aio.FIRST_COMPLETED) == ({task}, {never})
        bad = aio.create_task(fails())
        assert await aio.wait([never, bad], return_when=aio.FIRST_EXCEPTION) == ({bad}, {never})
        bad.exception()
        never.cancel()

    run(aio, main())


def test_wait_for(aio):
    async def main() -> None:
        loop = aio.get_running_loop()
        future = loop.create_future()
        with pytest.raises(TimeoutError):
            await aio.wait_for(future, 0.001)
        assert future.cancelled()
        future = loop.create_future()
        with pytest.raises(TimeoutError):
            await aio.wait_for(future, 0)
        assert future.cancelled()
        future.cancel()
        done = loop.create_future()
        done.set_result("d")
        assert await aio.wait_for(done, 0) == "d"
        assert await aio.wait_for(leaf(), None) == "leaf"

        async def stubborn() -> str:
            try:
                await aio.sleep(10)
            except aio.CancelledError:
                await aio.sleep(0.001)
                log.append("cleaned up")
                raise

        log: list[str] = []
        with pytest.raises(TimeoutError):
            await aio.wait_for(stubborn(), 0.001)
        assert log == ["cleaned up"]

    run(aio, main())


def test_as_completed(aio):
    async def main() -> None:
        async def value(delay: float) -> float:
            await aio.sleep(delay)
            return delay

        got = [await item for item in aio.as_completed([value(0.03), value(0.001), value(0.015)])]
        assert got == [0.001, 0.015, 0.03]
        never = aio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            for item in aio.as_completed([never], timeout=0.001):
                await item
        with pytest.raises(TypeError, match=r"expects? an? \w+ of \w+, not Future"):
            list(aio.as_completed(never))
        assert list(aio.as_completed([])) == []
        never.cancel()

    run(aio, main())


@newer((3, 13))
def test_as_completed_async_iteration(aio):
    """3.13's way, on every version: it yields the very tasks."""

    async def main() -> None:
        tasks = [aio.create_task(aio.sleep(delay, delay)) for delay in (0.02, 0.001)]
        seen = []
        async for task in aio.as_completed(tasks):
            assert task in tasks
            seen.append(await task)
        assert seen == [0.001, 0.02]

    run(aio, main())


def test_sleep(aio):
    async def main() -> None:
        loop = aio.get_running_loop()
        assert await aio.sleep(0, "r") == "r"
        start = loop.time()
        assert await aio.sleep(0.02, "s") == "s"
        assert 0.019 <= loop.time() - start < 1
        if sys.version_info >= (3, 13):
            with pytest.raises(ValueError, match="Invalid delay: NaN"):
                await aio.sleep(float("nan"))

    run(aio, main())


def test_ensure_future(aio, loop):
    class Awaitable:
        def __await__(self) -> Any:
            yield
            return "custom"

    async def main() -> None:
        task = aio.ensure_future(leaf())
        assert type(task) is aio.Task
        assert aio.ensure_future(task) is task
        assert await aio.ensure_future(Awaitable()) == "custom"
        with pytest.raises(TypeError, match="An asyncio.Future, a coroutine or an awaitable is required"):
            aio.ensure_future(5)
        with pytest.raises(ValueError, match="The future belongs to a different loop"):
            aio.ensure_future(task, loop=loop)
        await task

    run(aio, main())


def test_create_task_outside(aio):
    coroutine = leaf()
    with pytest.raises(RuntimeError, match="no running event loop"):
        aio.create_task(coroutine)
    coroutine.close()


# -- eager tasks and debugging --------------------------------------------------------------------------------------------------


@newer((3, 12))
def test_eager(aio):
    if not hasattr(aio, "eager_task_factory"):
        pytest.skip("the interpreter does not allow it")

    async def quick() -> str:
        log.append("quick")
        return "q"

    async def slow() -> str:
        log.append("slow")
        await aio.sleep(0)
        return "s"

    async def fails() -> None:
        raise Boom

    async def main() -> None:
        loop = aio.get_running_loop()
        loop.set_task_factory(aio.eager_task_factory)
        me = aio.current_task()
        done = aio.create_task(quick())
        assert log == ["quick"]
        assert done.done()
        assert done.result() == "q"
        assert re.fullmatch(r"<Task finished name='Task-\d+' result='q'>", repr(done))
        pending = aio.create_task(slow())
        assert log == ["quick", "slow"]
        assert not pending.done()
        assert aio.current_task() is me
        called = []
        done.add_done_callback(called.append)
        assert called == []
        assert await pending == "s"
        assert called == [done]
        with pytest.raises(Boom):
            await aio.create_task(fails())
        assert await aio.gather(quick(), slow()) == ["q", "s"]
        async with aio.TaskGroup() as group:
            group.create_task(quick())
        loop.set_task_factory(None)

    log: list[str] = []
    run(aio, main())


@newer((3, 12))
def test_name_of_an_eager_task_in_its_first_step(aio):
    """A factory is told the name since 3.13.3; before, the task gets it when the factory has returned."""

    async def first(wanted: str) -> None:
        name = aio.current_task().get_name()
        names.append(name if name == wanted else "not yet")
        await aio.sleep(0)
        names.append(aio.current_task().get_name())

    async def main() -> None:
        loop = aio.get_running_loop()
        for factory in (aio.eager_task_factory, aio.create_eager_task_factory(aio.Task)):
            loop.set_task_factory(factory)
            await aio.create_task(first("a"), name="a")
            await loop.create_task(first("b"), name="b")

    names: list[str] = []
    run(aio, main())
    told = sys.version_info >= (3, 13, 3)
    assert names == ["a" if told else "not yet", "a", "b" if told else "not yet", "b"] * 2


def test_what_wakes_a_task_is_called_as_in_asyncio(aio):
    async def main() -> None:
        task = aio.create_task(aio.sleep(0.001))
        await aio.sleep(0)
        assert re.search(r"wait_for=<Future pending cb=\[Task\.task_wakeup\(\)\]>", repr(task))
        await task

    run(aio, main())


def test_debug_texts(aio, caplog):
    async def never_awaited() -> None:
        pass

    async def fails() -> None:
        raise Boom("x")

    async def main() -> None:
        loop = aio.get_running_loop()
        reports = Reports()
        loop.set_exception_handler(reports)
        task = aio.create_task(fails())
        assert re.search(r" created at .*:\d+>$", repr(task))
        await aio.sleep(0)
        await aio.sleep(0)
        del task
        gc.collect()
        (context,) = reports.contexts
        assert context["message"] == "Task exception was never retrieved"
        assert context["source_traceback"]
        with pytest.raises(TypeError, match=r"coroutines cannot be used with call_soon\(\)"):
            loop.call_soon(never_awaited)

    run(aio, main(), debug=True)
