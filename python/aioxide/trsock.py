"""asyncio.trsock: the socket that a transport shows. What is not named here is asyncio's own."""

from asyncio import trsock as _asyncio
from asyncio.trsock import *
from functools import partial as _partial

from ._core import TransportSocket

__getattr__ = _partial(getattr, _asyncio)
