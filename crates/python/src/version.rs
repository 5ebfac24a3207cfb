//! Behaviour that differs between Python versions, chosen at run time, in this one table.
//!
//! asyncio's behaviour follows the version that runs us (down to the patch release where that
//! matters); what the C API offers is chosen by `cfg(Py_3_xx)` in `ffi`.

use std::sync::atomic::{AtomicU32, Ordering};

static HEX: AtomicU32 = AtomicU32::new(0);

/// `sys.hexversion >> 8`: 0x030d00 is 3.13.0.
pub(crate) fn hex() -> u32 {
    HEX.load(Ordering::Relaxed)
}

/// Reads the version. Called once, first.
pub(crate) fn init() -> crate::ffi::R<()> {
    let hexversion = crate::ffi::Obj::import("sys")?
        .getattr_str("hexversion")?
        .to_i64()?;
    HEX.store((hexversion >> 8) as u32, Ordering::Relaxed);
    Ok(())
}

/// A behaviour that began with a version.
pub(crate) struct Since(u32);

impl Since {
    /// Does the running version have it?
    #[inline]
    pub(crate) fn get(&self) -> bool {
        hex() >= self.0
    }
}

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $since:literal;)*) => {
        $($(#[$doc])* pub(crate) static $name: Since = Since($since);)*
    };
}

table! {
    /// `set_exception(StopIteration())` stores a RuntimeError; before: TypeError.
    STOP_ITERATION_BECOMES_RUNTIME_ERROR = 0x030d00;
    /// `uncancel()` to zero withdraws a cancellation that is not delivered yet.
    UNCANCEL_CLEARS_MUST_CANCEL = 0x030d00;
    /// A second `Future.__init__` is an error.
    FUTURE_INIT_ONCE = 0x030f00;
    /// `Task(context=…)` must be a `contextvars.Context`.
    TASK_CONTEXT_CHECKED = 0x030f00;
    /// `wait_for` is `async with timeout(): return await fut`.
    WAIT_FOR_IS_TIMEOUT = 0x030c00;
    /// `run()` takes any awaitable.
    RUN_TAKES_AWAITABLE = 0x030e00;
    /// `create_task(coro, **kwargs)` hands everything to the factory, which sets the name.
    FACTORY_TAKES_KWARGS = 0x030d03;
    /// Reports of a callback that has raised show its arguments in debug mode only.
    ARGUMENTS_SHOWN_IN_DEBUG = 0x030d00;
    /// Exception handlers run in the context of the task or handle.
    EXCEPTION_HANDLER_IN_CONTEXT = 0x030c00;
    /// TaskGroup: `create_task` closes the coroutine if the group is not active; parent cancellations keep their count.
    TASKGROUP_313 = 0x030d00;
    /// TaskGroup: the 3.14 rules (kwargs, done-callbacks always scheduled, no reference cycles).
    TASKGROUP_314 = 0x030e00;
    /// TaskGroup: the 3.15 rules (a lone GeneratorExit of the body passes bare).
    TASKGROUP_315 = 0x030f00;
    /// `Timeout` puts its TimeoutError into the chain of `__context__`.
    TIMEOUT_INSERTS_CONTEXT = 0x030d00;
    /// `timeout()` and TaskGroup take a class derived from CancelledError for a cancellation.
    CANCELLED_SUBCLASS = 0x030d00;
    /// `as_completed` starts when it is called, with an object; before: a generator, at the first `next()`.
    AS_COMPLETED_STARTS_AT_ONCE = 0x030d00;
    /// A wait of `as_completed` that fails can be made again.
    AS_COMPLETED_COUNTS_BACK = 0x030e00;
    /// The exception of a shielded future is reported even if the outer one was cancelled.
    SHIELD_KEEPS_EXCEPTION = 0x030e00;
    /// Awaited-by edges and call graphs.
    CALL_GRAPH = 0x030e00;
    /// The name of `current_task()` is set by the C accelerator; `iscoroutine` is False for generators.
    SINCE_312 = 0x030c00;
    /// 3.13
    SINCE_313 = 0x030d00;
    /// 3.14
    SINCE_314 = 0x030e00;
    /// `Server.wait_closed()` waits for connections, even if the server is closed.
    WAIT_CLOSED_WAITS = 0x030c01;
    /// `create_unix_server(cleanup_socket=True)` is the default.
    UNIX_SOCKETS_CLEANED = 0x030d00;
    /// `create_server`: an address that this machine does not have is left out.
    BIND_SKIPS_UNAVAILABLE = 0x030d00;
    /// `create_connection`: a race without errors on record raises TimeoutError; before: IndexError (gh-135836).
    EMPTY_RACE_TIMES_OUT = 0x030d06;
    /// `create_connection`: that a socket of a failed attempt cannot be closed is no news (gh-135836).
    CLOSE_ERRORS_ARE_DROPPED = 0x030d06;
    /// A subprocess transport sends signals itself, and not by `Popen`'s methods.
    SIGNALS_WITHOUT_POPEN = 0x030d00;
    /// Every callback of a connection runs in the one context that its server or its opener had.
    CONNECTION_CONTEXT = 0x030f00;
    /// `SSLProtocol` aborts the transport below with `_force_close(exc)`; before: with `abort()`.
    TLS_FORCE_CLOSES = 0x030d00;
    /// Coroutines say themselves in which state they are.
    CORO_STATE = 0x030f00;
    /// A TLS transport is closing if the one below is.
    TLS_IS_CLOSING_ASKS_BELOW = 0x030e00;
    /// `ssl_shutdown_timeout` also counts for what the transport below has still to send.
    TLS_SHUTDOWN_TIMER_STAYS = 0x030e00;
}
