"""asyncio.threads: functions on other threads. What is not named here is asyncio's own."""

from asyncio import threads as _asyncio
from functools import partial as _partial

from ._core import to_thread

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
