"""asyncio.log: the logger. asyncio's own."""

from asyncio import log as _asyncio
from asyncio.log import *
from functools import partial as _partial

__getattr__ = _partial(getattr, _asyncio)
