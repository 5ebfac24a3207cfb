"""asyncio.base_subprocess: what asyncio's own subprocess transports are made of. asyncio's own."""

from asyncio import base_subprocess as _asyncio
from asyncio.base_subprocess import *
from functools import partial as _partial

__getattr__ = _partial(getattr, _asyncio)
