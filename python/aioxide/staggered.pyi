from asyncio.staggered import *
