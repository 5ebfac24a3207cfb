from collections.abc import Callable
from types import EllipsisType
from typing import Any, Literal

def configure(
    *,
    block_ms: float | None = None,
    block_repeat: Literal["limited", "all"] | None = None,
    log: str | None = None,
    on_event: Callable[[dict[str, Any]], object] | EllipsisType | None = ...,
) -> None: ...
def settings() -> dict[str, Any]: ...
