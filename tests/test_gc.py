"""Every object that can hold Python objects lets the collector through, does not leak, and survives being uninitialised.

A case builds an object around a marker; the marker refers back, so only the cycle collector can free the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import io
import itertools
import os
import socket
import ssl
import sys
import textwrap
import warnings
import weakref
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from tests.support import STDLIB, newer, run, succeeds

VAR: contextvars.ContextVar[Any] = contextvars.ContextVar("VAR")

Make = Callable[[Any, Any, "Marker"], Any]


class Marker:
    """Weakly referable, and everything that an object under test may want to hold."""

    ref: Any = None

    def callback(self, *args: Any) -> None:
        raise AssertionError("never called")

    def predicate(self) -> bool:
        return False

    async def forever(self) -> None:
        await asyncio.get_running_loop().create_future()

    def factory(self, loop: Any, coro: Any, **kwargs: Any) -> Any:
        raise AssertionError("never called")


class PlainProtocol(asyncio.Protocol):
    """With attributes."""


class PlainFile(io.BytesIO):
    """With attributes."""


CASES: dict[str, Make] = {}
#: cases whose object the running loop itself holds: collected when the loop is gone
HELD: set[str] = set()
#: cases whose object may let go of the marker at once
EARLY = {
    "task_group_failed",
    "wait_timeout",
    "sleep_started",
    "handle_cancelled",
    "thread_safe_handle_cancelled",
    "closed_loop_ready",
    "closed_loop_scheduled",
    "closed_loop_threadsafe",
}


def case(function: Make) -> Make:
    CASES[function.__name__.strip("_")] = function
    return function


def held(function: Make) -> Make:
    HELD.add(function.__name__.strip("_"))
    return case(function)


def started(awaitable: Any) -> Any:
    """The awaitable at its first suspension, without a task."""
    iterator = awaitable.__await__()
    next(iterator)
    return awaitable, iterator


def attributed(thing: Any, marker: Marker) -> Any:
    thing.marker = marker
    return thing


# -- futures and tasks -------------------------------------------------------------------------------------------------


@case
def future_attribute(aio, loop, marker):
    return attributed(loop.create_future(), marker)


@case
def future_result(aio, loop, marker):
    future = loop.create_future()
    future.set_result(marker)
    return future


@case
def future_exception(aio, loop, marker):
    future = loop.create_future()
    future.set_exception(ValueError(marker))
    future.exception()
    return future


@case
def future_cancel_message(aio, loop, marker):
    future = loop.create_future()
    future.cancel(marker)
    return future


@case
def future_cancelled_error(aio, loop, marker):
    future = loop.create_future()
    future.cancel(marker)
    try:
        future.result()
    except aio.CancelledError as error:
        marker.error = error
    return future


@case
def future_callback(aio, loop, marker):
    future = loop.create_future()
    future.add_done_callback(marker.callback)
    return future


@case
def future_many_callbacks(aio, loop, marker):
    future = loop.create_future()
    for _ in range(5):
        future.add_done_callback(marker.callback)
    return future


@case
def future_callback_context(aio, loop, marker):
    future = loop.create_future()
    context = contextvars.Context()
    context.run(VAR.set, marker)
    future.add_done_callback(print, context=context)
    return future


@case
def future_iterator(aio, loop, marker):
    future = attributed(loop.create_future(), marker)
    iterator = iter(future)
    next(iterator)
    return iterator


@case
def task_waiting(aio, loop, marker):
    async def body(marker):
        await loop.create_future()

    return aio.create_task(body(marker))


@case
def task_awaits_task(aio, loop, marker):
    async def inner(marker):
        await loop.create_future()

    async def outer():
        await task

    task = aio.create_task(inner(marker))
    return task, aio.create_task(outer())


@case
def task_context(aio, loop, marker):
    context = contextvars.Context()
    context.run(VAR.set, marker)
    return aio.create_task(asyncio_forever(loop), context=context)


@case
def task_result(aio, loop, marker):
    async def body(marker):
        return marker

    return aio.create_task(body(marker))


@case
def task_exception(aio, loop, marker):
    async def body(marker):
        raise ValueError(marker)

    task = aio.create_task(body(marker))
    task.add_done_callback(lambda task: task.exception())
    return task


@case
def task_cancelled(aio, loop, marker):
    task = aio.create_task(asyncio_forever(loop))
    loop.call_soon(task.cancel, marker)
    return task


@case
def task_cancelled_before_start(aio, loop, marker):
    async def body(marker):
        await loop.create_future()

    task = aio.create_task(body(marker))
    task.cancel(marker)
    return task


@case
def task_callback(aio, loop, marker):
    task = aio.create_task(asyncio_forever(loop))
    task.add_done_callback(marker.callback)
    return task


@newer((3, 12))
@case
def task_eager(aio, loop, marker):
    async def body(marker):
        await loop.create_future()

    return aio.eager_task_factory(loop, body(marker))


async def asyncio_forever(loop):
    await loop.create_future()


# -- subclasses ----------------------------------------------------------------------------------------------------------


def subclass(name: str, *make_args: Any) -> None:
    def make(aio, loop, marker):
        kind = getattr(aio, name)
        thing = type("Sub", (kind,), {})(*(arg(aio, loop) for arg in make_args))
        thing.itself = thing
        return attributed(thing, marker)

    make.__name__ = f"subclass_{name}"
    case(make)


def _coroutine(aio, loop):
    return asyncio_forever(loop)


for _name in ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "TaskGroup", "Runner", "Future"):
    subclass(_name)
for _name in ("Queue", "PriorityQueue", "LifoQueue"):
    subclass(_name)
subclass("Barrier", lambda aio, loop: 2)
subclass("Task", _coroutine)
subclass("Timeout", lambda aio, loop: None)
subclass("Handle", lambda aio, loop: print, lambda aio, loop: (), lambda aio, loop: loop)
subclass("TimerHandle", lambda aio, loop: 1.0, lambda aio, loop: print, lambda aio, loop: (), lambda aio, loop: loop)


# -- gather, shield, wait, … ---------------------------------------------------------------------------------------------


@case
def gather(aio, loop, marker):
    return aio.gather(attributed(loop.create_future(), marker), loop.create_future())


@case
def gather_attribute(aio, loop, marker):
    return attributed(aio.gather(loop.create_future()), marker)


@case
def gather_of_coroutines(aio, loop, marker):
    async def body(marker):
        await loop.create_future()

    return aio.gather(body(marker), body(None))


@case
def gather_done(aio, loop, marker):
    children = [loop.create_future() for _ in range(3)]
    outer = aio.gather(*children)
    for child in children:
        child.set_result(marker)
    return outer


@case
def gather_exception(aio, loop, marker):
    children = [loop.create_future() for _ in range(3)]
    outer = aio.gather(*children)
    children[0].set_exception(ValueError(marker))
    outer.add_done_callback(lambda outer: outer.exception())
    return outer


@case
def shield(aio, loop, marker):
    return aio.shield(attributed(loop.create_future(), marker))


@case
def shield_outer(aio, loop, marker):
    return attributed(aio.shield(loop.create_future()), marker)


@case
def wait(aio, loop, marker):
    return started(aio.wait([attributed(loop.create_future(), marker), loop.create_future()]))


@case
def wait_timeout(aio, loop, marker):
    futures = [attributed(loop.create_future(), marker)]
    awaitable, iterator = started(aio.wait(futures, timeout=3600))
    iterator.close()  # its timer is the loop's
    return awaitable, iterator


@case
def wait_for(aio, loop, marker):
    async def body():
        await aio.wait_for(attributed(loop.create_future(), marker), None)

    return aio.create_task(body())


@case
def as_completed(aio, loop, marker):
    return aio.as_completed([attributed(loop.create_future(), marker), loop.create_future()])


@case
def as_completed_next(aio, loop, marker):
    iterator = iter(aio.as_completed([attributed(loop.create_future(), marker)]))
    awaitable = next(iterator)
    return iterator, started(awaitable)


@case
def as_completed_done(aio, loop, marker):
    future = loop.create_future()
    future.set_result(marker)
    return aio.as_completed([future])


@newer((3, 13))
@case
def as_completed_async(aio, loop, marker):
    iterator = aiter(aio.as_completed([attributed(loop.create_future(), marker)]))
    return iterator, started(anext(iterator))


@case
def sleep_result(aio, loop, marker):
    return aio.sleep(3600, marker)


@case
def sleep_started(aio, loop, marker):
    awaitable, iterator = started(aio.sleep(3600, marker))
    iterator.close()
    return awaitable, iterator


@case
def sleep_zero(aio, loop, marker):
    return started(aio.sleep(0, marker))


@case
def to_thread(aio, loop, marker):
    return aio.to_thread(marker.callback, marker)


# -- locks ---------------------------------------------------------------------------------------------------------------


def taken_lock(aio, marker):
    lock = attributed(aio.Lock(), marker)
    try:
        lock.acquire().send(None)
    except StopIteration:
        pass
    assert lock.locked()
    return lock


@case
def lock(aio, loop, marker):
    return attributed(aio.Lock(), marker)


@case
def lock_acquire(aio, loop, marker):
    return attributed(aio.Lock(), marker).acquire()


@case
def lock_acquire_waiting(aio, loop, marker):
    return started(taken_lock(aio, marker).acquire())


@case
def lock_waiter_task(aio, loop, marker):
    return aio.create_task(taken_lock(aio, marker).acquire())


@case
def lock_context_manager(aio, loop, marker):
    return started(taken_lock(aio, marker).__aenter__())


@case
def event(aio, loop, marker):
    return attributed(aio.Event(), marker)


@case
def event_wait(aio, loop, marker):
    return attributed(aio.Event(), marker).wait()


@case
def event_wait_waiting(aio, loop, marker):
    return started(attributed(aio.Event(), marker).wait())


@case
def condition(aio, loop, marker):
    return attributed(aio.Condition(), marker)


@case
def condition_of_lock(aio, loop, marker):
    return aio.Condition(attributed(aio.Lock(), marker))


@case
def condition_wait(aio, loop, marker):
    return started(aio.Condition(taken_lock(aio, marker)).wait())


@case
def condition_wait_for(aio, loop, marker):
    return started(aio.Condition(taken_lock(aio, marker)).wait_for(marker.predicate))


@case
def semaphore(aio, loop, marker):
    return attributed(aio.Semaphore(0), marker)


@case
def semaphore_acquire(aio, loop, marker):
    return attributed(aio.Semaphore(0), marker).acquire()


@case
def semaphore_acquire_waiting(aio, loop, marker):
    return started(attributed(aio.Semaphore(0), marker).acquire())


@case
def bounded_semaphore(aio, loop, marker):
    return started(attributed(aio.BoundedSemaphore(0), marker).acquire())


@case
def barrier(aio, loop, marker):
    return attributed(aio.Barrier(2), marker)


@case
def barrier_wait(aio, loop, marker):
    return started(attributed(aio.Barrier(2), marker).wait())


# -- queues --------------------------------------------------------------------------------------------------------------


def queue_cases(name: str) -> None:
    def items(aio, loop, marker):
        queue = getattr(aio, name)()
        queue.put_nowait((0, marker))
        return queue

    def get(aio, loop, marker):
        return started(attributed(getattr(aio, name)(), marker).get())

    def put(aio, loop, marker):
        queue = getattr(aio, name)(1)
        queue.put_nowait((0, None))
        return started(queue.put((1, marker)))

    def join(aio, loop, marker):
        queue = attributed(getattr(aio, name)(), marker)
        queue.put_nowait((0, None))
        return started(queue.join())

    for make in (items, get, put, join):
        make.__name__ = f"{name}_{make.__name__}"
        case(make)


for _name in ("Queue", "PriorityQueue", "LifoQueue"):
    queue_cases(_name)


@case
def queue_get_unstarted(aio, loop, marker):
    return attributed(aio.Queue(), marker).get()


@case
def queue_put_unstarted(aio, loop, marker):
    return aio.Queue().put(marker)


# -- streams -------------------------------------------------------------------------------------------------------------


class Closing(asyncio.Transport):
    """A transport of which nothing is expected any more."""

    def __init__(self, marker: Any = None) -> None:
        super().__init__()
        self.marker = marker

    def is_closing(self) -> bool:
        return True


def streams(aio, loop, transport_marker=None) -> tuple[Any, Any, Any]:
    """A reader, its protocol, and a writer over both."""
    reader = aio.StreamReader(loop=loop)
    protocol = aio.StreamReaderProtocol(reader, loop=loop)
    return reader, protocol, aio.StreamWriter(Closing(transport_marker), protocol, reader, loop)


@case
def stream_reader_attribute(aio, loop, marker):
    return attributed(aio.StreamReader(loop=loop), marker)


@case
def stream_reader_exception(aio, loop, marker):
    reader = aio.StreamReader(loop=loop)
    reader.set_exception(ValueError(marker))
    return reader


@case
def stream_reader_transport(aio, loop, marker):
    reader = aio.StreamReader(loop=loop)
    reader.set_transport(Closing(marker))
    return reader


@case
def stream_reader_waiter(aio, loop, marker):
    reader = aio.StreamReader(loop=loop)
    reader._waiter = attributed(loop.create_future(), marker)
    return reader


@case
def stream_reader_buffer(aio, loop, marker):
    class Array(bytearray):
        pass

    reader = aio.StreamReader(loop=loop)
    reader._buffer = attributed(Array(), marker)
    return reader


@case
def stream_reader_read_unstarted(aio, loop, marker):
    return attributed(aio.StreamReader(loop=loop), marker).read(1)


@case
def stream_reader_read_all_waiting(aio, loop, marker):
    return started(attributed(aio.StreamReader(loop=loop), marker).read())


@case
def stream_reader_readuntil_waiting(aio, loop, marker):
    return started(attributed(aio.StreamReader(loop=loop), marker).readuntil(b"ab"))


@case
def stream_reader_derived_waiting(aio, loop, marker):
    class Mine(aio.StreamReader):
        pass

    return started(attributed(Mine(loop=loop), marker).readline())


@case
def stream_reader_task(aio, loop, marker):
    return aio.create_task(attributed(aio.StreamReader(loop=loop), marker).readexactly(1))


@case
def stream_protocol_attribute(aio, loop, marker):
    return attributed(aio.StreamReaderProtocol(None, loop=loop), marker)


@case
def stream_protocol_callback(aio, loop, marker):
    return aio.StreamReaderProtocol(aio.StreamReader(loop=loop), marker.callback, loop=loop)


@case
def stream_protocol_strong_reader(aio, loop, marker):
    reader = attributed(aio.StreamReader(loop=loop), marker)
    return aio.StreamReaderProtocol(reader, print, loop=loop)


@case
def stream_protocol_closed(aio, loop, marker):
    protocol = aio.StreamReaderProtocol(None, loop=loop)
    protocol.connection_lost(ValueError(marker))
    return protocol


@case
def stream_protocol_transport(aio, loop, marker):
    protocol = aio.StreamReaderProtocol(None, loop=loop)
    protocol.connection_made(Closing(marker))
    return protocol


@case
def stream_protocol_drain_waiters(aio, loop, marker):
    protocol = aio.StreamReaderProtocol(None, loop=loop)
    protocol.pause_writing()
    return protocol, started(protocol._drain_helper()), attributed(protocol, marker)


@case
def stream_writer_attribute(aio, loop, marker):
    return attributed(streams(aio, loop)[2], marker)


@case
def stream_writer_transport(aio, loop, marker):
    return streams(aio, loop, marker)[2]


@case
def stream_writer_reader(aio, loop, marker):
    reader, _, writer = streams(aio, loop)
    reader.marker = marker
    return writer


@case
def stream_writer_drain_started(aio, loop, marker):
    return started(attributed(streams(aio, loop)[2], marker).drain())


@case
def stream_writer_wait_closed_started(aio, loop, marker):
    return started(attributed(streams(aio, loop)[2], marker).wait_closed())


@case
def stream_server_unstarted(aio, loop, marker):
    return aio.start_server(marker.callback, "127.0.0.1", 0)


# -- groups, timeouts, runners ---------------------------------------------------------------------------------------------


@case
def task_group(aio, loop, marker):
    return attributed(aio.TaskGroup(), marker)


@case
@pytest.mark.skipif(
    sys.version_info >= (3, 15), reason="since 3.15 a group waits for its children even then, asyncio's too"
)
def task_group_entered(aio, loop, marker):
    async def body(marker):
        async with aio.TaskGroup() as group:
            marker.group = group
            group.create_task(asyncio_forever(loop))
            await loop.create_future()

    return aio.create_task(body(marker))


@case
def task_group_exiting(aio, loop, marker):
    async def child(marker):
        await loop.create_future()

    async def body(marker):
        async with aio.TaskGroup() as group:
            group.create_task(child(marker))

    return aio.create_task(body(marker))


@case
def task_group_failed(aio, loop, marker):
    async def fail(marker):
        raise ValueError(marker)

    async def body(marker):
        try:
            async with aio.TaskGroup() as group:
                group.create_task(fail(marker))
        except* ValueError:
            marker.group = group

    return aio.create_task(body(marker))


@case
def timeout(aio, loop, marker):
    return attributed(aio.timeout(None), marker)


@case
def timeout_entered(aio, loop, marker):
    async def body(marker):
        async with aio.timeout(None) as marker.timeout:
            await loop.create_future()

    return aio.create_task(body(marker))


@case
def timeout_expired(aio, loop, marker):
    async def body(marker):
        try:
            async with aio.timeout(-1) as marker.timeout:
                await loop.create_future()
        except TimeoutError as error:
            marker.error = error

    return aio.create_task(body(marker))


@case
def runner(aio, loop, marker):
    return attributed(aio.Runner(loop_factory=marker.callback), marker)


# -- handles and loops -----------------------------------------------------------------------------------------------------


@case
def handle(aio, loop, marker):
    return aio.Handle(marker.callback, (marker,), loop)


@case
def handle_context(aio, loop, marker):
    context = contextvars.Context()
    context.run(VAR.set, marker)
    return aio.Handle(print, (), loop, context)


@case
def timer_handle(aio, loop, marker):
    return aio.TimerHandle(1.0, marker.callback, (marker,), loop)


@case
def handle_cancelled(aio, loop, marker):
    handle = loop.call_soon(marker.callback, marker)
    handle.cancel()
    return handle


@case
def thread_safe_handle_cancelled(aio, loop, marker):
    handle = loop.call_soon_threadsafe(marker.callback, marker)
    handle.cancel()
    return handle


@held
def handle_in_loop(aio, loop, marker):
    return loop.call_later(3600, marker.callback, marker)


def connecting(loop: Any, coroutine: Any, **methods: Any) -> Any:
    """A coroutine that waits for one of these methods of the loop."""
    for name, method in methods.items():
        setattr(loop, name, method)
    try:
        coroutine.send(None)
    finally:
        for name in methods:
            delattr(loop, name)
    return coroutine


async def addresses(*args: Any, **hints: Any) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]


@case
def connection_looked_up(aio, loop, marker):
    coroutine = loop.create_connection(marker.callback, "name", 1)
    return connecting(loop, coroutine, getaddrinfo=lambda *args, **hints: loop.create_future())


@case
def connection_begun(aio, loop, marker):
    coroutine = loop.create_connection(marker.callback, "name", 1)
    return connecting(loop, coroutine, getaddrinfo=addresses, sock_connect=lambda *args: loop.create_future())


@case
@pytest.mark.skipif(STDLIB, reason="asyncio makes a task of it, which the collector reports")
def server_looked_up(aio, loop, marker):
    coroutine = loop.create_server(marker.callback, "name", 1)
    return connecting(loop, coroutine, getaddrinfo=lambda *args, **hints: loop.create_future())


@held
def thread_safe_handle_in_loop(aio, loop, marker):
    return loop.call_soon_threadsafe(marker.callback, marker)


@held
def loop_attribute(aio, loop, marker):
    return attributed(loop, marker)


@held
def loop_exception_handler(aio, loop, marker):
    loop.set_exception_handler(marker.callback)
    return loop


@held
def loop_reader(aio, loop, marker):
    read, write = os.pipe()
    loop.add_reader(read, marker.callback, marker)
    marker.fds = read, write
    weakref.finalize(marker, lambda: (os.close(read), os.close(write)))
    return loop


@case
def read_pipe(aio, loop, marker):
    read, write = os.pipe()
    transport = loop._make_read_pipe_transport(io.FileIO(read, "rb"), attributed(PlainProtocol(), marker))
    transport.peer = io.FileIO(write, "wb")
    transport.pause_reading()  # or the loop keeps it alive
    return transport


@case
def write_pipe(aio, loop, marker):
    """To a device: the loop does not watch it."""
    return loop._make_write_pipe_transport(io.FileIO(os.devnull, "wb"), attributed(PlainProtocol(), marker))


class PlainSubprocessProtocol(asyncio.SubprocessProtocol):
    """With attributes."""


class PlainChild:
    """What a Process takes for a transport and a protocol."""

    stdin = stdout = stderr = None

    def get_pid(self) -> int:
        return 1


@case
def process(aio, loop, marker):
    return aio.subprocess.Process(attributed(PlainChild(), marker), PlainChild(), loop)


@case
def process_streams(aio, loop, marker):
    child = PlainChild()
    child.stdout = attributed(aio.StreamReader(), marker)
    return aio.subprocess.Process(PlainChild(), child, loop)


@case
def subprocess_stream_protocol(aio, loop, marker):
    protocol = aio.subprocess.SubprocessStreamProtocol(1000, loop)
    protocol.stdout = marker
    return protocol, protocol._stdin_closed


@held
def loop_subprocess(aio, loop, marker):
    protocol = attributed(PlainSubprocessProtocol(), marker)
    return started(loop.subprocess_exec(lambda: protocol, "true"))


@case
def sendfile_fallback(aio, loop, marker):
    """A file that is read in the executor: the transport's protocol is that of the fallback."""
    other = aio.new_event_loop()
    other.run_in_executor = lambda *args: other.create_future()
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    transport = other._make_socket_transport(ours, attributed(PlainProtocol(), marker))
    transport.peer = peer
    transport.pause_reading()  # or it would want to resume, on a loop that is closed by then
    return started(other.sendfile(transport, attributed(PlainFile(), marker)))


