"""What ``aioxide.diag.metrics()`` gives, and how it goes to Prometheus and OpenTelemetry.

The loop counts and times (``crates/core/src/metrics``); here the figures get their names. Nothing is kept here, nothing
runs by itself: whoever asks gets the figures of that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._core import __version__
from ._core import diag as _diag

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations by order of magnitude. Times are in seconds.

    Each bucket is twice as wide as the one before it, from a microsecond to a minute.
    """

    #: the upper ends of the buckets, the end included; the last bucket has no end and is not here
    bounds: tuple[float, ...]
    #: how many durations there were in each bucket: one more than there are bounds
    counts: tuple[int, ...]
    #: all durations together
    sum: float
    #: the longest
    max: float

    @property
    def count(self) -> int:
        """How many durations there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The average; None if there were none."""
        return self.sum / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The duration that the part `share` of all durations, 0 to 1, does not exceed; None if there were none.

        As exact as the buckets: to a factor of two, within the bucket by proportion, and never more than the longest.
        """
        if not 0 <= share <= 1:
            raise ValueError("share must be between 0 and 1")
        wanted = share * self.count
        before = 0
        start = 0.0
        for count, bound in zip(self.counts, (*self.bounds, self.max), strict=True):
            end = min(bound, self.max)
            if count and before + count >= wanted:
                # (of the whole bucket it is the end itself: `start + (end - start)` may be another number)
                return end if before + count == wanted else start + max(end - start, 0.0) * (wanted - before) / count
            before += count
            start = bound
        return None

    def since(self, earlier: Histogram) -> Histogram:
        """What has come since an earlier look at the same figure. The longest is the longest of all times."""
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        return Histogram(self.bounds, counts, self.sum - earlier.sum, self.max)


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """What one task that is not done has done."""

    #: as ``Task.get_name()``
    name: str
    #: the qualified name of what it runs
    coroutine: str
    #: how many of its steps have begun
    steps: int
    #: for how many seconds it has kept its loop busy: an estimate, see the reference
    busy: float


@dataclass(frozen=True, slots=True)
class LoopMetrics:
    """The figures of one loop since it first ran. Times are in seconds."""

    #: which loop of the process, in the order of their first runs; the ``loop`` of records, and of labels
    number: int
    #: whether it runs at present
    is_running: bool
    #: how long it has run, asleep or not
    running: float
    #: how much of that it has slept in its poll, with nothing to do
    idle: float
    #: how much of that it was awake and waited for another thread to let go of the GIL
    held: float
    #: the CPU time of the thread that runs it, since that was started; None if it does not run
    cpu: float | None
    #: how many turns have begun
    turns: int
    #: how many entries have begun: steps of tasks, callbacks, events of transports
    entries: int
    #: how many of them the present turn had to do when it began, or are ready now, if those are more
    ready: int
    #: how many timers wait, those that are cancelled and still there included
    timers: int
    #: how many tasks are not done
    tasks: int
    #: how many callbacks have blocked it for longer than ``block_ms``
    blocks: int
    #: how long they did, those that have ended
    blocked: float
    #: how late the loop was: see the reference
    lag: Histogram
    #: how late timers were; of those that were due together the first
    timer_lag: Histogram
    #: how long entries ran; of one in about a hundred
    callbacks: Histogram
    #: the tasks that are not done, if they were asked for
    by_task: tuple[TaskMetrics, ...] = ()

    @property
    def utilisation(self) -> float:
        """The part of its running time, 0 to 1, in which it was not asleep; for a time of its own, subtract two looks.

        A callback that waits, for a lock or in ``time.sleep()``, keeps the loop busy without CPU time; that counts.
        """
        return max(self.running - self.idle, 0.0) / self.running if self.running else 0.0


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of a process at one moment."""

    #: of aioxide
    version: str
    #: the process
    pid: int
    #: when, in seconds of ``time.monotonic()``
    time: float
    #: the loops that are not closed
    loops: tuple[LoopMetrics, ...]


def metrics(*, tasks: bool = False) -> Metrics:
    """The figures of all loops that have run and are not closed. Any thread; the loops are not disturbed.

    With `tasks`, each task's too, which takes some microseconds for each. With AIOXIDE_DIAG=0 there are no loops in it:
    nobody has measured anything.
    """
    pid, time, loops = _diag._metrics(tasks)
    bounds = _diag._bounds

    def made(figures: dict[str, Any]) -> LoopMetrics:
        for name in ("lag", "timer_lag", "callbacks"):
            figures[name] = Histogram(bounds, *figures[name])
        by_task = tuple(TaskMetrics(*task) for task in figures.pop("by_task"))
        return LoopMetrics(**figures, by_task=by_task)

    return Metrics(__version__, pid, time, tuple(made(figures) for figures in loops))


