"""asyncio.proactor_events: asyncio's own loop on completion ports, which Windows has. asyncio's own."""

from asyncio import proactor_events as _asyncio
from asyncio.proactor_events import *
from functools import partial as _partial

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
