"""asyncio.tasks: coroutines that run concurrently, and waiting for them. What is not named here is asyncio's own."""

from asyncio import tasks as _asyncio
from asyncio.tasks import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    _enter_task,
    _leave_task,
    _register_task,
    _unregister_task,
)
from functools import partial as _partial

from ._core import (
    Task,
    all_tasks,
    as_completed,
    create_eager_task_factory,
    create_task,
    current_task,
    eager_task_factory,
    ensure_future,
    gather,
    run_coroutine_threadsafe,
    shield,
    sleep,
    wait,
    wait_for,
)

# create_eager_task_factory and eager_task_factory also where asyncio does not have them yet
__all__ = tuple(dict.fromkeys((*_asyncio.__all__, "create_eager_task_factory", "eager_task_factory")))
__getattr__ = _partial(getattr, _asyncio)
