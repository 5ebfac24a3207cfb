from asyncio.streams import *
