"""``aioxide.diag.flight``: what the loops have done last, and a file of it.

Each loop that records writes sixteen bytes for each of its entries into a ring of its own, a MiB unless
``configure(flight=…)`` says otherwise. A file shows a lane for each loop and for each task, the steps of the tasks, and
arrows from what made a task ready to the step that followed; https://ui.perfetto.dev opens it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ._core import diag as _diag


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that has been written."""

    path: str
    #: how many events are in it
    events: int
    #: how many there have been before, which the rings have lost
    lost: int


def save(path: str | os.PathLike[str], *, reason: str = "asked") -> Saved:
    """Writes what all loops have recorded up to now into a new file, in Chrome's trace event format. Any thread.

    Loops that have ended are in it too, the last ones. FileExistsError: there is such a file; RuntimeError: nothing has
    been recorded.
    """
    text = os.fspath(path)
    events, lost = _diag._save_flight(text, reason)
    return Saved(text, events, lost)


def counts() -> dict[int, int]:
    """How many events each loop has recorded, those that its ring has lost included, by the loop's number."""
    return dict(_diag._flights())
