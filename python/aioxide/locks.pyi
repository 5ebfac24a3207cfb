from asyncio.locks import *
