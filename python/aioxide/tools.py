"""asyncio.tools: `python -m asyncio ps` and `pstree` (3.14 and later). asyncio's own."""

import sys as _sys

if _sys.version_info < (3, 14):
    raise ModuleNotFoundError("aioxide.tools is asyncio.tools, which Python has since 3.14", name=__name__)

from asyncio import tools as _asyncio
from asyncio.tools import *
from functools import partial as _partial

__getattr__ = _partial(getattr, _asyncio)
