"""The implementations under one interface: a module `aio` with asyncio's names, and `new_loop(virtual)`."""

from __future__ import annotations

import asyncio
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .mutants import spoil


class OrderedSet:
    """A set in order of insertion, for the reference's TaskGroup.

    `TaskGroup._abort()` cancels the children in the order of a set of tasks, that is of their addresses. An
    implementation is free in that order; the comparison wants one, so the reference gets the natural one.
    """

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items = dict.fromkeys(items)

    def add(self, item: Any) -> None:
        self._items[item] = None

    def discard(self, item: Any) -> None:
        self._items.pop(item, None)

    def __contains__(self, item: Any) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


class Implementation:
    def __init__(self, name: str, aio: Any, loop_type: type | None = None, *, ordered_group: bool = False) -> None:
        self.name = name
        self.aio = aio
        # the very type that new_event_loop() makes: a subclass might be sent down a slower path
        self.loop_type = loop_type or _loop_type(aio)
        self.virtual_type = type("VirtualLoop", (self.loop_type,), {"now": 0.0, "time": lambda self: self.now})
        if ordered_group:
            self.aio = types.SimpleNamespace(**vars(aio))
            self.aio.TaskGroup = _ordered(aio.TaskGroup)

    def new_loop(self, virtual: bool) -> Any:
        return self.virtual_type() if virtual else self.loop_type()


def _loop_type(aio: Any) -> type:
    loop = aio.new_event_loop()
    loop.close()
    return type(loop)


def _ordered(task_group: type) -> type:
    class OrderedTaskGroup(task_group):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._tasks = OrderedSet()

    OrderedTaskGroup.__name__ = OrderedTaskGroup.__qualname__ = "TaskGroup"
    OrderedTaskGroup.__module__ = task_group.__module__
    return OrderedTaskGroup


class _Copy(importlib.abc.MetaPathFinder):
    """Finds the modules of a copy of the asyncio package, and lets `edit(module, source)` change their source."""

    def __init__(self, name: str, edit: Callable[[str, str], str]) -> None:
        self.name = name
        self.edit = edit
        self.directory = os.path.dirname(asyncio.__file__)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        package, _, module = fullname.partition(".")
        if package != self.name:
            return None
        file = os.path.join(self.directory, f"{module or '__init__'}.py")
        loader = _EditedSource(fullname, file)
        loader.edit = lambda source: self.edit(module, source)
        places = None if module else [self.directory]
        return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=places)


class _EditedSource(importlib.machinery.SourceFileLoader):
    edit: Callable[[str], str]

    def get_code(self, fullname: str) -> Any:
        with open(self.path, encoding="utf-8") as file:
            return compile(self.edit(file.read()), self.path, "exec")


def pure_python_asyncio(edit: Callable[[str, str], str] = lambda module, source: source) -> Any:
    """Another copy of asyncio, without `_asyncio`: pure-Python Task and Future, and source that mutants may spoil."""
    name = f"pure_asyncio_{next(_copies)}"
    c_module = sys.modules.get("_asyncio")
    sys.modules["_asyncio"] = None  # type: ignore[assignment]
    sys.meta_path.insert(0, _Copy(name, edit))  # it stays: some of asyncio's functions import
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules["_asyncio"]
        if c_module is not None:
            sys.modules["_asyncio"] = c_module


def _asyncio() -> Implementation:
    return Implementation("asyncio", asyncio, ordered_group=True)


def _pure() -> Implementation:
    return Implementation("pure", pure_python_asyncio(), ordered_group=True)


def _uvloop() -> Implementation:
    """Another loop below asyncio's own Task, Future and library: its order of callbacks must be asyncio's."""
    import uvloop

    return Implementation("uvloop", asyncio, uvloop.Loop, ordered_group=True)


def _aioxide() -> Implementation:
    import aioxide

    return Implementation("aioxide", aioxide)


def _aioxide_loop() -> Implementation:
    """aioxide only as a loop: stdlib's gather, TaskGroup, Lock, … on aioxide's tasks and futures."""
    import aioxide

    return Implementation("aioxide-loop", asyncio, _loop_type(aioxide), ordered_group=True)


def _aioxide_on_asyncio() -> Implementation:
    """The other way round: aioxide's tasks and library on asyncio's loop."""
    import aioxide

    class Loop(_loop_type(asyncio)):  # type: ignore[misc]
        def create_task(self, coro: Any, *, name: Any = None, context: Any = None, **kwargs: Any) -> Any:
            factory = self.get_task_factory()
            if factory is not None:
                task = factory(self, coro, **({"context": context} if context is not None else {}))
            else:
                task = aioxide.Task(coro, loop=self, context=context, **kwargs)
            if name is not None:
                task.set_name(name)
            return task

        def create_future(self) -> Any:
            return aioxide.Future(loop=self)

    return Implementation("aioxide-on-asyncio", aioxide, Loop)


def _mutant(name: str) -> Implementation:
    return Implementation(name, pure_python_asyncio(functools.partial(spoil, name)), ordered_group=True)


FACTORIES: dict[str, Callable[[], Implementation]] = {
    "asyncio": _asyncio,
    "pure": _pure,
    "uvloop": _uvloop,
    "aioxide": _aioxide,
    "aioxide-loop": _aioxide_loop,
    "aioxide-on-asyncio": _aioxide_on_asyncio,
}

_copies = itertools.count()
_made: dict[str, Implementation] = {}


def implementation(name: str) -> Implementation:
    """By name; `mutant:NAME` is one of the wrong ones."""
    if name not in _made:
        kind, _, mutant = name.partition(":")
        _made[name] = _mutant(mutant) if kind == "mutant" else FACTORIES[name]()
    return _made[name]
