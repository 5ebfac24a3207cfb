"""asyncio.coroutines: what counts as a coroutine. asyncio's own."""

from asyncio import coroutines as _asyncio
from asyncio.coroutines import *
from functools import partial as _partial

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
