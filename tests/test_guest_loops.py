"""A loop that runs inside of another one, or whose turns a derived class has taken over: asyncio's private hooks for that."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest

import aioxide
from tests.support import STDLIB, succeeds

LOOPS = [asyncio.SelectorEventLoop, aioxide.EventLoop]
hooks = pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio has the hooks since 3.13")


@pytest.fixture(params=LOOPS, ids=["asyncio", "aioxide"])
def base(request: pytest.FixtureRequest) -> type:
    return request.param


@hooks
def test_by_hand(base: type) -> None:
    """The host makes the turns; timers, callbacks of other threads and descriptors are served as ever."""
    loop = base()
    before = sys.get_asyncgen_hooks()
    loop._run_forever_setup()
    assert asyncio.get_running_loop() is loop
    assert loop.is_running()
    assert sys.get_asyncgen_hooks() != before
    one, other = socket.socketpair()
    one.setblocking(False)
    task = loop.create_task(asyncio.wait_for(loop.sock_recv(one, 10), 5))
    other.send(b"guest")
    for _ in range(200):
        loop.call_soon(int)  # a turn that does not wait
        loop._run_once()
        if task.done():
            break
    assert task.result() == b"guest"
    loop._run_forever_cleanup()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    assert not loop.is_running()
    assert sys.get_asyncgen_hooks() == before
    assert loop.run_until_complete(asyncio.sleep(0, "still a loop")) == "still a loop"
    one.close()
    other.close()
    loop.close()


@hooks
def test_refusals(base: type) -> None:
    loop = base()
    loop._run_forever_setup()
    if sys.version_info >= (3, 14) or base is aioxide.EventLoop:  # asyncio 3.13 cleans up after the loop that runs
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            loop.run_forever()
    with pytest.raises(RuntimeError, match="This event loop is already running"):
        loop._run_forever_setup()
    loop._run_forever_cleanup()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop._run_forever_setup()


@hooks
def test_overridden(base: type) -> None:
    log: list[str] = []

    class Guest(base):  # type: ignore[misc]
        def _run_forever_setup(self) -> None:
            log.append("set up")
            super()._run_forever_setup()

        def _run_forever_cleanup(self) -> None:
            log.append("clean up")
            super()._run_forever_cleanup()

    loop = Guest()
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(int, "no number")
    loop.set_exception_handler(lambda loop, context: (log.append("error"), loop.stop()))
    loop.run_forever()
    assert log == ["set up", "clean up", "set up", "error", "clean up"]
    loop.close()


def test_own_turns(base: type) -> None:
    turns = 0

    class Counting(base):  # type: ignore[misc]
        def _run_once(self) -> None:
            nonlocal turns
            turns += 1
            super()._run_once()

    loop = Counting()
    loop.run_until_complete(asyncio.sleep(0))
    # one for the first step, one for the second, one for the callback that stops the loop
    assert turns == 3
    real = loop._run_once
    calls: list[Any] = []
    loop._run_once = lambda: (calls.append(turns), real())[1]
    loop.run_until_complete(asyncio.sleep(0))
    assert calls == [3, 4, 5]
    loop.close()


def test_origin_tracking(base: type) -> None:
    loop, depth = base(), sys.get_coroutine_origin_tracking_depth()
    loop._set_coroutine_origin_tracking(True)
    loop._set_coroutine_origin_tracking(True)
    assert sys.get_coroutine_origin_tracking_depth() == 10
    loop._set_coroutine_origin_tracking(False)
    assert sys.get_coroutine_origin_tracking_depth() == depth
    loop.close()


@hooks
@pytest.mark.skipif(STDLIB, reason="aioxide's own")
def test_a_host_that_lets_go_of_its_guest_too_soon() -> None:
    """What our locks know of the running loop is a loop that is there, though nobody has said that it runs no more."""
    printed = succeeds("""
        import asyncio, gc, sys, threading, weakref

        def host():
            loop = aio.EventLoop()
            loop._run_forever_setup()
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(None, None)
            there = weakref.ref(loop)
            del loop
            gc.collect()
            try:
                aio.Lock().acquire().send(None)  # (asks for the task that runs)
            except StopIteration:
                print(there() is not None)
            aio.run(asyncio.sleep(0))
            gc.collect()
            print(there() is None)

        # (in the main thread it would have left the descriptor for signals behind, too)
        thread = threading.Thread(target=host)
        thread.start()
        thread.join()
    """)
    assert printed == "True\nTrue\n"


@hooks
@pytest.mark.skipif(STDLIB, reason="aioxide's own")
@pytest.mark.parametrize("finalizer", ["asyncio's", "its own"])
def test_a_guest_that_is_dropped_leaves_no_descriptor_for_signals(finalizer: str) -> None:
    """Its number is somebody else's from then on."""
    printed = succeeds(
        """
        import asyncio, os, signal, stat, sys, warnings
        warnings.simplefilter("ignore")

        class Guest(aio.EventLoop):
            if sys.argv[1] == "its own":
                def __del__(self):
                    pass

        def host():
            loop = Guest()
            loop._run_forever_setup()
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(None, None)
            return number()

        def number():
            found = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(found, warn_on_full_buffer=False)
            return found

        async def main():
            return number()

        of_guest = host()
        of_next = aio.run(main())
        others = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
        left = number()
        print(of_guest != -1, of_next != -1, left == -1 or stat.S_ISFIFO(os.fstat(left).st_mode))
        if sys.argv[1] != "its own":
            print(left)
        """,
        finalizer,
    )
    assert printed == "True True True\n" + ("-1\n" if finalizer == "asyncio's" else "")
