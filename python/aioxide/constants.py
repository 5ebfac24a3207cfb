"""asyncio.constants: limits and time-outs. asyncio's own."""

from asyncio import constants as _asyncio
from asyncio.constants import *
from functools import partial as _partial

__getattr__ = _partial(getattr, _asyncio)
