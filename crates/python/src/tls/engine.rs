//! The engine: an `ssl.SSLObject` between two `ssl.MemoryBIO`s.
//!
//! Rules
//! 1. `ssl.SSLObject` hands each call on to an object written in C; that one is called directly. A class that was
//!    derived from it (`SSLContext.sslobject_class`) is called by its public methods.
//! 2. "Again" is no failure: the engine wants more bytes from below.

use crate::ffi::bytes::Bytes;
use crate::ffi::errors::{R, runtime_error, type_error};
use crate::ffi::object::Static;
use crate::ffi::{Obj, Slot, Visitor};
use crate::imports::names;

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
    Ok(())
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
    incoming: Slot,
    outgoing: Slot,
    /// What the program sees.
    object: Slot,
    /// What is called: rule 1.
    inner: Slot,
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
        self.incoming.set(incoming);
        self.outgoing.set(outgoing);
        self.set_object(object)
    }

    /// `_sslobj = object`
    pub(super) fn set_object(&self, object: Obj) -> R<()> {
        let inner = if object.is_exactly(&SSL_OBJECT) {
            object.getattr_str("_sslobj")?
        } else {
            object.clone()
        };
        self.inner.set(inner);
        self.object.set(object);
        Ok(())
    }

    /// The `SSLObject`.
    pub(super) fn object(&self) -> Obj {
        self.object.get_or_none()
    }
    /// `_incoming`
    pub(super) fn incoming(&self) -> &Slot {
        &self.incoming
    }
    /// `_outgoing`
    pub(super) fn outgoing(&self) -> &Slot {
        &self.outgoing
    }

    /// Bytes from below.
    #[inline]
    pub(super) fn feed(&self, data: &Obj) -> R<()> {
        let incoming = self.incoming.get_or_none();
        incoming.call_method(&names::WRITE, &[data]).map(drop)
    }

    /// How many bytes from below wait to be decrypted.
    #[inline]
    pub(super) fn incoming_size(&self) -> R<usize> {
        size(&self.incoming.get_or_none().getattr(&names::PENDING)?)
    }

    /// How many bytes wait for the transport below.
    #[inline]
    pub(super) fn outgoing_size(&self) -> R<usize> {
        size(&self.outgoing.get_or_none().getattr(&names::PENDING)?)
    }

    /// Bytes for the transport below.
    #[inline]
    pub(super) fn drain(&self) -> R<Obj> {
        self.outgoing.get_or_none().call_method(&names::READ, &[])
    }

    /// Decrypts into `buffer`, which has room for so many bytes. 0: the peer has closed.
    #[inline]
    pub(super) fn read(&self, room: usize, buffer: &Obj) -> R<Option<usize>> {
        let room = Obj::int(room as i64)?;
        let read = (self.inner.get_or_none()).call_method(&names::READ, &[&room, buffer]);
        unless_again(read)?.map(|count| size(&count)).transpose()
    }

    /// Encrypts.
    #[inline]
    pub(super) fn write(&self, data: &Obj) -> R<Option<usize>> {
        let written = self.inner.get_or_none().call_method(&names::WRITE, &[data]);
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
        for slot in [&self.incoming, &self.outgoing, &self.object, &self.inner] {
            slot.visit(visitor);
        }
    }
    /// Drops everything.
    pub(super) fn clear(&self) {
        for slot in [&self.incoming, &self.outgoing, &self.object, &self.inner] {
            slot.put(None);
        }
    }
}

/// What was drained, if it is anything.
#[inline]
pub(super) fn drained(data: &Obj) -> Option<Bytes> {
    Bytes::of(data).filter(|data| !data.as_slice().is_empty())
}
