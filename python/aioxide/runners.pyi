from asyncio.events import AbstractEventLoop
from asyncio.runners import Runner as Runner
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, overload

__all__ = ("Runner", "run")

_T = TypeVar("_T")

@overload
def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], AbstractEventLoop] | None = None,
) -> _T: ...
@overload
def run(
    main: Awaitable[_T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], AbstractEventLoop] | None = None,
) -> _T: ...
