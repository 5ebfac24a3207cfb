import asyncio.tasks
import sys
from asyncio.events import AbstractEventLoop
from asyncio.tasks import (
    ALL_COMPLETED as ALL_COMPLETED,
)
from asyncio.tasks import (
    FIRST_COMPLETED as FIRST_COMPLETED,
)
from asyncio.tasks import (
    FIRST_EXCEPTION as FIRST_EXCEPTION,
)
from asyncio.tasks import (
    _enter_task as _enter_task,
)
from asyncio.tasks import (
    _leave_task as _leave_task,
)
from asyncio.tasks import (
    _register_task as _register_task,
)
from asyncio.tasks import (
    _unregister_task as _unregister_task,
)
from asyncio.tasks import (
    all_tasks as all_tasks,
)
from asyncio.tasks import (
    as_completed as as_completed,
)
from asyncio.tasks import (
    create_task as create_task,
)
from asyncio.tasks import (
    current_task as current_task,
)
from asyncio.tasks import (
    ensure_future as ensure_future,
)
from asyncio.tasks import (
    gather as gather,
)
from asyncio.tasks import (
    run_coroutine_threadsafe as run_coroutine_threadsafe,
)
from asyncio.tasks import (
    shield as shield,
)
from asyncio.tasks import (
    sleep as sleep,
)
from asyncio.tasks import (
    wait as wait,
)
from asyncio.tasks import (
    wait_for as wait_for,
)
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

if sys.version_info >= (3, 12):
    from asyncio.tasks import (
        Task as Task,
    )
    from asyncio.tasks import (
        create_eager_task_factory as create_eager_task_factory,
    )
    from asyncio.tasks import (
        eager_task_factory as eager_task_factory,
    )
else:
    class Task(asyncio.tasks.Task[_T_co]):
        def __init__(
            self,
            coro: Coroutine[Any, Any, _T_co],
            *,
            loop: AbstractEventLoop | None = None,
            name: str | None = None,
            context: Context | None = None,
            eager_start: bool = False,
        ) -> None: ...
        def get_context(self) -> Context: ...

    def eager_task_factory(
        loop: AbstractEventLoop | None,
        coro: Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> Task[_T]: ...
    def create_eager_task_factory(
        custom_task_constructor: Callable[..., asyncio.tasks.Task[Any]],
    ) -> Callable[..., asyncio.tasks.Task[Any]]: ...
