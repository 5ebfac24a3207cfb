from asyncio.log import *
