from asyncio.base_futures import *
from asyncio.base_futures import _CANCELLED as _CANCELLED
from asyncio.base_futures import _FINISHED as _FINISHED
from asyncio.base_futures import _PENDING as _PENDING
from asyncio.base_futures import _format_callbacks as _format_callbacks
from asyncio.base_futures import _future_repr_info as _future_repr_info
from asyncio.base_futures import isfuture as isfuture

__all__ = ()
