"""asyncio.graph: who awaits whom (3.14 and later). asyncio's own, which reads what our futures tell it."""

import sys as _sys

if _sys.version_info < (3, 14):
    raise ModuleNotFoundError("aioxide.graph is asyncio.graph, which Python has since 3.14", name=__name__)

from asyncio import graph as _asyncio
from asyncio.graph import *
from functools import partial as _partial

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
