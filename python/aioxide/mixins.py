"""asyncio.mixins: objects that belong to a loop from their first use on. asyncio's own."""

from asyncio import mixins as _asyncio
from asyncio.mixins import *
from functools import partial as _partial

__getattr__ = _partial(getattr, _asyncio)
