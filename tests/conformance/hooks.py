"""Stand-ins for ``aioxide.install``, to test the runner itself."""

import sys


def subclassed_types() -> None:
    """Future and Task are subclasses of the C types, bound where a takeover binds its own."""
    import asyncio  # first: after `import _asyncio` its current_task() and all_tasks() would be blind
    from asyncio import base_events, futures, tasks

    class Future(futures._CFuture):
        pass

    class Task(tasks._CTask):
        pass

    asyncio.Future = futures.Future = futures._CFuture = Future
    asyncio.Task = tasks.Task = tasks._CTask = Task
    base_events.BaseEventLoop.create_future = lambda self: Future(loop=self)


def no_accelerator() -> None:
    """asyncio without its C module: the tests of the C types turn into skips."""
    assert "asyncio" not in sys.modules
    sys.modules["_asyncio"] = None


def broken_timeout() -> None:
    """asyncio whose timeouts never say that they have expired."""
    import asyncio

    asyncio.Timeout.expired = lambda self: False


def nothing() -> None:
    """asyncio as it is."""
