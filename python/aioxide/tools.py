"""asyncio.tools: `python -m asyncio ps` and `pstree` (3.14 and later). asyncio's own."""

from asyncio import tools as _asyncio
from asyncio.tools import *
from functools import partial as _partial

__getattr__ = _partial(getattr, _asyncio)
