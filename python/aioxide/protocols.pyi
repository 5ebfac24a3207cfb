from asyncio.protocols import *
