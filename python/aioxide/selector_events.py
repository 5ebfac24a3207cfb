"""asyncio.selector_events: asyncio's own loop on selectors. asyncio's own."""

from asyncio import selector_events as _asyncio
from asyncio.selector_events import *
from functools import partial as _partial

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
