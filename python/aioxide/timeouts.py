"""asyncio.timeouts: an end to waiting. What is not named here is asyncio's own."""

from asyncio import timeouts as _asyncio
from functools import partial as _partial

from ._core import Timeout, timeout, timeout_at

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
