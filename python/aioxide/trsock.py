"""asyncio.trsock: the socket that a transport shows. asyncio's own."""

from asyncio import trsock as _asyncio
from asyncio.trsock import *
from functools import partial as _partial

__getattr__ = _partial(getattr, _asyncio)
