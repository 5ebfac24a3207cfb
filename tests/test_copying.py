"""copy, deepcopy and pickle: what asyncio's objects allow, ours allow, and what they refuse, ours refuse."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest

import aioxide
from tests.support import succeeds

#: how to make one of each class that asyncio copies and pickles while no loop runs
MADE: dict[str, Callable[[Any], Any]] = {
    **{
        name: lambda aio, name=name: getattr(aio, name)()
        for name in ["Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Runner", "TaskGroup"]
    },
    **{name: lambda aio, name=name: filled(getattr(aio, name)(3)) for name in ["Queue", "LifoQueue", "PriorityQueue"]},
    "Barrier": lambda aio: aio.Barrier(2),
    "Timeout": lambda aio: aio.Timeout(4.5),
}
#: what a copy must have as asyncio's has it
STATE = {
    "Lock": ["_locked"],
    "Event": ["_value"],
    "Condition": [],
    "Semaphore": ["_value"],
    "BoundedSemaphore": ["_value", "_bound_value"],
    "Queue": ["_maxsize", "_unfinished_tasks"],
    "LifoQueue": ["_maxsize", "_unfinished_tasks"],
    "PriorityQueue": ["_maxsize", "_unfinished_tasks"],
    "Barrier": ["_parties", "_count"],
    "Timeout": ["_when", "_task", "_state"],
    "Runner": ["_state", "_debug", "_loop_factory", "_loop", "_context", "_interrupt_count", "_set_event_loop"],
    "TaskGroup": ["_entered", "_exiting", "_aborting", "_loop", "_parent_task", "_tasks", "_errors", "_base_error"],
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle{protocol}": lambda thing, protocol=protocol: pickle.loads(pickle.dumps(thing, protocol))
        for protocol in (2, pickle.HIGHEST_PROTOCOL)
    },
}


def filled(queue: Any) -> Any:
    for item in (3, 1):
        queue.put_nowait(item)
    return queue


def described(thing: Any, name: str) -> dict[str, Any]:
    state = {attribute: getattr(thing, attribute) for attribute in STATE[name]}
    if name.endswith("Queue"):
        state["items"] = [thing.get_nowait() for _ in range(thing.qsize())]
    return state


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MADE)
def test_instances(name: str, way: str) -> None:
    found = []
    for aio in (asyncio, aioxide):
        thing = MADE[name](aio)
        thing.note = ["of the program"]
        made = WAYS[way](thing)
        assert type(made) is getattr(aio, name)
        assert made.note == thing.note
        assert (made.note is thing.note) == (way == "copy")
        found.append(described(made, name))
    assert found[0] == found[1]


class Derived(aioxide.Lock):
    pass


@pytest.mark.parametrize("way", WAYS)
def test_derived(way: str) -> None:
    """By its own name, as any class of the program's."""
    made = WAYS[way](Derived())
    assert type(made) is Derived
    assert not made.locked()


@pytest.mark.parametrize("way", WAYS)
def test_refused(way: str) -> None:
    """A future, a task and a coroutine: with asyncio's words."""

    async def texts(aio: Any) -> list[str]:
        coroutines = [aio.sleep(0), aio.Barrier(2).wait(), aio.TaskGroup().__aenter__()]
        found = []
        for thing in [aio.Future(), aio.current_task(), *coroutines]:
            with pytest.raises(TypeError) as caught:
                WAYS[way](thing)
            found.append(str(caught.value))
        for one in coroutines:
            one.close()
        return found

    found = [aio.Runner(loop_factory=aio.new_event_loop) for aio in (asyncio, aioxide)]
    theirs, ours = (runner.run(texts(aio)) for runner, aio in zip(found, (asyncio, aioxide), strict=True))
    for runner in found:
        runner.close()
    assert ours == theirs


@pytest.mark.filterwarnings("ignore")  # a loop that was half copied says that nobody has closed it
@pytest.mark.parametrize("way", ["deepcopy", "pickle2"])
def test_what_holds_a_loop_is_refused(way: str) -> None:
    async def main(aio: Any) -> None:
        async with aio.TaskGroup() as group, aio.timeout(3) as timeout:
            for thing in [group, timeout]:
                with pytest.raises(TypeError, match="cannot pickle"):
                    WAYS[way](thing)

    aioxide.run(main(aioxide))


