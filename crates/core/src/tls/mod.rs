//! TLS without the cryptography: what `asyncio.sslproto` decides.
//!
//! Owns the [state](Machine) of one TLS connection, and the [marks](Valve) at which the traffic in either
//! direction is stopped. The caller has an engine that turns bytes into records and back (Python's `ssl`), a
//! transport below and a protocol above; it tells the machine what has happened, and does what the machine
//! answers.
//!
//! Must never see a byte of what is sent.

mod machine;
mod valve;

pub use machine::{App, Close, End, Feed, Machine, Refused, State, Write};
pub use valve::{Pressure, Valve};
