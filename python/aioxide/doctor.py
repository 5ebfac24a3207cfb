"""``python -m aioxide doctor``: what is here, what takeover replaces, and what it does not reach.

    python -m aioxide doctor [module ...]

takes over, imports the modules, and says which of all that are imported have asyncio's own objects all the same, as
they took them before. In a program of one's own, wherever something seems to be asyncio's still:
``print(doctor.report())``. It looks, and changes nothing; only the command line takes over.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import platform
import site
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ._core import __version__, _replaced

#: these have a loop of their own, and servers prefer it where they find it
OTHER_LOOPS = ("uvloop", "rloop", "winloop")


@dataclass(frozen=True)
class Holder:
    """A name of a module that is bound to an object of asyncio's, or to a class derived from one."""

    module: str
    name: str
    original: str
    derived: bool = False

    def __str__(self) -> str:
        how = "derives from" if self.derived else "is"
        return f"{self.module}.{self.name} {how} asyncio's own {self.original}"


def holders() -> list[Holder]:
    """Whoever, of all modules that are imported, has an object that takeover has replaced. Empty without takeover."""
    originals: dict[int, str] = {}
    for module, name, original in _replacements():
        # asyncio.sleep, and not asyncio.tasks.sleep
        if module is asyncio or id(original) not in originals:
            originals[id(original)] = f"{module.__name__}.{name}"
    found = []
    for name, module in sorted(sys.modules.copy().items()):
        if not isinstance(module, ModuleType) or name.partition(".")[0] in ("asyncio", "_asyncio", "aioxide"):
            continue
        for attribute, value in list(vars(module).items()):
            if id(value) in originals:
                found.append(Holder(name, attribute, originals[id(value)]))
            # where it is made: whoever imports the class has it from there
            elif isinstance(value, type) and value.__module__ == name:
                base = next((base for base in value.__mro__ if id(base) in originals), None)
                if base is not None:
                    found.append(Holder(name, attribute, originals[id(base)], derived=True))
    return found


def _replacements() -> Iterator[tuple[ModuleType, str, Any]]:
    """Without the settings that are no objects of asyncio's modules."""
    return (entry for entry in _replaced() if isinstance(entry[0], ModuleType))


def problems() -> list[str]:
    """What may not work as it is, and what helps."""
    return [*map(_early, holders()), *_policy(), *_children()]


def notes() -> list[str]:
    """What is worth to know, and may be as it should be."""
    return [*_other_loops(), *_debug()]


def _early(holder: Holder) -> str:
    return (
        f"{holder}: it was imported before takeover. Import {holder.module} after aioxide.install(), or start the "
        "program by python -m aioxide. What Python's start itself imports (sitecustomize, a .pth file) is not reached."
    )


def _policy() -> Iterator[str]:
    if _replaced():
        loop = asyncio.new_event_loop()
        loop.close()
        kind = type(loop)
        if not kind.__module__.startswith("aioxide"):
            yield (
                f"asyncio.new_event_loop() makes a {kind.__module__}.{kind.__qualname__}: an event loop policy has "
                "been set. Leave it out, or ask for the loop by loop_factory=aioxide.new_event_loop."
            )


def _other_loops() -> Iterator[str]:
    for name in OTHER_LOOPS:
        if importlib.util.find_spec(name) is not None:
            yield (
                f"{name} is installed, and what chooses a loop by itself may choose that: uvicorn with --loop auto, "
                "granian, sanic. Name the loop (uvicorn: --loop aioxide:new_event_loop, or --loop asyncio in takeover) "
                f"or uninstall {name}."
            )


def _children() -> Iterator[str]:
    if _takeover_file() is None:
        yield (
            "aioxide_takeover.pth is in no folder of site-packages of this Python: AIOXIDE_TAKEOVER=1 has no effect, "
            "and processes that a program starts are asyncio's. Install aioxide by pip."
        )


def _debug() -> Iterator[str]:
    if sys.flags.dev_mode or os.environ.get("PYTHONASYNCIODEBUG"):
        yield "asyncio's debug mode is on (-X dev or PYTHONASYNCIODEBUG): every task and callback is slower by far."


def report() -> str:
    """Versions, what is replaced, and the problems, for a person."""
    uname = os.uname()
    replaced = list(_replacements())
    lines = [
        f"aioxide {__version__} on {platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        f"waits by epoll on {uname.sysname} {uname.release}; TLS by {ssl.OPENSSL_VERSION}"
        + (f", AIOXIDE_TLS={os.environ['AIOXIDE_TLS']}" if "AIOXIDE_TLS" in os.environ else ""),
    ]
    if replaced:
        names = {id(original) for _, _, original in replaced}
        modules = {module.__name__ for module, _, _ in replaced}
        lines.append(f"takeover: {len(names)} objects of asyncio's are replaced, in {len(modules)} of its modules")
    else:
        lines.append("takeover: no. asyncio is as it was; aioxide.new_event_loop and import aioxide work without it")
    value = os.environ.get("AIOXIDE_TAKEOVER")
    lines.append(f"processes that this one starts: {'taken over' if value == '1' else 'not taken over'}")
    found = problems()
    lines += ["", "What may not work:", *(f"* {problem}" for problem in found)] if found else ["", "Nothing is wrong."]
    if known := notes():
        lines += ["", "To know:", *(f"* {note}" for note in known)]
    return "\n".join(lines)


def _takeover_file() -> Path | None:
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    files = (Path(folder, "aioxide_takeover.pth") for folder in folders)
    return next((file for file in files if file.exists()), None)


def main(modules: list[str]) -> int:
    """The command line, in takeover. The exit code is 1 if there is a problem, 2 if a module cannot be imported."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            print(f"doctor: {name} cannot be imported: {type(error).__name__}: {error}", file=sys.stderr)
            return 2
    print(report())
    return bool(problems())
