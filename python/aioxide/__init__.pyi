import sys

from . import base_events as base_events
from . import base_futures as base_futures
from . import base_subprocess as base_subprocess
from . import base_tasks as base_tasks
from . import constants as constants
from . import coroutines as coroutines
from . import events as events
from . import exceptions as exceptions
from . import format_helpers as format_helpers
from . import futures as futures
from . import locks as locks
from . import log as log
from . import mixins as mixins
from . import protocols as protocols
from . import queues as queues
from . import runners as runners
from . import selector_events as selector_events
from . import sslproto as sslproto
from . import staggered as staggered
from . import streams as streams
from . import subprocess as subprocess
from . import taskgroups as taskgroups
from . import tasks as tasks
from . import threads as threads
from . import timeouts as timeouts
from . import transports as transports
from . import trsock as trsock
from . import unix_events as unix_events
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

if sys.version_info >= (3, 14):
    from asyncio.unix_events import _UnixDefaultEventLoopPolicy as _DefaultEventLoopPolicy

    from . import graph as graph
    from .graph import *
else:
    from asyncio.unix_events import DefaultEventLoopPolicy as _DefaultEventLoopPolicy

__all__: tuple[str, ...] = (
    "BaseEventLoop",
    "Server",
    "iscoroutinefunction",
    "iscoroutine",
    "AbstractEventLoop",
    "AbstractServer",
    "Handle",
    "TimerHandle",
    "get_event_loop_policy",
    "set_event_loop_policy",
    "get_event_loop",
    "set_event_loop",
    "new_event_loop",
    "_set_running_loop",
    "get_running_loop",
    "_get_running_loop",
    "BrokenBarrierError",
    "CancelledError",
    "InvalidStateError",
    "TimeoutError",
    "IncompleteReadError",
    "LimitOverrunError",
    "SendfileNotAvailableError",
    "Future",
    "wrap_future",
    "isfuture",
    "Lock",
    "Event",
    "Condition",
    "Semaphore",
    "BoundedSemaphore",
    "Barrier",
    "BaseProtocol",
    "Protocol",
    "DatagramProtocol",
    "SubprocessProtocol",
    "BufferedProtocol",
    "Runner",
    "run",
    "Queue",
    "PriorityQueue",
    "LifoQueue",
    "QueueFull",
    "QueueEmpty",
    "QueueShutDown",
    "StreamReader",
    "StreamWriter",
    "StreamReaderProtocol",
    "open_connection",
    "start_server",
    "open_unix_connection",
    "start_unix_server",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "Task",
    "create_task",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "ALL_COMPLETED",
    "wait",
    "wait_for",
    "as_completed",
    "sleep",
    "gather",
    "shield",
    "ensure_future",
    "run_coroutine_threadsafe",
    "current_task",
    "all_tasks",
    "create_eager_task_factory",
    "eager_task_factory",
    "_register_task",
    "_unregister_task",
    "_enter_task",
    "_leave_task",
    "TaskGroup",
    "to_thread",
    "Timeout",
    "timeout",
    "timeout_at",
    "BaseTransport",
    "ReadTransport",
    "WriteTransport",
    "Transport",
    "DatagramTransport",
    "SubprocessTransport",
    "SelectorEventLoop",
    "EventLoop",
)
if sys.version_info < (3, 14):
    __all__ += (
        "AbstractEventLoopPolicy",
        "get_child_watcher",
        "set_child_watcher",
        "AbstractChildWatcher",
        "SafeChildWatcher",
        "FastChildWatcher",
        "PidfdChildWatcher",
        "MultiLoopChildWatcher",
        "ThreadedChildWatcher",
        "DefaultEventLoopPolicy",
    )
if sys.version_info >= (3, 14):
    __all__ += (
        "future_add_to_awaited_by",
        "future_discard_from_awaited_by",
        "capture_call_graph",
        "format_call_graph",
        "print_call_graph",
        "FrameCallGraphEntry",
        "FutureCallGraph",
    )

__version__: str

def install() -> None: ...
def uninstall() -> None: ...

# asyncio's policy, but its loops are ours
class EventLoopPolicy(_DefaultEventLoopPolicy):
    def new_event_loop(self) -> EventLoop: ...
