//! The engine: an `ssl.SSLObject` between two `ssl.MemoryBIO`s.
//!
//! Rules
//! 1. `ssl.SSLObject` hands each call on to an object written in C; that one is called directly. A class that was
//!    derived from it (`SSLContext.sslobject_class`) is called by its public methods.
//! 2. "Again" is no failure: the engine wants more bytes from below.
//! 3. Where it is proven safe, data goes past the Python objects, to the OpenSSL behind them (`ffi::openssl`). What
//!    that does not do is asked of the objects, at once and with the same arguments: so they raise what they raise.

use crate::ffi::bytes::{Buffer, Bytes};
use crate::ffi::errors::{R, runtime_error, type_error};
use crate::ffi::object::Static;
use crate::ffi::openssl::{self, Connection, Taken};
use crate::ffi::window::Window;
use crate::ffi::{Obj, Own, Slot, Visitor};
use crate::imports::names;
use std::ops::Range;

static SSL: Static = Static::new();
static SSL_OBJECT: Static = Static::new();
static MEMORY_BIO: Static = Static::new();
static AGAIN: Static = Static::new();
static SSL_ERROR: Static = Static::new();
static CERTIFICATE_ERROR: Static = Static::new();
static SSL_CONTEXT: Static = Static::new();
static WRAP_BIO_NAMES: Static = Static::new();

/// Imports `ssl`, which a Python may lack.
pub(super) fn init() -> R<()> {
    let ssl = match Obj::import("ssl") {
        Ok(ssl) => ssl,
        Err(raised) if raised.matches(crate::ffi::errors::exc::import_error()) => {
            raised.ignore();
            return Ok(());
        }
        Err(raised) => return Err(raised),
    };
    let again = [
        &ssl.getattr_str("SSLWantReadError")?,
        &ssl.getattr_str("SSLSyscallError")?,
    ];
    AGAIN.fill(Obj::tuple(&again)?);
    for (place, name) in [
        (&SSL_OBJECT, "SSLObject"),
        (&MEMORY_BIO, "MemoryBIO"),
        (&SSL_ERROR, "SSLError"),
        (&CERTIFICATE_ERROR, "CertificateError"),
        (&SSL_CONTEXT, "SSLContext"),
    ] {
        place.fill(ssl.getattr_str(name)?);
    }
    let names = [&Obj::interned("server_side")?, &Obj::interned("server_hostname")?];
    WRAP_BIO_NAMES.fill(Obj::tuple(&names)?);
    SSL.fill(ssl);
    openssl::init()
}

/// Is there an `ssl` module?
pub(crate) fn is_available() -> bool {
    SSL.filled()
}

/// `isinstance(object, ssl.SSLContext)`
pub(crate) fn is_context(object: &Obj) -> R<bool> {
    object.isinstance(&SSL_CONTEXT)
}

/// `ssl.SSLError`
pub(super) fn ssl_error() -> &'static Obj {
    SSL_ERROR.get()
}

/// `ssl.CertificateError`
pub(super) fn certificate_error() -> &'static Obj {
    CERTIFICATE_ERROR.get()
}

/// `ssl.create_default_context()`, for `ssl=True`.
pub(super) fn default_context(has_hostname: bool) -> R<Obj> {
    let context = SSL.call_method_str("create_default_context", &[])?;
    if !has_hostname {
        context.setattr_str("check_hostname", &Obj::bool(false))?;
    }
    Ok(context)
}

/// The engine.
#[derive(Default)]
pub(super) struct Engine {
    /// What the program sees.
    object: Slot,
    /// What is called (rule 1), and the BIOs on either side of it.
    connection: Connection,
}

