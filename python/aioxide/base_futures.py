"""asyncio.base_futures: what futures are made of. What is not named here is asyncio's own."""

from asyncio import base_futures as _asyncio
from asyncio.base_futures import *
from functools import partial as _partial

from ._core import isfuture

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
