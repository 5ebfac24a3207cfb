"""asyncio.locks: synchronization primitives. What is not named here is asyncio's own."""

from asyncio import locks as _asyncio
from functools import partial as _partial

from ._core import Barrier, BoundedSemaphore, Condition, Event, Lock, Semaphore

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
