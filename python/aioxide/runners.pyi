import sys
from asyncio.runners import Runner as Runner

__all__ = ("Runner", "run")

if sys.version_info >= (3, 12):
    from asyncio.runners import run as run
else:
    from asyncio.events import AbstractEventLoop
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    _T = TypeVar("_T")

    # with 3.12's loop_factory
    def run(
        main: Coroutine[Any, Any, _T],
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], AbstractEventLoop] | None = None,
    ) -> _T: ...
