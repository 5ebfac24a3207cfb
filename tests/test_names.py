"""``import aioxide as asyncio``: the same names, in the same places, with the same signatures as this Python's asyncio.

Every public name of asyncio stands in exactly one of four tables below, so that a new one cannot slip through and what
is not native yet is said aloud.
"""

import asyncio
import importlib
import inspect
import pkgutil
import sys
import warnings

import pytest

import aioxide

VERSION = sys.version_info[:2]


def names(text: str) -> set[str]:
    return set(text.split())


# Rust all the way. aioxide's object is never asyncio's own.
NATIVE = names(
    """
    Barrier BoundedSemaphore Condition Event EventLoop Future Handle LifoQueue Lock PriorityQueue Queue Runner
    SelectorEventLoop Semaphore Task TaskGroup Timeout TimerHandle as_completed create_eager_task_factory create_task
    eager_task_factory ensure_future gather new_event_loop run run_coroutine_threadsafe shield sleep timeout timeout_at
    to_thread wait wait_for wrap_future
    """
)

# The same object as asyncio's, for good: `except` and `isinstance` in libraries that import asyncio must keep matching.
SAME = names(
    """
    ALL_COMPLETED AbstractEventLoop AbstractEventLoopPolicy AbstractServer BaseEventLoop BaseProtocol BaseTransport
    BrokenBarrierError BufferedProtocol CancelledError DatagramProtocol DatagramTransport DefaultEventLoopPolicy
    FIRST_COMPLETED FIRST_EXCEPTION IncompleteReadError InvalidStateError LimitOverrunError Protocol QueueEmpty
    QueueFull QueueShutDown ReadTransport SendfileNotAvailableError SubprocessProtocol SubprocessTransport TimeoutError
    Transport WriteTransport
    AbstractChildWatcher FastChildWatcher MultiLoopChildWatcher PidfdChildWatcher SafeChildWatcher ThreadedChildWatcher
    FrameCallGraphEntry FutureCallGraph get_child_watcher set_child_watcher
    """
)

# asyncio's own or ours: only what it does counts, not whose it is.
EITHER = names(
    """
    _enter_task _get_running_loop _leave_task _register_task _set_running_loop _unregister_task all_tasks
    capture_call_graph current_task format_call_graph future_add_to_awaited_by future_discard_from_awaited_by
    get_event_loop get_event_loop_policy get_running_loop iscoroutine iscoroutinefunction isfuture print_call_graph
    set_event_loop set_event_loop_policy
    """
)

# Exists and is asyncio's own, to become native: streams, servers, subprocesses.
NOT_YET_NATIVE = names(
    """
    Server StreamReader StreamReaderProtocol StreamWriter create_subprocess_exec create_subprocess_shell open_connection
    open_unix_connection start_server start_unix_server
    """
)

NOT_YET_NATIVE_METHODS = names(
    """
    connect_accepted_socket connect_read_pipe connect_write_pipe create_connection create_datagram_endpoint
    create_server create_unix_connection create_unix_server sendfile start_tls subprocess_exec subprocess_shell
    """
)

# Newer than some Python that we run on: the version that brought the name, the signature it has there. Those that
# aioxide brings to every Python, and those that it may.
BROUGHT = {
    "TaskGroup": ((3, 12), "()"),
    "create_eager_task_factory": ((3, 12), "(custom_task_constructor)"),
    "eager_task_factory": ((3, 12), "(loop, coro, *, name=None, context=None)"),
    "QueueShutDown": ((3, 13), None),
}
ALLOWED = {
    "EventLoop": (3, 13),
    "FrameCallGraphEntry": (3, 14),
    "FutureCallGraph": (3, 14),
    "capture_call_graph": (3, 14),
    "format_call_graph": (3, 14),
    "future_add_to_awaited_by": (3, 14),
    "future_discard_from_awaited_by": (3, 14),
    "print_call_graph": (3, 14),
}
BROUGHT_MEMBERS = {
    "Queue.shutdown": ((3, 13), "(immediate=False)"),
    "TaskGroup.cancel": ((3, 15), "()"),
    "Task.get_context": ((3, 12), "()"),
    "Handle.get_context": ((3, 12), "()"),
}

