"""TaskGroup: who is cancelled when, and which exception comes out."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import pytest

from tests.support import run, run_hops


class Boom(Exception):
    pass


class Fatal(BaseException):
    pass


async def returns(value: Any) -> Any:
    return value


async def raises(error: BaseException) -> None:
    raise error


def test_results(aio):
    async def main() -> None:
        async with aio.TaskGroup() as group:
            assert type(group) is aio.TaskGroup
            tasks = [group.create_task(returns(n), name=f"n{n}") for n in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
        assert [task.get_name() for task in tasks] == ["n0", "n1", "n2"]
        async with aio.TaskGroup():
            pass

    run(aio, main())


def test_empty_group_takes_no_hop(aio):
    async def main() -> None:
        async with aio.TaskGroup():
            pass

    assert run_hops(aio, main())[1] == 0


def test_children_spawn_children(aio):
    async def child(group: Any, depth: int) -> None:
        log.append(depth)
        if depth:
            group.create_task(child(group, depth - 1))

    async def main() -> None:
        async with aio.TaskGroup() as group:
            group.create_task(child(group, 3))

    log: list[int] = []
    run(aio, main())
    assert log == [3, 2, 1, 0]


def test_failing_child_cancels_the_rest(aio):
    async def forever(name: str) -> None:
        try:
            await aio.sleep(100)
        except aio.CancelledError:
            log.append(name)
            raise

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with aio.TaskGroup() as group:
                group.create_task(forever("a"))
                group.create_task(raises(Boom("b")))
                group.create_task(forever("c"))
                await forever("body")
        assert raised.value.message == "unhandled errors in a TaskGroup"
        assert [str(error) for error in raised.value.exceptions] == ["b"]
        assert aio.current_task().cancelling() == 0

    log: list[str] = []
    run(aio, main())
    assert sorted(log) == ["a", "body", "c"]


def test_failing_body(aio):
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with aio.TaskGroup() as group:
                task = group.create_task(aio.sleep(100))
                raise Boom("body")
        assert [str(error) for error in raised.value.exceptions] == ["body"]
        assert task.cancelled()

    run(aio, main())


def test_all_errors_are_kept(aio):
    async def late(error: BaseException) -> None:
        try:
            await aio.sleep(100)
        finally:
            raise error

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with aio.TaskGroup() as group:
                group.create_task(late(Boom("late")))
                group.create_task(raises(Boom("early")))
                await aio.sleep(0)
                raise Boom("body")
        assert sorted(str(error) for error in raised.value.exceptions) == ["body", "early", "late"]

    run(aio, main())


def test_cancelled_child_is_no_failure(aio):
    async def main() -> None:
        async with aio.TaskGroup() as group:
            task = group.create_task(aio.sleep(100))
            await aio.sleep(0)
            task.cancel()
        assert task.cancelled()

    run(aio, main())


def test_cancelled_from_outside(aio):
    async def body() -> None:
        async with aio.TaskGroup() as group:
            tasks.append(group.create_task(aio.sleep(100)))
            await aio.sleep(100)

    async def main() -> None:
        task = aio.create_task(body())
        await aio.sleep(0)
        await aio.sleep(0)
        task.cancel("outside")
        with pytest.raises(aio.CancelledError, match="outside"):
            await task
        assert tasks[0].cancelled()
        assert task.cancelling() == 1

    tasks: list[Any] = []
    run(aio, main())


def test_cancelled_while_it_waits_for_children(aio):
    async def body() -> None:
        async with aio.TaskGroup() as group:
            tasks.append(group.create_task(aio.sleep(100)))

    async def main() -> None:
        task = aio.create_task(body())
        for _ in range(3):
            await aio.sleep(0)
        task.cancel("waiting")
        with pytest.raises(aio.CancelledError):
            await task
        assert tasks[0].cancelled()

    tasks: list[Any] = []
    run(aio, main())


def test_error_beats_cancellation(aio):
    async def body() -> None:
        async with aio.TaskGroup() as group:
            group.create_task(cleanup())

    async def cleanup() -> None:
        try:
            await aio.sleep(100)
        finally:
            raise Boom("cleanup")

    async def main() -> None:
        task = aio.create_task(body())
        for _ in range(3):
            await aio.sleep(0)
        task.cancel()
        with pytest.raises(ExceptionGroup):
            await task
        assert task.cancelling() == 1

    run(aio, main())


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
def test_fatal_exceptions_come_bare(aio, fatal):
    """KeyboardInterrupt and SystemExit are not wrapped in a group."""
    cancelled = []

    async def sibling() -> None:
        try:
            await aio.sleep(100)
        except aio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        async with aio.TaskGroup() as group:
            group.create_task(sibling())
            await aio.sleep(0)
            raise fatal

    with pytest.raises(fatal):
        run(aio, main())
    assert cancelled == [True]


def test_other_base_exceptions_are_grouped(aio):
    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as raised:
            async with aio.TaskGroup() as group:
                group.create_task(raises(Fatal("f")))
                await aio.sleep(100)
        assert not isinstance(raised.value, ExceptionGroup)
        assert type(raised.value.exceptions[0]) is Fatal

    run(aio, main())


def test_nested(aio):
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with aio.TaskGroup() as outer:
                sibling = outer.create_task(aio.sleep(100))
                async with aio.TaskGroup() as inner:
                    inner.create_task(raises(Boom("inner")))
                    await aio.sleep(100)
        (nested,) = raised.value.exceptions
        assert isinstance(nested, ExceptionGroup)
        assert type(nested.exceptions[0]) is Boom
        assert sibling.cancelled()
        assert aio.current_task().cancelling() == 0

    run(aio, main())


def test_cancellation_count_survives(aio):
    """An outer cancel() that comes while the group fails is still there afterwards."""

    async def body() -> None:
        me = aio.current_task()
        try:
            async with aio.TaskGroup() as group:
                group.create_task(raises(Boom()))
                await aio.sleep(0)
                me.cancel("outer")
                await aio.sleep(100)
        except* Boom:
            pass
        counts.append(me.cancelling())
        await aio.sleep(0)

    async def main() -> None:
        task = aio.create_task(body())
        await aio.wait([task])
        # 3.13 keeps the request alive; before, it was swallowed with the group's own
        assert task.cancelled() is (sys.version_info >= (3, 13))

    counts: list[int] = []
    run(aio, main())
    assert counts == [1]


def test_misuse(aio):
    async def main() -> None:
        group = aio.TaskGroup()
        coroutine = returns(1)
        with pytest.raises(RuntimeError, match="has not been entered"):
            group.create_task(coroutine)
        coroutine.close()
        async with group:
            with pytest.raises(RuntimeError, match="has already been entered"):
                await group.__aenter__()
            group.create_task(returns(2))
        coroutine = returns(3)
        with pytest.raises(RuntimeError, match="is finished"):
            group.create_task(coroutine)
        coroutine.close()
        with pytest.raises(TypeError):
            with group:
                pass

    run(aio, main())


def test_create_task_while_it_shuts_down(aio):
    async def late(group: Any) -> None:
        try:
            await aio.sleep(100)
        finally:
            coroutine = returns(1)
            with pytest.raises(RuntimeError, match="is shutting down"):
                group.create_task(coroutine)
            coroutine.close()
            log.append("refused")

    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            async with aio.TaskGroup() as group:
                group.create_task(late(group))
                await aio.sleep(0)
                raise Boom

    log: list[str] = []
    run(aio, main())
    assert log == ["refused"]


def test_outside_a_task(aio):
    group = aio.TaskGroup()
    with pytest.raises(RuntimeError, match="no running event loop"):
        group.__aenter__().send(None)


def test_repr(aio):
    async def main() -> None:
        group = aio.TaskGroup()
        assert repr(group) == "<TaskGroup>"
        async with group:
            group.create_task(returns(1))
            assert repr(group) == "<TaskGroup entered>" or repr(group) == "<TaskGroup tasks=1 entered>"
        assert repr(group) == "<TaskGroup entered>" or "entered" in repr(group)

    run(aio, main())


def test_exceptions_leave_no_cycle(aio):
    """The group does not keep the exceptions that it raised."""

    async def main() -> weakref.ref[Boom]:
        async def fails() -> None:
            raise Boom("x")

        reference: Any = None
        try:
            async with aio.TaskGroup() as group:
                group.create_task(fails())
        except* Boom as caught:
            reference = weakref.ref(caught.exceptions[0])
        del group
        return reference

    gc.disable()
    try:
        reference = run(aio, main())
        if sys.version_info >= (3, 14):
            assert reference() is None
    finally:
        gc.enable()
    gc.collect()
    assert reference() is None


def test_context_argument(aio):
    import contextvars

    var = contextvars.ContextVar("var", default="outer")

    async def child() -> str:
        return var.get()

    async def main() -> None:
        context = contextvars.Context()
        context.run(var.set, "given")
        async with aio.TaskGroup() as group:
            task = group.create_task(child(), context=context)
        assert task.result() == "given"

    run(aio, main())


def test_thousand_children(aio):
    async def child(n: int) -> int:
        await aio.sleep(0)
        return n

    async def main() -> int:
        async with aio.TaskGroup() as group:
            tasks = [group.create_task(child(n)) for n in range(1000)]
        return sum(task.result() for task in tasks)

    assert run(aio, main()) == 499_500


def test_starred_export(aio):
    """`from asyncio import *` misses it on 3.11; `from aioxide import *` does not."""
    if aio.__name__ != "asyncio":
        assert "TaskGroup" in aio.__all__


def test_private_attributes_can_be_set(aio):
    """Libraries that build on the group set some of them, tests patch others."""

    async def main() -> None:
        group = aio.TaskGroup()
        initial: dict[str, Any] = {
            "_loop": None,
            "_parent_task": None,
            "_base_error": None,
            "_on_completed_fut": None,
            "_tasks": set(),
            "_errors": [],
        }
        flags = ("_entered", "_exiting", "_aborting", "_parent_cancel_requested")
        for name, value in {**initial, **dict.fromkeys(flags, False)}.items():
            assert getattr(group, name) == value
            setattr(group, name, value)
            assert getattr(group, name) == value
        for name in flags:
            setattr(group, name, True)
            assert getattr(group, name) is True
            setattr(group, name, False)
        loop = aio.get_running_loop()
        future, error, task = loop.create_future(), ValueError(1), aio.current_task()
        values = {
            "_loop": loop,
            "_parent_task": task,
            "_base_error": error,
            "_on_completed_fut": future,
            "_errors": [error],
            "_tasks": {task},
        }
        for name, value in values.items():
            setattr(group, name, value)
            assert getattr(group, name) == value
            setattr(group, name, initial[name])
            assert getattr(group, name) == initial[name]

    run(aio, main())


def test_private_attributes_take_effect(aio):
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with aio.TaskGroup() as group:
                group._errors = [ValueError(1)]
        assert [type(error) for error in caught.value.exceptions] == [ValueError]
        async with aio.TaskGroup() as group:
            group._aborting = True
            coroutine = aio.sleep(0)
            with pytest.raises(RuntimeError, match="is shutting down"):
                group.create_task(coroutine)
            coroutine.close()
            group._aborting = False
            task = group.create_task(aio.sleep(3600))
            group._tasks = set()
        assert not task.done()
        task.cancel()

    run(aio, main())


def test_private_collections_are_the_groups_own(aio):
    """What a program puts into `_tasks` or `_errors`, or takes out, the group finds."""

    async def main() -> None:
        loop = aio.get_running_loop()
        with pytest.raises(ExceptionGroup) as caught:
            async with aio.TaskGroup() as group:
                first = group.create_task(aio.sleep(0))
                tasks, errors = group._tasks, group._errors
                assert tasks == {first}
                assert errors == []
                second = group.create_task(aio.sleep(0))
                assert tasks == {first, second}
                assert tasks is group._tasks
                errors.append(ValueError(1))
                forgotten = group.create_task(aio.sleep(3600))
                tasks.discard(forgotten)
                adopted = loop.create_task(aio.sleep(0.001))
                tasks.add(adopted)
                adopted.add_done_callback(group._on_task_done)
        assert [error.args for error in caught.value.exceptions] == [(1,)]
        assert adopted.done()
        assert not forgotten.done()
        assert tasks == set()
        forgotten.cancel()

    run(aio, main())
