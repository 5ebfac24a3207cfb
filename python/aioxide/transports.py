"""asyncio.transports: the base classes of what a protocol is given. asyncio's own."""

from asyncio import transports as _asyncio
from asyncio.transports import *
from functools import partial as _partial

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
