"""Beyond the public names: what programs and debuggers read of asyncio's objects is there on ours, or stands here with its reason.

An object of each class is made by asyncio and by aioxide in the same way, and compared attribute by attribute.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
from typing import Any

import pytest

import aioxide


def names(text: str) -> set[str]:
    return set(text.split())


#: The inner workings of asyncio's that are Rust here: nobody but asyncio calls them.
ABSENT = {
    "EventLoop": names(
        # the state of a turn, and of the loop's beginning and end: event_loop/run.rs
        """_old_agen_hooks _asyncgens_shutdown_called _coroutine_origin_tracking_enabled
        _coroutine_origin_tracking_saved_depth _check_signal _watcher"""
        # waking up: no pair of sockets but an eventfd
        " _ssock _csock _internal_fds _make_self_pipe _close_self_pipe _read_from_self _process_self_data"
        # servers and connections: servers/, event_loop/connecting.rs
        " _accept_connection _accept_connection2 _start_serving _transports _unix_server_sockets"
        # one callback each of sock_recv and its kin: event_loop/sockets.rs
        """ _sock_accept _sock_connect _sock_connect_cb _sock_read_done _sock_write_done _sock_recv _sock_recv_into
        _sock_recvfrom _sock_recvfrom_into _sock_sendall _sock_sendto _sock_sendfile_native_impl
        _sock_sendfile_update_filepos _sock_add_cancellation_callback"""
    ),
    "Runner": names("_on_sigint"),
    "TaskGroup": names("_aexit _cancel_on_enter"),
    "Timeout": names("_insert_timeout_error __final__"),
    "Server": names("_backlog _context _protocol_factory"),
    "Process": names("_noop"),
    # its buffer's limits are get_write_buffer_limits(); the rest are the callbacks of asyncio's reading and writing
    "transport": names(
        """_high_water _low_water _set_write_buffer_limits _maybe_pause_protocol _maybe_resume_protocol
        _protocol_connected _server _context _buffer_factory _add_writer _call_soon _read_ready_cb
        _read_ready__data_received _read_ready__get_buffer _read_ready__on_eof _adjust_leftover_buffer
        _get_sendmsg_buffer _write_send _write_sendmsg"""
    ),
    "process transport": names(
        "_call _exit_waiters _pending_calls _pipe_connection_lost _pipe_data_received _start _try_finish"
    ),
}

#: What Python itself puts into a class that is written in Python.
OF_PYTHON = names(
    """__dict__ __weakref__ __annotations__ __annotate__ __annotate_func__ __annotations_cache__ __abstractmethods__
    __static_attributes__ __firstlineno__"""
)


async def nothing() -> None: ...


async def look(aio: Any, wanted: dict[str, set[str]] | None) -> dict[str, set[str]]:
    """The attributes of an object of each class; with `wanted`, those of them that it has."""
    loop = aio.get_running_loop()
    server = await aio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
    process = await aio.create_subprocess_exec(sys.executable, "-S", "-c", "", stdout=aio.subprocess.PIPE)
    made: dict[str, Any] = {
        name: getattr(aio, name)()
        for name in [
            "Lock",
            "Event",
            "Condition",
            "Semaphore",
            "BoundedSemaphore",
            "Queue",
            "LifoQueue",
            "PriorityQueue",
            "Future",
            "Runner",
        ]
    }
    made |= {
        "TaskGroup": aio.TaskGroup(),
        "Barrier": aio.Barrier(2),
        "Timeout": aio.timeout(3),
        "Task": aio.create_task(nothing()),
        "Handle": loop.call_soon(int),
        "TimerHandle": loop.call_later(0, int),
        "EventLoop": loop,
        "Server": server,
        "StreamReader": reader,
        "StreamWriter": writer,
        "StreamReaderProtocol": writer.transport.get_protocol(),
        "transport": writer.transport,
        "Process": process,
        "process transport": process._transport,
    }
    if wanted is None:
        found = {name: set(dir(thing)) - OF_PYTHON for name, thing in made.items()}
    else:
        found = {name: {one for one in wanted[name] if hasattr(thing, one)} for name, thing in made.items()}
    writer.close()
    await writer.wait_closed()
    await process.communicate()
    server.close()
    await server.wait_closed()
    return found


def run(aio: Any, wanted: dict[str, set[str]] | None = None) -> dict[str, set[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's child watchers
        with aio.Runner(loop_factory=aio.SelectorEventLoop) as runner:
            return runner.run(look(aio, wanted))


def test_every_attribute_but_the_inner_workings() -> None:
    theirs = run(asyncio)
    ours = run(aioxide, theirs)
    missing = {name: theirs[name] - ours[name] for name in theirs}
    assert missing == {name: ABSENT.get(name, set()) & theirs[name] for name in theirs}


CLASSES = [
    name
    for name in asyncio.__all__
    if isinstance(inspect.getattr_static(asyncio, name, None), type)
    and getattr(asyncio, name) is not getattr(aioxide, name)
]


@pytest.mark.parametrize("name", CLASSES)
def test_bases(name: str) -> None:
    """Whatever public class asyncio's derives from, ours derives from aioxide's of that name."""
    ours, theirs = getattr(aioxide, name), getattr(asyncio, name)
    for base in theirs.__mro__[1:]:
        if base.__name__ in asyncio.__all__ and base.__module__.startswith(("asyncio", "_asyncio")):
            assert issubclass(ours, getattr(aioxide, base.__name__)), base


@pytest.mark.parametrize("name", CLASSES)
def test_properties_are_properties(name: str) -> None:
    ours, theirs = getattr(aioxide, name), getattr(asyncio, name)
    for member in dir(theirs):
        original = inspect.getattr_static(theirs, member)
        if not isinstance(original, property) or member.startswith("__"):
            continue
        found = inspect.getattr_static(ours, member)
        assert inspect.isdatadescriptor(found), member
        # a property without a setter cannot be set on ours either
        if original.fset is None:
            with pytest.raises(AttributeError):
                found.__set__(ours.__new__(ours), None)
