"""``import aioxide as asyncio``: the same names, in the same places, with the same signatures as this Python's asyncio.

Every public name of asyncio stands in exactly one of three tables below, so that a new one cannot slip through.
"""

import asyncio
import functools
import importlib
import inspect
import pkgutil
import subprocess
import sys
import types
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
    SelectorEventLoop Semaphore Server StreamReader StreamReaderProtocol StreamWriter Task TaskGroup Timeout
    TimerHandle as_completed create_eager_task_factory create_subprocess_exec create_subprocess_shell create_task
    eager_task_factory ensure_future gather new_event_loop open_connection open_unix_connection run
    run_coroutine_threadsafe shield sleep start_server start_unix_server timeout timeout_at to_thread wait wait_for
    wrap_future
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
    "Server.abort_clients": ((3, 13), "()"),
    "Server.close_clients": ((3, 13), "()"),
    "TaskGroup.cancel": ((3, 15), "()"),
    "Task.get_context": ((3, 12), "()"),
    "Handle.get_context": ((3, 12), "()"),
}

# Public attributes that asyncio puts on each instance and that our classes have.
INSTANCE_MEMBERS = {
    "Condition.acquire": "Condition.__init__: self.acquire = lock.acquire",
    "Condition.locked": "Condition.__init__: self.locked = lock.locked",
    "Condition.release": "Condition.__init__: self.release = lock.release",
    "EventLoop.slow_callback_duration": "BaseEventLoop.__init__: self.slow_callback_duration = 0.1",
    "SelectorEventLoop.slow_callback_duration": "BaseEventLoop.__init__: self.slow_callback_duration = 0.1",
}

# Where a name of asyncio's tells of its Python source.
OTHER_QUALNAME = {
    "EventLoop": "asyncio's is the selector loop's class",
    "SelectorEventLoop": "asyncio's is the selector loop's class",
    "eager_task_factory": "asyncio's is a closure",
}
OTHER_MODULE = {
    "EventLoop": ("aioxide", "asyncio has no class EventLoop: it is a name of the selector loop's class"),
    "SelectorEventLoop": ("aioxide", "it is aioxide.EventLoop"),
}
# Classes whose __init__, not whose __new__, says what they take.
SIGNATURE_OF_INIT = {
    "EventLoop": "__new__ makes the loop's state, whatever a derived class takes",
    "SelectorEventLoop": "__new__ makes the loop's state, whatever a derived class takes",
}
# Callables that take what asyncio's take, and more: the newer version's signature on an older Python.
NEWER_SIGNATURE = {
    "Task": "eager_start, since 3.12",
    "create_task": "eager_start and what else the task factory takes, since 3.14",
    "eager_task_factory": "eager_start, since 3.14, where asyncio's does not name name and context",
    "run": "loop_factory, since 3.12",
}
NEWER_METHOD_SIGNATURE = {
    "EventLoop.create_connection": "all_errors, since 3.12",
    "EventLoop.create_server": "keep_alive, since 3.13",
    "EventLoop.create_task": "what else the task factory takes; since 3.14 asyncio's does not name name and context",
    "EventLoop.create_unix_server": "cleanup_socket, since 3.13",
    "StreamWriter.start_tls": "ssl_shutdown_timeout, since 3.12",
}
# And where accepts() is not enough, because what is new may be given by position: our signature.
SIGNATURE_BEFORE = {
    "EventLoop.shutdown_default_executor": ((3, 12), "(timeout=None)"),
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


def written(text: str):
    """The signature of a text, as of a function."""
    return signature(eval(f"lambda {text[1:-1]}: None"))


def fits(cls: str, method: str, ours, theirs) -> bool:
    """Whether the signature of a method is asyncio's, or may be another."""
    name = f"{getattr(aioxide, cls).__name__}.{method}"
    since, text = SIGNATURE_BEFORE.get(name, (VERSION, None))
    if since > VERSION:
        return ours == written(text)
    return ours == theirs or (name in NEWER_METHOD_SIGNATURE and accepts(ours, theirs))


def nothing_for(thing) -> list[None]:
    """Arguments for a call that gives what must be given."""
    parameters = inspect.signature(thing).parameters.values()
    return [None for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]


def home(name: str) -> str:
    """The asyncio module that lists the name."""
    for module in pkgutil.iter_modules(asyncio.__path__):
        listed = getattr(sys.modules.get(f"asyncio.{module.name}"), "__all__", ())
        if name in listed:
            return module.name
    raise LookupError(name)


@functools.cache
def loaded(package: str) -> set[str]:
    """The submodules that are there once the package is imported."""
    program = f"import sys, {package}; print(*(name for name in sys.modules if name.startswith('{package}.')))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[2] for name in found.split()}


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
    if not module.name.startswith("windows") and module.name != "__main__"
)
#: submodules that aioxide imports with itself, as asyncio does; the others come when they are asked for
LATER = names("proactor_events tools")


