"""An intersphinx inventory of the parts of docs.python.org that these pages refer to, made without the network.

The real one is a download, and a documentation that builds only with a network does not build where it matters. What is
in it is known: the page of a module is ``library/MODULE.html``, and the anchor of a name is the name. asyncio has
a page for each subject, which is asyncio's module of that subject, with few exceptions.
"""

from __future__ import annotations

import asyncio
import builtins
import importlib
import inspect
import sys
import warnings
import zlib
from pathlib import Path

MODULES = (
    "atexit",
    "concurrent.futures",
    "contextvars",
    "faulthandler",
    "functools",
    "queue",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "threading",
)
#: where the names of asyncio's modules are documented
PAGES = {
    "base_events": "eventloop",
    "base_futures": "future",
    "base_tasks": "task",
    "coroutines": "task",
    "events": "eventloop",
    "exceptions": "exceptions",
    "futures": "future",
    "graph": "graph",
    "locks": "sync",
    "protocols": "protocol",
    "queues": "queue",
    "runners": "runner",
    "streams": "stream",
    "subprocess": "subprocess",
    "taskgroups": "task",
    "tasks": "task",
    "threads": "task",
    "timeouts": "task",
    "transports": "protocol",
    "unix_events": "eventloop",
}
ELSEWHERE = {
    "BrokenBarrierError": "sync",
    "isfuture": "future",
    **dict.fromkeys(("_enter_task", "_leave_task", "_register_task", "_unregister_task"), "extending"),
}


def entries():
    for module in MODULES:
        yield f"{module} py:module library/{module}.html#module-{module}"
        loaded = importlib.import_module(module)
        for name in getattr(loaded, "__all__", None) or dir(loaded):
            if not name.startswith("_") and name in vars(loaded):
                yield f"{module}.{name} py:{role(vars(loaded)[name])} library/{module}.html#{module}.{name}"
    yield "asyncio py:module library/asyncio.html#module-asyncio"
    for module, page in PAGES.items():
        for name in getattr(sys.modules.get(f"asyncio.{module}"), "__all__", ()):
            page_of_name = "policy" if "olicy" in name or "hildWatcher" in name else ELSEWHERE.get(name, page)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                thing = getattr(asyncio, name)
            yield f"asyncio.{name} py:{role(thing)} library/asyncio-{page_of_name}.html#asyncio.{name}"
    yield "asyncio.subprocess.Process py:class library/asyncio-subprocess.html#asyncio.subprocess.Process"
    for name in ("AbstractEventLoopPolicy", "DefaultEventLoopPolicy"):  # not listed by 3.14, and still there
        yield f"asyncio.{name} py:class library/asyncio-policy.html#asyncio.{name}"
    for name, thing in vars(builtins).items():
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            yield f"{name} py:exception library/exceptions.html#{name}"


def role(thing) -> str:
    if inspect.isclass(thing):
        return "exception" if issubclass(thing, BaseException) else "class"
    return "function" if callable(thing) else "data"


def write(path: Path) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    head = f"# Sphinx inventory version 2\n# Project: Python\n# Version: {version}\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    lines = "".join(f"{name} {kind} 1 {place} -\n" for name, kind, place in map(str.split, entries()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.encode() + zlib.compress(lines.encode()))
