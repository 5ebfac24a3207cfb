"""Interleaved measuring: every round takes one sample of every implementation, starting with another one each time.

An implementation's samples lie spread over the whole run, so what slows the machine for a while slows all alike.
"""

import gc
import os
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Self

from .implementations import Implementation
from .operations import Operation, Sample


@dataclass
class Figure:
    """The samples of one implementation in one row."""

    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def as_json(self) -> dict[str, float | list[float]]:
        return {
            "median": round(self.median, 1),
            "min": round(min(self.samples), 1),
            "max": round(max(self.samples), 1),
            "samples": [round(sample, 1) for sample in self.samples],
        }


def sample(implementation: Implementation, operation: Operation, n: int) -> Sample:
    """One run on a fresh loop, with the garbage of the run before it gone and the collector on."""
    loop = implementation.new_event_loop()
    try:
        gc.collect()
        return loop.run_until_complete(operation.run(implementation.aio, n))
    finally:
        loop.close()


def calibrate(implementation: Implementation, operation: Operation, window: float) -> int:
    """How many operations fill the window (seconds), after a warm-up."""
    if operation.fixed:
        return operation.fixed
    n = 1000
    while True:
        taken = sample(implementation, operation, n)
        if taken.nanoseconds > window * 1e9 / 10:
            return max(1000, round(window * 1e9 / taken.per_operation))
        n *= 4


def measure(
    implementations: Sequence[Implementation], operation: Operation, rounds: int, window: float
) -> dict[str, Figure]:
    """Nanoseconds per operation, by implementation."""
    sizes = {implementation.name: calibrate(implementation, operation, window) for implementation in implementations}
    figures = {implementation.name: Figure() for implementation in implementations}
    for turn in range(rounds):
        shift = turn % len(implementations)
        for implementation in [*implementations[shift:], *implementations[:shift]]:
            taken = sample(implementation, operation, sizes[implementation.name])
            figures[implementation.name].samples.append(taken.per_operation)
    return figures


CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


class BusyThread:
    """Python code that never gives the GIL up by itself, and counts how far it comes.

    While it runs, it and the thread that started it have a core each, or share one. By itself the scheduler changes
    between the two every few seconds, and asyncio's figures with it, by a factor of thirty.
    """

    def __init__(self, *, one_core: bool) -> None:
        self._cores = (CORES[:1], CORES[:1] if one_core else CORES[-1:])
        self._stop = False
        self.count = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._pin(self._cores[1])
        while not self._stop:
            for _ in range(1000):
                pass
            self.count += 1

    def __enter__(self) -> Self:
        self._pin(self._cores[0])
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop = True
        self._thread.join()
        self._pin(CORES)

    @staticmethod
    def _pin(cores: Sequence[int]) -> None:
        if cores:
            os.sched_setaffinity(0, cores)

    def alone(self, seconds: float) -> float:
        """Its speed while nothing else of ours runs. (On a busy machine it may take longer until it has run at all.)"""
        began, count = perf_counter_ns(), self.count
        time.sleep(seconds)
        while self.count == count:
            time.sleep(seconds)
        return self.rate(count, began)

    def rate(self, since: int, started: int) -> float:
        return (self.count - since) / (perf_counter_ns() - started)


async def wake_for(aio, seconds: float) -> Sample:
    """Two tasks wake each other for as long as that, at least 20 times."""
    new_future = aio.get_running_loop().create_future
    deadline = perf_counter_ns() + seconds * 1e9
    wakes = 0

    async def player(mine, other):
        nonlocal wakes
        while True:
            await mine[0]
            mine[0] = new_future()
            wakes += 1
            if wakes % 20 == 0 and perf_counter_ns() > deadline:
                finished.set_result(None)
                return
            other[0].set_result(None)

    finished = new_future()
    left, right = [new_future()], [new_future()]
    started = perf_counter_ns()
    tasks = [aio.create_task(player(left, right)), aio.create_task(player(right, left))]
    left[0].set_result(None)
    await finished
    taken = Sample(perf_counter_ns() - started, wakes)
    for task in tasks:
        task.cancel()
    await aio.gather(*tasks, return_exceptions=True)
    return taken


def measure_contention(
    implementations: Sequence[Implementation], rounds: int, window: float, *, one_core: bool
) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """Nanoseconds per wake-up beside one busy thread, and the share of its speed that the thread keeps (percent)."""
    wakes = {implementation.name: Figure() for implementation in implementations}
    shares = {implementation.name: Figure() for implementation in implementations}
    for turn in range(rounds):
        shift = turn % len(implementations)
        for implementation in [*implementations[shift:], *implementations[:shift]]:
            gc.collect()
            with BusyThread(one_core=one_core) as busy:
                alone = busy.alone(window / 2)
                loop = implementation.new_event_loop()
                try:
                    began, count = perf_counter_ns(), busy.count
                    taken = loop.run_until_complete(wake_for(implementation.aio, window))
                    beside = busy.rate(count, began)
                finally:
                    loop.close()
            wakes[implementation.name].samples.append(taken.per_operation)
            shares[implementation.name].samples.append(100 * beside / alone)
    return wakes, shares