def test_each_name_stands_in_one_table():
    tables = [NATIVE, SAME, EITHER]
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
    if name in SAME:
        assert ours is theirs
        return
    if name in NATIVE:
        assert ours is not theirs
    assert isinstance(ours, type) == isinstance(theirs, type)
    assert ours.__name__ == theirs.__name__ or name in OTHER_QUALNAME
    assert ours.__qualname__ == theirs.__qualname__ or name in OTHER_QUALNAME
    if name in OTHER_MODULE:
        assert ours.__module__ == OTHER_MODULE[name][0]
    elif theirs.__module__ == "_asyncio" and not isinstance(ours, type):
        # a C function here, a Python one elsewhere
        assert ours.__module__ in ("_asyncio", f"asyncio.{home(name)}")
    else:
        assert ours.__module__ == theirs.__module__
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
    assert bool(ours.__doc__) or not theirs.__doc__


@pytest.mark.parametrize("name", [name for name in public() if name in NATIVE | EITHER])
def test_signature(name):
    theirs, ours = quiet_getattr(asyncio, name), quiet_getattr(aioxide, name)
    if name in SIGNATURE_OF_INIT:
        assert signature(ours.__init__) == signature(theirs.__init__)
        return
    theirs, ours = signature(theirs), signature(ours)
    if theirs is None:
        return
    assert ours is not None, "has no __text_signature__"
    assert ours == theirs or (name in NEWER_SIGNATURE and accepts(ours, theirs))


def annotations(thing) -> dict[str, str] | None:
    """What the signature says of parameters and result."""
    try:
        found = inspect.signature(thing)
    except (ValueError, TypeError):
        return None
    said = {one.name: one.annotation for one in found.parameters.values()} | {"return": found.return_annotation}
    return {name: str(annotation) for name, annotation in said.items() if annotation is not inspect.Signature.empty}


@pytest.mark.parametrize("name", sorted(NATIVE) + METHODS + ["Timeout.__aexit__"])
def test_annotations(name):
    theirs, ours = asyncio, aioxide
    for part in name.split("."):
        if not hasattr(theirs, part):
            return
        theirs, ours = quiet_getattr(theirs, part), quiet_getattr(ours, part)
    if annotations(theirs) is not None:
        assert annotations(ours) == annotations(theirs)


def test_annotated_with_our_own_classes():
    assert inspect.signature(aioxide.timeout).return_annotation is aioxide.Timeout


@pytest.mark.parametrize("name", METHODS)
def test_method(name):
    cls, _, method = name.partition(".")
    theirs, ours = getattr(getattr(asyncio, cls), method), getattr(getattr(aioxide, cls), method)
    assert ours.__name__ == theirs.__name__
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
    if signature(theirs) is not None:
        assert signature(ours) is not None, "has no __text_signature__"
        assert fits(cls, method, signature(ours)[1:], signature(theirs)[1:])  # without self


