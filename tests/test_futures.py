"""asyncio.Future: states, callbacks, awaiting, texts."""

from __future__ import annotations

import contextvars
import copy
import gc
import pickle
import re
import sys
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import Reports, run, run_hops


class Boom(Exception):
    pass


@pytest.fixture
def loop(aio: Any) -> Iterator[Any]:
    loop = aio.new_event_loop()
    yield loop
    loop.close()
    gc.collect()


def spin(loop: Any) -> None:
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()


def test_pending(aio, loop):
    future = loop.create_future()
    assert type(future) is aio.Future
    assert (future.done(), future.cancelled(), future._state) == (False, False, "PENDING")
    assert future.get_loop() is loop
    with pytest.raises(aio.InvalidStateError, match=r"Result is not (ready|set)\."):
        future.result()
    with pytest.raises(aio.InvalidStateError, match="Exception is not set."):
        future.exception()
    future.cancel()


def test_result(aio, loop):
    future = loop.create_future()
    assert future.set_result("r") is None
    assert (future.done(), future.cancelled(), future._state) == (True, False, "FINISHED")
    assert future.result() == "r"
    assert future.exception() is None
    assert future.cancel() is False
    for finish in (lambda: future.set_result(1), lambda: future.set_exception(Boom())):
        with pytest.raises(aio.InvalidStateError):
            finish()


def test_exception(aio, loop):
    future, error = loop.create_future(), Boom("text")
    assert future.set_exception(error) is None
    assert future.exception() is error
    with pytest.raises(Boom) as raised:
        future.result()
    assert raised.value is error
    future = loop.create_future()
    future.set_exception(Boom)
    assert type(future.exception()) is Boom
    for bad in (5, "x", int, object()):
        with pytest.raises(TypeError):
            loop.create_future().set_exception(bad)


def test_traceback_does_not_grow(aio, loop):
    """Each result() raises the same exception anew: its traceback must not collect the callers."""
    future = loop.create_future()
    future.set_exception(Boom())
    depths = []
    for _ in range(4):
        try:
            future.result()
        except Boom as error:
            depths.append(len(traceback.extract_tb(error.__traceback__)))
    assert len(set(depths)) == 1


def test_stop_iteration(aio, loop):
    """An exception that a coroutine cannot raise: refused up to 3.12, wrapped from 3.13 on."""
    future = loop.create_future()
    if sys.version_info < (3, 13):
        with pytest.raises(TypeError, match="StopIteration interacts badly with generators"):
            future.set_exception(StopIteration())
        assert not future.done()
    else:
        future.set_exception(StopIteration("x"))
        assert (
            str(future.exception())
            == "StopIteration interacts badly with generators and cannot be raised into a Future"
        )
        assert type(future.exception().__cause__) is StopIteration


def test_cancel(aio, loop):
    future = loop.create_future()
    assert future.cancel() is True
    assert future.cancel() is False
    assert (future.done(), future.cancelled(), future._state) == (True, True, "CANCELLED")
    for ask in (future.result, future.exception):
        with pytest.raises(aio.CancelledError) as raised:
            ask()
        assert raised.value.args == ()
    with pytest.raises(aio.InvalidStateError):
        future.set_result(1)


@pytest.mark.parametrize("message", ["m", 7, ("a", "b"), Boom("e")])
def test_cancel_message(aio, loop, message):
    future = loop.create_future()
    future.cancel(message)
    assert future._cancel_message is message
    with pytest.raises(aio.CancelledError) as raised:
        future.result()
    assert raised.value.args == (message,)
    future = loop.create_future()
    future.cancel(msg=message)
    assert future._make_cancelled_error().args == (message,)


def test_callbacks_run_in_order_from_the_loop(aio, loop):
    log: list[Any] = []
    future = loop.create_future()
    for n in range(4):
        future.add_done_callback(lambda future, n=n: log.append((n, future.result())))
    future.set_result("r")
    assert log == []
    loop.call_soon(log.append, "after")
    spin(loop)
    assert log == [(0, "r"), (1, "r"), (2, "r"), (3, "r"), "after"]


