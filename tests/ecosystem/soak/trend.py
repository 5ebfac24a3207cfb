"""Whether a figure grows: by the median of the slopes between all pairs of samples (Theil and Sen).

A few samples that stand out, high or low, do not move it, where they would move a fitted line.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

#: of the samples: at first pools and arenas fill, and modules are imported
WARM_UP = 0.25


def growth(times: Sequence[float], values: Sequence[float]) -> float:
    """How much it grew by its trend from the end of the warm-up to the last sample."""
    first = int(len(values) * WARM_UP)
    times, values = times[first:], values[first:]
    if len(values) < 8:
        raise ValueError("too few samples for a trend")
    slopes = [
        (values[later] - values[earlier]) / (times[later] - times[earlier])
        for later in range(len(values))
        for earlier in range(later)
    ]
    return statistics.median(slopes) * (times[-1] - times[0])
