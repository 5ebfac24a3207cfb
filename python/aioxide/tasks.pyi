import sys
from asyncio.tasks import ALL_COMPLETED as ALL_COMPLETED
from asyncio.tasks import FIRST_COMPLETED as FIRST_COMPLETED
from asyncio.tasks import FIRST_EXCEPTION as FIRST_EXCEPTION
from asyncio.tasks import Task as Task
from asyncio.tasks import _enter_task as _enter_task
from asyncio.tasks import _leave_task as _leave_task
from asyncio.tasks import _register_task as _register_task
from asyncio.tasks import _unregister_task as _unregister_task
from asyncio.tasks import all_tasks as all_tasks
from asyncio.tasks import as_completed as as_completed
from asyncio.tasks import create_task as create_task
from asyncio.tasks import current_task as current_task
from asyncio.tasks import ensure_future as ensure_future
from asyncio.tasks import gather as gather
from asyncio.tasks import run_coroutine_threadsafe as run_coroutine_threadsafe
from asyncio.tasks import shield as shield
from asyncio.tasks import sleep as sleep
from asyncio.tasks import wait as wait
from asyncio.tasks import wait_for as wait_for

__all__ = (
    "Task",
    "create_task",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "ALL_COMPLETED",
    "wait",
    "wait_for",
    "as_completed",
    "sleep",
    "gather",
    "shield",
    "ensure_future",
    "run_coroutine_threadsafe",
    "current_task",
    "all_tasks",
    "create_eager_task_factory",
    "eager_task_factory",
    "_register_task",
    "_unregister_task",
    "_enter_task",
    "_leave_task",
)

if sys.version_info >= (3, 12):
    from asyncio.tasks import create_eager_task_factory as create_eager_task_factory

if sys.version_info >= (3, 14):
    from asyncio.tasks import eager_task_factory as eager_task_factory
else:
    from asyncio.events import AbstractEventLoop
    from collections.abc import Coroutine, Generator
    from contextvars import Context
    from typing import Any, TypeVar

    _T = TypeVar("_T")

    # with 3.14's eager_start
    def eager_task_factory(
        loop: AbstractEventLoop | None,
        coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
        *,
        eager_start: bool = True,
        name: str | None = None,
        context: Context | None = None,
    ) -> Task[_T]: ...

if sys.version_info < (3, 12):
    from collections.abc import Callable
    from typing import Protocol

    class _EagerTaskFactory(Protocol):
        def __call__(
            self,
            loop: AbstractEventLoop,
            coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
            *,
            name: str | None = None,
            context: Context | None = None,
        ) -> Task[Any]: ...

    # what makes the task is called with 3.12's eager_start, which the type of 3.11's Task does not know
    def create_eager_task_factory(
        custom_task_constructor: Callable[..., Task[Any]],
    ) -> _EagerTaskFactory: ...
