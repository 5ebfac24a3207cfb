"""The loop itself: callbacks, timers, handles, readers, executors, debug mode, overridden methods."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import logging
import os
import re
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import aioxide
from tests.support import Reports, newer, place_of, python, run


@pytest.fixture
def loop(aio: Any) -> Iterator[Any]:
    loop = aio.new_event_loop()
    yield loop
    if not loop.is_closed():
        loop.close()
    gc.collect()


def spin(loop: Any, turns: int = 3) -> None:
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


# -- life ------------------------------------------------------------------------------------------------------------------


def test_life(aio, loop):
    assert (loop.is_running(), loop.is_closed(), loop.get_debug()) == (False, False, False)
    assert re.fullmatch(r"<\w*EventLoop running=False closed=False debug=False>", repr(loop))
    loop.call_soon(lambda: seen.append((loop.is_running(), aio.get_running_loop() is loop)))
    seen: list[Any] = []
    spin(loop)
    assert seen == [(True, True)]
    loop.close()
    assert loop.is_closed()
    assert "closed=True" in repr(loop)


def test_run_until_complete(aio, loop):
    async def main() -> str:
        return "r"

    assert loop.run_until_complete(main()) == "r"
    future = loop.create_future()
    loop.call_soon(future.set_result, 5)
    assert loop.run_until_complete(future) == 5
    assert loop.run_until_complete(future) == 5
    never = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed."):
        loop.run_until_complete(never)
    other = aio.new_event_loop()
    with pytest.raises(ValueError, match="The future belongs to a different loop"):
        other.run_until_complete(never)
    other.close()


def test_unclosed_loop_warns(aio):
    loop = aio.new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop <") as caught:
        del loop
        gc.collect()
    assert [place_of(warning) for warning in caught] == ["asyncio/base_events.py"]


def test_filters_know_unclosed_things_by_their_module():
    program = """
    import gc, warnings
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=ResourceWarning, module="asyncio")
    loop = aio.new_event_loop()
    del loop
    gc.collect()
    """
    done = python(program)
    assert (done.returncode, done.stderr) == (0, "")


def test_whoever_shows_the_warning_may_run_anything_and_raise():
    program = """
    import gc, sys, warnings
    shown, unraisable = [], []
    def show(message, *args, **kwargs):
        shown.append(str(message).partition(" <")[0])
        if len(shown) == 1:
            loop = aio.new_event_loop()
            del loop
            gc.collect()
            raise ValueError("not shown")
    warnings.simplefilter("always")
    warnings.showwarning = show
    sys.unraisablehook = lambda what: unraisable.append(repr(what.exc_value))
    loop = aio.new_event_loop()
    del loop
    gc.collect()
    gc.collect()  # (within a collection there is no other)
    print(shown.count("unclosed event loop"), unraisable)
    """
    done = python(program)
    assert (done.stdout, done.stderr) == ("2 [\"ValueError('not shown')\"]\n", "")


def test_time(aio, loop):
    before = time.monotonic()
    assert before <= loop.time() <= time.monotonic()


# -- callbacks and handles -----------------------------------------------------------------------------------------------------


def test_order(aio, loop):
    log: list[Any] = []
    loop.call_soon(log.append, 1)
    loop.call_soon_threadsafe(log.append, 2)
    loop.call_soon(lambda a, b: log.append(a + b), 1, 2)
    loop.call_soon(lambda: loop.call_soon(log.append, 5))
    loop.call_soon(log.append, 4)
    spin(loop)
    assert log == [1, 2, 3, 4, 5]


def test_handle(aio, loop):
    handle = loop.call_soon(callback, "argument")
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    place = rf"{re.escape(__file__)}:{callback.__code__.co_firstlineno}"
    arguments = r"\('argument'\)" if sys.version_info < (3, 13) else r"\(\)"
    assert re.fullmatch(rf"<\w*Handle callback{arguments} at {place}>", repr(handle))
    assert handle.cancelled() is False
    assert handle.cancel() is None
    assert handle.cancelled() is True
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"
    spin(loop)


@pytest.mark.parametrize("debug", [False, True])
def test_handle_of_call_soon_threadsafe(aio, loop, debug):
    loop.set_debug(debug)
    handle = loop.call_soon_threadsafe(callback)
    kind = getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle)
    assert isinstance(handle, kind)
    assert type(handle).__name__ == kind.__name__
    assert repr(handle).startswith(f"<{kind.__name__} callback() at ")
    weak = weakref.ref(handle)
    handle.cancel()
    assert handle.cancelled()
    if not debug:
        assert repr(handle) == f"<{kind.__name__} cancelled>"
    del handle
    log: list[Any] = []
    context = contextvars.copy_context()
    kept = [loop.call_soon_threadsafe(log.append, n, context=context) for n in range(3)]
    if hasattr(kept[0], "get_context"):
        assert kept[0].get_context() is context
    spin(loop)
    gc.collect()
    assert log == [0, 1, 2]
    assert weak() is None
    kept[0]._run()
    assert log == [0, 1, 2, 0]
    made = type(kept[0])(log.append, ("made",), loop)
    made._run()
    assert log[-1] == "made"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="nobody waits before 3.14")
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("method", ["cancel", "cancelled"])
def test_other_threads_wait_for_a_handle_that_runs(aio, loop, method, debug):
    loop.set_debug(debug)
    loop.slow_callback_duration = 3600
    log: list[Any] = []
    started = threading.Event()

    def runs():
        started.set()
        time.sleep(0.1)
        getattr(handle, method)()  # its own thread does not wait
        log.append("ran")
        if method == "cancelled":
            raise ValueError("it ends, too")

    def other():
        started.wait()
        getattr(handle, method)()
        log.append("other")
        loop.call_soon_threadsafe(loop.stop)

    loop.set_exception_handler(lambda loop, context: log.append(type(context["exception"])))
    handle = loop.call_soon_threadsafe(runs)
    thread = threading.Thread(target=other)
    thread.start()
    loop.run_forever()
    thread.join()
    assert log == (["ran", "other"] if method == "cancel" else ["ran", ValueError, "other"])


def callback(*args: Any) -> None:
    raise AssertionError("cancelled")


@newer((3, 12))
def test_handle_get_context(aio, loop):
    if not hasattr(aio.Handle, "get_context"):
        pytest.skip("no get_context()")
    context = contextvars.copy_context()
    assert loop.call_soon(print, context=context).get_context() is context
    assert loop.call_later(1, print, context=context).get_context() is context


def test_timer_handle(aio, loop):
    when = loop.time() + 100
    timer, later = loop.call_at(when, callback), loop.call_at(when + 1, callback)
    assert timer.when() == when
    assert timer < later
    assert timer <= later
    assert later > timer
    assert later >= timer
    assert timer == timer
    assert timer != later
    assert hash(timer) == hash(when)
    assert re.match(r"<TimerHandle when=[\d.]+ callback\(\) at ", repr(timer))
    timer.cancel()
    assert re.match(r"<TimerHandle cancelled when=[\d.]+", repr(timer))
    later.cancel()
    with pytest.raises(TypeError):
        loop.call_at(None, callback)
    with pytest.raises(TypeError, match="delay must not be None|unsupported operand"):
        loop.call_later(None, callback)


def test_cancel_in_the_same_turn(aio, loop):
    log: list[Any] = []
    loop.call_soon(lambda: handle.cancel())
    handle = loop.call_soon(log.append, "never")
    timer = loop.call_later(0, log.append, "never")
    loop.call_soon(lambda: timer.cancel())
    spin(loop)
    assert log == []


def test_timers_fire_in_order(aio, loop):
    log: list[Any] = []
    start = loop.time()
    for n in (3, 1, 2, 0):
        loop.call_at(start + n * 0.002, log.append, n)
    loop.call_later(-1, log.append, "past")
    loop.call_at(start + 0.012, loop.stop)
    loop.run_forever()
    assert log == ["past", 0, 1, 2, 3]
    assert loop.time() - start >= 0.012


def test_timers_are_not_early(aio, loop):
    """And a delay below the clock's resolution does not spin."""
    late: list[float] = []
    turns = [0]

    def due(when: float) -> None:
        late.append(loop.time() - when)

    for n in range(50):
        loop.call_at(when := loop.time() + n * 0.0007, due, when)
    loop.call_later(0.05, loop.stop)
    loop.call_soon(lambda: turns.append(0))
    loop.run_forever()
    assert len(late) == 50
    assert min(late) >= -1e-6


