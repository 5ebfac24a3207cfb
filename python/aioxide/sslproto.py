"""asyncio.sslproto: TLS between a transport and a protocol. What is not named here is asyncio's own."""

from asyncio import sslproto as _asyncio
from asyncio.sslproto import *
from functools import partial as _partial

from ._core import SSLProtocol

__getattr__ = _partial(getattr, _asyncio)
