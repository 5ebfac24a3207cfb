//! Calling a transport: one of ours directly, any other by asyncio's names.

use crate::ffi::{Class, Obj, Own, R};
use crate::imports::names;
use crate::tls;
use crate::transports::{self, stream::Stream};

/// `transport`, if it is one of ours and the program has put nothing of its own on it.
#[inline(always)]
fn ours(transport: &Obj) -> Option<&Own<Stream>> {
    Stream::class()
        .exact(transport)
        .filter(|stream| stream.is_plain())
}

/// `transport.write(data)`
#[inline]
pub(super) fn write(transport: &Obj, data: &Obj) -> R<Obj> {
    match ours(transport) {
        Some(ours) => transports::write(ours, data).map(|()| Obj::none()),
        None => match tls::transport::plain(transport) {
            Some(ours) => tls::transport::write(ours, data).map(|()| Obj::none()),
            None => transport.call_method(&names::WRITE, &[data]),
        },
    }
}

/// `transport.is_closing()`
#[inline]
pub(super) fn is_closing(transport: &Obj) -> R<bool> {
    match ours(transport) {
        Some(ours) => Ok(ours.is_closing()),
        None => match tls::transport::plain(transport) {
            Some(ours) => tls::transport::is_closing(ours),
            None => transport.call_method(&names::IS_CLOSING, &[])?.truth(),
        },
    }
}

/// `transport.pause_reading()`
pub(super) fn pause_reading(transport: &Obj) -> R<()> {
    match ours(transport) {
        Some(ours) => transports::pause_reading(ours),
        None => transport.call_method(&names::PAUSE_READING, &[]).map(drop),
    }
}

/// `transport.resume_reading()`
pub(super) fn resume_reading(transport: &Obj) -> R<()> {
    match ours(transport) {
        Some(ours) => transports::resume_reading(ours),
        None => transport.call_method(&names::RESUME_READING, &[]).map(drop),
    }
}

/// `transport.close()`
pub(super) fn close(transport: &Obj) -> R<Obj> {
    match ours(transport) {
        Some(ours) => transports::close(ours).map(|()| Obj::none()),
        None => transport.call_method(&names::CLOSE, &[]),
    }
}

/// `transport.get_extra_info("sslcontext") is not None`
pub(super) fn is_encrypted(transport: &Obj) -> R<bool> {
    if let Some(ours) = ours(transport)
        && !ours.has_extra()
    {
        return Ok(false);
    }
    let context = transport.call_method(&names::GET_EXTRA_INFO, &[&names::SSLCONTEXT])?;
    Ok(!context.is_none())
}
