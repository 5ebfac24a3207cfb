from asyncio.threads import *
