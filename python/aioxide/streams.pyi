from asyncio.streams import *
from asyncio.streams import FlowControlMixin as FlowControlMixin

__all__ = (
    "StreamReader",
    "StreamWriter",
    "StreamReaderProtocol",
    "open_connection",
    "start_server",
    "open_unix_connection",
    "start_unix_server",
)
