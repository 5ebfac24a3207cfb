"""asyncio.base_futures: what Python's own futures are made of. asyncio's own."""

from asyncio import base_futures as _asyncio
from asyncio.base_futures import *
from functools import partial as _partial

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
