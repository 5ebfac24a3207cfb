"""Who takes part: a namespace to take ``create_task``, ``Queue`` and the others from, and a loop to run them on."""

import asyncio
import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Implementation:
    """``aio`` is asyncio for those that only bring a loop."""

    name: str
    version: str
    aio: ModuleType
    new_event_loop: Callable[[], asyncio.AbstractEventLoop]


def _asyncio() -> Implementation:
    return Implementation("asyncio", platform.python_version(), asyncio, asyncio.new_event_loop)


def _uvloop() -> Implementation:
    import uvloop

    return Implementation("uvloop", uvloop.__version__, asyncio, uvloop.new_event_loop)


def _rloop() -> Implementation:
    import rloop

    return Implementation("rloop", importlib.metadata.version("rloop"), asyncio, rloop.new_event_loop)


def _aioxide() -> Implementation:
    import aioxide

    return Implementation("aioxide", importlib.metadata.version("aioxide"), aioxide, aioxide.new_event_loop)


_MAKERS = {"asyncio": _asyncio, "uvloop": _uvloop, "rloop": _rloop, "aioxide": _aioxide}
NAMES = tuple(_MAKERS)


class Unavailable(Exception):
    """An implementation that is not installed, or not for this Python."""


def load(name: str) -> Implementation:
    try:
        return _MAKERS[name]()
    except ImportError as reason:
        raise Unavailable(f"{name}: {reason}") from None
