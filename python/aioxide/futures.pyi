import sys
from asyncio.futures import *

__all__: tuple[str, ...] = ("Future", "wrap_future", "isfuture")
if sys.version_info >= (3, 14):
    __all__ += ("future_add_to_awaited_by", "future_discard_from_awaited_by")