def prometheus() -> str:
    """The figures of all loops in Prometheus' text format, version 0.0.4. Any thread.

    It is for an HTTP handler of the program's own, with the content type ``text/plain; version=0.0.4``. Tasks are
    counted, not listed: their names would be series without end. With AIOXIDE_DIAG=0 there are no figures, and a
    comment in the text says so.
    """
    if not _diag.settings()["enabled"]:
        return "# no figures: AIOXIDE_DIAG=0 is set\n"
    return _diag._prometheus()


#: OpenTelemetry's instruments: name, unit, description, what is observed of a loop; the first three letters of the kind
_INSTRUMENTS: list[tuple[str, str, str, str, Callable[[LoopMetrics], Iterable[tuple[float, dict[str, str]]]]]] = [
    (
        "counter",
        "aioxide.loop.time",
        "s",
        "Time that the loop has run: idle (asleep), held (waiting for the GIL), active.",
        lambda loop: [
            (loop.idle, {"state": "idle"}),
            (loop.held, {"state": "held"}),
            (max(loop.running - loop.idle - loop.held, 0.0), {"state": "active"}),
        ],
    ),
    (
        "counter",
        "aioxide.loop.cpu_time",
        "s",
        "CPU time of the thread that runs the loop.",
        lambda loop: [] if loop.cpu is None else [(loop.cpu, {})],
    ),
    ("counter", "aioxide.loop.turns", "{turn}", "Turns of the loop.", lambda loop: [(loop.turns, {})]),
    (
        "counter",
        "aioxide.loop.entries",
        "{entry}",
        "Steps, callbacks and events that the loop has run.",
        lambda loop: [(loop.entries, {})],
    ),
    (
        "counter",
        "aioxide.loop.blocks",
        "{block}",
        "Callbacks that kept the loop for longer than block_ms.",
        lambda loop: [(loop.blocks, {})],
    ),
    ("counter", "aioxide.loop.blocked_time", "s", "Time of those.", lambda loop: [(loop.blocked, {})]),
    (
        "gauge",
        "aioxide.loop.utilization",
        "1",
        "The part of its running time in which the loop was not asleep.",
        lambda loop: [(loop.utilisation, {})],
    ),
    ("gauge", "aioxide.loop.ready", "{entry}", "Entries that are ready.", lambda loop: [(loop.ready, {})]),
    ("gauge", "aioxide.loop.timers", "{timer}", "Timers that wait.", lambda loop: [(loop.timers, {})]),
    ("gauge", "aioxide.loop.tasks", "{task}", "Tasks that are not done.", lambda loop: [(loop.tasks, {})]),
]


def opentelemetry(meter_provider: MeterProvider | None = None) -> None:
    """Registers the figures of all loops as instruments of OpenTelemetry's, to be observed whenever a reader collects.

    `meter_provider`: None is the global one. Needs the package opentelemetry-api (``pip install aioxide[otel]``).
    To be called once for each provider. OpenTelemetry has no histogram that is observed, so of each histogram there are
    the count and the sum as counters, and the quantiles 0.5, 0.9, 0.99 and 1 of the time since the last collection as
    gauges.
    """
    from opentelemetry.metrics import Observation, get_meter

    meter = get_meter("aioxide", __version__, meter_provider)

    def observed(
        read: Callable[[LoopMetrics], Iterable[tuple[float, dict[str, str]]]],
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(value, {"loop": loop.number, **attributes})
                for loop in metrics().loops
                for value, attributes in read(loop)
            ]

        return callback

    for kind, name, unit, description, read in _INSTRUMENTS:
        create = meter.create_observable_counter if kind == "counter" else meter.create_observable_gauge
        create(name, [observed(read)], unit, description)
    for field, name, description in [
        ("lag", "aioxide.loop.lag", "How late the loop was"),
        ("timer_lag", "aioxide.loop.timer_lag", "How late timers were"),
        ("callbacks", "aioxide.loop.callback_time", "How long entries ran (sampled)"),
    ]:
        counted = observed(lambda loop, field=field: [(getattr(loop, field).count, {})])
        meter.create_observable_counter(f"{name}.count", [counted], "1", f"{description}: samples.")
        summed = observed(lambda loop, field=field: [(getattr(loop, field).sum, {})])
        meter.create_observable_counter(f"{name}.sum", [summed], "s", f"{description}: all samples together.")
        meter.create_observable_gauge(name, [observed(_quantiles(field))], "s", f"{description}: quantiles.")


def _quantiles(field: str) -> Callable[[LoopMetrics], Iterable[tuple[float, dict[str, str]]]]:
    """Those of the samples since the last call."""
    before: dict[int, Histogram] = {}

    def read(loop: LoopMetrics) -> Iterable[tuple[float, dict[str, str]]]:
        now: Histogram = getattr(loop, field)
        recent = now.since(before[loop.number]) if loop.number in before else now
        before[loop.number] = now
        quantiles = [(recent.quantile(share), {"quantile": str(share)}) for share in (0.5, 0.9, 0.99, 1.0)]
        return [(value, attributes) for value, attributes in quantiles if value is not None]

    return read
