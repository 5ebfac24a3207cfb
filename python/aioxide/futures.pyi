from asyncio.futures import *
