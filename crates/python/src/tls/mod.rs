//! TLS: `asyncio.sslproto`, on top of Python's own `ssl`.
//!
//! The user's `ssl.SSLContext` is asked for an `SSLObject` between two `MemoryBIO`s, so everything that it was
//! told (ALPN, SNI callbacks, client certificates, sessions, key logs, …) counts. What to do when is
//! decided by `aioxide_core::tls`.
//!
//! | file | owns |
//! |---|---|
//! | `protocol.rs` | `SSLProtocol`: the state, its life between the transport below and the protocol above |
//! | `transport.rs` | `_SSLProtocolTransport`: what the protocol above gets for a transport |
//! | `engine.rs` | the `SSLObject` and its two BIOs, or the OpenSSL behind them |
//! | `handshake.rs`, `shutdown.rs` | the beginning and the end |
//! | `reading.rs`, `writing.rs` | what comes in, what goes out, flow control in both directions |
//!
//! Over a transport of ours bytes come and go without a Python call ([`reading::received`],
//! `writing::hand_down`). To any other transport the protocol is an ordinary `BufferedProtocol`. TLS in TLS
//! is both.

pub(crate) mod engine;
mod handshake;
pub(crate) mod protocol;
pub(crate) mod reading;
mod shutdown;
pub(crate) mod transport;
pub(crate) mod writing;

use crate::ffi::errors::{R, runtime_error};
use crate::ffi::{Obj, Own};
use crate::imports;
use crate::servers::server::ServerCore;
use crate::transports::socket::Socket;
use crate::transports::stream::{self, Opening};
use aioxide_core::socket::Address;
use protocol::Settings;
use transport::SslTransport;

/// The connection under a TLS transport.
pub(crate) struct Below {
    pub(crate) socket: Socket,
    pub(crate) server: Option<Own<ServerCore>>,
    /// For all callbacks (3.15).
    pub(crate) context: Option<Obj>,
    pub(crate) peer: Option<Address>,
    /// A dict for `get_extra_info`.
    pub(crate) extra: Option<Obj>,
}

/// `_make_ssl_transport(…)`
pub(crate) fn open(below: Below, settings: &Settings<'_>) -> R<Own<SslTransport>> {
    let protocol = protocol::make(settings)?;
    stream::open(Opening {
        loop_: settings.loop_,
        socket: below.socket,
        protocol: protocol.obj(),
        waiter: None,
        extra: below.extra,
        server: below.server,
        context: below.context,
        peer: below.peer,
    })?;
    (protocol.app_transport.get()).ok_or_else(|| runtime_error("the connection is lost already"))
}

/// Makes the classes.
pub(crate) fn init() -> R<()> {
    engine::init()?;
    let base: &Obj = &imports::BUFFERED_PROTOCOL;
    let size = base.getattr_str("__basicsize__")?.to_i64()? as usize;
    if size != crate::ffi::class::body_offset() {
        return Err(runtime_error(
            "this Python's asyncio.BufferedProtocol is laid out differently",
        ));
    }
    crate::ffi::class::create::<crate::ffi::window::Window>(None)?;
    crate::ffi::class::create::<protocol::SslProtocol>(Some(base))?;
    crate::ffi::class::create::<transport::SslTransport>(Some(&imports::TRANSPORT))
}
