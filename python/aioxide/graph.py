"""asyncio.graph: who awaits whom (3.14 and later). asyncio's own, which reads what our futures tell it."""

from asyncio import graph as _asyncio
from asyncio.graph import *
from functools import partial as _partial

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
