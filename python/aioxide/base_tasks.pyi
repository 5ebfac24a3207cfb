import sys
from asyncio.base_tasks import *
from asyncio.base_tasks import _task_get_stack as _task_get_stack
from asyncio.base_tasks import _task_print_stack as _task_print_stack
from asyncio.base_tasks import _task_repr_info as _task_repr_info

if sys.version_info >= (3, 13):
    from asyncio.base_tasks import _task_repr as _task_repr
