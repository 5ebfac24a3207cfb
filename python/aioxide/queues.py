"""asyncio.queues: queues between tasks. What is not named here is asyncio's own."""

from asyncio import queues as _asyncio
from asyncio.queues import QueueEmpty, QueueFull
from functools import partial as _partial

from ._core import LifoQueue, PriorityQueue, Queue, QueueShutDown

# QueueShutDown also where asyncio does not have it yet
__all__ = tuple(dict.fromkeys((*_asyncio.__all__, "QueueShutDown")))
__getattr__ = _partial(getattr, _asyncio)
