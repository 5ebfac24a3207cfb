//! `asyncio.EventLoop`: one file per group of `AbstractEventLoop`'s documentation.
//!
//! | file | owns |
//! |---|---|
//! | `core.rs` | the state of a loop, and what the rest of the crate may do to it |
//! | `run.rs` | the turn: poll, due timers, run what is ready |
//! | `class.rs` | the class: making it, what a program sees as attributes |
//! | `lifecycle.rs` | run_forever, run_until_complete, stop, close, is_running |
//! | `scheduling.rs` | call_soon, call_later, call_at, call_soon_threadsafe, time |
//! | `handles.rs` | Handle and TimerHandle |
//! | `creation.rs` | create_future, create_task, task factories |
//! | `errors.rs` | exception handlers |
//! | `readers.rs` | add_reader and its family |
//! | `signals.rs` | add_signal_handler, and how a signal wakes the loop |
//! | `executors.rs` | run_in_executor and the default executor |
//! | `connections.rs` | connect_accepted_socket, create_connection, create_unix_connection |
//! | `connecting.rs` | from addresses to a connected socket |
//! | `servers.rs` | create_server, create_unix_server |
//! | `datagrams.rs` | create_datagram_endpoint |
//! | `dns.rs` | getaddrinfo, getnameinfo |
//! | `lookups.rs` | what the resolver's threads are asked, and what they answer |
//! | `sockets.rs` | sock_recv and its family: trying, waiting, trying again |
//! | `socket_calls.rs` | one attempt of each of them |
//! | `sendfile.rs` | sendfile, sock_sendfile |
//! | `pipes.rs` | connect_read_pipe, connect_write_pipe |
//! | `subprocesses.rs` | subprocess_exec, subprocess_shell |

pub(crate) mod class;
mod connecting;
mod connections;
pub(crate) mod core;
pub(crate) mod creation;
mod datagrams;
mod dns;
pub(crate) mod errors;
mod executors;
pub(crate) mod handles;
pub(crate) mod lifecycle;
pub(crate) mod lookups;
mod pipes;
pub(crate) mod readers;
pub(crate) mod run;
pub(crate) mod scheduling;
mod sendfile;
mod servers;
mod signals;
mod socket_calls;
pub(crate) mod sockets;
mod subprocesses;
mod tls;

use crate::ffi::pyclass::Body;
use crate::ffi::{Obj, Own, R};

/// The groups that have coroutines among their methods, or attributes.
fn add_later_groups(body: &mut Body) -> R<()> {
    for group in [signals::METHODS, executors::METHODS] {
        for (sig, imp) in group {
            body.method(sig, *imp)?;
        }
    }
    executors::add(body)?;
    connections::add(body)?;
    pipes::add(body)?;
    subprocesses::add(body)?;
    servers::add(body)?;
    datagrams::add(body)?;
    tls::add(body)?;
    dns::add(body)?;
    sockets::add(body)?;
    sendfile::add(body)
}

/// Classes of theirs.
fn init_later_groups() -> R<()> {
    sendfile::init()
}

/// The loop begins to run on this thread.
fn on_run(core: &Own<core::LoopCore>) -> R<()> {
    signals::on_run(core)
}

/// The loop has stopped.
fn on_stop(core: &Own<core::LoopCore>) -> R<()> {
    signals::on_stop(core)
}

/// The loop is dropped while it runs.
fn on_drop(core: &core::LoopCore) {
    signals::on_drop(core);
}

/// The loop has been closed.
fn on_close(loop_: &Obj, core: &Own<core::LoopCore>) -> R<()> {
    dns::on_close(core)?;
    signals::on_close(loop_, core)
}
