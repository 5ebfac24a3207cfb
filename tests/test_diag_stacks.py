"""The reader of stacks sees what Python's own introspection sees, without the GIL and whatever else goes on."""

import asyncio
import gc
import inspect
import sys
import threading
import time
import types

import pytest

import aioxide
from aioxide._core import diag
from tests.support import STDLIB

pytestmark = pytest.mark.skipif(STDLIB, reason="aioxide's own")


def of_frame(frame):
    found = []
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
        frame = frame.f_back
    return found


def test_stacks_can_be_read_here():
    assert diag.settings()["stacks"] == "yes"


def test_own_stack():
    (frames, consistent), expected = diag._stack_of(threading.get_ident()), of_frame(sys._getframe())
    assert consistent
    assert frames == expected[:128]


def recurse(depth, then):
    return then() if depth == 0 else recurse(depth - 1, then)


def test_deep_stack_is_cut_at_its_outer_end():
    frames, consistent = recurse(300, lambda: diag._stack_of(threading.get_ident()))
    assert consistent
    assert len(frames) == 128
    assert [function for _, _, function in frames[1:]] == ["recurse"] * 127


def test_unusual_names_and_lines():
    names = ["plain", "Ærøskøbing", "日本語", "😀", "x" * 5000]
    for name in names:
        code = compile("\n" * 70000 + "def f(get):\n    return get()\nresult = f(get)", name, "exec")
        namespace = {"get": lambda: diag._stack_of(threading.get_ident())}
        exec(code, namespace)
        frames, _ = namespace["result"]
        assert frames[1] == (name[:4096], 70002, "f")
        assert frames[2] == (name[:4096], 70003, "<module>")


def test_other_threads_stack():
    ready, leave = threading.Event(), threading.Event()

    def waits():
        ready.set()
        leave.wait()

    thread = threading.Thread(target=waits)
    thread.start()
    ready.wait()
    try:
        end = time.monotonic() + 20
        while True:
            frames, consistent = diag._stack_of(thread.ident)
            if any(function.endswith("wait") for _, _, function in frames) or time.monotonic() > end:
                break
        expected = of_frame(sys._current_frames()[thread.ident])
    finally:
        leave.set()
        thread.join()
    assert consistent
    assert frames == expected
    assert (__file__, waits.__code__.co_firstlineno + 2, waits.__qualname__) in frames


def test_unknown_thread_is_refused():
    with pytest.raises(ValueError, match="no such thread"):
        diag._stack_of(1)


async def leaf(future):
    await future


async def middle(future):
    if future:
        await leaf(future)


@types.coroutine
def generator(future):
    yield from middle(future).__await__()


async def outer(future):
    async with asyncio.timeout(None):
        await middle(future)


def chain_of(coroutine):
    """What Python's own attributes say: up to what is no coroutine."""
    found = []
    while coroutine is not None:
        for kind, frame in (("cr_await", "cr_frame"), ("gi_yieldfrom", "gi_frame"), ("ag_await", "ag_frame")):
            if hasattr(coroutine, frame):
                frame = getattr(coroutine, frame)
                found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
                coroutine = getattr(coroutine, kind)
                break
        else:
            break
    return found


class Yields:
    def __await__(self):
        yield


def started(coroutine):
    coroutine.send(None)
    return coroutine


@pytest.mark.parametrize("function", [leaf, middle, outer])
def test_suspended_coroutine(function):
    coroutine = function(Yields())

    async def main():
        return started(coroutine)

    asyncio.run(main())
    frames, consistent = diag._stack_of_coroutine(coroutine)
    assert consistent
    expected = chain_of(coroutine)
    assert frames == expected
    assert frames[-1][2] == "Yields.__await__"
    assert len(frames) > 1
    coroutine.close()


def test_new_and_ended_coroutines():
    coroutine = leaf(None)
    frames, consistent = diag._stack_of_coroutine(coroutine)
    assert consistent
    assert frames == [(__file__, leaf.__code__.co_firstlineno, "leaf")]
    coroutine.close()
    assert diag._stack_of_coroutine(coroutine) == ([], True)


def test_coroutine_that_runs():
    async def me():
        return diag._stack_of_coroutine(task.get_coro())

    async def main():
        global task
        task = asyncio.ensure_future(me())
        return await task

    frames, consistent = asyncio.run(main())
    assert not consistent
    assert frames == [(__file__, me.__code__.co_firstlineno + 1, me.__qualname__)]


def test_a_generator_that_yields_awaits_nothing():
    def inner():
        yield 1

    def loops():
        for value in inner():  # `inner()` lies on the stack of values while this one is suspended
            yield value + 1

    suspended = loops()
    next(suspended)
    frames, consistent = diag._stack_of_coroutine(suspended)
    assert consistent
    assert frames == [(__file__, loops.__code__.co_firstlineno + 2, loops.__qualname__)]


def test_asynchronous_generators_are_followed():
    async def numbers(awaited):
        await awaited
        yield 1

    async def consumes(awaited):
        async for _ in numbers(awaited):
            pass

    coroutine = started(consumes(Yields()))
    frames, consistent = diag._stack_of_coroutine(coroutine)
    assert consistent
    assert [function.rsplit(".")[-1] for _, _, function in frames] == ["consumes", "numbers", "__await__"]
    assert frames[1][1] == numbers.__code__.co_firstlineno + 1
    coroutine.close()


def test_our_own_coroutines_have_their_name():
    async def sleeps():
        await aioxide.sleep(3600)

    async def main():
        task = asyncio.ensure_future(sleeps())
        await aioxide.sleep(0)
        await aioxide.sleep(0)
        found = diag._stack_of_coroutine(task.get_coro())
        task.cancel()
        return found

    frames, consistent = aioxide.run(main())
    assert consistent
    assert frames == [(__file__, sleeps.__code__.co_firstlineno + 1, sleeps.__qualname__), ("<aioxide>", 1, "sleep")]


@pytest.mark.parametrize("thing", [None, 1, "text", [], object(), type, inspect])
def test_what_is_no_coroutine_has_no_frames(thing):
    assert diag._stack_of_coroutine(thing) == ([], True)


def churn(stop):
    """The stack, the code on it and the objects around it are never the same for long."""

    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    def count(n):
        yield from range(n)

    async def waits(n):
        for _ in range(n):
            await Yields()

    while not stop.is_set():
        namespace = {"fib": fib}
        exec(compile("def f(x):\n    return fib(x)\nf(4)", "<churn>", "exec"), namespace)
        sum(count(20))
        coroutine = waits(3)
        try:
            while True:
                coroutine.send(None)
        except StopIteration:
            pass
        recurse(50, lambda: None)
        try:
            recurse(20, lambda: 1 / 0)
        except ZeroDivisionError:
            pass
        gc.collect(0)


def test_a_stack_that_never_holds_still_is_read_without_harm():
    stop = threading.Event()
    thread = threading.Thread(target=churn, args=(stop,))
    thread.start()
    try:
        captures, frames, consistent, seen = diag._capture(thread.ident, 20_000)
    finally:
        stop.set()
        thread.join()
    assert captures == 20_000
    assert frames > captures
    assert consistent > 0
    # (the collector runs in that thread, too, and calls what others have hooked into it)
    known = {"<churn>"} | {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    strange = {key: count for key, count in seen.items() if key[0] not in known}
    # a frame may have been given to another function between two reads; such a one is never made up, though
    assert sum(strange.values()) <= captures / 1000, strange
