from asyncio.base_events import *

__all__ = ("BaseEventLoop", "Server")
