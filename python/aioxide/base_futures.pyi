from asyncio.base_futures import *
