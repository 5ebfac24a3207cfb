"""Wrong asyncios: one edit each to a pure-Python copy of the running version's source.

They prove that the comparison can fail: each must be told from the unspoiled copy within a few hundred programs. The
edits are regular expressions that fit 3.11 to 3.15; one that no longer matches anything is an error, not a pass.
"""

from __future__ import annotations

import re

#: name -> (module, pattern, replacement, group of programs that should notice)
MUTANTS: dict[str, tuple[str, str, str, str]] = {
    "callbacks-lifo": ("futures", r"for callback, ctx in callbacks:", "for callback, ctx in callbacks[::-1]:", "callbacks"),
    "remove-one-callback": ("futures", r"(removed_count = )(len\(.*?\) - len\(.*?\))$", r"\1min(1, \2)", "callbacks"),
    "message-lost": ("futures", r"self\._cancel_message = msg", "self._cancel_message = None", "cancel"),
    "never-reported": ("futures", r"self\.__log_traceback = True", "pass", "all"),
    "set-result-twice": ("futures", r"if self\._state != _PENDING:\n +raise .*", "if 0: pass", "callbacks"),
    "uncancel-keeps": ("tasks", r"self\._num_cancels_requested -= 1", "pass", "cancel"),
    "cancel-counts-once": ("tasks", r"self\._num_cancels_requested \+= 1", "self._num_cancels_requested = 1", "cancel"),
    "must-cancel-yields": ("tasks", r"if not isinstance\(exc, exceptions\.CancelledError\):", "if exc is None:", "cancel"),
    "late-hop": (
        "tasks",
        r"(elif result is None:\n.*\n +self\._loop\.call_soon\()(self\.__step, )",
        r"\1self._loop.call_soon, \2",
        "tasks",
    ),
    "fresh-context": ("tasks", r"= contextvars\.copy_context\(\)", "= contextvars.Context()", "all"),
    "gather-order": ("tasks", r"(results = \[\]\n\n +for fut in )children:", r"\1children[::-1]:", "tasks"),
    "gather-forgets-siblings": ("tasks", r"if child\.cancel\(msg=msg\):", "if not ret and child.cancel(msg=msg):", "cancel"),
    "shield-cancels": ("tasks", r"inner\.remove_done_callback\(_inner_done_callback\)", "inner.cancel()", "cancel"),
    "wait-leaves-callbacks": ("tasks", r"f\.remove_done_callback\(_on_completion\)", "pass", "all"),
    "wait-ignores-exception": ("tasks", r"return_when == FIRST_EXCEPTION and", "False and", "tasks"),
    "timeout-swallows": ("timeouts", r"self\._task\.uncancel\(\) <= [\w.]+", "(self._task.uncancel(), 1)[1]", "timeouts"),
    "timeout-keeps-count": ("timeouts", r"self\._task\.uncancel\(\) <= [\w.]+", "True", "timeouts"),
    "group-lets-run": ("taskgroups", r"(\n +)t\.cancel\(\)", r"\1pass", "groups"),
    "group-keeps-count": ("taskgroups", r"if self\._parent_cancel_requested:\n", "if False:\n", "groups"),
    "group-loses-errors": ("taskgroups", r"self\._errors\.append\(exc\)(\n +if self\._is_base)", r"pass\1", "groups"),
    "lock-barging": ("locks", r"all\(w\.cancelled\(\) for w in self\._waiters\)", "True", "locks"),
    "lock-lost-wakeup": ("locks", r"(if not self\._locked:\n +)self\._wake_up_first\(\)", r"\1pass", "locks"),
    "event-wakes-one": ("locks", r"(self\._value = True\n\n +for fut in )self\._waiters:", r"\1[*self._waiters][:1]:", "locks"),
    "semaphore-leak": ("locks", r"(if (?:fut\.done\(\) and )?not fut\.cancelled\(\):\n(?: +#.*\n)* +self\._value) \+= 1", r"\1 += 0", "locks"),
    "notify-too-many": ("locks", r"if idx >= n:", "if idx > n:", "conditions"),
    "condition-not-reacquired": ("locks", r"(while True:\n +try:\n +)await self\.acquire\(\)", r"\1pass", "conditions"),
    "barrier-position": ("locks", r"index = self\._count$", "index = 0", "conditions"),
    "queue-lifo": ("queues", r"return self\._queue\.popleft\(\)", "return self._queue.pop()", "queues"),
    "queue-lost-item": ("queues", r"if not self\.empty\(\) and not getter\.cancelled\(\):", "if False:", "queues"),
    "queue-join-early": ("queues", r"if self\._unfinished_tasks == 0:", "if self._unfinished_tasks <= 1:", "queues"),
}  # fmt: skip


def spoil(name: str, module: str, source: str) -> str:
    """The module's source under the mutant's edit."""
    where, pattern, replacement, _ = MUTANTS[name]
    if module != where:
        return source
    spoilt, count = re.subn(pattern, replacement, source, flags=re.MULTILINE)
    if not count or spoilt == source:
        raise LookupError(f"mutant {name} does not fit this Python's asyncio/{module}.py")
    return spoilt