class Paused(asyncio.DatagramProtocol):
    def __init__(self, marker):
        self.marker = marker

    def connection_made(self, transport):
        self.transport = transport
        transport.pause_reading()


@case
def datagram_transport(aio, loop, marker):
    """Paused, so that the loop has it no longer."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return loop._make_datagram_transport(sock, Paused(marker), None, None, {"marker": marker})


@held
def datagram_transport_waiting(aio, loop, marker):
    """With a datagram for which the kernel has no room: the loop watches for it."""
    sock, marker.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(1024))
    transport = loop._make_datagram_transport(sock, Paused(marker), None, None, {"peername": marker})
    transport.sendto(b"waits", marker)
    return transport


def other_loop(prepare: Callable[[Any, Any, Marker], Any]) -> Make:
    """A loop of its own, closed, with something in it."""

    def make(aio, loop, marker):
        other = aio.new_event_loop()
        prepare(aio, other, marker)
        other.close()
        return other

    make.__name__ = f"closed_loop_{prepare.__name__}"
    return case(make)


@other_loop
def ready(aio, loop, marker):
    loop.call_soon(marker.callback, marker)


@other_loop
def scheduled(aio, loop, marker):
    loop.call_later(100, marker.callback, marker)


@other_loop
def task_factory(aio, loop, marker):
    loop.set_task_factory(marker.factory)


@other_loop
def exception_handler(aio, loop, marker):
    loop.set_exception_handler(marker.callback)


@other_loop
def attribute(aio, loop, marker):
    loop.marker = marker


@other_loop
def threadsafe(aio, loop, marker):
    loop.call_soon_threadsafe(marker.callback, marker)


@case
def open_loop(aio, loop, marker):
    """Nobody closed it: collecting it closes it, with a ResourceWarning."""
    other = aio.new_event_loop()
    other.call_soon(marker.callback, marker)
    other.call_later(100, marker.callback, marker)
    other.set_task_factory(marker.factory)
    return attributed(other, marker)


@case
def open_loop_asked(aio, loop, marker):
    """Somebody waits for an answer that nobody takes in."""
    other = aio.new_event_loop()
    asking = other.getaddrinfo("localhost", 80)
    asking.send(None).add_done_callback(marker.callback)
    return attributed(other, marker), asking


def crowd(loop: Any, marker: Any) -> list[Any]:
    """Handles in copies of a context that refers to the marker: of a callback among many, and of a timer."""

    def schedule() -> list[Any]:
        VAR.set(marker)
        handles = [loop.call_soon(int) for _ in range(100)]
        return [handles[-1], loop.call_later(0, int)]

    return contextvars.copy_context().run(schedule)


@case
def open_loop_contexts(aio, loop, marker):
    other = aio.new_event_loop()
    crowd(other, marker)
    return other


@case
def handles_done(aio, loop, marker):
    return crowd(loop, marker)


@case
def handles_done_contexts(aio, loop, marker):
    return [handle._context for handle in crowd(loop, marker)]


# -- TLS -------------------------------------------------------------------------------------------------------------------

#: one for all: what a context costs is the standard library's business
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE


class Below(asyncio.Transport):
    def __init__(self, marker: Any = None) -> None:
        super().__init__()
        self.marker = marker

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    abort = close

    def _force_close(self, exc: Any) -> None:
        pass


def tls(aio, loop, app, waiter=None, context=CONTEXT):
    return aio.sslproto.SSLProtocol(loop, app, context, waiter)


@case
def ssl_protocol_above(aio, loop, marker):
    return tls(aio, loop, marker)


@case
def ssl_protocol_below(aio, loop, marker):
    protocol = tls(aio, loop, asyncio.Protocol())
    protocol.connection_made(Below(marker))
    protocol._handshake_timeout_handle.cancel()  # which the loop holds
    return protocol


@case
def ssl_protocol_attribute(aio, loop, marker):
    return attributed(tls(aio, loop, asyncio.Protocol()), marker)


@case
def ssl_protocol_waiter(aio, loop, marker):
    return tls(aio, loop, asyncio.Protocol(), attributed(loop.create_future(), marker))


@case
def ssl_protocol_buffer(aio, loop, marker):
    protocol = tls(aio, loop, marker)
    protocol.get_buffer(-1)
    protocol._app_transport._test__append_write_backlog(b"x")
    return protocol


@case
def ssl_transport(aio, loop, marker):
    return tls(aio, loop, marker)._app_transport


@case
def ssl_transport_attribute(aio, loop, marker):
    return attributed(tls(aio, loop, asyncio.Protocol())._app_transport, marker)


# -- the tests -------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Collected coroutines, tasks and loops complain; that is tested elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


def applicable(name: str) -> None:
    function = CASES[name]
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "skipif" and mark.args[0]:
            pytest.skip(mark.kwargs["reason"])


async def settle(aio: Any) -> None:
    for _ in range(6):
        await aio.sleep(0)


@pytest.mark.parametrize("name", CASES)
def test_cycle_is_collected(aio, name):
    applicable(name)

    def build(loop: Any) -> weakref.ref[Marker]:
        marker = Marker()
        marker.ref = CASES[name](aio, loop, marker)
        return weakref.ref(marker)

    async def main() -> weakref.ref[Marker]:
        loop = aio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        reference = build(loop)
        await settle(aio)
        assert name in EARLY or reference() is not None, "the case holds no marker: it tests nothing"
        if name not in HELD:
            gc.collect()
            assert reference() is None, "alive after a collection"
        return reference

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.disable()  # the marker must still be there when it is looked at
        try:
            reference = run(aio, main())
        finally:
            gc.enable()
        gc.collect()
    assert reference() is None, "alive after the loop was closed"


def resident() -> int:
    """The process's resident memory in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


