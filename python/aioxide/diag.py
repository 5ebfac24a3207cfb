"""What the runtime says of itself: blocked loops and more, while it happens.

    from aioxide import diag
    diag.configure(block_ms=50, log="jsonl:/var/log/app/diag.jsonl")

On by default: a callback that keeps its loop for more than 100 ms is logged, with the line that does it, by the logger
``aioxide.diag``. ``AIOXIDE_DIAG=0`` in the environment turns off all of this.
"""

import json
import os
import warnings
from asyncio import AbstractEventLoop, CancelledError, Task
from typing import Any, NamedTuple

from . import _flight as flight
from ._core import diag as _diag
from ._metrics import Histogram, LoopMetrics, Metrics, TaskMetrics, metrics, opentelemetry, prometheus

configure = _diag.configure
settings = _diag.settings
register = _diag.register
unregister = _diag.unregister


class CancelInfo(NamedTuple):
    """Who cancelled a task, from where and why."""

    by: str | None
    site: str | None
    reason: str
    through: str | None
    at: float
    requests: int
    deliveries: int


def cancel_info(task_or_exception: Task[Any] | CancelledError) -> CancelInfo | None:
    """Who cancelled a task last: by the task, or by the CancelledError that it got.

    None if it was never cancelled, or if nothing is known of that exception (any more: the last 256 are remembered).
    Raises TypeError for anything else. On the thread of the task's loop.
    """
    found = _diag._cancel_info(task_or_exception)
    return None if found is None else CancelInfo._make(found)


def waits(loop: AbstractEventLoop | None = None) -> list[dict[str, Any]]:
    """What each task of the loop that waits is waiting for, who holds it, and where: as in the record of a deadlock.

    The loop is the running one by default (RuntimeError if there is none). On the thread of that loop.
    """
    return json.loads(_diag._waits(loop))


def develop() -> None:
    """Turns on development mode, as AIOXIDE_DEV=1 does: for programs that decide it themselves, before their loop runs.

    It cannot be turned off again. With AIOXIDE_DIAG=0 it is not turned on: that is a RuntimeWarning.
    """
    if not _diag._develop():
        warnings.warn("AIOXIDE_DIAG=0 is set: there is no development mode", RuntimeWarning, stacklevel=2)
    elif not os.environ.get("AIOXIDE_BLOCK_MS"):
        configure(block_ms=50)