@pytest.mark.parametrize("name", LOOP_METHODS)
def test_event_loop_method(name, loop):
    ours, theirs = getattr(loop, name), getattr(asyncio.SelectorEventLoop, name)
    assert callable(ours)
    if signature(theirs) is not None:
        assert signature(ours) is not None, "has no __text_signature__"
        assert fits("EventLoop", name, signature(ours), signature(theirs)[1:])


@pytest.mark.parametrize("cls", CLASSES)
def test_members(cls):
    theirs, ours = set(members(getattr(asyncio, cls))), set(members(getattr(aioxide, cls)))
    assert theirs <= ours
    brought = {
        name.partition(".")[2]
        for name, (since, _) in BROUGHT_MEMBERS.items()
        if since > VERSION and issubclass(getattr(aioxide, cls), getattr(aioxide, name.partition(".")[0]))
    }
    on_instances = {name.partition(".")[2] for name in INSTANCE_MEMBERS if name.partition(".")[0] == cls}
    assert not on_instances & theirs
    assert ours - theirs == brought | on_instances


def test_timer_handle_is_a_handle():
    assert issubclass(aioxide.TimerHandle, aioxide.Handle)
    assert aioxide.TimerHandle.__mro__.index(asyncio.TimerHandle) < aioxide.TimerHandle.__mro__.index(aioxide.Handle)


@pytest.mark.parametrize("name", [name for name, (since, _) in BROUGHT.items() if since > VERSION])
def test_brought(name):
    text = BROUGHT[name][1]
    thing = getattr(aioxide, name)
    assert name in aioxide.__all__
    if text is not None:
        assert accepts(signature(thing), written(text))


@pytest.mark.parametrize("name", [name for name, (since, _) in BROUGHT_MEMBERS.items() if since > VERSION])
def test_brought_member(name):
    cls, _, method = name.partition(".")
    assert signature(getattr(getattr(aioxide, cls), method))[1:] == written(BROUGHT_MEMBERS[name][1])


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
    assert bool(name in LATER) == (name not in loaded("aioxide")) == (name not in loaded("asyncio"))
    assert set(getattr(theirs, "__all__", ())) <= set(getattr(ours, "__all__", ()))
    for public_name in getattr(theirs, "__all__", ()):
        thing = getattr(ours, public_name)
        assert getattr(aioxide, public_name, thing) is thing


def contents(module) -> set[str]:
    """What asyncio's module defines or imports from another module of asyncio, whatever it is for."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("__") and not isinstance(value, types.ModuleType)
    }


@pytest.mark.parametrize("name", SUBMODULES)
def test_contents_of_a_submodule(name):
    """Programs and tests name private things of asyncio's, too."""
    theirs, ours = importlib.import_module(f"asyncio.{name}"), importlib.import_module(f"aioxide.{name}")
    for private in contents(theirs):
        thing = getattr(ours, private)
        assert isinstance(thing, type) == isinstance(getattr(theirs, private), type)
    assert (type(ours.__all__) is tuple) if hasattr(theirs, "__all__") and name != "taskgroups" else True
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        ours.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", ["windows_events", "windows_utils"])
def test_there_is_no_windows_here(name):
    with pytest.raises(ImportError) as theirs:
        importlib.import_module(f"asyncio.{name}")
    with pytest.raises(ImportError) as ours:
        importlib.import_module(f"aioxide.{name}")
    assert str(ours.value) == str(theirs.value) == "win32 only"


@pytest.mark.skipif(VERSION >= (3, 14), reason="asyncio has them since 3.14")
@pytest.mark.parametrize("name", ["graph", "tools"])
def test_modules_of_newer_versions(name):
    with pytest.raises(ModuleNotFoundError, match=f"aioxide.{name} is asyncio.{name}, which Python has since 3.14"):
        importlib.import_module(f"aioxide.{name}")


def test_main_does_nothing_when_imported():
    module = importlib.import_module("aioxide.__main__")
    assert callable(module.console_script)


def test_star_import():
    namespace = {}
    exec("from aioxide import *", namespace)
    assert set(aioxide.__all__) <= namespace.keys()