/// Where decrypted bytes go to.
#[derive(Clone)]
pub(super) enum Place<'a> {
    /// A part of a window of ours.
    Window(&'a Own<Window>, Range<usize>),
    /// Somebody's buffer, from here on.
    Buffer(&'a Obj, usize),
}

/// `None` for "again": rule 2.
fn unless_again(result: R<Obj>) -> R<Option<Obj>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(raised) if raised.matches(&AGAIN) => {
            raised.ignore();
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

fn size(value: &Obj) -> R<usize> {
    usize::try_from(value.to_i64()?).map_err(|_| type_error("a size is negative"))
}

impl Engine {
    /// `context.wrap_bio(…)`
    pub(super) fn start(&self, context: &Obj, server_side: bool, hostname: &Obj) -> R<()> {
        if !is_available() {
            return Err(runtime_error("stdlib ssl module not available"));
        }
        let (incoming, outgoing) = (MEMORY_BIO.call0()?, MEMORY_BIO.call0()?);
        let arguments = [&incoming, &outgoing, &Obj::bool(server_side), hostname];
        let object = context.call_method_kw(&names::WRAP_BIO, &arguments, Some(&WRAP_BIO_NAMES))?;
        self.connection.incoming.set(incoming);
        self.connection.outgoing.set(outgoing);
        self.set_object(object)
    }

    /// `_sslobj = object`
    pub(super) fn set_object(&self, object: Obj) -> R<()> {
        let inner = if object.is_exactly(&SSL_OBJECT) {
            object.getattr_str("_sslobj")?
        } else {
            object.clone()
        };
        self.connection.changed();
        self.connection.object.set(inner);
        self.object.set(object);
        Ok(())
    }

    /// The `SSLObject`.
    pub(super) fn object(&self) -> Obj {
        self.object.get_or_none()
    }
    /// `_incoming`
    pub(super) fn incoming(&self) -> Obj {
        self.connection.incoming.get_or_none()
    }
    /// `_outgoing`
    pub(super) fn outgoing(&self) -> Obj {
        self.connection.outgoing.get_or_none()
    }
    /// `_incoming = bio`
    pub(super) fn set_incoming(&self, bio: Option<&Obj>) {
        self.connection.changed();
        self.connection.incoming.put(bio.cloned());
    }
    /// `_outgoing = bio`
    pub(super) fn set_outgoing(&self, bio: Option<&Obj>) {
        self.connection.changed();
        self.connection.outgoing.put(bio.cloned());
    }
    /// Does data go past the Python objects? Rule 3.
    pub(super) fn is_direct(&self) -> bool {
        self.connection.direct().is_some()
    }

    /// Bytes from below.
    pub(super) fn feed(&self, data: &Obj) -> R<()> {
        self.incoming().call_method(&names::WRITE, &[data]).map(drop)
    }

    /// Bytes from below, in a window.
    #[inline]
    pub(super) fn feed_part(&self, window: &Own<Window>, part: Range<usize>) -> R<()> {
        match self.connection.direct() {
            Some(direct) if direct.feed(window, part.clone()) => Ok(()),
            _ => self.feed(window.open(part)),
        }
    }

    /// How many bytes from below wait to be decrypted.
    #[inline]
    pub(super) fn incoming_size(&self) -> R<usize> {
        match self.connection.direct() {
            Some(direct) => Ok(direct.incoming_size()),
            None => size(&self.incoming().getattr(&names::PENDING)?),
        }
    }

    /// How many bytes wait for the transport below.
    #[inline]
    pub(super) fn outgoing_size(&self) -> R<usize> {
        match self.connection.direct() {
            Some(direct) => Ok(direct.outgoing_size()),
            None => size(&self.outgoing().getattr(&names::PENDING)?),
        }
    }

    /// Bytes for the transport below.
    pub(super) fn drain(&self) -> R<Obj> {
        self.outgoing().call_method(&names::READ, &[])
    }

    /// The same, into a window: how many. `None`: they have to be asked for as an object.
    #[inline]
    pub(super) fn drain_into(&self, window: &Own<Window>) -> Option<usize> {
        Some(self.connection.direct()?.drain(window))
    }

    /// Decrypts. 0: the peer has closed.
    #[inline]
    pub(super) fn read(&self, place: &Place<'_>) -> R<Option<usize>> {
        let taken = match place {
            Place::Window(window, part) => self
                .connection
                .direct()
                .map(|direct| direct.read(window, part.clone())),
            Place::Buffer(buffer, start) => self
                .if_direct(|| Buffer::writable_or_none(buffer))
                .and_then(|mut view| Some(self.connection.direct()?.read_into(&mut view, *start))),
        };
        match taken {
            Some(Taken::Some(count)) => return Ok(Some(count)),
            Some(Taken::Again) => return Ok(None),
            Some(Taken::Other) | None => {}
        }
        match place {
            Place::Window(window, part) => self.ask_to_read(part.len(), window.open(part.clone())),
            Place::Buffer(buffer, 0) => self.ask_to_read(buffer.len()?, buffer),
            Place::Buffer(buffer, start) => {
                let room = buffer.len()?;
                self.ask_to_read(room - start, &buffer.memoryview()?.slice(*start, room)?)
            }
        }
    }

    /// A view of a buffer, if OpenSSL is driven directly. It may be given out by Python code (`__buffer__`), during which
    /// another thread may begin to use the object: so it is taken before the look that counts.
    #[inline]
    fn if_direct(&self, view: impl FnOnce() -> Option<Buffer>) -> Option<Buffer> {
        self.connection.direct()?;
        view()
    }

    fn ask_to_read(&self, room: usize, buffer: &Obj) -> R<Option<usize>> {
        let object = self.connection.object.get_or_none();
        let read = object.call_method(&names::READ, &[&Obj::int(room as i64)?, buffer]);
        unless_again(read)?.map(|count| size(&count)).transpose()
    }

    /// Encrypts something.
    #[inline]
    pub(super) fn write(&self, data: &Obj) -> R<Option<usize>> {
        if let Some(bytes) = Bytes::of(data) {
            let size = bytes.as_slice().len();
            return self.write_bytes(&bytes, 0..size);
        }
        if let Some(view) = self.if_direct(|| Buffer::readable_or_none(data))
            && let Some(direct) = self.connection.direct()
        {
            let count = direct.write_view(&view);
            if count > 0 {
                return Ok(Some(count));
            }
        }
        self.ask_to_write(data)
    }

    /// Encrypts a part of some bytes.
    #[inline]
    pub(super) fn write_bytes(&self, bytes: &Bytes, part: Range<usize>) -> R<Option<usize>> {
        if let Some(direct) = self.connection.direct() {
            let count = direct.write(bytes, part.clone());
            if count > 0 {
                return Ok(Some(count));
            }
        }
        if part.len() == bytes.as_slice().len() {
            return self.ask_to_write(bytes.obj());
        }
        self.ask_to_write(&bytes.obj().memoryview()?.slice(part.start, part.end)?)
    }

    /// Encrypts a part of a window.
    #[inline]
    pub(super) fn write_part(&self, window: &Own<Window>, part: Range<usize>) -> R<Option<usize>> {
        if let Some(direct) = self.connection.direct() {
            let count = direct.write_part(window, part.clone());
            if count > 0 {
                return Ok(Some(count));
            }
        }
        self.ask_to_write(window.open(part))
    }

    fn ask_to_write(&self, data: &Obj) -> R<Option<usize>> {
        let object = self.connection.object.get_or_none();
        let written = object.call_method(&names::WRITE, &[data]);
        unless_again(written)?.map(|count| size(&count)).transpose()
    }

    /// Goes on with the handshake. `true`: it is done.
    pub(super) fn handshake(&self) -> R<bool> {
        let object = self.object.get_or_none();
        Ok(unless_again(object.call_method_str("do_handshake", &[]))?.is_some())
    }

    /// Sends close-notify and looks for the peer's. `true`: it is there.
    pub(super) fn shut_down(&self) -> R<bool> {
        let object = self.object.get_or_none();
        Ok(unless_again(object.call_method_str("unwrap", &[]))?.is_some())
    }

    /// For the garbage collector.
    pub(super) fn visit(&self, visitor: &mut Visitor) {
        self.object.visit(visitor);
        self.connection.visit(visitor);
    }
    /// Drops everything.
    pub(super) fn clear(&self) {
        self.object.put(None);
        self.connection.clear();
    }
}

/// What was drained, if it is anything.
#[inline]
pub(super) fn drained(data: &Obj) -> Option<Bytes> {
    Bytes::of(data).filter(|data| !data.as_slice().is_empty())
}
