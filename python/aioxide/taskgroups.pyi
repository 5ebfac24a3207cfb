import asyncio.taskgroups

__all__ = ("TaskGroup",)

class TaskGroup(asyncio.taskgroups.TaskGroup):
    def cancel(self) -> None: ...
