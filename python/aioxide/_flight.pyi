from dataclasses import dataclass
from os import PathLike

@dataclass(frozen=True, slots=True)
class Saved:
    path: str
    events: int
    lost: int

def save(path: str | PathLike[str], *, reason: str = "asked") -> Saved: ...
def counts() -> dict[int, int]: ...
