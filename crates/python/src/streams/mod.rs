//! `asyncio.streams`: reading and writing without callbacks.
//!
//! | file | owns |
//! |---|---|
//! | `buffer.rs` | what has come and has not been read: native until Python looks at it |
//! | `reader.rs` | the class `StreamReader`: being fed, pausing the transport |
//! | `reading.rs` | `read`, `readline`, `readexactly`, `readuntil`: waiting, then taking |
//! | `flow.rs` | `FlowControlMixin`: who waits in `drain()` |
//! | `protocol.rs` | `StreamReaderProtocol`: between a transport and a reader |
//! | `writer.rs` | `StreamWriter`: a transport's face for coroutines |
//! | `transport.rs` | calling a transport, whose ever it is |
//! | `open.rs` | `open_connection`, `start_server` and their Unix twins |
//!
//! Where transport, protocol, reader and writer are exactly ours and the program has put nothing of its own on them,
//! they call each other directly; anything else is called by asyncio's names, so that overridden methods are honoured.
//! `readuntil()` takes a tuple of separators on every version.

mod buffer;
pub(crate) mod flow;
mod open;
pub(crate) mod protocol;
pub(crate) mod reader;
mod reading;
mod transport;
pub(crate) mod writer;

pub(crate) use open::connect as protocol_of;

use crate::ffi::{Class, Obj, R, class};
use crate::imports;

/// Makes the classes.
pub(crate) fn init() -> R<()> {
    let base: &Obj = &imports::PROTOCOL;
    class::create::<reader::StreamReader>(None)?;
    class::create::<writer::StreamWriter>(None)?;
    class::create::<flow::FlowControl>(Some(base))?;
    class::create::<protocol::StreamReaderProtocol>(Some(flow::FlowControl::class().get()))?;
    class::create::<open::Factory>(None)
}

/// Exports this area's classes and functions.
pub(crate) fn register(module: &Obj) -> R<()> {
    for (name, class) in [
        ("StreamReader", reader::StreamReader::class().get()),
        (
            "StreamReaderProtocol",
            protocol::StreamReaderProtocol::class().get(),
        ),
        ("StreamWriter", writer::StreamWriter::class().get()),
        ("FlowControlMixin", flow::FlowControl::class().get()),
    ] {
        module.setattr_str(name, class)?;
    }
    open::register(module)
}
