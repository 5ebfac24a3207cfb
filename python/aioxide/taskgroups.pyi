import asyncio.taskgroups
import sys

if sys.version_info >= (3, 12):
    __all__ = ("TaskGroup",)
else:
    __all__ = ["TaskGroup"]

if sys.version_info >= (3, 15):
    from asyncio.taskgroups import TaskGroup as TaskGroup
else:
    from typing_extensions import disjoint_base

    # with 3.15's cancel()
    @disjoint_base
    class TaskGroup(asyncio.taskgroups.TaskGroup):
        def cancel(self) -> None: ...