def test_many_cancelled_timers(aio, loop):
    """They are forgotten, not kept until they would be due."""
    marker = type("Marker", (), {})
    handles = [loop.call_later(3600 + n, print, marker()) for n in range(2000)]
    survivor: list[int] = []
    loop.call_later(0.001, survivor.append, 1)
    for handle in handles:
        handle.cancel()
    del handles, handle
    loop.call_later(0.003, loop.stop)
    loop.run_forever()
    gc.collect()
    assert survivor == [1]
    assert not any(type(thing) is marker for thing in gc.get_objects())


def test_ready_before_due(aio, loop):
    """In one turn: what was ready, then timers that are due."""
    log: list[str] = []
    loop.call_later(0, log.append, "timer")
    loop.call_soon(log.append, "soon")
    spin(loop)
    assert log == ["soon", "timer"]


def test_contexts(aio, loop):
    var = contextvars.ContextVar("var", default="outer")
    seen: list[str] = []
    context = contextvars.Context()
    context.run(var.set, "given")

    def schedule() -> None:
        var.set("scheduler's")
        loop.call_soon(lambda: seen.append(var.get()))
        loop.call_soon(lambda: (seen.append(var.get()), var.set("changed")), context=context)
        loop.call_later(0.001, lambda: seen.append(var.get()), context=context)
        loop.call_soon_threadsafe(lambda: seen.append(var.get()))
        var.set("later")

    contextvars.copy_context().run(schedule)
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert seen == ["scheduler's", "given", "scheduler's", "changed"]
    assert var.get() == "outer"


