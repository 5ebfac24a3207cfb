from asyncio.proactor_events import *

__all__ = ("BaseProactorEventLoop",)
