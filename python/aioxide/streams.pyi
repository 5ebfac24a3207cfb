import asyncio.streams
import sys
from asyncio.streams import *
from asyncio.streams import FlowControlMixin as FlowControlMixin
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

if sys.version_info < (3, 13):
    class StreamReader(asyncio.streams.StreamReader):
        async def readuntil(self, separator: bytes | tuple[bytes, ...] = b"\n") -> bytes: ...

    _Connected: TypeAlias = Callable[[StreamReader, StreamWriter], Awaitable[None] | None]

    async def open_connection(
        host: str | None = None, port: int | str | None = None, *, limit: int = 65536, **kwds: Any
    ) -> tuple[StreamReader, StreamWriter]: ...
    async def start_server(
        client_connected_cb: _Connected,
        host: Any = None,
        port: int | str | None = None,
        *,
        limit: int = 65536,
        **kwds: Any,
    ) -> asyncio.Server: ...
    async def open_unix_connection(
        path: Any = None, *, limit: int = 65536, **kwds: Any
    ) -> tuple[StreamReader, StreamWriter]: ...
    async def start_unix_server(
        client_connected_cb: _Connected, path: Any = None, *, limit: int = 65536, **kwds: Any
    ) -> asyncio.Server: ...
