import sys

from . import (
    base_events as base_events,
)
from . import (
    base_futures as base_futures,
)
from . import (
    base_subprocess as base_subprocess,
)
from . import (
    base_tasks as base_tasks,
)
from . import (
    constants as constants,
)
from . import (
    coroutines as coroutines,
)
from . import (
    events as events,
)
from . import (
    exceptions as exceptions,
)
from . import (
    format_helpers as format_helpers,
)
from . import (
    futures as futures,
)
from . import (
    locks as locks,
)
from . import (
    log as log,
)
from . import (
    mixins as mixins,
)
from . import (
    protocols as protocols,
)
from . import (
    queues as queues,
)
from . import (
    runners as runners,
)
from . import (
    selector_events as selector_events,
)
from . import (
    sslproto as sslproto,
)
from . import (
    staggered as staggered,
)
from . import (
    streams as streams,
)
from . import (
    subprocess as subprocess,
)
from . import (
    taskgroups as taskgroups,
)
from . import (
    tasks as tasks,
)
from . import (
    threads as threads,
)
from . import (
    timeouts as timeouts,
)
from . import (
    transports as transports,
)
from . import (
    trsock as trsock,
)
from . import (
    unix_events as unix_events,
)
from .base_events import *
from .coroutines import *
from .events import *
from .events import _get_running_loop as _get_running_loop
from .events import _set_running_loop as _set_running_loop
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
from .unix_events import EventLoopPolicy as EventLoopPolicy

if sys.version_info >= (3, 14):
    from . import graph as graph
    from .graph import *

__version__: str

def install() -> None: ...
def uninstall() -> None: ...
