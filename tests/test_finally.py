"""Where cleaning up raises, too: the later exception wins, and has the earlier one in its chain of contexts, as in Python.

Each test makes one of the places raise twice, on asyncio and on aioxide, and compares the chains.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import aioxide
from tests.support import Log, Reports, run


def chain(exception: BaseException | None) -> list[str]:
    texts = []
    while exception is not None:
        texts.append(f"{type(exception).__name__}({exception})")
        exception = exception.__context__
    return texts


def both(program: Callable[[Any], list[str]]) -> list[str]:
    """What the program gives on both, which must be the same."""
    ours, theirs = program(aioxide), program(asyncio)
    assert ours == theirs
    return ours


def raised(aio: Any, main: Coroutine[Any, Any, Any]) -> list[str]:
    """The chain that main ends with; while it runs, something else is being handled, which must stay that."""

    async def outer() -> list[str]:
        try:
            raise LookupError("outside")
        except LookupError as outside:
            try:
                await main
            except BaseException as exception:
                found = chain(exception)
            assert sys.exc_info()[1] is outside
        assert sys.exc_info()[1] is None
        return found

    return run(aio, outer())


def cancelled(aio: Any, main: Callable[[], Coroutine[Any, Any, Any]]) -> list[str]:
    """The chain that main ends with if it is cancelled while it waits."""

    async def outer() -> list[str]:
        task = aio.create_task(main())
        await aio.sleep(0.01)
        task.cancel("broken off")
        with pytest.raises(ValueError, match="of the program") as caught:
            await task
        return chain(caught.value)

    return run(aio, outer())


def stubborn(aio: Any, name: str, times: int = 0) -> type:
    """A future whose method raises, after a few times that it does not."""
    left = times

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"{name} of the program")
        return getattr(aio.Future, name)(self, *args, **kwargs)

    return type("Stubborn", (aio.Future,), {name: method})


def test_wait() -> None:
    def program(aio: Any) -> list[str]:
        async def main() -> None:
            await aio.wait([stubborn(aio, "remove_done_callback")()])

        return cancelled(aio, main)

    assert both(program) == ["ValueError(remove_done_callback of the program)", "CancelledError(broken off)"]


def test_wait_inside_of_a_handler() -> None:
    def program(aio: Any) -> list[str]:
        async def main() -> None:
            future = stubborn(aio, "remove_done_callback")()
            aio.get_running_loop().call_soon(aio.current_task().cancel)
            await aio.wait([future])

        return raised(aio, main())

    # (on its way out through coroutines that handle something, the interpreter changes the chain)
    found = both(program)
    assert (found[0], found[-1]) == ("ValueError(remove_done_callback of the program)", "LookupError(outside)")


@pytest.mark.skipif(sys.version_info < (3, 13), reason="as_completed waits in a queue since 3.13")
def test_as_completed() -> None:
    def program(aio: Any) -> list[str]:
        async def main() -> None:
            loop = aio.get_running_loop()
            waited_for = loop.create_future()
            one = iter(aio.as_completed([waited_for]))
            getter = stubborn(aio, "cancel", times=1)
            loop.create_future = getter
            try:
                await next(one)
            finally:
                del loop.create_future

        return cancelled(aio, main)

    assert both(program) == ["ValueError(cancel of the program)", "CancelledError(broken off)"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="wait_for is timeout() since 3.12")
def test_wait_for() -> None:
    def by_handle(aio: Any) -> list[str]:
        async def main() -> None:
            loop = aio.get_running_loop()
            real = loop.call_later

            class Handle:
                def cancel(self) -> None:
                    raise ValueError("cancel of the program")

            loop.call_later = lambda *args: (real(*args), Handle())[1]
            try:
                await aio.wait_for(loop.create_future(), 30)
            finally:
                del loop.call_later

        return cancelled(aio, main)

    assert both(by_handle) == ["ValueError(cancel of the program)", "CancelledError(broken off)"]


class Leaving:
    """A barrier whose way out raises."""

    def _exit(self) -> None:
        raise ValueError("_exit of the program")


def test_barrier() -> None:
    def program(aio: Any) -> list[str]:
        async def main() -> None:
            await type("Barrier", (Leaving, aio.Barrier), {})(2).wait()

        return cancelled(aio, main)

    assert both(program) == ["ValueError(_exit of the program)", "CancelledError(broken off)"]


def test_barrier_that_is_passed() -> None:
    def program(aio: Any) -> list[str]:
        async def main() -> None:
            await type("Barrier", (Leaving, aio.Barrier), {})(1).wait()

        return raised(aio, main())

    assert both(program) == ["ValueError(_exit of the program)", "LookupError(outside)"]


def loop_class(aio: Any, **methods: Any) -> type:
    base = aioxide.EventLoop if aio is aioxide else asyncio.SelectorEventLoop
    return type("Loop", (base,), methods)


def closes_badly(self: Any) -> None:
    super(type(self), self).close()
    raise ValueError("close of the program")


async def fails() -> None:
    raise KeyError("main")


async def refuses(self: Any) -> None:
    raise OSError("shutdown_asyncgens of the program")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="run() takes a loop_factory since 3.12")
def test_run() -> None:
    def program(aio: Any) -> list[str]:
        with pytest.raises(ValueError, match="close of the program") as caught:
            aio.run(fails(), loop_factory=loop_class(aio, close=closes_badly))
        return chain(caught.value)

    assert both(program) == ["ValueError(close of the program)", "KeyError('main')"]


def test_closing_a_runner() -> None:
    def program(aio: Any) -> list[str]:
        runner = aio.Runner(loop_factory=loop_class(aio, close=closes_badly, shutdown_asyncgens=refuses))
        runner.run(aio.sleep(0))
        with pytest.raises(ValueError, match="close of the program") as caught:
            runner.close()
        return chain(caught.value)

    assert both(program) == ["ValueError(close of the program)", "OSError(shutdown_asyncgens of the program)"]


def test_a_runner_gives_sigint_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(aio: Any) -> list[str]:
        real = signal.signal

        def second_time(number: int, handler: Any) -> Any:
            if handler is signal.default_int_handler:
                real(number, handler)
                raise ValueError("signal of the program")
            return real(number, handler)

        with aio.Runner(loop_factory=aio.new_event_loop) as runner, monkeypatch.context() as patched:
            patched.setattr(signal, "signal", second_time)
            with pytest.raises(ValueError, match="signal of the program") as caught:
                runner.run(fails())
        return chain(caught.value)

    assert both(program) == ["ValueError(signal of the program)", "KeyError('main')"]


def test_run_until_complete() -> None:
    def program(aio: Any) -> list[str]:
        def interrupt() -> None:
            raise KeyboardInterrupt("by the program")

        loop = aio.new_event_loop()
        future = stubborn(aio, "remove_done_callback")(loop=loop)
        loop.call_soon(interrupt)
        with pytest.raises(ValueError, match="of the program") as caught:
            loop.run_until_complete(future)
        loop.close()
        return chain(caught.value)

    assert both(program) == ["ValueError(remove_done_callback of the program)", "KeyboardInterrupt(by the program)"]


@pytest.mark.filterwarnings("ignore:unclosed transport")
def test_a_connection_is_lost() -> None:
    class Socket(socket.socket):
        def close(self) -> None:
            if self.fileno() >= 0:
                super().close()
                raise ValueError("close of the program")

    def program(aio: Any) -> list[str]:
        class Protocol(Log):
            def connection_lost(self, exc: BaseException | None) -> None:
                raise KeyError("connection_lost of the program")

        async def main() -> list[str]:
            loop, reports = aio.get_running_loop(), Reports()
            loop.set_exception_handler(reports)
            one, other = socket.socketpair()
            mine = Socket(fileno=one.detach())
            mine.setblocking(False)
            transport, _ = await loop.create_connection(Protocol, sock=mine)
            transport.abort()
            await aio.sleep(0.01)
            other.close()
            [context] = reports.contexts
            return chain(context["exception"])

        found = run(aio, main())
        gc.collect()
        return found

    assert both(program) == ["ValueError(close of the program)", "KeyError('connection_lost of the program')"]


@pytest.mark.skipif(not hasattr(asyncio.events, "_ThreadSafeHandle"), reason="this Python's handles have no lock")
def test_a_handle_with_a_lock() -> None:
    class Lock:
        def __enter__(self) -> None: ...
        def __exit__(self, *args: object) -> None:
            self.release()

        def acquire(self) -> None: ...
        def release(self) -> None:
            raise ValueError("release of the program")

    def program(aio: Any) -> list[str]:
        def interrupt() -> None:
            raise KeyboardInterrupt("by the program")

        loop = aio.new_event_loop()
        loop.call_soon_threadsafe(interrupt)._lock = Lock()
        with pytest.raises(ValueError, match="of the program") as caught:
            loop.run_forever()
        loop.close()
        return chain(caught.value)

    assert both(program) == ["ValueError(release of the program)", "KeyboardInterrupt(by the program)"]
