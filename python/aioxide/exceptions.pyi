from asyncio.exceptions import *
