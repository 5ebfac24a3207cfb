"""What a wrong call raises: the exception and its text are those of the running version's asyncio.

Every public function and method is called with too few and too many arguments, with one that is given twice and with a
keyword that is misspelt; then there is a table of calls with arguments of the wrong type.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import aioxide
from tests.support import STDLIB

pytestmark = [
    pytest.mark.skipif(STDLIB, reason="compares both"),
    # asyncio's objects that were never initialized fall over themselves when they die
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: what takes more with us than on an older Python
NEWER = {"shutdown_default_executor": (3, 12)}

#: public names whose calls are compared, but which are no functions or classes of ours on every Python
CLASSES = {
    "Lock": "Lock()",
    "Event": "Event()",
    "Condition": "Condition()",
    "Semaphore": "Semaphore()",
    "BoundedSemaphore": "BoundedSemaphore()",
    "Barrier": "Barrier(2)",
    "Queue": "Queue()",
    "LifoQueue": "LifoQueue()",
    "PriorityQueue": "PriorityQueue()",
    "Future": "Future()",
    "Task": "current_task()",
    "TaskGroup": "TaskGroup()",
    "Timeout": "timeout(3)",
    "Runner": "Runner()",
    "StreamReader": "StreamReader()",
    "Handle": "get_running_loop().call_soon(int)",
    "TimerHandle": "get_running_loop().call_later(0, int)",
    "loop": "get_running_loop()",
}

#: inherited from object, or Python's own affair
SKIPPED = {
    "__class_getitem__",
    "__class__",
    "__del__",
    "__init_subclass__",
    "__subclasshook__",
    "__new__",
    "__getattribute__",
    "__setattr__",
}


def functions() -> Iterator[tuple[str, Any]]:
    """Where it is found, and asyncio's own."""
    for name in asyncio.__all__:
        theirs = inspect.getattr_static(asyncio, name, None)
        if callable(theirs) and not name.startswith("_") and getattr(aioxide, name) is not theirs:
            yield name, theirs


def mistakes(theirs: Any, bound: bool) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Calls that no function of this signature takes."""
    try:
        signature = inspect.signature(theirs)
    except (TypeError, ValueError):
        return
    parameters = list(signature.parameters.values())[bound:]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    kinds = {p.kind for p in parameters}
    if required:
        yield (), {}
        if len(required) > 1:
            yield (None,), {}
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        yield (None,) * (len(positional) + 1), {}
        yield (None,) * (len(positional) + 3), {}
    if positional and positional[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        yield (None,) * len(positional), {positional[0].name: None}
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        yield (None,) * len(required), {"nothing_like_it": None}
        yield (), {"nothing_like_it": None, "nor_this": 2}
        for parameter in named:
            misspelt = parameter.name[:-1] if len(parameter.name) > 2 else parameter.name + "x"
            yield (None,) * len(required), {misspelt: None}


def described(exception: BaseException) -> str:
    """Without addresses, and without the class in front of a method: asyncio's may be a base class that we have not."""
    text = re.sub(r" at 0x[0-9a-f]+", "", f"{type(exception).__name__}: {exception}")
    return re.sub(r"\b[A-Z_]\w+\.(?=\w+\(\))", "", text)


def outcome(call: Callable[[], Any]) -> str:
    """What it raises, without addresses."""
    try:
        result = call()
    except Exception as exception:
        return described(exception)
    if inspect.iscoroutine(result) or hasattr(result, "cr_frame"):
        result.close()
    return "no exception"


