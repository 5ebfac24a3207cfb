//! The machinery of an event loop, without Python: clock, reactor, schedule, buffer; and the states of TLS.
//!
//! Its asyncio names: `time.monotonic`, `selectors.EpollSelector`, the `_ready` and `_scheduled` queues
//! of `asyncio.base_events.BaseEventLoop`, and the `_buffer` of `asyncio.StreamReader`. What those queues hold is the caller's business, hence the type
//! parameters.
//!
//! The modules stand in the order in which data flows:
//!
//! ```text
//! clock ─┐
//!        ├─ kernel → sys (epoll | scripted) → reactor (who asked?) → schedule (when?) → the caller
//! ```
//!
//! One turn of a loop built from them, in outline:
//!
//! ```
//! use aioxide_core::{Clock, Events, Monotonic, RESOLUTION, Reactor, Ready, Timers, timeout_until};
//! use std::time::Duration;
//!
//! # fn main() -> std::io::Result<()> {
//! let clock = Monotonic;
//! let reactor: Reactor = Reactor::new()?;
//! let poller = reactor.poller();
//! let mut events = Events::new();
//! let mut ready: Ready<&str> = Ready::new();
//! let mut timers: Timers<&str> = Timers::new();
//! timers.push(clock.now() + 0.001, "later");
//!
//! while ready.is_empty() {
//!     // Block until the first deadline; a real loop parks its waker around this (see `sys::wakeup`).
//!     let timeout = timers.peek_when().map(|when| timeout_until(when, clock.now()));
//!     poller.wait(&mut events, timeout)?;
//!     reactor.dispatch(&mut events, |_fd, _readiness| ready.push_back("I/O"));
//!     let end = clock.now() + RESOLUTION;
//!     while let Some((_when, item)) = timers.pop_due(end) {
//!         ready.push_back(item);
//!     }
//! }
//! assert_eq!(ready.pop_front(), Some("later"));
//! # Ok(())
//! # }
//! ```
//!
//! The crate never names Python, starts no thread but the resolver's and that of `attach`, never reads the environment and never logs.

pub mod attach;
pub mod buffer;
pub mod clock;
pub mod effects;
pub mod flight;
pub mod metrics;
pub mod sys;

pub mod reactor;

pub mod resolver;

pub mod schedule;

pub mod tls;

pub mod watch;

pub use buffer::{Buffer, Search, Verdict, scratch};
pub use clock::{Clock, Monotonic, RESOLUTION, TestClock, coarse_now, timeout_until, wall_time};
pub use reactor::{Interest, Poller, Reactor, Readiness, Token};
pub use resolver::Resolver;
pub use schedule::{Ready, Timers};
pub use sys::Backend;
pub use sys::apart;
pub use sys::beginning;
pub use sys::caught;
pub use sys::child;
pub use sys::cpu;
pub use sys::epoll::Epoll;
pub use sys::events::Events;
pub use sys::file;
pub use sys::forks;
pub use sys::lines;
pub use sys::local;
pub use sys::memory;
pub use sys::names;
pub use sys::pipe::SignalPipe;
pub use sys::published::{PerProcess, Published};
pub use sys::scripted::Scripted;
pub use sys::socket;
pub use sys::ticks;
pub use sys::wakeup::Waker;
pub use watch::Pulse;
