"""The table of ``make demo``: the same work on asyncio and on aioxide."""

import platform

from . import report
from .implementations import load
from .measure import measure
from .operations import OPERATIONS, Operation

ROWS = {
    "fetch": "fetch a page (300 at a time, real sockets)",
    "sleep0": "switch between 100 tasks",
    "create_task": "create a task and await it",
    "gather": "gather 100 coroutines, each",
    "queue_1": "hand an item through a queue",
    "timers_cancel": "start a timer and cancel it",
    "timeout": "async with timeout",
}
SIZES = {"fetch": 300, "sleep0": 100_000, "timers_cancel": 20_000}


def main() -> None:
    implementations = [load("asyncio"), load("aioxide")]
    rows = []
    for key, title in ROWS.items():
        operation = OPERATIONS[key]
        sized = Operation(key, title, operation.run, fixed=SIZES.get(key, 10_000))
        figures = measure(implementations, sized, rounds=5, window=0.0)
        stdlib, ours = figures["asyncio"].median, figures["aioxide"].median
        rows.append([title, f"{stdlib / 1000:,.2f}", f"{ours / 1000:,.2f}", report.ratio(stdlib, ours)])
    version = platform.python_version()
    print(f"\nthe same work on both, Python {version}; medians of 5 interleaved rounds, microseconds per operation\n")
    print(report.table(["", "asyncio", "aioxide", "faster"], rows))


if __name__ == "__main__":
    main()
