"""What a terminal gets to see: nothing that it would obey, and no wider than it need be.

The names of tasks, functions and files are whatever the other process says. A name may hold escape sequences, or
characters that turn the rest of the line around.
"""

from __future__ import annotations

# (importing typing takes longer than all the rest)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


#: A name is no longer than this.
LONGEST = 200


def safe(text: object) -> str:
    """Printable characters only; the others (control characters, invisible ones, those that change the direction of
    writing) as Python's escapes."""
    text = text if isinstance(text, str) else repr(text)
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode() for letter in text
    )


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as what is in them; the last one ends where it ends."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    template = "  ".join(f"{{:{width}}}" for width in widths[:-1]) + "  {}"
    return "\n".join([template.format(*row).rstrip() for row in (head, *rows)])


def count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


class Places:
    """Where a frame is, as short as it stays clear: from the other process's directory, or from the folder of its
    packages."""

    def __init__(self, directory: str | None) -> None:
        self.prefix = directory.rstrip("/") + "/" if directory else None
        self.known: dict[str, str] = {}

    def file(self, path: str) -> str:
        short = self.known.get(path)
        if short is None:
            short = self.known[path] = safe(self._shorten(path))
        return short

    def _shorten(self, path: str) -> str:
        for folder in ("/site-packages/", "/dist-packages/"):
            if folder in path:
                return path.rpartition(folder)[2]
        if self.prefix and path.startswith(self.prefix):
            return path[len(self.prefix) :]
        before, found, after = path.rpartition("/lib/python3.")
        return after.partition("/")[2] if found and before and "/" in after else path

    def frame(self, frame: Any) -> str:
        """``app.py:12 main``"""
        file, line, function = frame
        if line <= 0:  # one of aioxide's own functions
            return safe(function)
        return f"{self.file(file)}:{line} {safe(function)}"