#: cases that cost a descriptor or a thread each
COSTLY = ("closed_loop", "open_loop", "loop_", "subclass_Runner")
#: a body that is collected inside `async with TaskGroup()` awaits once more, which no coroutine may do then
NOT_REPEATED = {"task_group_entered", *HELD}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_REPEATED])
def test_creation_does_not_leak(aio, name):
    """Made and dropped a few thousand times: neither Python's blocks nor the process's memory keep growing.

    Free lists and arenas fill up for a while; a leak grows in every window.
    """
    applicable(name)
    rounds, per_round = (10, 5) if name.startswith(COSTLY) else (80, 20)

    async def window(loop: Any) -> tuple[int, int]:
        for _ in range(rounds):
            for _ in range(per_round):
                marker = Marker()
                marker.ref = CASES[name](aio, loop, marker)
            del marker
            await settle(aio)
            gc.collect()
        return sys.getallocatedblocks(), resident()

    async def main() -> list[tuple[int, int]]:
        loop = aio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        return [await window(loop) for _ in range(6)]

    gc.collect()
    gc.freeze()  # hundreds of collections: each should only see this test's objects
    try:
        windows = run(aio, main())
    finally:
        gc.unfreeze()
    made = rounds * per_round
    blocks = [after[0] - before[0] for before, after in itertools.pairwise(windows)]
    memory = [after[1] - before[1] for before, after in itertools.pairwise(windows)]
    if name == "open_loop" and max(min(blocks) / made, min(memory) / made / 48) >= 1:
        pytest.xfail("some bytes stay for each loop that nobody closed, now and then: the cause is not found yet")
    # a loop that leaks leaks more than a block
    assert min(blocks) < (made if name.startswith(COSTLY) else made // 5), (
        f"more blocks after each {made} objects: {blocks}"
    )
    assert min(memory) < made * 48, f"more bytes after each {made} objects: {memory}"