def test_shallow_copies_share() -> None:
    async def main(aio: Any) -> list[Any]:
        reader = aio.StreamReader()
        reader.feed_data(b"data")
        other = copy.copy(reader)
        async with aio.TaskGroup() as group:
            twin = copy.copy(group)
            shared = twin._tasks is group._tasks, twin._loop is aio.get_running_loop(), twin._entered
        return [
            other._buffer is reader._buffer,
            other._limit,
            other._loop is reader._loop,
            await other.read(2),
            *shared,
        ]

    async def both(aio: Any) -> list[Any]:
        return await main(aio)

    with asyncio.Runner() as theirs, aioxide.Runner(loop_factory=aioxide.new_event_loop) as ours:
        assert ours.run(both(aioxide)) == theirs.run(both(asyncio)) == [True, 65536, True, b"da", True, True, True]


CLASSES = [
    name
    for name in asyncio.__all__
    if isinstance(inspect.getattr_static(asyncio, name, None), type)
    and getattr(asyncio, name) is not getattr(aioxide, name)
]


def test_classes_by_name_in_takeover() -> None:
    """Each is found where its name says, its class of asyncio's C module too; and `uninstall()` puts all of it back."""
    out = succeeds(
        f"""
        import asyncio, _asyncio, pickle
        theirs = _asyncio.Task, _asyncio.Future
        aio.install()
        for name in {CLASSES}:
            ours = getattr(asyncio, name)
            assert ours is getattr(aio, name, ours), name
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                assert pickle.loads(pickle.dumps(ours, protocol)) is ours, name
        assert _asyncio.Task is asyncio.Task and _asyncio.Future is asyncio.Future
        aio.uninstall()
        print((_asyncio.Task, _asyncio.Future) == theirs)
        assert pickle.loads(pickle.dumps(asyncio.Task)) is theirs[0]
        """
    )
    assert out == "True\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_to_another_process(method: str) -> None:
    out = succeeds(
        f"""
        import os
        os.environ["AIOXIDE_TAKEOVER"] = "1"
        aio.install()
        import asyncio, multiprocessing
        lock = asyncio.Lock()
        lock._locked = True
        with multiprocessing.get_context({method!r}).Pool(1) as pool:
            print(pool.apply(isinstance, (1, asyncio.Task)))
            print(pool.apply(issubclass, (asyncio.Task, asyncio.Lock)))
            print(pool.apply(repr, (lock,)).endswith("[locked]>"), pool.apply(asyncio.Queue, (3,)).maxsize)
        """,
        env={"PYTHONWARNINGS": "ignore"},
    )
    assert out == "False\nFalse\nTrue 3\n"


def test_pickles_of_takeover_are_asyncios() -> None:
    """What a program under install() has pickled, one without it reads, and the other way round."""
    source = """
        import asyncio, pickle, sys
        if {install}: aio.install()
        queue = asyncio.Queue(5)
        queue.put_nowait("item")
        event = asyncio.Event()
        event.set()
        print(pickle.dumps([queue, event, asyncio.Barrier(3), asyncio.TaskGroup(), asyncio.Timeout(2), asyncio.Task]).hex())
    """
    read = """
        import asyncio, pickle, sys
        if {install}: aio.install()
        queue, event, barrier, group, timeout, task = pickle.loads(bytes.fromhex(sys.argv[1]))
        assert type(queue) is asyncio.Queue and task is asyncio.Task
        print(queue.get_nowait(), queue.maxsize, event.is_set(), barrier.parties, group._entered, timeout.when())
    """
    for install in (True, False):
        written = succeeds(source.format(install=install)).strip()
        assert succeeds(read.format(install=not install), written) == "item 5 True 3 False 2\n"


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("asyncio.events", "new_event_loop"), ("asyncio.subprocess", "create_subprocess_exec")],
)
def test_unpickling_reaches_nothing_else(module: str, name: str) -> None:
    from aioxide._core import _new_instance

    with pytest.raises((AttributeError, TypeError)):
        _new_instance(module, name)


def test_newer_names_are_found() -> None:
    """What this Python's asyncio does not have yet is pickled by our module."""
    newer = [] if sys.version_info >= (3, 12) else [aioxide.create_eager_task_factory]
    for thing in [aioxide.QueueShutDown, aioxide.isfuture, *newer]:
        assert pickle.loads(pickle.dumps(thing)) is thing
        assert copy.copy(thing) is thing
