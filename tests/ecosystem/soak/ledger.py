"""What became of each request, and whether that may be.

A request is answered, and the answer is right; or its client has cut the connection; or a database was being restarted
and the answer is 503; or the connection ended without an answer while the service was being restarted, and the service
had not begun with it: then it is asked again. Everything else is a fault.
"""

from __future__ import annotations

import contextlib
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: seconds after a restart in which its consequences may still show
GRACE = 5.0


@dataclass
class Windows:
    """When something was being restarted."""

    clock: Callable[[], float] = time.monotonic
    _spans: dict[str, list[list[float]]] = field(default_factory=dict)

    @contextlib.contextmanager
    def open(self, what: str) -> Iterator[None]:
        span = [self.clock(), float("inf")]
        self._spans.setdefault(what, []).append(span)
        try:
            yield
        finally:
            span[1] = self.clock()

    def touched(self, since: float, *what: str) -> bool:
        """Whether one was open between then and now, or shortly before."""
        return any(span[1] + GRACE >= since for name in what for span in self._spans.get(name, ())[-2:])

    def count(self, what: str) -> int:
        return len(self._spans.get(what, ()))


class Journal:
    """What the service has begun with, which it writes down itself."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._numbers: set[int] = set()

    def __contains__(self, number: int) -> bool:
        self._numbers.update(map(int, self._file.read().split()))
        return number in self._numbers

    def close(self) -> None:
        self._file.close()


class Ledger:
    """Counts, and the faults in words."""

    def __init__(self, windows: Windows, begun: Callable[[int], bool]) -> None:
        self.windows, self._begun = windows, begun
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        #: seconds, of the answers while nothing was being restarted
        self.latencies = array("f")
        #: numbers of the writes that were answered, and of those of which nobody knows whether they were done
        self.written: set[int] = set()
        self.unclear: set[int] = set()

    def wrong(self, text: str) -> None:
        """A request that ended as it must not."""
        self.counts["wrong"] += 1
        self.fault(text)

    def fault(self, text: str) -> None:
        self.counts["faults"] += 1
        if len(self.faults) < 100:
            self.faults.append(text)

    def answered(self, number: int, asked: float, status: int, body: bytes, expected: bytes, *, writes: bool) -> None:
        disturbed = self.windows.touched(asked, "postgres", "redis", "service")
        if status == 503:
            self.counts["unavailable"] += 1
            if writes:
                self.unclear.add(number)
            if not self.windows.touched(asked, "postgres", "redis"):
                self.fault(f"{number}: 503 while both databases were there: {body[:200]!r}")
        elif status != 200 or body != expected:
            self.wrong(f"{number}: {status}, {body[:200]!r} in the place of {expected[:200]!r}")
        else:
            self.counts["answered"] += 1
            if writes:
                self.written.add(number)
            if not disturbed:
                self.latencies.append(self.windows.clock() - asked)

    def cut(self, number: int, *, writes: bool) -> None:
        self.counts["cut"] += 1
        if writes:
            self.unclear.add(number)

    def ended(self, number: int, asked: float, error: Exception) -> bool:
        """The connection ended without a whole answer: whether it may be asked again."""
        if self._begun(number):
            self.counts["lost"] += 1
            self.wrong(f"{number}: begun with, and never answered: {error!r}")
            return False
        if not self.windows.touched(asked, "service"):
            self.wrong(f"{number}: turned away while the service was there: {error!r}")
            return False
        self.counts["asked again"] += 1
        return True

    def check_sum(self) -> None:
        """Every request has come to an end."""
        ends = sum(self.counts[end] for end in ("answered", "unavailable", "cut", "wrong"))
        if ends != self.counts["asked"]:
            self.fault(f"{self.counts['asked']} requests, and only {ends} of them came to an end")

    def check_table(self, found: set[int]) -> None:
        """What the table has at the end."""
        self.counts["written"] = len(self.written)
        if missing := self.written - found:
            self.fault(f"{len(missing)} writes were answered and are not in the table: {sorted(missing)[:10]}")
        if strange := found - self.written - self.unclear:
            self.fault(f"{len(strange)} rows are of no write that was asked for: {sorted(strange)[:10]}")
