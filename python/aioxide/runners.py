"""asyncio.runners: from a program without a loop into one and out again. What is not named here is asyncio's own."""

from asyncio import runners as _asyncio
from functools import partial as _partial

from ._core import Runner, run

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
