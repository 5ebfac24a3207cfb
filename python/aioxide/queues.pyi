import asyncio.queues
import sys
from asyncio.queues import QueueEmpty as QueueEmpty
from asyncio.queues import QueueFull as QueueFull
from typing import Any, TypeVar

from typing_extensions import disjoint_base

__all__ = ("Queue", "PriorityQueue", "LifoQueue", "QueueFull", "QueueEmpty", "QueueShutDown")

if sys.version_info >= (3, 13):
    from asyncio.queues import LifoQueue as LifoQueue
    from asyncio.queues import PriorityQueue as PriorityQueue
    from asyncio.queues import Queue as Queue
    from asyncio.queues import QueueShutDown as QueueShutDown
else:
    _T = TypeVar("_T")
    # a PriorityQueue's items are compared
    _SupportsOrderT = TypeVar("_SupportsOrderT", bound=Any)

    class QueueShutDown(Exception): ...

    # with 3.13's shutdown()
    @disjoint_base
    class Queue(asyncio.queues.Queue[_T]):
        def shutdown(self, immediate: bool = False) -> None: ...

    class PriorityQueue(Queue[_SupportsOrderT]): ...
    class LifoQueue(Queue[_T]): ...
