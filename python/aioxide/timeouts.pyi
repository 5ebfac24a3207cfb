from asyncio.timeouts import *

__all__ = ("Timeout", "timeout", "timeout_at")
