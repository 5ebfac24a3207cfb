"""asyncio.staggered: attempts that start one after the other. asyncio's own."""

from asyncio import staggered as _asyncio
from asyncio.staggered import *
from functools import partial as _partial

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
