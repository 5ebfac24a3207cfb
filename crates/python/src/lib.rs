//! `aioxide._core`: asyncio's names on top of `aioxide-core`.
//!
//! The map is in ARCHITECTURE.md. In one line: `ffi` is the only unsafe; `futures` and `tasks` are what
//! a coroutine waits for and is driven by; `event_loop` runs them; the rest is asyncio's high-level API.

mod copying;
mod debug;
mod deque;
mod diag;
mod docs;
mod event_loop;
mod ffi;
mod frames;
mod futures;
mod graph;
mod hook;
mod imports;
mod kwnames;
mod locks;
mod module;
mod number;
mod policy;
mod queues;
mod resource_warning;
mod runners;
mod servers;
mod streams;
mod subprocesses;
mod takeover;
mod taskgroups;
mod tasks;
mod threads;
mod timeouts;
mod tls;
mod transports;
mod version;

use pyo3::prelude::*;

/// The extension module. On a free-threaded build the interpreter takes the GIL back for it: DESIGN.md says
/// what is ready for threads and what is not.
#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    ffi::init_module(module, module::init)
}
