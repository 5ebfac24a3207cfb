from dataclasses import dataclass
from typing import Any

@dataclass(frozen=True, slots=True)
class Histogram:
    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    max: float
    @property
    def count(self) -> int: ...
    @property
    def mean(self) -> float | None: ...
    def quantile(self, share: float) -> float | None: ...
    def since(self, earlier: Histogram) -> Histogram: ...

@dataclass(frozen=True, slots=True)
class TaskMetrics:
    name: str
    coroutine: str
    steps: int
    busy: float

@dataclass(frozen=True, slots=True)
class LoopMetrics:
    number: int
    is_running: bool
    running: float
    idle: float
    held: float
    cpu: float | None
    turns: int
    entries: int
    ready: int
    timers: int
    tasks: int
    blocks: int
    blocked: float
    lag: Histogram
    timer_lag: Histogram
    callbacks: Histogram
    by_task: tuple[TaskMetrics, ...] = ()
    @property
    def utilisation(self) -> float: ...

@dataclass(frozen=True, slots=True)
class Metrics:
    version: str
    pid: int
    time: float
    loops: tuple[LoopMetrics, ...]

def metrics(*, tasks: bool = False) -> Metrics: ...
def prometheus() -> str: ...

# (a MeterProvider: the package need not be there)
def opentelemetry(meter_provider: Any | None = None) -> None: ...
