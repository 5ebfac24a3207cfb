from asyncio.selector_events import *
