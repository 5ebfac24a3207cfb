"""Private names that libraries reach for: each is here with the library that breaks, or goes astray, without it.

In takeover, where a library's asyncio is ours, and as the loop alone, under asyncio's own tasks.
"""

from __future__ import annotations

import asyncio as stdlib
import contextvars
import gc
import os
import socket
import subprocess
import sys
import types
import weakref
from typing import Any
from unittest import mock

import pytest

import aioxide
from tests.support import succeeds

SINCE_312 = pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks since 3.12")


@pytest.fixture(params=["aioxide", "loop only"])
def lib(request: pytest.FixtureRequest) -> Any:
    """The asyncio that a library has imported; the loop is ours both times."""
    return aioxide if request.param == "aioxide" else stdlib


def run(lib: Any, main: Any) -> Any:
    with lib.Runner(loop_factory=aioxide.new_event_loop) as runner:
        return runner.run(main)


# -- the loop -----------------------------------------------------------------------------------------------------------------


def test_loop_is_a_base_event_loop():
    """aiohttp makes its tasks eager on those; nest_asyncio refuses others."""
    assert issubclass(aioxide.EventLoop, stdlib.BaseEventLoop)
    assert issubclass(aioxide.EventLoop, aioxide.BaseEventLoop)


def test_loop_attributes_can_be_replaced(lib):
    """pyzmq and sentry: `loop.close = …`; prompt_toolkit: slow_callback_duration; others mark loops as theirs."""

    async def main() -> list[str]:
        loop = lib.get_running_loop()
        called = []
        original = loop.call_exception_handler
        loop.call_exception_handler = lambda context: called.append(context["message"])
        loop._sentry_flush_patched = True
        loop.slow_callback_duration = 0.5
        loop.call_soon(lambda: 1 / 0)
        await lib.sleep(0)
        await lib.sleep(0)
        loop.call_exception_handler = original
        assert loop._sentry_flush_patched
        assert loop.slow_callback_duration == 0.5
        return called

    assert len(run(lib, main())) == 1


def test_loop_class_can_be_changed():
    """freezegun: `type(loop).time = …`; nest_asyncio: `cls.run_forever = …`."""
    original = aioxide.EventLoop.time
    loop = aioxide.new_event_loop()
    try:
        aioxide.EventLoop.time = lambda self: 1234.5
        assert loop.time() == 1234.5
    finally:
        aioxide.EventLoop.time = original
        loop.close()


def test_loop_and_task_in_weak_dictionaries(lib):
    """aiohttp's resolver, anyio's task states, pyzmq, OpenTelemetry."""

    async def main() -> None:
        keys = weakref.WeakKeyDictionary({lib.get_running_loop(): "loop", lib.current_task(): "task"})
        assert keys[lib.get_running_loop()] == "loop"
        assert keys[lib.current_task()] == "task"

    run(lib, main())


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("_ready", "playwright, prompt_toolkit"),
        ("_scheduled", "nest_asyncio"),
        ("_selector", "twisted, aiotools"),
        ("_stopping", "sanic"),
        ("_signal_handlers", "prompt_toolkit"),
        ("_thread_id", "ray"),
        ("_closed", "nest_asyncio"),
        ("_debug", "nest_asyncio"),
        ("_default_executor", "anyio"),
        ("_clock_resolution", "aiotools"),
        ("_check_closed", "nest_asyncio"),
        ("_asyncgens", "nest_asyncio"),
    ],
)
def test_loop_has(lib, name, library):
    async def main() -> None:
        assert hasattr(lib.get_running_loop(), name), library

    run(lib, main())


def test_ready_shows_whether_there_is_anything(lib):
    """playwright waits for it to be empty; prompt_toolkit puts off a redraw while it is not."""

    async def main() -> None:
        loop = lib.get_running_loop()
        assert not loop._ready
        loop.call_soon(int)
        assert len(loop._ready) == 1
        task = lib.create_task(lib.sleep(0))
        assert len(loop._ready) == 2
        await task
        assert not loop._ready

    run(lib, main())


def test_stopping_can_be_taken_back(lib):
    """sanic: `loop._stopping = False`."""

    async def main() -> str:
        loop = lib.get_running_loop()
        loop.stop()
        assert loop._stopping
        loop._stopping = False
        await lib.sleep(0.001)
        return "went on"

    assert run(lib, main()) == "went on"


