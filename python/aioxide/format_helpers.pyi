import sys
from asyncio.format_helpers import *
from asyncio.format_helpers import _get_function_source as _get_function_source

if sys.version_info >= (3, 13):
    from asyncio.format_helpers import _format_args_and_kwargs as _format_args_and_kwargs
    from asyncio.format_helpers import _format_callback as _format_callback
    from asyncio.format_helpers import _format_callback_source as _format_callback_source