# -- descriptors ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    for end in (a, b):
        end.setblocking(False)
    yield a, b
    a.close()
    b.close()


def test_reader(aio, loop, pair):
    a, b = pair
    got: list[bytes] = []

    def read(argument: str) -> None:
        got.append(a.recv(100))
        if len(got) == 3:
            assert loop.remove_reader(a) is True
            assert loop.remove_reader(a) is False
            loop.stop()
        else:
            b.send(b"next")

    loop.add_reader(a, read, "argument")
    b.send(b"first")
    loop.run_forever()
    assert got == [b"first", b"next", b"next"]


def test_reader_is_level_triggered_and_replaceable(aio, loop, pair):
    a, b = pair
    log: list[str] = []
    loop.add_reader(a.fileno(), log.append, "old")
    loop.add_reader(a, log.append, "new")
    b.send(b"x")
    while len(log) < 3:
        spin(loop, 1)
    assert set(log) == {"new"}
    loop.remove_reader(a.fileno())


def test_writer(aio, loop, pair):
    a, _ = pair
    log: list[str] = []
    loop.add_writer(a, log.append, "writable")
    loop.call_later(1, loop.stop)
    while not log:
        spin(loop, 1)
    assert loop.remove_writer(a) is True
    assert loop.remove_writer(a) is False
    log.clear()
    spin(loop)
    assert log == []


def test_closed_peer_is_readable(aio, loop, pair):
    a, b = pair
    loop.add_reader(a, loop.stop)
    loop.call_later(0.001, b.close)
    loop.run_forever()
    assert a.recv(1) == b""
    loop.remove_reader(a)


