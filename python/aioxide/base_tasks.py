"""asyncio.base_tasks: how tasks show themselves. asyncio's own."""

from asyncio import base_tasks as _asyncio
from asyncio.base_tasks import *
from functools import partial as _partial

__getattr__ = _partial(getattr, _asyncio)
