from asyncio.threads import *

__all__ = ("to_thread",)