def test_bad_descriptors(aio, loop):
    for bad in (-1, "x", None, object()):
        with pytest.raises((ValueError, OSError, TypeError)):
            loop.add_reader(bad, print)
    with open(os.devnull) as file:
        with pytest.raises((PermissionError, OSError, ValueError)):
            loop.add_reader(file, print)  # epoll takes no files


def test_sock_methods(aio, loop):
    async def main() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        server.setblocking(False)
        client = socket.socket()
        client.setblocking(False)
        connecting = aio.create_task(loop.sock_connect(client, server.getsockname()))
        peer, address = await loop.sock_accept(server)
        await connecting
        assert address == client.getsockname()
        data = os.urandom(1 << 20)
        sending = aio.create_task(loop.sock_sendall(client, data))
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(peer, 1 << 16)
        await sending
        assert bytes(received) == data
        buffer = bytearray(10)
        await loop.sock_sendall(peer, b"back")
        assert await loop.sock_recv_into(client, buffer) == 4
        stuck = aio.create_task(loop.sock_recv(client, 10))
        await aio.sleep(0)
        stuck.cancel()
        with pytest.raises(aio.CancelledError):
            await stuck
        client.close()
        assert await loop.sock_recv(peer, 1) == b""
        peer.close()
        server.close()

    loop.run_until_complete(main())


def test_io_is_fair_beside_work(aio, loop, pair):
    """Callbacks that keep the loop busy do not starve descriptors, nor timers."""
    a, b = pair
    seen: list[str] = []

    def busy() -> None:
        if len(seen) < 2:
            loop.call_soon(busy)
        else:
            loop.stop()

    loop.add_reader(a, lambda: (a.recv(10), seen.append("read")))
    loop.call_later(0.002, lambda: (b.send(b"x"), seen.append("timer")))
    loop.call_later(10, loop.stop)
    loop.call_soon(busy)
    loop.run_forever()
    loop.remove_reader(a)
    assert sorted(seen) == ["read", "timer"]


# -- executors and names ----------------------------------------------------------------------------------------------------------


def test_executor(aio, loop):
    async def main() -> None:
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
        with concurrent.futures.ThreadPoolExecutor(1, "mine") as pool:
            loop.set_default_executor(pool)
            name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
            assert name.startswith("mine")
        with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
            loop.set_default_executor(object())

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_getaddrinfo(aio, loop):
    async def main() -> None:
        found = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert found == [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))]
        assert await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("no such host at all", 80)
        assert await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == (
            "127.0.0.1",
            "80",
        )

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


# -- exception handler -------------------------------------------------------------------------------------------------------------


def test_exception_handler(aio, loop, caplog):
    reports = Reports()
    assert loop.get_exception_handler() is None
    loop.set_exception_handler(reports)
    assert loop.get_exception_handler() is reports
    loop.call_soon(lambda: 1 / 0)
    spin(loop)
    assert len(reports.contexts) == 1
    loop.set_exception_handler(None)
    loop.call_soon(lambda: 1 / 0)
    spin(loop)
    (record,) = caplog.records
    assert record.name == "asyncio"
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("Exception in callback test_exception_handler.<locals>.<lambda>() at ")
    assert "\nhandle: <Handle " in record.getMessage()


@pytest.mark.parametrize("debug", [False, True])
def test_report_of_a_callback_shows_its_arguments(aio, loop, debug):
    """Since 3.13 in debug mode only: they may be secrets."""

    def bad(*args: Any) -> None:
        raise ZeroDivisionError

    reports = Reports()
    loop.set_exception_handler(reports)
    loop.set_debug(debug)
    loop.call_soon(bad, "secret", 5)
    spin(loop)
    shown = debug or sys.version_info < (3, 13)
    arguments = "'secret', 5" if shown else ""
    assert f".bad({arguments}) at " in reports.messages[0]


