from asyncio.selector_events import *

__all__ = ("BaseSelectorEventLoop",)
