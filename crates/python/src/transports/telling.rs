//! What a transport tells its protocol. A `StreamReaderProtocol` of ours is told without a call.

use crate::ffi::{Obj, R};
use crate::imports::names;
use crate::streams::protocol::StreamReaderProtocol;

/// Does reading run none of the program's code? Then nobody can tell in which context it is done.
pub(super) fn runs_no_code(protocol: &Obj) -> bool {
    StreamReaderProtocol::plain(protocol).is_some()
}

/// `protocol.connection_made(transport)`. `context`: that in which it runs, if nothing else will.
pub(crate) fn connection_made(protocol: &Obj, transport: &Obj, context: Option<&Obj>) -> R<()> {
    match StreamReaderProtocol::plain(protocol) {
        Some(ours) => ours.connection_made(transport, context),
        None => protocol
            .call_method(&names::CONNECTION_MADE, &[transport])
            .map(drop),
    }
}

/// `protocol.data_received(data)`
#[inline]
pub(crate) fn data_received(protocol: &Obj, data: Obj) -> R<()> {
    match StreamReaderProtocol::plain(protocol) {
        Some(ours) => ours.data_received(data),
        None => protocol.call_method(&names::DATA_RECEIVED, &[&data]).map(drop),
    }
}

/// `protocol.eof_received()`: is the connection to stay open?
pub(crate) fn eof_received(protocol: &Obj) -> R<bool> {
    match StreamReaderProtocol::plain(protocol) {
        Some(ours) => ours.eof_received(),
        None => protocol.call_method(&names::EOF_RECEIVED, &[])?.truth(),
    }
}

/// `protocol.connection_lost(exception)`
pub(super) fn connection_lost(protocol: &Obj, exception: &Obj) -> R<()> {
    match StreamReaderProtocol::plain(protocol) {
        Some(ours) => ours.connection_lost(exception),
        None => protocol
            .call_method(&names::CONNECTION_LOST, &[exception])
            .map(drop),
    }
}
