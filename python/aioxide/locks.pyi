from asyncio.locks import *
from asyncio.locks import _BarrierState as _BarrierState
from asyncio.locks import _ContextManagerMixin as _ContextManagerMixin

__all__ = ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier")
