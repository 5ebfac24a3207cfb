from asyncio import AbstractEventLoop, CancelledError, Task
from collections.abc import Callable
from os import PathLike
from types import EllipsisType
from typing import Any, Literal, NamedTuple

from . import _flight
from ._metrics import Histogram as Histogram
from ._metrics import LoopMetrics as LoopMetrics
from ._metrics import Metrics as Metrics
from ._metrics import TaskMetrics as TaskMetrics
from ._metrics import metrics as metrics
from ._metrics import opentelemetry as opentelemetry
from ._metrics import prometheus as prometheus

def configure(
    *,
    block_ms: float | None = None,
    block_repeat: Literal["limited", "all"] | None = None,
    log: str | None = None,
    on_event: Callable[[dict[str, Any]], object] | EllipsisType | None = ...,
    flight: float | None = None,
    flight_dir: str | PathLike[str] | None = None,
) -> None: ...
def settings() -> dict[str, Any]: ...
def register(signum: int) -> None: ...
def unregister(signum: int) -> bool: ...

flight = _flight

class CancelInfo(NamedTuple):
    by: str | None
    site: str | None
    reason: str
    through: str | None
    at: float
    requests: int
    deliveries: int

def cancel_info(task_or_exception: Task[Any] | CancelledError) -> CancelInfo | None: ...
def waits(loop: AbstractEventLoop | None = None) -> list[dict[str, Any]]: ...
def develop() -> None: ...
