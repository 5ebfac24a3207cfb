"""asyncio.futures: a result that will be there later. What is not named here is asyncio's own."""

import sys as _sys
from asyncio import futures as _asyncio
from functools import partial as _partial

from ._core import Future, isfuture, wrap_future

if _sys.version_info >= (3, 14):
    from ._core import future_add_to_awaited_by, future_discard_from_awaited_by

__all__ = _asyncio.__all__
__getattr__ = _partial(getattr, _asyncio)
