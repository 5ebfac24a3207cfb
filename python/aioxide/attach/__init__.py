"""``python -m aioxide ps PID`` and its like: what another process does, seen from here.

    aioxide ps [PID]           its tasks; without PID: the processes that can be asked
    aioxide top PID            its loops, live
    aioxide dump PID           every thread and every task, with their stacks
    aioxide why PID TASK       what a task waits for, what that waits for, to the root of it
    aioxide trace PID          what its loops do, step by step, as a file for ui.perfetto.dev

Any process of the same user that has run a loop of aioxide's answers; nothing has to be switched on there. It
answers from a thread of its own without the GIL, so also while its loop is blocked. It only ever answers: nothing is
executed there, and no values of variables are shown.

Rule: nothing here imports asyncio or the extension. The command is to be there at once, and a Python of another version
is to be able to ask.
"""

from __future__ import annotations

#: The commands, and what follows them.
COMMANDS = {
    "ps": "[PID] [--tree] [--json] [--check] [--stuck SECONDS]",
    "top": "PID [--interval SECONDS] [--once] [--json]",
    "dump": "PID [--json]",
    "why": "PID TASK [--json]",
    "trace": "PID [-d SECONDS] [-o FILE]",
}

# What a command ends with.
OK = 0
#: it has found what it was to look for: a loop that is blocked, tasks that are stuck or wait for each other in a ring
FOUND = 1
USAGE = 2
NO_PROCESS = 3
NOT_PERMITTED = 4
NO_LOOP = 5
#: there was no answer in time, or none that makes sense
INCONSISTENT = 6


class Failure(Exception):
    """A command that cannot go on: what to print, and the exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