@newer((3, 12))
@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio before 3.12 runs it in the loop's context")
def test_exception_handler_runs_in_the_callbacks_context(aio, loop):
    var = contextvars.ContextVar("var", default="outer")
    context = contextvars.Context()
    context.run(var.set, "inner")
    seen: list[str] = []
    loop.set_exception_handler(lambda loop, context: seen.append(var.get()))
    loop.call_soon(lambda: 1 / 0, context=context)
    spin(loop)
    assert seen == ["inner"]


# -- debug mode -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def debug(loop: Any) -> Any:
    loop.set_debug(True)
    return loop


def test_debug_refuses_coroutines(aio, debug):
    async def coroutine() -> None:
        pass

    for call in (
        debug.call_soon,
        debug.call_soon_threadsafe,
        lambda f: debug.call_later(1, f),
        lambda f: debug.call_at(1, f),
    ):
        with pytest.raises(TypeError, match=r"coroutines cannot be used with call_"):
            call(coroutine)
        with pytest.raises(TypeError, match=r"a callable object was expected by call_\w+\(\), got 5"):
            call(5)


def test_debug_checks_the_thread(aio, debug):
    text = "Non-thread-safe operation invoked on an event loop other than the current one"
    errors: list[str] = []

    def elsewhere() -> None:
        for call in (
            lambda: debug.call_soon(print),
            lambda: debug.call_later(1, print),
            lambda: debug.call_at(1, print),
        ):
            try:
                call()
            except RuntimeError as error:
                errors.append(str(error))
        debug.call_soon_threadsafe(debug.stop)

    thread = threading.Thread(target=elsewhere)
    debug.call_soon(thread.start)
    debug.run_forever()
    thread.join()
    assert errors == [text] * 3


def test_debug_needs_no_frame_above_a_call(aio, debug):
    """granian: its native threads complete futures, and no Python function is above that."""
    called: list[str] = []
    debug.call_later(10, debug.stop)
    # a thread whose function is a builtin has no frame
    threadsafe = (lambda: (called.append("threadsafe"), debug.stop()),)
    debug.call_soon(_thread.start_new_thread, debug.call_soon_threadsafe, threadsafe)
    debug.run_forever()
    assert called == ["threadsafe"]


def test_debug_slow_callback(aio, debug, caplog):
    debug.slow_callback_duration = 0.01

    async def slow() -> None:
        time.sleep(0.02)

    def sleepy() -> None:
        time.sleep(0.02)

    debug.call_soon(sleepy)
    debug.run_until_complete(slow())
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == 2
    assert re.match(
        r"Executing <Handle test_debug_slow_callback.<locals>.sleepy\(\) at .* took 0\.0\d+ seconds", messages[0]
    )
    assert re.match(
        r"Executing <Task finished name='.*' coro=<test_debug_slow_callback.<locals>.slow\(\) done, ", messages[1]
    )
    assert re.search(r" took 0\.0\d+ seconds$", messages[1])


def test_debug_handle_repr(aio, debug):
    handle = debug.call_soon(callback, 1)
    assert re.fullmatch(r"<\w*Handle callback\(1\) at .*:\d+ created at .*:\d+>", repr(handle))
    assert handle._source_traceback
    handle.cancel()
    assert re.fullmatch(r"<Handle cancelled callback\(1\) at .*:\d+ created at .*:\d+>", repr(handle))


def test_debug_origin_tracking(aio, debug):
    """Coroutines remember where they were made, only while a debugging loop runs."""
    depth = sys.get_coroutine_origin_tracking_depth()
    seen: list[int] = []
    debug.call_soon(lambda: seen.append(sys.get_coroutine_origin_tracking_depth()))
    spin(debug)
    assert seen == [10]
    assert sys.get_coroutine_origin_tracking_depth() == depth
    debug.call_soon(
        lambda: (
            debug.set_debug(False),
            debug.call_soon(lambda: seen.append(sys.get_coroutine_origin_tracking_depth())),
        )
    )
    spin(debug)
    assert seen == [10, depth]