# Where a name of asyncio's tells of its Python source.
OTHER_QUALNAME = {
    "EventLoop": "asyncio's is the selector loop's class",
    "SelectorEventLoop": "asyncio's is the selector loop's class",
    "eager_task_factory": "asyncio's is a closure",
}
# Callables that take what asyncio's take, and more: the newer version's signature on an older Python.
NEWER_SIGNATURE = {
    "Task": "eager_start, since 3.12",
    "create_task": "eager_start and what else the task factory takes, since 3.14",
    "eager_task_factory": "eager_start, since 3.14",
    "run": "loop_factory, since 3.12",
    "EventLoop": "asyncio's takes a selector",
    "SelectorEventLoop": "asyncio's takes a selector",
}


@pytest.fixture
def loop():
    loop = aioxide.new_event_loop()
    yield loop
    loop.close()


def public(module=asyncio) -> list[str]:
    return sorted(module.__all__)


def quiet_getattr(module, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(module, name)


def signature(thing) -> list[tuple[str, str, str]] | None:
    """Names, kinds and defaults; annotations are left out, and so is what a C function cannot say."""
    try:
        found = inspect.signature(thing)
    except (ValueError, TypeError):
        return None
    return [(parameter.name, parameter.kind.name, repr(parameter.default)) for parameter in found.parameters.values()]


def accepts(ours, theirs) -> bool:
    """Whether every call that fits their signature fits ours: same parameters in the same order, ours may have more."""
    known = [parameter for parameter in ours if parameter in theirs]
    more = [parameter for parameter in ours if parameter not in theirs]
    return known == theirs and all(
        kind in ("VAR_KEYWORD", "KEYWORD_ONLY") and (kind == "VAR_KEYWORD" or default != repr(inspect.Parameter.empty))
        for _, kind, default in more
    )


def home(name: str) -> str:
    """The asyncio module that lists the name."""
    for module in pkgutil.iter_modules(asyncio.__path__):
        listed = getattr(sys.modules.get(f"asyncio.{module.name}"), "__all__", ())
        if name in listed:
            return module.name
    raise LookupError(name)


def members(cls) -> list[str]:
    return sorted(name for name in dir(cls) if not name.startswith("_"))


def callable_members(cls) -> list[str]:
    return [name for name in members(cls) if callable(getattr(cls, name))]


CLASSES = [name for name in public() if name in NATIVE and isinstance(getattr(asyncio, name), type)]
METHODS = [f"{cls}.{name}" for cls in CLASSES for name in callable_members(getattr(asyncio, cls))]
LOOP_METHODS = callable_members(asyncio.AbstractEventLoop)
SUBMODULES = sorted(
    module.name
    for module in pkgutil.iter_modules(asyncio.__path__)
    if not module.name.startswith("windows") and module.name not in ("__main__", "proactor_events", "tools")
)


def test_each_name_stands_in_one_table():
    tables = [NATIVE, SAME, EITHER, NOT_YET_NATIVE]
    for name in public():
        assert sum(name in table for table in tables) == 1, name
    assert sum(map(len, tables)) == len(set.union(*tables))


def test_all():
    ours, theirs = set(public(aioxide)), set(public())
    assert theirs <= ours
    brought = {name for name, (since, _) in BROUGHT.items() if since > VERSION}
    allowed = {name for name, since in ALLOWED.items() if since > VERSION}
    assert brought <= ours - theirs | theirs
    assert ours - theirs <= brought | allowed
    assert len(aioxide.__all__) == len(ours)


@pytest.mark.parametrize("name", public())
def test_name(name):
    theirs, ours = quiet_getattr(asyncio, name), quiet_getattr(aioxide, name)
    if name in SAME or name in NOT_YET_NATIVE:
        assert ours is theirs
        return
    if name in NATIVE:
        assert ours is not theirs
    assert isinstance(ours, type) == isinstance(theirs, type)
    assert ours.__name__ == theirs.__name__ or name in OTHER_QUALNAME
    assert ours.__qualname__ == theirs.__qualname__ or name in OTHER_QUALNAME
    package, _, module = ours.__module__.rpartition(".")
    if ours is not theirs:
        assert package in ("asyncio", "aioxide")
        expected = theirs.__module__.rpartition(".")[2]
        assert module == (home(name) if expected == "_asyncio" else expected)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
    assert bool(ours.__doc__) or not theirs.__doc__


@pytest.mark.parametrize("name", [name for name in public() if name in NATIVE | EITHER])
def test_signature(name):
    theirs, ours = signature(quiet_getattr(asyncio, name)), signature(quiet_getattr(aioxide, name))
    if theirs is None:
        return
    assert ours is not None, "has no __text_signature__"
    assert ours == theirs or (name in NEWER_SIGNATURE and accepts(ours, theirs))


@pytest.mark.parametrize("name", METHODS)
def test_method(name):
    cls, _, method = name.partition(".")
    theirs, ours = getattr(getattr(asyncio, cls), method), getattr(getattr(aioxide, cls), method)
    assert ours.__name__ == theirs.__name__
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
    if signature(theirs) is not None:
        assert signature(ours) is not None, "has no __text_signature__"
        known, expected = signature(ours)[1:], signature(theirs)[1:]  # without self
        assert known == expected or accepts(known, expected)


@pytest.mark.parametrize("name", LOOP_METHODS)
def test_event_loop_method(name, loop):
    ours, theirs = getattr(loop, name), getattr(asyncio.SelectorEventLoop, name)
    assert callable(ours)
    if signature(theirs) is not None and name not in NOT_YET_NATIVE_METHODS:
        assert signature(ours) is not None, "has no __text_signature__"
        assert accepts(signature(ours), signature(theirs)[1:])


@pytest.mark.parametrize("name", sorted(NOT_YET_NATIVE_METHODS))
def test_missing_method_says_so(name, loop):
    parameters = inspect.signature(getattr(asyncio.SelectorEventLoop, name)).parameters.values()
    required = [one for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]

    async def call():
        await getattr(loop, name)(*[None] * (len(required) - 1))

    with pytest.raises(NotImplementedError, match=name):
        loop.run_until_complete(call())


@pytest.mark.parametrize("cls", CLASSES)
def test_members(cls):
    theirs, ours = set(members(getattr(asyncio, cls))), set(members(getattr(aioxide, cls)))
    assert theirs <= ours
    brought = {
        name.partition(".")[2]
        for name, (since, _) in BROUGHT_MEMBERS.items()
        if since > VERSION and issubclass(getattr(aioxide, cls), getattr(aioxide, name.partition(".")[0]))
    }
    assert ours - theirs == brought


@pytest.mark.parametrize("name", [name for name, (since, _) in BROUGHT.items() if since > VERSION])
def test_brought(name):
    text = BROUGHT[name][1]
    thing = getattr(aioxide, name)
    assert name in aioxide.__all__
    if text is not None:
        expected = signature(eval(f"lambda {text[1:-1]}: None"))
        assert accepts(signature(thing), expected)


@pytest.mark.parametrize("name", [name for name, (since, _) in BROUGHT_MEMBERS.items() if since > VERSION])
def test_brought_member(name):
    cls, _, method = name.partition(".")
    expected = signature(eval(f"lambda {BROUGHT_MEMBERS[name][1][1:-1]}: None"))
    assert signature(getattr(getattr(aioxide, cls), method))[1:] == expected


def test_as_completed_is_an_asynchronous_iterator():
    async def main():
        loop = aioxide.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, 3)
        found = [await done async for done in aioxide.as_completed([future])]
        assert found == [3]
        return [await done for done in aioxide.as_completed([future])]

    assert aioxide.run(main()) == [3]


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodule(name):
    theirs = importlib.import_module(f"asyncio.{name}")
    ours = importlib.import_module(f"aioxide.{name}")
    assert getattr(aioxide, name) is ours
    assert set(getattr(theirs, "__all__", ())) <= set(getattr(ours, "__all__", ()))
    for public_name in getattr(theirs, "__all__", ()):
        thing = getattr(ours, public_name)
        assert getattr(aioxide, public_name, thing) is thing


def test_star_import():
    namespace = {}
    exec("from aioxide import *", namespace)
    assert set(aioxide.__all__) <= namespace.keys()
