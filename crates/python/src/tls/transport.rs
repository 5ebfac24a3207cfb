//! `_SSLProtocolTransport`: what the protocol above gets for a transport.

use super::protocol::{self, SslProtocol, abort};
use super::{reading, shutdown, writing};
use crate::ffi::bytes;
use crate::ffi::errors::{R, not_implemented, type_error};
use crate::ffi::{Args, Class, ClassCell, Obj, Own, OwnSlot, Slot, Slots, Visitor, WeakRefs};
use crate::imports::{self, names};
use crate::resource_warning;
use crate::transports::flow;
use crate::version;
use aioxide_core::tls::Machine;
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// The object. Its first field is where `asyncio.BaseTransport` has its `_extra`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct SslTransport {
    extra: Slot,
    dict: Slot,
    weakrefs: WeakRefs,
    loop_: Slot,
    protocol: OwnSlot<SslProtocol>,
    pub(super) closed: Cell<bool>,
}

/// The transport of `protocol`.
pub(super) fn make(loop_: &Obj, protocol: &Own<SslProtocol>) -> R<Own<SslTransport>> {
    let transport = SslTransport::default();
    transport.loop_.set(loop_.clone());
    transport.protocol.put(Some(protocol.clone()));
    SslTransport::class().alloc(transport)
}

/// A transport of ours, to which the program has given nothing of its own.
#[inline]
pub(crate) fn plain(transport: &Obj) -> Option<&Own<SslTransport>> {
    SslTransport::class()
        .exact(transport)
        .filter(|this| this.dict.is_empty())
}

impl SslTransport {
    /// The protocol, if nobody has given the transport methods of its own.
    #[inline]
    pub(super) fn direct(&self) -> Option<Own<SslProtocol>> {
        if !self.dict.is_empty() {
            return None;
        }
        self.protocol.get()
    }
}

/// `self`, and the protocol.
///
/// A second `close()` lets go of it, as in asyncio: then a transport that its protocol above keeps does not keep the
/// connection's memory. Where asyncio raises AttributeError from then on, ours is a closed transport.
fn parts<'a>(args: &'a Args) -> R<(&'a Own<SslTransport>, Option<Own<SslProtocol>>)> {
    let this = args.this::<SslTransport>()?;
    Ok((this, this.protocol.get()))
}

/// Asks the protocol's machine; without one a new one.
fn ask<T>(args: &Args, f: impl FnOnce(&mut Machine) -> T) -> R<T> {
    Ok(match parts(args)?.1 {
        Some(protocol) => protocol.machine.with(f),
        None => f(&mut Machine::default()),
    })
}

/// `write(data)`
pub(crate) fn write(this: &SslTransport, data: &Obj) -> R<()> {
    if !bytes::is_data(data) {
        return Err(type_error(&format!(
            "data: expecting a bytes-like instance, got {}",
            data.class_name()
        )));
    }
    if data.len()? > 0
        && let Some(protocol) = this.protocol.get()
    {
        writing::write(&protocol, &[data])?;
    }
    Ok(())
}

fn method_writelines(args: &Args) -> R<Obj> {
    let ((_, protocol), list) = (parts(args)?, args.req(1)?.to_vec()?);
    let list: Vec<&Obj> = list.iter().collect();
    // as in asyncio, what has no length is the caller's error, anything else that cannot be sent a fatal one
    for data in &list {
        data.len()?;
    }
    if let Some(protocol) = protocol {
        writing::write(&protocol, &list)?;
    }
    Ok(Obj::none())
}

fn method_close(args: &Args) -> R<Obj> {
    let (this, protocol) = parts(args)?;
    if this.closed.replace(true) {
        this.protocol.put(None);
    } else if let Some(protocol) = protocol {
        shutdown::start(&protocol)?;
    }
    Ok(Obj::none())
}

fn force_close(args: &Args, exception: Option<&Obj>) -> R<Obj> {
    let (this, protocol) = parts(args)?;
    this.closed.set(true);
    if let Some(protocol) = protocol {
        writing::flush_now(&protocol)?;
        abort(&protocol, exception)?;
    }
    Ok(Obj::none())
}

/// `is_closing()`
pub(crate) fn is_closing(this: &SslTransport) -> R<bool> {
    if this.closed.get() || !version::TLS_IS_CLOSING_ASKS_BELOW.get() {
        return Ok(this.closed.get());
    }
    match this.protocol.get().and_then(|protocol| protocol.transport.get()) {
        Some(transport) => transport.call_method(&names::IS_CLOSING, &[])?.truth(),
        None => Ok(false),
    }
}

fn get_extra_info(args: &Args) -> R<Obj> {
    let (name, default) = (args.req(1)?, args.get(2));
    match parts(args)?.1 {
        Some(protocol) => {
            // who asks for the socket or for the engine may use it
            writing::flush_now(&protocol)?;
            protocol::extra_info(&protocol, name, default)
        }
        None => Ok(default.cloned().unwrap_or_else(Obj::none)),
    }
}

fn set_write_buffer_limits(args: &Args) -> R<Obj> {
    let (high, low) = flow::limits(args, 512 * 1024)?;
    if let Some(protocol) = parts(args)?.1 {
        writing::flush_now(&protocol)?;
        protocol.machine.with(|machine| machine.outgoing.set(high, low));
        writing::control(&protocol)?;
    }
    Ok(Obj::none())
}

fn set_read_buffer_limits(args: &Args) -> R<Obj> {
    let (high, low) = flow::limits(args, 256 * 1024)?;
    if let Some(protocol) = parts(args)?.1 {
        protocol.machine.with(|machine| machine.incoming.set(high, low));
        reading::control(&protocol)?;
    }
    Ok(Obj::none())
}