def compare(program: Callable[[Any], Any]) -> None:
    """`program` is run as a coroutine on both, and gives a dict of outcomes."""
    found: list[dict[str, str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for aio in (asyncio, aioxide):
            loop = asyncio.SelectorEventLoop() if aio is asyncio else aioxide.EventLoop()
            loop.set_exception_handler(lambda loop, context: None)
            task = loop.create_task(program(aio))
            # (what some of the calls have scheduled breaks asyncio's loop)
            for _ in range(10):
                with contextlib.suppress(TypeError):
                    loop.run_until_complete(asyncio.wait_for(asyncio.shield(task), 10))
                    break
            found.append(task.result())
            loop.close()
            gc.collect()
    theirs, ours = found
    different = {call: (text, ours[call]) for call, text in theirs.items() if ours[call] != text}
    assert not different, "\n".join(f"{call}\n    {one}\n    {other}" for call, (one, other) in different.items())


def test_functions() -> None:
    async def main(aio: Any) -> dict[str, str]:
        found = {}
        for name, theirs in functions():
            for args, kwargs in mistakes(theirs, bound=False):
                called = getattr(aio, name)
                found[f"{name} {args} {kwargs}"] = outcome(lambda c=called, a=args, k=kwargs: c(*a, **k))
        return found

    compare(main)


@pytest.mark.parametrize("name", CLASSES)
def test_methods(name: str) -> None:
    async def main(aio: Any) -> dict[str, str]:
        found = {}
        namespace = {one: getattr(aio, one) for one in [*aio.__all__, "TaskGroup"] if hasattr(aio, one)}
        thing = eval(CLASSES[name], namespace)
        theirs = asyncio.SelectorEventLoop if name == "loop" else getattr(asyncio, name)
        for member in dir(theirs):
            if (member.startswith("_") and not member.startswith("__")) or member in SKIPPED:
                continue
            method = inspect.getattr_static(theirs, member)
            if sys.version_info < NEWER.get(member, (3, 0)):
                continue
            if not callable(method) or getattr(object, member, None) is method or member in dir(object):
                continue
            for args, kwargs in mistakes(method, bound=True):
                called = getattr(thing, member)
                found[f"{member} {args} {kwargs}"] = outcome(lambda c=called, a=args, k=kwargs: c(*a, **k))
        return found

    compare(main)


#: `aio` is the module, `loop` its loop, `coro` makes a coroutine, `future` a future
WRONG_TYPES = """
loop.call_later('1', int)
loop.call_later(None, int)
loop.call_later([], int)
loop.call_at(None, int)
loop.call_soon(None, 1)
loop.call_soon(int, context=3)
loop.call_soon_threadsafe(int, context=3)
loop.run_until_complete(3)
loop.run_in_executor(None, None)
loop.set_exception_handler(3)
loop.set_task_factory(3)
loop.set_default_executor(3)
loop.call_exception_handler(3)
loop.add_reader('x', int)
loop.add_reader(None, int)
loop.add_reader(-1, int)
loop.remove_reader('x')
loop.add_writer('x', int)
loop.add_signal_handler('x', int)
loop.add_signal_handler(1000, int)
loop.add_signal_handler(9, int)
loop.add_signal_handler(2, coro)
loop.remove_signal_handler('x')
loop.remove_signal_handler(1000)
loop.create_task(3)
loop.create_task(int)
loop.create_task(coro(), name=3)
aio.create_task(3)
aio.create_task(None)
aio.create_task(coro(), name=3)
aio.create_task(coro(), context=3)
aio.create_task(coro(), context=__import__('pathlib').Path())
aio.Task(3)
aio.Task(coro(), loop=3)
aio.Future(loop=3)
aio.Future(loop=loop, x=3)
aio.ensure_future(3)
aio.ensure_future(coro(), loop=3)
aio.wrap_future(3)
aio.isfuture(3)
aio.shield(3)
aio.gather(3)
aio.gather(coro(), 3)
aio.as_completed(3)
aio.as_completed(coro())
aio.as_completed([3])
aio.run(3)
aio.run_coroutine_threadsafe(3, loop)
aio.run_coroutine_threadsafe(coro(), 3)
aio.timeout('1')
aio.timeout([])
aio.timeout_at('1')
aio.Queue('1')
aio.Queue([])
aio.Semaphore('1')
aio.Semaphore(-1)
aio.Semaphore(None)
aio.BoundedSemaphore('1')
aio.Barrier('1')
aio.Barrier(0)
aio.Barrier(None)
aio.Condition(3)
aio.Condition(lock=3)
aio.StreamReader('1')
aio.StreamReader(-1)
aio.StreamReader(0)
aio.StreamReader(None)
aio.StreamReader(loop=3)
aio.StreamReader().feed_data(None)
aio.StreamReader().feed_data('text')
aio.StreamReader().feed_data(3)
future.set_exception(3)
future.set_exception(int)
future.set_exception('text')
future.set_exception(StopIteration)
future.set_exception(StopIteration())
future.add_done_callback(int, context=3)
future.remove_done_callback()
future.result()
future.exception()
future.cancel(1, 2)
aio.current_task(3)
aio.all_tasks(3)
aio.Runner(loop_factory=3).run(coro())
aio.Runner().run(3)
aio.Runner().run(coro(), context=3)
aio.to_thread()
aio.set_event_loop(3)
aio.current_task().set_name(3)
aio.current_task().get_stack(limit='x')
aio.current_task().set_result(3)
aio.current_task().set_exception(3)
aio.Lock().release()
aio.BoundedSemaphore().release()
aio.Condition().notify()
aio.Condition().notify_all()
aio.Queue().task_done()
aio.Queue().get_nowait()
aio.Handle(int, (), None)
aio.Handle(3, (), loop)
aio.TimerHandle('1', int, (), loop)
aio.TimerHandle(None, int, (), loop)
aio.iscoroutinefunction()
aio.iscoroutine()
aio.Timeout()
"""

#: the same, awaited
WRONG_TYPES_AWAITED = """
aio.sleep('1')
aio.sleep('0')
aio.sleep(None)
aio.sleep([])
aio.sleep(float('nan'))
aio.wait(3)
aio.wait([])
aio.wait(coro())
aio.wait([3])
aio.wait([coro()])
aio.wait([future], timeout='1')
aio.wait([future], return_when=3)
aio.wait_for(3, 1)
aio.wait_for(3, None)
aio.wait_for(3, 0)
aio.wait_for(coro(), '1')
aio.wait_for(coro(), [])
aio.to_thread(None)
aio.open_connection(3)
aio.open_connection(None, None)
aio.open_connection('127.0.0.1', '1', limit='x')
aio.open_connection('127.0.0.1', 1, limit=0)
aio.start_server(3)
aio.start_server(int, port='no service')
aio.open_unix_connection(3)
aio.open_unix_connection()
aio.start_unix_server(int)
aio.start_unix_server(int, 3)
aio.create_subprocess_exec(3)
aio.create_subprocess_exec('true', 3)
aio.create_subprocess_exec('true', universal_newlines=True)
aio.create_subprocess_exec('true', shell=True)
aio.create_subprocess_exec('true', bufsize=3)
aio.create_subprocess_exec('true', text=True)
aio.create_subprocess_exec('true', encoding='utf8')
aio.create_subprocess_exec('true', errors='strict')
aio.create_subprocess_exec('true', nonsense=1)
aio.create_subprocess_shell(3)
aio.create_subprocess_shell('true', shell=False)
aio.create_subprocess_shell('true', limit='x')
aio.create_subprocess_exec('/no/such/program')
loop.create_connection(3)
loop.create_connection(int)
loop.create_connection(int, 'localhost', 1, sock=3)
loop.create_connection(int, sock=3)
loop.create_connection(int, '127.0.0.1', 1, server_hostname='x')
loop.create_connection(int, '127.0.0.1', 1, ssl_handshake_timeout=3)
loop.create_connection(int, '127.0.0.1', 1, ssl_shutdown_timeout=3)
loop.create_connection(int, '127.0.0.1', 1, ssl=3)
loop.create_connection(int, ssl=True)
loop.create_server(int)
loop.create_server(int, '127.0.0.1', 0, ssl=True)
loop.create_server(int, '127.0.0.1', 0, sock=3)
loop.create_server(int, sock=3)
loop.create_server(int, '127.0.0.1', 'x')
loop.create_server(int, '127.0.0.1', 0, backlog='x')
loop.create_server(int, 3, 0)
loop.create_unix_connection(int)
loop.create_unix_connection(int, 3)
loop.create_unix_connection(int, '/x', sock=3)
loop.create_unix_connection(int, '/x', server_hostname='x')
loop.create_unix_connection(int, '/x', ssl=True)
loop.create_unix_connection(int, '/no/such/socket')
loop.create_unix_server(int)
loop.create_unix_server(int, '/x', sock=3)
loop.create_unix_server(int, '/x', ssl=True)
loop.create_datagram_endpoint(int)
loop.create_datagram_endpoint(int, 3)
loop.create_datagram_endpoint(int, ('127.0.0.1',))
loop.create_datagram_endpoint(int, sock=3)
loop.create_datagram_endpoint(int, local_addr='x')
loop.create_datagram_endpoint(int, local_addr=('127.0.0.1', 'x', 3))
loop.connect_accepted_socket(int, 3)
loop.connect_accepted_socket(int, None)
loop.connect_read_pipe(int, 3)
loop.connect_write_pipe(int, 3)
loop.subprocess_exec(int, 3)
loop.subprocess_exec(int)
loop.subprocess_shell(int, 3)
loop.subprocess_exec(int, 'true', shell=True)
loop.sock_recv(3, 1)
loop.sock_recv(None, 1)
loop.sock_sendall(3, b'')
loop.sock_connect(3, ('127.0.0.1', 1))
loop.sock_accept(3)
loop.sock_sendto(3, b'', None)
loop.sock_recvfrom(3, 1)
loop.sock_recv_into(3, bytearray())
loop.getaddrinfo(3, 3)
loop.getaddrinfo('127.0.0.1', 'x')
loop.getaddrinfo('127.0.0.1', 1, family='x')
loop.getnameinfo(3)
loop.getnameinfo(('127.0.0.1', 'x'))
loop.sendfile(3, 3)
loop.sendfile(None, None)
loop.sock_sendfile(3, 3)
loop.start_tls(3, 3, 3)
loop.start_tls(None, None, None)
aio.StreamReader().read('x')
aio.StreamReader().read(None)
aio.StreamReader().readexactly(-1)
aio.StreamReader().readexactly('x')
aio.StreamReader().readuntil(b'')
aio.StreamReader().readuntil(3)
aio.Condition().wait()
aio.Condition().wait_for(3)
aio.TaskGroup().__aexit__()
aio.Lock()
3
None
"""


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def namespace(aio: Any) -> dict[str, Any]:
    async def coro() -> None: ...

    return {"aio": aio, "loop": aio.get_running_loop(), "coro": coro, "future": aio.get_running_loop().create_future()}


@pytest.mark.parametrize("call", table(WRONG_TYPES))
def test_wrong_types(call: str) -> None:
    async def main(aio: Any) -> dict[str, str]:
        return {call: outcome(lambda: eval(call, namespace(aio)))}

    compare(main)


@pytest.mark.parametrize("call", table(WRONG_TYPES_AWAITED))
def test_wrong_types_awaited(call: str) -> None:
    async def main(aio: Any) -> dict[str, str]:
        async def awaited() -> str:
            try:
                result = await eval(call, namespace(aio))
            except Exception as exception:
                return described(exception)
            for one in result if isinstance(result, tuple) else [result]:
                getattr(one, "close", int)()
            return f"no exception: {type(result).__name__}"

        return {call: await awaited()}

    compare(main)