def test_callback_of_a_done_future(aio, loop):
    log: list[Any] = []
    future = loop.create_future()
    future.set_result(1)
    future.add_done_callback(log.append)
    assert log == []
    spin(loop)
    assert log == [future]
    assert future.remove_done_callback(log.append) == 0


def test_remove_done_callback(aio, loop):
    def one(future: Any) -> None:
        log.append("one")

    def two(future: Any) -> None:
        log.append("two")

    log: list[str] = []
    future = loop.create_future()
    for callback in (one, two, one, one):
        future.add_done_callback(callback)
    assert future.remove_done_callback(one) == 3
    assert future.remove_done_callback(one) == 0
    future.set_result(None)
    spin(loop)
    assert log == ["two"]


def test_callbacks_attribute(aio, loop):
    """`_callbacks`: pairs of callback and context, None when there are none."""
    future = loop.create_future()
    assert not future._callbacks
    future.add_done_callback(print)
    context = contextvars.Context()
    future.add_done_callback(len, context=context)
    (first, _), (second, given) = future._callbacks
    assert (first, second) == (print, len)
    assert given is context
    future.remove_done_callback(print)
    future.remove_done_callback(len)
    assert not future._callbacks


def test_callback_context(aio, loop):
    var = contextvars.ContextVar("var", default=0)
    seen = []
    own = contextvars.Context()
    own.run(var.set, 2)

    def prepare() -> None:
        var.set(1)
        future.add_done_callback(lambda _: seen.append(var.get()))
        future.add_done_callback(lambda _: seen.append(var.get()), context=own)
        var.set(3)

    future = loop.create_future()
    contextvars.copy_context().run(prepare)
    future.set_result(None)
    spin(loop)
    assert seen == [1, 2]


def test_arguments(aio, loop):
    future = loop.create_future()
    for call in (
        lambda: aio.Future(loop),
        lambda: aio.Future(loop=loop, x=1),
        lambda: future.add_done_callback(),
        lambda: future.add_done_callback(print, contextvars.copy_context()),
        lambda: future.add_done_callback(fn=print),
        lambda: future.remove_done_callback(),
        lambda: future.set_result(),
        lambda: future.set_exception(),
        lambda: future.cancel(1, 2),
        lambda: future.result(1),
    ):
        with pytest.raises(TypeError):
            call()
    assert not future.done()
    future.cancel()


def test_await(aio):
    """A finished future does not suspend; a pending one takes one hop after its result."""

    async def finished() -> Any:
        future = aio.get_running_loop().create_future()
        future.set_result("r")
        return await future

    async def pending() -> Any:
        loop = aio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, "p")
        return await future

    assert run_hops(aio, finished()) == ("r", 0)
    assert run_hops(aio, pending()) == ("p", 2)


def test_many_waiters_wake_in_order(aio):
    async def main() -> list[int]:
        log: list[int] = []
        future = aio.get_running_loop().create_future()

        async def waiter(n: int) -> None:
            await future
            log.append(n)

        tasks = [aio.create_task(waiter(n)) for n in range(5)]
        await aio.sleep(0)
        future.set_result(None)
        await aio.gather(*tasks)
        return log

    assert run(aio, main()) == [0, 1, 2, 3, 4]


def test_iteration_protocol(aio, loop):
    future = loop.create_future()
    iterator = future.__await__()
    assert iter(iterator) is iterator
    assert next(iterator) is future
    assert future._asyncio_future_blocking is True
    future.set_result("r")
    with pytest.raises(StopIteration) as stopped:
        next(iterator)
    assert stopped.value.value == "r"


def test_blocking_flag(aio, loop):
    future = loop.create_future()
    assert future._asyncio_future_blocking is False
    future._asyncio_future_blocking = True
    assert future._asyncio_future_blocking is True
    future.cancel()