/// `(low, high)`
fn shown((high, low): (i64, i64)) -> R<Obj> {
    Obj::tuple(&[&Obj::int(low)?, &Obj::int(high)?])
}

static CLASS: ClassCell<SslTransport> = ClassCell::new();

impl Class for SslTransport {
    const NAME: &'static CStr = c"asyncio.sslproto._SSLProtocolTransport";
    const SUBCLASSABLE: bool = false;
    const DICT: Option<usize> = Some(offset_of!(SslTransport, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(SslTransport, weakrefs));
    const FINALIZE: bool = true;

    fn class() -> &'static ClassCell<SslTransport> {
        &CLASS
    }
    fn slots(slots: &mut Slots<SslTransport>) -> R<()> {
        slots.no_new();
        // for `isinstance`: it is a `_FlowControlMixin` as well
        slots.get(c"__class__", |_| Ok(imports::SSL_TRANSPORT.clone()));
        slots.method("write(self, data)", |args| {
            write(args.this::<SslTransport>()?, args.req(1)?)?;
            Ok(Obj::none())
        })?;
        slots.method("writelines(self, list_of_data)", method_writelines)?;
        slots.method("write_eof(self)", |_| Err(not_implemented("")))?;
        slots.method("can_write_eof(self)", |_| Ok(Obj::bool(false)))?;
        slots.method("close(self)", method_close)?;
        slots.method("abort(self)", |args| force_close(args, None))?;
        slots.method("_force_close(self, exc)", |args| force_close(args, args.opt(1)))?;
        slots.method("is_closing(self)", |args| {
            is_closing(args.this::<SslTransport>()?).map(Obj::bool)
        })?;
        slots.method("get_extra_info(self, name, default=None)", get_extra_info)?;
        slots.method("set_protocol(self, protocol)", |args| {
            if let Some(protocol) = parts(args)?.1 {
                protocol::set_app(&protocol, args.req(1)?)?;
            }
            Ok(Obj::none())
        })?;
        slots.method("get_protocol(self)", |args| {
            let app = parts(args)?.1.and_then(|protocol| protocol.app.get());
            Ok(app.unwrap_or_else(Obj::none))
        })?;
        slots.method("is_reading(self)", |args| {
            Ok(Obj::bool(!ask(args, |machine| machine.reading_paused)?))
        })?;
        slots.method("pause_reading(self)", |args| {
            ask(args, |machine| machine.reading_paused = true)?;
            Ok(Obj::none())
        })?;
        slots.method("resume_reading(self)", |args| {
            if let Some(protocol) = parts(args)?.1 {
                reading::resume(&protocol)?;
            }
            Ok(Obj::none())
        })?;
        slots.method(
            "set_write_buffer_limits(self, high=None, low=None)",
            set_write_buffer_limits,
        )?;
        slots.method("get_write_buffer_limits(self)", |args| {
            shown(ask(args, |machine| machine.outgoing.marks())?)
        })?;
        slots.method("get_write_buffer_size(self)", |args| {
            let Some(protocol) = parts(args)?.1 else {
                return Obj::int(0);
            };
            writing::flush_now(&protocol)?;
            Obj::int(writing::waiting(&protocol)? as i64)
        })?;
        slots.method(
            "set_read_buffer_limits(self, high=None, low=None)",
            set_read_buffer_limits,
        )?;
        slots.method("get_read_buffer_limits(self)", |args| {
            shown(ask(args, |machine| machine.incoming.marks())?)
        })?;
        slots.method("get_read_buffer_size(self)", |args| {
            let size = parts(args)?
                .1
                .map_or(Ok(0), |protocol| protocol.engine.incoming_size())?;
            Obj::int(size as i64)
        })?;
        slots.method("_test__append_write_backlog(self, data)", |args| {
            if let Some(protocol) = parts(args)?.1 {
                writing::keep(&protocol, args.req(1)?)?;
            }
            Ok(Obj::none())
        })?;
        slots.attribute("_start_tls_compatible", Obj::bool(true));
        slots.attribute(
            "_sendfile_compatible",
            imports::SENDFILE_MODE.getattr_str("FALLBACK")?,
        );
        slots.get(c"_loop", |this| Ok(this.loop_.get_or_none()));
        slots.get(c"_ssl_protocol", |this| {
            let Some(protocol) = this.protocol.get() else {
                return Ok(Obj::none());
            };
            writing::flush_now(&protocol)?;
            Ok(protocol.into_obj())
        });
        slots.get(c"_closed", |this| Ok(Obj::bool(this.closed.get())));
        slots.get(c"_protocol_paused", |this| {
            let paused =
                |protocol: Own<SslProtocol>| protocol.machine.with(|machine| machine.outgoing.is_shut());
            Ok(Obj::bool(this.protocol.get().is_some_and(paused)))
        });
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.extra.visit(visitor);
        self.loop_.visit(visitor);
        self.protocol.visit(visitor);
    }
    fn clear(&self) {
        self.extra.put(None);
        self.loop_.put(None);
        drop(self.protocol.take());
    }
    fn wants_finalize(&self) -> bool {
        !self.closed.get()
    }
    /// "unclosed transport …"
    fn finalize(this: &Own<SslTransport>) {
        if this.closed.replace(true) {
            return;
        }
        let text = "unclosed transport <asyncio._SSLProtocolTransport object>";
        if let Err(raised) = resource_warning::warn(&imports::SSL_TRANSPORT, "__del__", text, None) {
            raised.unraisable(this.obj());
        }
    }
}
