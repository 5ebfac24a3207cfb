from asyncio.staggered import *

__all__ = ("staggered_race",)
