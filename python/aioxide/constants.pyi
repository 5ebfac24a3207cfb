from asyncio.constants import *
from asyncio.constants import _SendfileMode as _SendfileMode
