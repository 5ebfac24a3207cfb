//! `asyncio.trsock`: the socket that a transport shows.
//!
//! asyncio's class is a wrapper without what would get in the transport's way. Ours differs in one thing: who ends the
//! connection by it, or gets hold of its descriptor, does so after what the program has written before.

use super::outbox;
use crate::ffi::pyclass::{Body, PyClass};
use crate::ffi::{Args, Obj, R};
use crate::imports;

static TRANSPORT_SOCKET: PyClass = PyClass::new();

/// Makes the class.
pub(super) fn init() -> R<()> {
    let mut body = Body::new("asyncio.trsock", "TransportSocket", &[])?;
    body.method("fileno(self)", |args| afterwards(args, "fileno", &[]))?;
    body.method("dup(self)", |args| afterwards(args, "dup", &[]))?;
    body.method("shutdown(self, how)", |args| {
        afterwards(args, "shutdown", &[args.req(1)?])?;
        Ok(Obj::none())
    })?;
    TRANSPORT_SOCKET.fill(body.build(&[&imports::TRANSPORT_SOCKET])?);
    Ok(())
}

/// The class.
pub(crate) fn class() -> &'static Obj {
    TRANSPORT_SOCKET.get()
}

/// What a `socket.socket` is shown as.
pub(crate) fn shown(socket: &Obj) -> R<Obj> {
    class().call(&[socket])
}

/// Calls the socket's own method when nothing is held back any more.
fn afterwards(args: &Args, method: &str, arguments: &[&Obj]) -> R<Obj> {
    outbox::flush_running()?;
    args.req(0)?
        .getattr_str("_sock")?
        .call_method_str(method, arguments)
}