def test_repr(aio, loop):
    future = loop.create_future()
    assert repr(future) == "<Future pending>"
    future.add_done_callback(print)
    assert repr(future) == "<Future pending cb=[print()]>"
    future.add_done_callback(callback)
    place = rf"{re.escape(__file__)}:{callback.__code__.co_firstlineno}"
    assert re.fullmatch(rf"<Future pending cb=\[print\(\), callback\(\) at {place}\]>", repr(future))
    future.add_done_callback(print)
    assert ", <1 more>, " in repr(future)
    future.set_result(42)
    assert repr(future) == "<Future finished result=42>"
    future = loop.create_future()
    future.set_exception(Boom("x"))
    assert repr(future) == "<Future finished exception=Boom('x')>"
    future.exception()
    future = loop.create_future()
    future.cancel()
    assert repr(future) == "<Future cancelled>"
    future = loop.create_future()
    future.set_result("x" * 500)
    assert len(repr(future)) < 200


def callback(future: Any) -> None:
    pass


class Sub:
    """Made into a subclass of the tested Future by `sub`."""


@pytest.fixture
def sub(aio: Any) -> Any:
    return type("Sub", (aio.Future,), {})


def test_subclass(aio, loop, sub):
    future = sub(loop=loop)
    assert repr(future) == "<Sub pending>"
    future.attribute = 5
    assert future.attribute == 5
    future.set_result(1)
    assert isinstance(future, aio.Future)
    assert aio.isfuture(future)


def test_attributes_and_weakrefs(aio, loop):
    future = loop.create_future()
    future.note = "n"
    assert future.note == "n"
    reference = weakref.ref(future)
    del future
    gc.collect()
    assert reference() is None
    future = loop.create_future()
    for name in ("_state", "_loop", "_result", "_exception", "_callbacks"):
        getattr(future, name)
        with pytest.raises(AttributeError):
            setattr(future, name, 1)


def test_is_not_copied(aio, loop):
    future = loop.create_future()
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(future)
    assert hash(future) == object.__hash__(future)
    assert future != loop.create_future()


def test_generic(aio):
    assert aio.Future[int].__origin__ is aio.Future


def test_loop_argument(aio, loop):
    assert aio.Future(loop=loop).get_loop() is loop

    async def main() -> Any:
        return aio.Future().get_loop() is aio.get_running_loop()

    assert run(aio, main()) is True
    with pytest.raises(AttributeError):
        aio.Future(loop=5)


def test_without_a_running_loop(aio):
    """Future() falls back on the policy's loop, or says that there is none."""
    if sys.version_info >= (3, 14):
        with pytest.raises(RuntimeError):
            aio.Future()


def test_isfuture(aio, loop):
    class Fake:
        _asyncio_future_blocking = False

    class NotFake:
        _asyncio_future_blocking = None

    assert aio.isfuture(loop.create_future())
    assert aio.isfuture(Fake())
    assert not aio.isfuture(NotFake())
    assert not aio.isfuture(aio.Future)
    assert not aio.isfuture(5)


def test_never_retrieved_report(aio, loop):
    reports = Reports()
    loop.set_exception_handler(reports)
    loop.create_future().set_exception(Boom("lost"))
    loop.create_future().set_exception(aio.CancelledError())
    gc.collect()
    assert reports.messages == ["Future exception was never retrieved"] * 2
    assert "source_traceback" not in reports.contexts[0]
    loop.set_debug(True)
    loop.create_future().set_exception(Boom("lost"))
    gc.collect()
    assert any(frame.name == "test_never_retrieved_report" for frame in reports.contexts[2]["source_traceback"])


def test_debug_repr(aio, loop):
    loop.set_debug(True)
    future = loop.create_future()
    line = sys._getframe().f_lineno - 1
    assert repr(future) == f"<Future pending created at {__file__}:{line}>" or "base_events.py" in repr(future)
    assert future._source_traceback is not None
    loop.set_debug(False)
    assert loop.create_future()._source_traceback is None


def test_reinitialised(aio, loop):
    """A second __init__ starts afresh up to 3.14 and is refused from 3.15 on."""
    future = loop.create_future()
    future.set_result(1)
    if sys.version_info >= (3, 15):
        with pytest.raises(RuntimeError):
            future.__init__(loop=loop)
    else:
        future.__init__(loop=loop)
        assert not future.done()
