from asyncio.timeouts import *
