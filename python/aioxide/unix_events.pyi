import asyncio.unix_events
import selectors
import sys
from asyncio.events import AbstractEventLoop

if sys.version_info < (3, 14):
    from asyncio.unix_events import (
        AbstractChildWatcher as AbstractChildWatcher,
    )
    from asyncio.unix_events import (
        DefaultEventLoopPolicy as DefaultEventLoopPolicy,
    )
    from asyncio.unix_events import (
        FastChildWatcher as FastChildWatcher,
    )
    from asyncio.unix_events import (
        MultiLoopChildWatcher as MultiLoopChildWatcher,
    )
    from asyncio.unix_events import (
        PidfdChildWatcher as PidfdChildWatcher,
    )
    from asyncio.unix_events import (
        SafeChildWatcher as SafeChildWatcher,
    )
    from asyncio.unix_events import (
        ThreadedChildWatcher as ThreadedChildWatcher,
    )

# At run time an AbstractEventLoop; here it borrows the types of all methods. A selector is accepted, and not used.
class EventLoop(asyncio.unix_events.SelectorEventLoop):
    def __init__(self, selector: selectors.BaseSelector | None = None) -> None: ...

SelectorEventLoop = EventLoop

# for asyncio.set_event_loop_policy: its loops are ours
class EventLoopPolicy:
    def get_event_loop(self) -> AbstractEventLoop: ...
    def set_event_loop(self, loop: AbstractEventLoop | None) -> None: ...
    def new_event_loop(self) -> EventLoop: ...
