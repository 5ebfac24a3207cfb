"""asyncio.streams: reading and writing without callbacks. What is not named here is asyncio's own."""

from asyncio import streams as _asyncio
from functools import partial as _partial

from ._core import (
    FlowControlMixin,
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
