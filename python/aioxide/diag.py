"""What the runtime says of itself: blocked loops and more, while it happens.

    from aioxide import diag
    diag.configure(block_ms=50, log="jsonl:/var/log/app/diag.jsonl")

On by default: a callback that keeps its loop for more than 100 ms is logged, with the line that does it, by the logger
``aioxide.diag``. ``AIOXIDE_DIAG=0`` in the environment turns off all of this.
"""

from . import _flight as flight
from ._core import diag as _diag
from ._metrics import Histogram, LoopMetrics, Metrics, TaskMetrics, metrics, opentelemetry, prometheus

configure = _diag.configure
settings = _diag.settings
register = _diag.register
unregister = _diag.unregister