# -- what is young is not shown to the collector yet -------------------------------------------------------------------------


@pytest.mark.parametrize("made", [1, 3, 20])
def test_what_nobody_awaits_is_collected(aio, made):
    """Awaitables and methods in rings with what they belong to, few of them or many."""

    async def main() -> list[Any]:
        references = []
        for _ in range(made):
            queue: Any = aio.Queue()
            queue.put_nowait(queue.get())
            queue.put_nowait(queue.put(queue))
            lock: Any = aio.Lock()
            lock.entering, lock.leaving = lock.__aenter__, lock.__aexit__
            lock.awaitables = [lock.acquire(), lock.__aenter__(), aio.sleep(0, lock)]
            references += [weakref.ref(queue), weakref.ref(lock)]
        del queue, lock
        await settle(aio)
        gc.collect()
        return [reference() for reference in references]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not any(run(aio, main()))


def test_a_collection_may_come_at_any_moment(aio):
    """Between the making of an awaitable and its end, whatever else is made, awaited, closed or dropped meanwhile."""

    async def main(aio: Any, random: Random) -> list[object]:
        queue, lock = aio.Queue(), aio.Lock()
        trace: list[object] = []
        waiting: list[Any] = []
        for number in range(2000):
            match random.randrange(10):
                case 0 | 1:
                    queue.put_nowait(number)
                    waiting.append(queue.get())
                case 2:
                    waiting.append(queue.put(number))
                case 3:
                    waiting.append(aio.sleep(0, number))
                case 4:
                    waiting.append(lock.__aexit__)
                case 5:
                    async with lock:
                        trace.append(queue.qsize())
                case 6:
                    gc.collect(random.randrange(2))
                case _ if waiting:
                    one = waiting.pop(random.randrange(len(waiting)))
                    if callable(one):
                        trace.append(one == lock.__aexit__)
                    elif random.randrange(2) and not queue.empty():
                        trace.append(await one)
                    else:
                        one.close()
                case _:
                    await aio.sleep(0)
        for one in waiting:
            if not callable(one):
                one.close()
        return trace

    for seed in range(3):
        assert run(aio, main(aio, Random(seed))) == run(asyncio, main(asyncio, Random(seed)))


