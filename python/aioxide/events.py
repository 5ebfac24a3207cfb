"""asyncio.events: loops, handles, and which loop is whose. What is not named here is asyncio's own."""

from asyncio import events as _asyncio
from asyncio.events import (
    AbstractEventLoop,
    AbstractServer,
    _get_running_loop,
    _set_running_loop,
    get_running_loop,
    set_event_loop,
    set_event_loop_policy,
)
from functools import partial as _partial

from ._core import Handle, TimerHandle, get_event_loop, get_event_loop_policy, new_event_loop

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
