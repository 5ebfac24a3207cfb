"""asyncio.base_events: what loops have in common. What is not named here is asyncio's own."""

from asyncio import base_events as _asyncio
from asyncio.base_events import BaseEventLoop
from functools import partial as _partial

from ._core import Server

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