def test_handles_of_the_program(lib):
    """qasync and trio-asyncio make handles themselves."""

    async def main() -> list[int]:
        loop = lib.get_running_loop()
        called: list[int] = []
        loop._add_callback(lib.Handle(called.append, (1,), loop))
        loop._add_callback_signalsafe(lib.Handle(called.append, (2,), loop))
        cancelled = lib.Handle(called.append, (3,), loop)
        cancelled.cancel()
        loop._add_callback(cancelled)
        loop._call_soon(called.append, (4,), None)
        lib.Handle(called.append, (0,), loop)._run()
        await lib.sleep(0)
        return called

    assert run(lib, main()) == [0, 1, 2, 4]


def test_a_closed_socket_can_be_removed(lib):
    """anyio removes its reader when it has closed the socket, whose number nobody knows any more. The loop keeps the
    socket until then, as `selectors` does."""

    async def main() -> None:
        loop = lib.get_running_loop()
        for add, remove in (loop.add_reader, loop.remove_reader), (loop.add_writer, loop.remove_writer):
            ours, peer = socket.socketpair()
            with peer:
                number = ours.fileno()
                add(ours, print)
                ours.close()
                assert remove(ours) is True
                with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
                    remove(ours)
                assert remove(number) is False
        ours, peer = socket.socketpair()
        with peer:
            reference = weakref.ref(ours)
            loop.add_reader(ours, print)
            number = ours.fileno()
            del ours
            gc.collect()
            kept = reference()
            assert kept is not None
            kept.close()
            del kept
            assert loop.remove_reader(number) is True
            gc.collect()
            assert reference() is None

    run(lib, main())


def test_the_frame_of_a_callback_keeps_no_task(lib):
    """anyio looks for what refers to an exception: in debug mode a traceback leads to the frame of `Handle._run`."""

    class Failure(Exception):
        pass

    async def fails() -> None:
        raise Failure

    async def main() -> list[Any]:
        lib.get_running_loop().set_debug(True)
        task = lib.create_task(fails())
        await lib.wait([task])
        failure = task.exception()
        del task
        return [found for found in gc.get_referrers(failure) if not isinstance(found, types.CoroutineType)]

    assert run(lib, main()) == []


def test_get_extra_info_can_be_patched(lib):
    """websockets' tests patch it in `asyncio.Transport`, from which asyncio's transports inherit it."""

    async def main() -> None:
        ours, peer = socket.socketpair()
        with peer:
            transport, _ = await lib.get_running_loop().create_connection(lib.Protocol, sock=ours)
            for patched in stdlib.Transport, stdlib.BaseTransport:
                with mock.patch.object(patched, "get_extra_info") as get_extra_info:
                    assert transport.get_extra_info("sockname") is get_extra_info.return_value
                    get_extra_info.assert_called_once_with("sockname")
                    transport.get_extra_info("sockname", 1)
                    get_extra_info.assert_called_with("sockname", 1)
                with mock.patch.object(
                    patched, "get_extra_info", lambda self, name, default=None: (self, name, default)
                ):
                    assert transport.get_extra_info("sockname") == (transport, "sockname", None)
            assert transport.get_extra_info("sockname") == ""
            transport.abort()

    run(lib, main())


# -- functions of which the code is read ------------------------------------------------------------------------------------


def test_handle_run_is_a_python_function(lib):
    """playwright reads `Handle._run.__code__` when it is imported; ddtrace replaces the code."""
    assert isinstance(lib.Handle._run.__code__, types.CodeType)
    assert isinstance(lib.TimerHandle._run.__code__, types.CodeType)


@SINCE_312
def test_eager_factories_are_closures(lib):
    """anyio reads `eager_task_factory.__code__` when it is imported, and a factory's constructor from its closure."""
    factory = lib.create_eager_task_factory(lib.Task)
    assert factory.__code__ is lib.eager_task_factory.__code__
    assert [cell.cell_contents for cell in factory.__closure__] == [lib.Task]
    assert isinstance(lib.eager_task_factory, types.FunctionType)


@SINCE_312
def test_eager_factory_whose_code_was_replaced():
    """ddtrace puts other code into a factory; it must be that code that runs."""
    source = """
def create(custom_task_constructor):
    def replacement(loop, coro, **kwargs):
        kwargs.pop("context", None)
        return "replaced", custom_task_constructor(coro, loop=loop, eager_start=True, **kwargs)
    return replacement
"""
    namespace: dict[str, Any] = {}
    exec(source, namespace)

    async def child() -> str:
        return "done"

    async def main() -> None:
        loop = aioxide.get_running_loop()
        factory = aioxide.create_eager_task_factory(aioxide.Task)
        loop.set_task_factory(factory)
        assert loop.create_task(child()).result() == "done"
        factory.__code__ = namespace["create"](None).__code__
        mark, task = loop.create_task(child())
        assert mark == "replaced"
        assert task.result() == "done"
        loop.set_task_factory(None)

    run(aioxide, main())


