"""All of asyncio, in Rust.

    import aioxide as asyncio

``install()`` makes ``asyncio`` itself mean this; ``python -m aioxide app.py`` does so before the program begins.
"""

import asyncio as _asyncio
import sys as _sys
from functools import partial as _partial

from . import (
    base_events,
    base_futures,
    base_subprocess,
    base_tasks,
    constants,
    coroutines,
    events,
    exceptions,
    format_helpers,
    futures,
    locks,
    log,
    mixins,
    protocols,
    queues,
    runners,
    selector_events,
    sslproto,
    staggered,
    streams,
    subprocess,
    taskgroups,
    tasks,
    threads,
    timeouts,
    transports,
    trsock,
    unix_events,
)
from ._core import EventLoopPolicy, __version__, install, uninstall
from .base_events import *
from .coroutines import *
from .events import *
from .exceptions import *
from .futures import *
from .locks import *
from .protocols import *
from .queues import *
from .runners import *
from .streams import *
from .subprocess import *
from .taskgroups import *
from .tasks import *
from .threads import *
from .timeouts import *
from .transports import *
from .unix_events import *

if _sys.version_info >= (3, 14):
    from . import graph
    from .graph import *

# asyncio's own list, and what this Python's asyncio does not have yet (or, on 3.11, does not list)
__all__ = tuple(
    dict.fromkeys(
        (
            *_asyncio.__all__,
            *("TaskGroup", "create_eager_task_factory", "eager_task_factory", "QueueShutDown", "EventLoop"),
        )
    )
)
# what asyncio keeps for old programs, with its warnings
__getattr__ = _partial(getattr, _asyncio)
