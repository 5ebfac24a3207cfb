"""asyncio.unix_events: the loop of this platform. What is not named here is asyncio's own."""

from asyncio import unix_events as _asyncio
from functools import partial as _partial

from ._core import EventLoop, SelectorEventLoop

# EventLoop also where asyncio does not have it yet
__all__ = tuple(dict.fromkeys((*_asyncio.__all__, "EventLoop")))
__getattr__ = _partial(getattr, _asyncio)
