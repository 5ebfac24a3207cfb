//! Servers: `asyncio.Server`, and what accepts connections for one.
//!
//! | file | owns |
//! |---|---|
//! | `server.rs` | the class `Server`: sockets, clients, who waits for its end |
//! | `clients.rs` | which transports belong to a server, without keeping them alive |
//! | `listener.rs` | one listening socket: accepting, and running out of descriptors |
//!
//! What makes servers (`create_server`, `create_unix_server`) is in `event_loop/servers.rs`.

mod clients;
pub(crate) mod listener;
pub(crate) mod server;
mod tls;

use crate::ffi::errors::R;
use crate::ffi::{Obj, class};

/// Makes the classes.
pub(crate) fn init() -> R<()> {
    class::create::<server::ServerCore>(None)?;
    class::create::<listener::Listener>(None)?;
    server::init()
}

/// Exports the class.
pub(crate) fn register(module: &Obj) -> R<()> {
    module.setattr_str("Server", server::class())
}