@SINCE_312
@pytest.mark.parametrize("given", [{}, {"name": "named"}, {"context": contextvars.Context()}])
def test_eager_factory_of_a_derived_class(lib, given):
    """Those of the program's own constructor are called as asyncio calls them."""

    class Derived(lib.Task):
        pass

    async def child() -> str:
        return "done"

    async def main() -> None:
        loop = lib.get_running_loop()
        for constructor in (lib.Task, Derived):
            loop.set_task_factory(lib.create_eager_task_factory(constructor))
            task = lib.create_task(child(), **given)
            assert type(task) is constructor
            assert task.result() == "done"
            if "name" in given:
                assert task.get_name() == "named"
            if "context" in given:
                assert task.get_context() is given["context"]
        loop.set_task_factory(None)

    run(lib, main())


def test_the_main_task_is_known_by_its_callback(lib):
    """anyio's find_root_task."""

    async def main() -> None:
        task = lib.current_task()
        assert [callback for callback, _ in task._callbacks] == [stdlib.base_events._run_until_complete_cb]
        assert task._loop is lib.get_running_loop()

    run(lib, main())


# -- tasks and futures ------------------------------------------------------------------------------------------------------


def test_task(lib):
    """anyio decides by these whether to cancel again; aiomonitor and fsspec show them; tornado and sentry change them."""

    async def waits(future: Any) -> None:
        await future

    async def main() -> None:
        future = lib.get_running_loop().create_future()
        task = lib.create_task(waits(future))
        assert task._fut_waiter is None
        await lib.sleep(0)
        assert task._fut_waiter is future
        assert isinstance(task._fut_waiter, stdlib.Future)
        assert task._must_cancel is False
        assert task._state == "PENDING"
        assert task._coro is task.get_coro()
        assert task._source_traceback is None
        task._log_destroy_pending = False
        assert task._log_destroy_pending is False
        task.cancel()
        assert task._must_cancel is False  # it is the future that was cancelled
        fresh = lib.create_task(waits(future))
        fresh.cancel()
        assert fresh._must_cancel is True
        await lib.wait([task, fresh])
        assert isinstance(task, stdlib.Task)
        assert isinstance(future, stdlib.Future)

    run(lib, main())


def test_source_traceback_can_be_cut():
    """sentry: `del task._source_traceback[-1]`."""

    async def main() -> None:
        task = aioxide.create_task(aioxide.sleep(0))
        before = len(task._source_traceback)
        del task._source_traceback[-1]
        assert len(task._source_traceback) == before - 1
        await task

    with aioxide.Runner(debug=True) as runner:
        runner.run(main())


def test_a_foreign_awaitable_that_yields_itself(lib):
    """bleak's winrt objects: any object with `_asyncio_future_blocking` is waited for."""

    class Foreign:
        _asyncio_future_blocking = False

        def __init__(self) -> None:
            self.loop = lib.get_running_loop()
            self.callbacks: list[Any] = []

        def get_loop(self) -> Any:
            return self.loop

        def add_done_callback(self, callback: Any, context: Any = None) -> None:
            self.callbacks.append((callback, context))

        def result(self) -> str:
            return "foreign"

        def finish(self) -> None:
            for callback, context in self.callbacks:
                self.loop.call_soon(callback, self, context=context)

        def __await__(self) -> Any:
            self._asyncio_future_blocking = True
            yield self
            return self.result()

    async def main() -> str:
        foreign = Foreign()
        lib.get_running_loop().call_later(0.001, foreign.finish)
        return await foreign

    assert run(lib, main()) == "foreign"


# -- streams, servers, processes -------------------------------------------------------------------------------------------


def test_streams(lib):
    """redis looks into `_buffer`, telethon waits by `_wait_for_data`, anyio reads `_protocol._paused`, asyncpg upgrades."""

    async def main() -> None:
        async def serve(reader: Any, writer: Any) -> None:
            writer.write(b"x")
            await reader.read()
            writer.close()
            await writer.wait_closed()
            served.set()

        served = lib.Event()
        server = await lib.start_server(serve, "127.0.0.1", 0)
        assert server._ssl_context is None  # websockets' tests
        reader, writer = await lib.open_connection(*server.sockets[0].getsockname())
        await reader._wait_for_data("test")
        assert reader._buffer
        assert len(reader._buffer) == 1
        assert reader._eof is False
        assert reader._waiter is None
        assert reader._transport is writer._transport
        assert writer._protocol._paused is False
        assert callable(writer._protocol._drain_helper)
        writer.transport.write = lambda data: None  # aiohttp's and websockets' tests
        del writer.transport.write
        reader._transport.close()
        await writer.wait_closed()
        await served.wait()
        server.close()
        await server.wait_closed()
        assert server.sockets == ()

    run(lib, main())