def test_debug_environment(aio):
    from tests.support import python

    for value, expected in (("1", "True"), ("", "False")):
        done = python(
            "loop = aio.new_event_loop(); print(loop.get_debug()); loop.close()", env={"PYTHONASYNCIODEBUG": value}
        )
        assert done.stdout.strip() == expected


def test_debug_sock_must_not_block(aio, debug):
    async def main() -> None:
        with socket.socket() as blocking:
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await debug.sock_recv(blocking, 1)

    debug.run_until_complete(main())


# -- subclasses -------------------------------------------------------------------------------------------------------------------------


def test_overridden_methods_are_called(aio, loop):
    """A user's loop that overrides the scheduling methods sees every call, also from native code."""
    log: list[str] = []

    class Loop(type(loop)):
        def call_soon(self, *args: Any, **kwargs: Any) -> Any:
            log.append("call_soon")
            return super().call_soon(*args, **kwargs)

        def call_at(self, *args: Any, **kwargs: Any) -> Any:
            log.append("call_at")
            return super().call_at(*args, **kwargs)

        def create_future(self) -> Any:
            log.append("create_future")
            return super().create_future()

        def create_task(self, *args: Any, **kwargs: Any) -> Any:
            log.append("create_task")
            return super().create_task(*args, **kwargs)

        def call_exception_handler(self, context: Any) -> None:
            log.append("call_exception_handler")

    async def child() -> None:
        await aio.sleep(0)

    async def main() -> None:
        log.clear()
        await aio.create_task(child())
        assert {"create_task", "call_soon"} <= set(log)
        log.clear()
        await aio.sleep(0.001)
        assert "call_at" in log
        given: list[Any] = []
        aio.get_running_loop().call_later(0, lambda *args: given.append(args), *range(50))
        await aio.sleep(0.001)
        assert given == [tuple(range(50))]
        log.clear()
        other.call_soon(lambda: 1 / 0)
        await aio.sleep(0)
        await aio.sleep(0)
        assert "call_exception_handler" in log
        log.clear()
        queue = aio.Queue()
        getter = aio.create_task(queue.get())
        await aio.sleep(0)
        assert "create_future" in log
        queue.put_nowait(1)
        await getter

    with contextlib.closing(Loop()) as other:
        other.run_until_complete(main())


async def _wait_on_lock(aio: Any, loop: Any) -> None:
    async with (lock := aio.Lock()):
        await lock.acquire()


async def _wait_on_semaphore(aio: Any, loop: Any) -> None:
    await aio.Semaphore(0).acquire()


async def _wait_on_event(aio: Any, loop: Any) -> None:
    await aio.Event().wait()


async def _wait_on_condition(aio: Any, loop: Any) -> None:
    async with (condition := aio.Condition()):
        await condition.wait()


async def _wait_on_barrier(aio: Any, loop: Any) -> None:
    await aio.Barrier(2).wait()


async def _wait_to_get(aio: Any, loop: Any) -> None:
    await aio.Queue().get()


async def _wait_to_put(aio: Any, loop: Any) -> None:
    queue = aio.PriorityQueue(1)
    queue.put_nowait(1)
    await queue.put(2)


async def _wait_to_join(aio: Any, loop: Any) -> None:
    queue = aio.LifoQueue()
    queue.put_nowait(1)
    await queue.join()


async def _wait_for_some(aio: Any, loop: Any) -> None:
    await aio.wait([aio.Future()])


async def _wait_for_completed(aio: Any, loop: Any) -> None:
    for first in aio.as_completed([aio.Future()]):
        await first


async def _wait_for_shielded(aio: Any, loop: Any) -> None:
    await aio.shield(aio.Future())


