//! Every Python object that we import, and every name that we look up: once, here.
//!
//! While the interpreter shuts down nothing can be imported any more, and reports are made even then: whatever
//! a report or a repr needs stands here.

use crate::ffi::R;
use crate::ffi::object::{Obj, Static};

macro_rules! imports {
    ($($(#[$cfg:meta])* $name:ident = $module:literal . $attr:literal;)*) => {
        $(
            #[doc = concat!("`", $module, ".", $attr, "`")]
            $(#[$cfg])*
            pub(crate) static $name: Static = Static::new();
        )*
        fn import_all() -> R<()> {
            $(
                $(#[$cfg])*
                $name.fill(Obj::import($module)?.getattr_str($attr)?);
            )*
            Ok(())
        }
    };
}

imports! {
    CANCELLED_ERROR = "asyncio.exceptions"."CancelledError";
    INVALID_STATE_ERROR = "asyncio.exceptions"."InvalidStateError";
    BROKEN_BARRIER_ERROR = "asyncio.exceptions"."BrokenBarrierError";
    QUEUE_EMPTY = "asyncio.queues"."QueueEmpty";
    QUEUE_FULL = "asyncio.queues"."QueueFull";
    GET_RUNNING_LOOP = "_asyncio"."_get_running_loop";
    SET_RUNNING_LOOP = "_asyncio"."_set_running_loop";
    GATHERING_FUTURE = "asyncio.tasks"."_GatheringFuture";
    C_FUTURE = "_asyncio"."Future";
    C_TASK = "_asyncio"."Task";
    ENTER_TASK = "_asyncio"."_enter_task";
    LEAVE_TASK = "_asyncio"."_leave_task";
    REGISTER_TASK = "_asyncio"."_register_task";
    UNREGISTER_TASK = "_asyncio"."_unregister_task";
    #[cfg(Py_3_12)] SWAP_CURRENT_TASK = "_asyncio"."_swap_current_task";
    #[cfg(not(Py_3_14))] CURRENT_TASKS = "_asyncio"."_current_tasks";
    BASE_EVENT_LOOP = "asyncio.base_events"."BaseEventLoop";
    RUN_UNTIL_COMPLETE_CB = "asyncio.base_events"."_run_until_complete_cb";
    ASYNCIO_HANDLE = "asyncio.events"."Handle";
    ASYNCIO_TIMER_HANDLE = "asyncio.events"."TimerHandle";
    RLOCK = "_thread"."RLock";
    GET_EVENT_LOOP = "asyncio.events"."get_event_loop";
    FORMAT_TRACEBACK = "traceback"."format_list";
    SORTED = "builtins"."sorted";
    ROUND = "builtins"."round";
    FORMAT = "builtins"."format";
    TIMEOUT_STATE = "asyncio.timeouts"."_State";
    EXTRACT_STACK = "asyncio.format_helpers"."extract_stack";
    FORMAT_CALLBACK_SOURCE = "asyncio.format_helpers"."_format_callback_source";
    FUTURE_REPR = "asyncio.base_futures"."_future_repr";
    FUTURE_REPR_INFO = "asyncio.base_futures"."_future_repr_info";
    TASK_REPR = "asyncio.base_tasks"."_task_repr";
    TASK_GET_STACK = "asyncio.base_tasks"."_task_get_stack";
    TASK_PRINT_STACK = "asyncio.base_tasks"."_task_print_stack";
    FORMAT_COROUTINE = "asyncio.coroutines"."_format_coroutine";
    ISCOROUTINE = "asyncio.coroutines"."iscoroutine";
    ALL_TASKS = "asyncio.tasks"."all_tasks";
    #[cfg(Py_3_14)] CURRENT_TASK = "_asyncio"."current_task";
    GC_REFERENTS = "gc"."get_referents";
    LIST = "builtins"."list";
    OBJECT = "builtins"."object";
    ISAWAITABLE = "inspect"."isawaitable";
    GETFRAME = "sys"."_getframe";
    SET_ORIGIN_TRACKING = "sys"."set_coroutine_origin_tracking_depth";
    ISCOROUTINEFUNCTION = "inspect"."iscoroutinefunction";
    FORMAT_HANDLE = "asyncio.base_events"."_format_handle";
    LOGGER = "asyncio.log"."logger";
    COROUTINE_ABC = "collections.abc"."Coroutine";
    ITERABLE_ABC = "collections.abc"."Iterable";
    AWAITABLE_ABC = "collections.abc"."Awaitable";
    GENERIC_ALIAS = "types"."GenericAlias";
    WARN = "warnings"."warn";
    WARN_EXPLICIT = "warnings"."warn_explicit";
    WARN_UNAWAITED = "warnings"."_warn_unawaited_coroutine";
    CONCURRENT_FUTURE = "concurrent.futures"."Future";
    CONCURRENT_CANCELLED = "concurrent.futures"."CancelledError";
    CONCURRENT_INVALID_STATE = "concurrent.futures"."InvalidStateError";
    HEAPPUSH = "heapq"."heappush";
    HEAPPOP = "heapq"."heappop";
    BASE_EXCEPTION_GROUP = "builtins"."BaseExceptionGroup";
    EVENTS = "asyncio"."events";
    CONSTANTS = "asyncio"."constants";
    #[cfg(not(Py_3_14))] GET_POLICY = "asyncio.events"."get_event_loop_policy";
    #[cfg(Py_3_14)] GET_POLICY = "asyncio.events"."_get_event_loop_policy";
    #[cfg(Py_3_14)] ADD_TO_AWAITED_BY = "_asyncio"."future_add_to_awaited_by";
    #[cfg(Py_3_14)] DISCARD_FROM_AWAITED_BY = "_asyncio"."future_discard_from_awaited_by";
    STOCK_POLICY = "asyncio.unix_events"."_UnixDefaultEventLoopPolicy";
    RUNNER_STATE = "asyncio.runners"."_State";
    PARTIAL = "functools"."partial";
    WEAK_SET = "weakref"."WeakSet";
    DEQUE = "collections"."deque";
    BARRIER_STATE = "asyncio.locks"."_BarrierState";
    EXCEPTION_GROUP = "builtins"."ExceptionGroup";
    SOCKET = "socket"."socket";
    AF_INET = "socket"."AF_INET";
    AF_INET6 = "socket"."AF_INET6";
    SOCK_STREAM = "socket"."SOCK_STREAM";
    SOCK_DGRAM = "socket"."SOCK_DGRAM";
    ADDRESS_FAMILY = "socket"."AddressFamily";
    SOCKET_KIND = "socket"."SocketKind";
    GAIERROR = "socket"."gaierror";
    ASYNCIO_SERVER = "asyncio.base_events"."Server";
    TRANSPORT = "asyncio.transports"."Transport";
    SELECTOR_TRANSPORT = "asyncio.selector_events"."_SelectorTransport";
    SSL_TRANSPORT = "asyncio.sslproto"."_SSLProtocolTransport";
    FLOW_CONTROL_MIXIN = "asyncio.transports"."_FlowControlMixin";
    PROTOCOL = "asyncio.protocols"."Protocol";
    BASE_PROTOCOL = "asyncio.protocols"."BaseProtocol";
    SUBPROCESS_PROTOCOL = "asyncio.protocols"."SubprocessProtocol";
    SUBPROCESS_STREAM_PROTOCOL = "asyncio.subprocess"."SubprocessStreamProtocol";
    SUBPROCESS_TRANSPORT = "asyncio.transports"."SubprocessTransport";
    UNIX_LOOP = "asyncio.unix_events"."_UnixSelectorEventLoop";
    UNIX_SUBPROCESS_TRANSPORT = "asyncio.unix_events"."_UnixSubprocessTransport";
    BASE_EVENTS = "asyncio"."base_events";
    UNIX_EVENTS = "asyncio"."unix_events";
    SUBPROCESS = "asyncio.base_events"."subprocess";
    POPEN = "subprocess"."Popen";
    IO = "subprocess"."io";
    OS = "subprocess"."os";
    SYS = "subprocess"."sys";
    THREADING = "subprocess"."threading";
    FORMAT_PIPE = "asyncio.base_events"."_format_pipe";
    DATAGRAM_TRANSPORT = "asyncio.transports"."DatagramTransport";
    READ_TRANSPORT = "asyncio.transports"."ReadTransport";
    WRITE_TRANSPORT = "asyncio.transports"."WriteTransport";
    READ_PIPE_TRANSPORT = "asyncio.unix_events"."_UnixReadPipeTransport";
    WRITE_PIPE_TRANSPORT = "asyncio.unix_events"."_UnixWritePipeTransport";
    TRANSPORT_SOCKET = "asyncio.trsock"."TransportSocket";
    BUFFERED_PROTOCOL = "asyncio.protocols"."BufferedProtocol";
    SENDFILE_MODE = "asyncio.constants"."_SendfileMode";
    GETADDRINFO = "socket"."getaddrinfo";
    SET_WAKEUP_FD = "signal"."set_wakeup_fd";
    SENDFILE_NOT_AVAILABLE = "asyncio.exceptions"."SendfileNotAvailableError";
    MAIN_THREAD = "threading"."main_thread";
    STREAM_READER = "asyncio.streams"."StreamReader";
    STREAM_READER_PROTOCOL = "asyncio.streams"."StreamReaderProtocol";
    STREAM_WRITER = "asyncio.streams"."StreamWriter";
    STREAM_FLOW_CONTROL = "asyncio.streams"."FlowControlMixin";
    INCOMPLETE_READ_ERROR = "asyncio.exceptions"."IncompleteReadError";
    LIMIT_OVERRUN_ERROR = "asyncio.exceptions"."LimitOverrunError";
}

/// `async def _wrap_awaitable(awaitable): return await awaitable`: a coroutine of the interpreter's own,
/// which is what programs test for after `ensure_future(awaitable)`.
pub(crate) static WRAP_AWAITABLE: Static = Static::new();

/// The module `socket`: what others may have replaced in it is looked up when it is needed.
pub(crate) static SOCKET_MODULE: Static = Static::new();

/// The classes of what the `asend()` and the `athrow()` of an asynchronous generator give.
pub(crate) static ASYNC_GENERATOR_STEPS: [Static; 2] = [const { Static::new() }; 2];

const SOURCE: &str = "
async def _wrap_awaitable(awaitable):
    return await awaitable

async def generator():
    yield

steps = [generator().asend(None), generator().aclose()]
for step in steps:
    step.close()
steps = [type(step) for step in steps]
";

fn define() -> R<()> {
    let namespace = Obj::dict()?;
    namespace.dict_set(&Obj::str("__name__")?, &Obj::str("asyncio.tasks")?)?;
    Obj::import("builtins")?
        .getattr_str("exec")?
        .call(&[&Obj::str(SOURCE)?, &namespace])?;
    if let Some(function) = namespace.dict_get(&Obj::str("_wrap_awaitable")?)? {
        WRAP_AWAITABLE.fill(function);
    }
    if let Some(steps) = namespace.dict_get(&Obj::str("steps")?)? {
        for (place, class) in ASYNC_GENERATOR_STEPS.iter().zip(steps.to_vec()?) {
            place.fill(class);
        }
    }
    Ok(())
}

/// Names of attributes and methods, interned.
pub(crate) mod names {
    use crate::ffi::R;
    use crate::ffi::object::{Obj, Static};
    macro_rules! names {
        ($($name:ident = $text:literal;)*) => {
            $(#[doc = concat!("`", $text, "`")] pub(crate) static $name: Static = Static::new();)*
            pub(super) fn intern_all() -> R<()> {
                $($name.fill(Obj::interned($text)?);)*
                Ok(())
            }
        };
    }
    names! {
        THROW = "throw"; CLASS = "__class__"; SEND = "send"; CLOSE = "close"; CALL_SOON = "call_soon"; CALL_LATER = "call_later"; CALL_AT = "call_at";
        CONTEXT = "context"; NAME = "name"; LOOP = "loop"; MSG = "msg";
        CALL_SOON_THREADSAFE = "call_soon_threadsafe"; CALL_EXCEPTION_HANDLER = "call_exception_handler";
        CREATE_FUTURE = "create_future"; CREATE_TASK = "create_task"; GET_DEBUG = "get_debug"; GET_LOOP = "get_loop"; LOOP_ = "_loop";
        TIME = "time"; CANCEL = "cancel"; CANCELLED = "cancelled"; CANCELLING = "cancelling"; UNCANCEL = "uncancel"; DONE = "done"; RESULT = "result"; EXCEPTION = "exception";
        SET_RESULT = "set_result"; SET_EXCEPTION = "set_exception";
        ADD_DONE_CALLBACK = "add_done_callback"; REMOVE_DONE_CALLBACK = "remove_done_callback";
        BLOCKING = "_asyncio_future_blocking"; MAKE_CANCELLED_ERROR = "_make_cancelled_error"; LOG_DESTROY_PENDING = "_log_destroy_pending";
        SOURCE_TRACEBACK = "_source_traceback"; STATE_ = "_state"; EXCEPTION_ = "_exception"; RESULT_ = "_result"; FINISHED = "FINISHED"; NAME_ATTR = "__name__"; QUALNAME = "__qualname__"; FUNC = "__func__"; GET_NAME = "get_name"; SET_NAME = "set_name";
        MESSAGE = "message"; FUTURE = "future"; TASK = "task"; HANDLE = "handle"; SOURCE_TRACEBACK_KEY = "source_traceback";
        RUN_ = "_run"; CONTEXT_ATTR = "__context__"; CAUSE_ATTR = "__cause__"; AWAIT = "__await__";
        APPEND = "append"; DISCARD = "discard"; ADD = "add"; REMOVE = "remove"; POPLEFT = "popleft"; GET_ = "_get"; PUT_ = "_put"; INIT_ = "_init";
        FILENO = "fileno"; IS_RUNNING = "is_running"; IS_CLOSED = "is_closed"; STOP = "stop"; SUBMIT = "submit";
        SET_RUNNING_OR_NOTIFY_CANCEL = "set_running_or_notify_cancel"; AWAITED_BY = "_asyncio_awaited_by"; VALUE = "value"; WHEN = "when"; DOC = "__doc__";
        ACQUIRE = "acquire"; RELEASE = "release"; LOCKED = "locked"; WAIT = "wait"; NOTIFY = "notify"; GET_LOOP_ = "_get_loop";
        FULL = "full"; EMPTY = "empty"; QSIZE = "qsize"; PUT_NOWAIT = "put_nowait"; GET_NOWAIT = "get_nowait"; FORMAT_ = "_format"; POP = "pop";
        ACCEPT = "accept"; CONNECT = "connect"; FAMILY = "family"; GETSOCKOPT = "getsockopt"; GETTIMEOUT = "gettimeout"; PROTO = "proto"; TYPE = "type";
        RECV = "recv"; RECV_INTO = "recv_into"; RECVFROM = "recvfrom"; RECVFROM_INTO = "recvfrom_into"; SENDMSG = "sendmsg"; SENDTO = "sendto"; SETBLOCKING = "setblocking";
        SOCKET = "socket"; DUNDER_INIT = "__init__"; GETADDRINFO = "getaddrinfo"; GETNAMEINFO = "getnameinfo"; RUN_IN_EXECUTOR = "run_in_executor"; SHUTDOWN = "shutdown"; SEEK = "seek";
        RUNNING_LOOP = "__asyncio_running_event_loop__";
        CONNECTION_MADE = "connection_made"; CONNECTION_LOST = "connection_lost"; DATA_RECEIVED = "data_received"; DATAGRAM_RECEIVED = "datagram_received"; ERROR_RECEIVED = "error_received"; EOF_RECEIVED = "eof_received";
        GET_BUFFER = "get_buffer"; BUFFER_UPDATED = "buffer_updated"; PAUSE_WRITING = "pause_writing"; RESUME_WRITING = "resume_writing";
        TRANSPORT = "transport"; PROTOCOL = "protocol"; START_SERVING_ = "_start_serving"; STOP_SERVING = "_stop_serving"; WRITE = "write";
        READ = "read"; PENDING = "pending"; WRAP_BIO = "wrap_bio"; FORCE_CLOSE = "_force_close"; ABORT = "abort"; IS_CLOSING = "is_closing";
        PAUSE_READING = "pause_reading"; RESUME_READING = "resume_reading"; GET_EXTRA_INFO = "get_extra_info"; SET_PROTOCOL = "set_protocol"; START_TLS_COMPATIBLE = "_start_tls_compatible";
        READLINE = "readline"; READUNTIL = "readuntil"; FEED_DATA = "feed_data"; FEED_EOF = "feed_eof"; SET_TRANSPORT = "set_transport";
        WAIT_FOR_DATA_ = "_wait_for_data"; MAYBE_RESUME_TRANSPORT_ = "_maybe_resume_transport"; WAKEUP_WAITER_ = "_wakeup_waiter";
        STREAM_READER_ = "_stream_reader"; REPLACE_TRANSPORT_ = "_replace_transport"; REPLACE_WRITER_ = "_replace_writer";
        WRITELINES = "writelines"; WRITE_EOF = "write_eof"; CAN_WRITE_EOF = "can_write_eof"; DRAIN = "drain"; DRAIN_HELPER_ = "_drain_helper";
        GET_CLOSE_WAITER_ = "_get_close_waiter"; EXTEND = "extend"; CLEAR = "clear"; CLOSURE = "__closure__"; CELL_CONTENTS = "cell_contents"; SSLCONTEXT = "sslcontext"; START_TLS = "start_tls";
    }
}

/// Fills every place. Nothing of ours may be used before.
pub(crate) fn init() -> R<()> {
    names::intern_all()?;
    import_all()?;
    SOCKET_MODULE.fill(Obj::import("socket")?);
    define()
}