def test_process(lib):
    """anyio and mcp: `process._transport`."""

    async def main() -> None:
        process = await lib.create_subprocess_exec("true")
        assert process._transport.get_pid() == process.pid
        await process.wait()

    run(lib, main())


# -- locks and queues ---------------------------------------------------------------------------------------------------------


def test_locks_and_queues():
    """anyio: Event._waiters; distributed: Semaphore._value, Queue._putters and _wakeup_next; asyncpg: an own LifoQueue."""

    class Own(aioxide.LifoQueue):
        def _get(self) -> Any:
            return "own", super()._get()

    async def main() -> None:
        event, semaphore, queue, own = aioxide.Event(), aioxide.Semaphore(3), aioxide.Queue(1), Own()
        waiter = aioxide.create_task(event.wait())
        queue.put_nowait(1)
        putter = aioxide.create_task(queue.put(2))
        await aioxide.sleep(0)
        assert len(event._waiters) == 1
        assert semaphore._value == 3
        assert list(queue._queue) == [1]
        assert len(queue._putters) == 1
        queue._queue.clear()
        queue._wakeup_next(queue._putters)
        await putter
        own.put_nowait(5)
        assert own.get_nowait() == ("own", 5)
        event.set()
        await waiter

    run(aioxide, main())


# -- modules ------------------------------------------------------------------------------------------------------------------

#: in asyncio's modules while ours is installed
MODULES = {
    "events": "_get_running_loop _set_running_loop _lock",
    "tasks": "_enter_task _leave_task _register_task _unregister_task _current_tasks _CTask _PyTask _GatheringFuture _wait",
    "base_events": "_run_until_complete_cb BaseEventLoop",
    "coroutines": "_is_coroutine _format_coroutine",
    "format_helpers": "_format_callback _format_callback_source _get_function_source",
    "streams": "_DEFAULT_LIMIT FlowControlMixin",
    "sslproto": "SSLProtocol _SSLProtocolTransport",
}


def test_modules():
    """anyio, pymongo, granian, ddtrace, asgiref, pyserial-asyncio, aiomonitor, trio-asyncio import these."""
    succeeds(
        f"""
        import importlib, sys
        aio.install()
        for module, names in {MODULES!r}.items():
            found = importlib.import_module("asyncio." + module)
            for name in names.split():
                assert hasattr(found, name), (module, name)
        if sys.version_info >= (3, 12):
            tasks = importlib.import_module("asyncio.tasks")
            assert hasattr(tasks._scheduled_tasks, "data")
            assert tasks._eager_tasks is not None
        """
    )


# -- frames --------------------------------------------------------------------------------------------------------------------


def test_calls_that_may_block_are_seen_as_asyncios(monkeypatch, tmp_path):
    """blockbuster looks up the stack for the function of asyncio's that may call os.stat, os.read and os.unlink."""
    seen: dict[str, set[tuple[str, str]]] = {}

    def watch(module: Any, name: str) -> None:
        original = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            while frame is not None:
                place = frame.f_code.co_filename.rpartition("asyncio/")
                seen.setdefault(name, set()).add((place[2], frame.f_code.co_name))
                frame = frame.f_back
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    class Popen(subprocess.Popen):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            os.umask(os.umask(0o22))
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    for name in ("stat", "unlink", "umask"):
        watch(os, name)

    async def main() -> None:
        server = await aioxide.start_unix_server(lambda reader, writer: None, str(tmp_path / "socket"))
        server.close()
        await server.wait_closed()
        for create, args in ((aioxide.create_subprocess_exec, ["true"]), (aioxide.create_subprocess_shell, ["true"])):
            process = await create(*args)
            await process.wait()

    run(aioxide, main())
    assert ("unix_events.py", "create_unix_server") in seen["stat"]
    assert ("base_events.py", "subprocess_exec") in seen["umask"]
    assert ("base_events.py", "subprocess_shell") in seen["umask"]
    if sys.version_info >= (3, 13):
        assert ("unix_events.py", "_stop_serving") in seen["unlink"]
