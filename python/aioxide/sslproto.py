"""asyncio.sslproto: TLS for asyncio's own transports. asyncio's own."""

from asyncio import sslproto as _asyncio
from asyncio.sslproto import *
from functools import partial as _partial

__getattr__ = _partial(getattr, _asyncio)
