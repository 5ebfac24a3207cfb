from asyncio.coroutines import *