async def _wait_for_group(aio: Any, loop: Any) -> None:
    async def child() -> None:
        await aio.Future()

    async with aio.TaskGroup() as group:
        group.create_task(child())


async def _wait_for_nothing(aio: Any, loop: Any) -> None:
    await aio.gather()
    await aio.Future()


async def _wait_for_thread(aio: Any, loop: Any) -> None:
    await loop.run_in_executor(None, time.sleep, 0.001)
    await aio.Future()


async def _wait_for_bytes(aio: Any, loop: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        await loop.sock_recv(ours, 1)


async def _wait_a_while(aio: Any, loop: Any) -> None:
    await aio.sleep(3600)


@pytest.mark.parametrize("how", ["derived", "patched"])
@pytest.mark.parametrize(
    "wait",
    [
        _wait_on_lock,
        _wait_on_semaphore,
        _wait_on_event,
        _wait_on_condition,
        _wait_on_barrier,
        _wait_to_get,
        _wait_to_put,
        _wait_to_join,
        _wait_for_some,
        _wait_for_completed,
        _wait_for_shielded,
        _wait_for_group,
        _wait_for_nothing,
        _wait_for_thread,
        _wait_for_bytes,
        _wait_a_while,
    ],
)
def test_overridden_create_future(aio, loop, wait, how):
    """Whoever waits does so by a future of the loop's own making."""
    made: list[Any] = []

    class Loop(type(loop)):
        def create_future(self) -> Any:
            made.append(super().create_future())
            return made[-1]

    with contextlib.closing(Loop() if how == "derived" else aio.new_event_loop()) as other:
        if how == "patched":
            create = other.create_future
            other.create_future = lambda: made.append(create()) or made[-1]
        task = other.create_task(wait(aio, other))
        other.call_later(0.05, other.stop)
        other.run_forever()
        assert made
        task.cancel()
        with pytest.raises((aio.CancelledError, TimeoutError)):
            other.run_until_complete(task)
        other.run_until_complete(other.shutdown_default_executor())


def test_overridden_time(aio, loop):
    """What time-travelling test helpers do."""

    class Loop(type(loop)):
        offset = 0.0

        def time(self) -> float:
            return super().time() + self.offset

    other = Loop()

    async def main() -> None:
        sleeping = aio.create_task(aio.sleep(1000, "woke"))
        await aio.sleep(0)
        other.offset = 2000.0
        assert await aio.wait_for(sleeping, 5) == "woke"

    started = time.monotonic()
    other.run_until_complete(main())
    other.close()
    assert time.monotonic() - started < 5


def test_abstract_loop_cannot_be_used(aio):
    with pytest.raises(NotImplementedError):
        aio.AbstractEventLoop().run_forever()


def test_get_and_set_event_loop(aio, loop):
    asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError, match="no running event loop"):
        aio.get_running_loop()
    aio.set_event_loop(loop)
    assert aio.get_event_loop() is loop

    async def main() -> bool:
        return aio.get_event_loop() is aio.get_running_loop() is not loop

    assert run(aio, main()) is True
    aio.set_event_loop(None)
    with pytest.raises(TypeError):
        aio.set_event_loop(5)
    assert aio._get_running_loop() is None


def test_hash_of_a_loop():
    """What C code reaches without a call, and what Python finds under the name, are the same; and what a program puts
    there is what counts."""

    class Derived(aioxide.EventLoop):
        def __hash__(self) -> int:
            return 7

    class Plain(aioxide.EventLoop):
        pass

    loops = [aioxide.EventLoop(), Plain(), Derived()]
    try:
        assert [hash(loop) for loop in loops] == [loop.__hash__() for loop in loops]
        assert hash(loops[2]) == 7
        assert {loop: index for index, loop in enumerate(loops)}[loops[0]] == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aioxide.EventLoop, "__hash__", lambda _: 8)
            assert [hash(loop) for loop in loops] == [8, 8, 7]
    finally:
        for loop in loops:
            loop.close()
