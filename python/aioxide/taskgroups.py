"""asyncio.taskgroups: tasks that end together. What is not named here is asyncio's own."""

from asyncio import taskgroups as _asyncio
from functools import partial as _partial

from ._core import TaskGroup

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