# -- uninitialised instances -------------------------------------------------------------------------------------------------

CLASSES = sorted(
    name
    for name in {*asyncio.__all__, "TaskGroup", "EventLoop", "BaseEventLoop", "SelectorEventLoop"}
    if isinstance(getattr(asyncio, name, None), type) and not issubclass(getattr(asyncio, name), BaseException)
)

PRELUDE = """
import faulthandler, gc, ssl, sys, warnings, weakref
faulthandler.enable()
faulthandler.dump_traceback_later(30, exit=True)
warnings.simplefilter("ignore")
sys.unraisablehook = lambda unraisable: None

def attempt(function, *args, **kwargs):
    try:
        result = function(*args, **kwargs)
    except (Exception, aio.CancelledError, GeneratorExit):
        return None
    # a coroutine or an iterator: take a step
    for step in ("send", "__next__"):
        if hasattr(result, step):
            try:
                result.send(None) if step == "send" else next(result)
            except (Exception, aio.CancelledError):
                pass
            break
    return result

SKIP = {"__class__", "__init_subclass__", "__subclasshook__", "__reduce__", "__reduce_ex__"}

def poke(thing):
    # every attribute read, written and deleted, every method called in a few ways
    for name in dir(type(thing)):
        if name in SKIP:
            continue
        value = attempt(getattr, thing, name)
        if callable(value):
            for args in ((), (None,), (thing,), (1,), (None, None), ("x", 1, None)):
                attempt(value, *args)
        for new in (None, 5, thing, [], False):
            attempt(setattr, thing, name, new) if not name.startswith("__") else None
        attempt(delattr, thing, name) if not name.startswith("__") else None
    for function in (repr, str, hash, bool, dir, iter, len, gc.get_referents, weakref.ref, vars):
        attempt(function, thing)
    attempt(lambda: thing == thing)
    attempt(lambda: thing < thing)
"""


