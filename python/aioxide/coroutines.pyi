from asyncio.coroutines import *

__all__ = ("iscoroutinefunction", "iscoroutine")
