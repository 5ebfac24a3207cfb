"""What asyncio deprecates: aioxide gives the same warnings, in the words of the running version, at the line of the caller."""

from __future__ import annotations

import asyncio
import types
import warnings
from typing import Any

import pytest

import aioxide

#: programs of one line, with asyncio as `aio`; most of them warn on one version and fail on another
PROGRAMS = [
    "aio.get_event_loop_policy() and None",
    "aio.set_event_loop_policy(None)",
    "aio.AbstractEventLoopPolicy.__name__",
    "aio.DefaultEventLoopPolicy.__name__",
    "aio.events.AbstractEventLoopPolicy.__name__",
    "aio.unix_events.DefaultEventLoopPolicy.__name__",
    "aio.WindowsSelectorEventLoopPolicy",
    "aio.WindowsProactorEventLoopPolicy",
    "aio.ProactorEventLoop",
    "aio.get_child_watcher() and None",
    "aio.set_child_watcher(None)",
    "aio.AbstractChildWatcher.__name__",
    "aio.SafeChildWatcher() and None",
    "aio.FastChildWatcher() and None",
    "aio.MultiLoopChildWatcher() and None",
    "aio.PidfdChildWatcher() and None",
    "aio.ThreadedChildWatcher() and None",
    "aio.iscoroutinefunction(print)",
    "aio.coroutines.iscoroutinefunction(print)",
    "aio.coroutine",
    "aio.async_",
    "aio.no_such_name",
    "aio.get_event_loop().close()",
    "aio.gather()",
    "aio.Future()",
    "aio.Lock().locked()",
    "aio.ensure_future(3)",
    "aio.wrap_future(__import__('concurrent.futures').futures.Future())",
    "aio.Queue(loop=None)",
    "aio.timeout(3) and None",
    "aio.run(3)",
    "aio.run(main)",
    "aio.current_task()",
    "aio.all_tasks()",
    "aio.get_running_loop()",
    "aio.run(aio.wait([]))",
    "aio.run(aio.wait({main}))",
    "aio.run(aio.sleep(float('nan')))",
    "aio.StreamReader()",
    "aio.run_coroutine_threadsafe(3, None)",
]


def outcome(aio: types.ModuleType, program: str) -> tuple[Any, ...]:
    """What comes of it, and which warnings on the way."""

    async def main() -> None: ...

    aio.set_event_loop(None)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            result = eval(compile(f"\n\n\n{program}", "<program>", "eval"), {"aio": aio, "main": main})
            said = repr(result) if isinstance(result, str | int | None) else type(result).__name__
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
    aio.set_event_loop(None)
    return said, [
        (one.category, str(one.message).replace(repr(main), "main"), one.filename, one.lineno)
        for one in told
        if one.category is not ResourceWarning
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_as_asyncio(program: str) -> None:
    assert outcome(aioxide, program) == outcome(asyncio, program)


@pytest.mark.parametrize(
    "name", ["AbstractEventLoopPolicy", "DefaultEventLoopPolicy", "ThreadedChildWatcher", "nothing"]
)
def test_imports_as_from_asyncio(name: str) -> None:
    def imported(package: str) -> tuple[Any, ...]:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                exec(compile(f"from {package} import {name}", "<program>", "exec"), {})
                said = "imported"
            except ImportError as error:
                said = str(error).replace(package, "PACKAGE").partition(" (")[0]
        return said, [(one.category, str(one.message), one.filename, one.lineno) for one in told]

    assert imported("aioxide") == imported("asyncio")
