"""asyncio.format_helpers: how callbacks show themselves. asyncio's own."""

from asyncio import format_helpers as _asyncio
from asyncio.format_helpers import *
from functools import partial as _partial

__getattr__ = _partial(getattr, _asyncio)
