"""asyncio.protocols: the base classes that programs derive from. asyncio's own."""

from asyncio import protocols as _asyncio
from asyncio.protocols import *
from functools import partial as _partial

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
