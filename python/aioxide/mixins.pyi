from asyncio.mixins import *
from asyncio.mixins import _global_lock as _global_lock
from asyncio.mixins import _LoopBoundMixin as _LoopBoundMixin
