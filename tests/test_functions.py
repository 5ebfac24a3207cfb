"""Our functions are taken for Python functions: they are inspected, mocked, copied and pickled as those are."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import types
from typing import Any
from unittest import mock

import pytest

import aioxide
from tests.support import STDLIB, run, succeeds

FUNCTIONS = [
    pytest.param(function, id=f"{getattr(owner, '__name__', '')}.{name}")
    for owner in (aioxide, aioxide.EventLoop, aioxide.Lock, aioxide.Queue, aioxide.StreamReader, aioxide.TaskGroup)
    for name, function in vars(owner).items()
    if type(function).__name__ == "function" and type(function) is not types.FunctionType
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_code(function):
    """What a framework that injects arguments reads, and what tells a coroutine function."""
    twin = types.FunctionType(function.__code__, {}, function.__name__, function.__defaults__)
    twin.__kwdefaults__ = function.__kwdefaults__
    assert list(inspect.signature(twin).parameters) == list(inspect.signature(function).parameters)
    assert function.__code__.co_qualname == function.__qualname__
    assert bool(function.__code__.co_flags & inspect.CO_COROUTINE) == inspect.iscoroutinefunction(function)


@pytest.mark.parametrize("function", [one for one in FUNCTIONS if one.values[0].__name__ != "isfuture"])
def test_copies_are_the_function(function):
    assert copy.copy(function) is function
    assert copy.deepcopy({"a": [function]})["a"][0] is function
    assert pickle.loads(pickle.dumps(function)) is function


def test_pickled_in_takeover():
    succeeds(
        """
        import aioxide
        aioxide.install()
        import asyncio, pickle
        for function in (asyncio.sleep, asyncio.Queue.put, asyncio.Future.result, asyncio.EventLoop.call_soon
                         if hasattr(asyncio, "EventLoop") else asyncio.gather):
            assert pickle.loads(pickle.dumps(function)) is function
        """
    )


@pytest.mark.skipif(STDLIB, reason="asyncio's functions are pickled by their names alone")
@pytest.mark.parametrize(
    ("module", "qualname"),
    [
        ("os", "system"),
        ("asyncio.events", "os.system"),
        ("asyncio.subprocess", "subprocess.Popen"),
        ("asyncio_", "sleep"),
        ("asyncio.tasks", "Task"),
        ("asyncio.tasks", "no_such_function"),
    ],
)
def test_what_unpickling_finds_is_a_function_of_ours(aio, module, qualname):
    find, _ = aio.sleep.__reduce__()
    assert find("asyncio.tasks", "sleep") is aio.sleep
    with pytest.raises((AttributeError, ImportError)):
        find(module, qualname)


@pytest.mark.parametrize("set_spec", [{}, {"spec_set": True}])
def test_autospec_of_a_loop_method(aio, set_spec):
    """aiohttp's tests put mocks with the method's own signature in the place of create_server."""

    async def main(loop: Any) -> Any:
        return await loop.create_server(None, "localhost", port=1)

    loop = asyncio.SelectorEventLoop() if STDLIB else aio.new_event_loop()
    with mock.patch.object(loop, "create_server", autospec=True, return_value="server", **set_spec) as mocked:
        assert loop.run_until_complete(main(loop)) == "server"
        mocked.assert_awaited_once_with(None, "localhost", port=1)
        with pytest.raises(TypeError):
            loop.run_until_complete(loop.create_server())
    loop.close()


def test_patched_coroutine_function(aio):
    async def main() -> Any:
        with mock.patch.object(aio, "sleep", return_value="mocked") as mocked:
            assert await aio.sleep(10) == "mocked"
            mocked.assert_awaited_once_with(10)

    run(aio, main())


CLASSES = [aioxide.Future, aioxide.Event, aioxide.Queue, aioxide.Semaphore, aioxide.BoundedSemaphore, aioxide.Condition]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_init_that_is_put_into_a_class_is_called(cls, monkeypatch):
    """Classes of ours are called past ``type.__call__`` as long as nobody can tell."""
    loop = aioxide.EventLoop()
    loop.close()
    keywords = {"loop": loop} if cls is aioxide.Future else {}
    cls(**keywords)
    called = 0
    init = cls.__init__

    def own(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal called
        called += 1
        init(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(cls, "__init__", own)
        for _ in range(3):
            assert type(cls(**keywords)) is cls
        assert called == 3
    assert type(cls(**keywords)) is cls
    assert called == 3


def test_a_new_that_is_put_into_a_class_is_called():
    # (what the interpreter had there itself can't be put back)
    succeeds(
        """
        import aioxide
        for cls in (aioxide.Event, aioxide.Queue, aioxide.Condition):
            cls()
            empty = [cls.__new__(cls) for _ in range(3)]
            expected = empty[::-1]
            cls.__new__ = lambda made: empty.pop()
            for one in expected:
                assert cls() is one
        """
    )


def test_arguments_of_a_class():
    """However they are given, and with the interpreter's words for those that are wrong."""
    assert aioxide.Queue(3).maxsize == aioxide.Queue(maxsize=3).maxsize == aioxide.Queue(*[3]).maxsize == 3
    assert aioxide.Queue(maxsize=3).maxsize == next(map(aioxide.Queue, [3])).maxsize == 3
    for args, kwargs in (((1, 2), {}), ((), {"size": 1}), ((1,), {"maxsize": 2})):
        with pytest.raises(TypeError) as ours:
            aioxide.Queue(*args, **kwargs)
        with pytest.raises(TypeError) as theirs:
            asyncio.Queue(*args, **kwargs)
        assert str(ours.value) == str(theirs.value)


def test_derived_classes_are_made_by_their_own_methods():
    class Derived(aioxide.Event):
        def __new__(cls, *args: Any) -> Any:
            made.append(args)
            return super().__new__(cls)

        def __init__(self, *args: Any) -> None:
            super().__init__()

    made: list[Any] = []
    for _ in range(3):
        assert type(Derived(1)) is Derived
    assert made == [(1,)] * 3


def test_init_that_fails_leaves_nothing():
    with pytest.raises(ValueError, match="must be >= 0"):
        aioxide.Semaphore(-1)