@pytest.mark.parametrize("name", CLASSES)
def test_uninitialised(aio, name):
    """`Cls.__new__(Cls)`, and a subclass whose __init__ never calls super: ordinary exceptions at most."""
    if STDLIB and name == "Task":
        pytest.skip("asyncio's own Task crashes the interpreter here")
    if not hasattr(aio, name):
        pytest.skip(f"no {name}")
    body = f"""
    cls = aio.{name}
    class Lazy(cls):
        def __init__(self, *args):
            pass
        def run_forever(self):
            raise RuntimeError
    def make_all():
        for kind in (cls, Lazy):
            thing = attempt(kind.__new__, kind)
            if thing is None:
                continue
            poke(thing)
            for args in ((), (None,), (thing,), (1, print, (), None)):
                attempt(kind.__init__, thing, *args)
            poke(thing)
            again = attempt(kind.__new__, kind)
            del thing, again
            gc.collect()
    make_all()
    async def inside():
        make_all()
    attempt(lambda: inside().send(None))
    gc.collect()
    print("survived")
    """
    assert succeeds(PRELUDE + textwrap.dedent(body)).endswith("survived\n")


def test_internal_objects_uninitialised(aio):
    """The types behind sleep(), acquire(), as_completed(), … : not constructible, or harmless when constructed."""
    body = """
    kinds = set()
    async def main():
        loop = aio.get_running_loop()
        lock, event, queue = aio.Lock(), aio.Event(), aio.Queue()
        future = loop.create_future()
        tls = aio.sslproto.SSLProtocol(loop, None, ssl.create_default_context(), None, server_hostname="x")
        things = [
            aio.sleep(0), aio.sleep(1), lock.acquire(), lock.__aenter__(), event.wait(), queue.get(), queue.put(1),
            queue.join(), aio.Semaphore().acquire(), aio.Barrier(2).wait(), aio.Condition().wait(), aio.gather(future),
            aio.shield(future), aio.wait([future]), aio.wait_for(future, 1), aio.as_completed([future]), future,
            iter(future), aio.timeout(1), aio.timeout(1).__aenter__(), aio.TaskGroup(), aio.TaskGroup().__aenter__(),
            aio.to_thread(print), loop.call_soon(print), loop.call_later(1, print), aio.current_task(), loop,
            loop.shutdown_asyncgens(), loop.sock_recv, aio.current_task().get_coro(), future.__await__(),
            aio.StreamReader(), aio.StreamReader().read(), aio.StreamReader().readline(),
            aio.StreamReaderProtocol(aio.StreamReader()), aio.StreamReaderProtocol(aio.StreamReader())._drain_helper(),
            aio.start_server(print), aio.open_connection(),
            next(iter(aio.as_completed([future]))), loop.run_in_executor, tls, tls._app_transport,
        ]
        for thing in things:
            kinds.add(type(thing))
            kinds.update(type(attempt(getattr, thing, name)) for name in dir(thing) if not name.startswith("__"))
            attempt(thing.__await__) if hasattr(type(thing), "__await__") else None
            if hasattr(thing, "close") and thing is not loop:
                attempt(thing.close)
        future.cancel()
    with aio.Runner() as runner:
        runner.run(main())
    import builtins, types
    ordinary = {thing for module in (builtins, types) for thing in vars(module).values() if isinstance(thing, type)}
    if aio.__name__ == "asyncio":
        ordinary.add(aio.Task)  # crashes the interpreter
    for kind in sorted(kinds, key=repr):
        if kind in ordinary or kind is type or issubclass(kind, BaseException) or kind.__module__ in ("ssl", "_ssl"):
            continue
        for maker in (lambda: kind.__new__(kind), lambda: object.__new__(kind), kind, lambda: kind(None)):
            thing = attempt(maker)
            if thing is not None:
                poke(thing)
        del thing
        gc.collect()
    print("survived")
    """
    assert succeeds(PRELUDE + textwrap.dedent(body)).endswith("survived\n")


def test_the_cases_can_fail(aio):
    """A class that hides its members from the collector fails the check."""

    async def main() -> bool:
        marker = Marker()
        keep.append(attributed(aio.Lock(), marker))  # what a missing traverse looks like from here
        reference = weakref.ref(marker)
        del marker
        gc.collect()
        return reference() is None

    keep: list[Any] = []
    assert not run(aio, main())
