"""asyncio.exceptions: the very classes that an `except` elsewhere names. asyncio's own."""

from asyncio import exceptions as _asyncio
from asyncio.exceptions import *
from functools import partial as _partial

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
