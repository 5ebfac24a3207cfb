//! The socket of a transport: a descriptor of ours, or a `socket.socket` that somebody has given us or asked for.
//!
//! Accepted connections begin as a bare descriptor; the Python object, which takes as much memory as the rest
//! of an idle connection, is made when the program asks for it, and owns the descriptor from then on.

use crate::ffi::errors::os_error;
use crate::ffi::{Obj, R, Slot, Visitor, bytes, pysocket};
use crate::imports::{self, names};
use aioxide_core::socket::{self, Address};
use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

/// No descriptor.
const NONE: RawFd = -1;

/// The socket.
pub(crate) struct Socket {
    object: Slot,
    /// Ours, if there is no object; else what the object had when we got it.
    fd: Cell<RawFd>,
    /// The same, for messages, when it is closed.
    was: RawFd,
}

impl Default for Socket {
    fn default() -> Socket {
        Socket {
            object: Slot::default(),
            fd: Cell::new(NONE),
            was: NONE,
        }
    }
}

impl Socket {
    /// A connection that we have accepted.
    pub(crate) fn owned(fd: OwnedFd) -> Socket {
        let fd = fd.into_raw_fd();
        Socket {
            object: Slot::default(),
            fd: Cell::new(fd),
            was: fd,
        }
    }

    /// A `socket.socket`, or something like it.
    pub(crate) fn of(object: &Obj) -> R<Socket> {
        let fd = match pysocket::fd(object) {
            Some(fd) => fd,
            None => object.call_method(&names::FILENO, &[])?.to_i64()? as RawFd,
        };
        let socket = Socket {
            object: Slot::default(),
            fd: Cell::new(fd),
            was: fd,
        };
        socket.object.set(object.clone());
        Ok(socket)
    }

    /// The descriptor to use now; -1 if it is closed, by us or behind our back.
    #[inline]
    pub(crate) fn fd(&self) -> RawFd {
        match self.object.get() {
            None => self.fd.get(),
            Some(object) => pysocket::fd(&object).unwrap_or_else(|| self.fd.get()),
        }
    }

    /// The number under which the loop watches it, whoever may have closed it since.
    #[inline]
    pub(crate) fn number(&self) -> RawFd {
        self.fd.get()
    }

    /// The number that it has or had.
    pub(crate) fn shown(&self) -> RawFd {
        self.was
    }

    /// Has it been given up?
    pub(crate) fn is_gone(&self) -> bool {
        self.fd.get() == NONE
    }

    /// The Python object, which from now on is the owner.
    pub(crate) fn object(&self) -> R<Option<Obj>> {
        if let Some(object) = self.object.get() {
            return Ok(Some(object));
        }
        let fd = self.fd.get();
        if fd == NONE {
            return Ok(None);
        }
        let (family, kind, protocol) = socket::kind(fd).map_err(|error| os_error(&error))?;
        let object = imports::SOCKET.call(&[
            &Obj::int(family.into())?,
            &Obj::int(kind.into())?,
            &Obj::int(protocol.into())?,
            &Obj::int(fd.into())?,
        ])?;
        self.object.set(object.clone());
        object.call_method(&names::SETBLOCKING, &[&Obj::bool(false)])?;
        Ok(Some(object))
    }

    /// The Python object, if there is one.
    pub(crate) fn made_object(&self) -> Option<Obj> {
        self.object.get()
    }

    /// `sock.close()`; twice is no error.
    pub(crate) fn close(&self) -> R<()> {
        let fd = self.fd.replace(NONE);
        match self.object.take() {
            Some(object) => object.call_method(&names::CLOSE, &[]).map(drop),
            None => {
                socket::close(fd);
                Ok(())
            }
        }
    }

    /// For the garbage collector.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        self.object.visit(visitor);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.object.is_empty() {
            socket::close(self.fd.get());
        }
    }
}

/// What `getsockname()` and `getpeername()` say. `None`: to be asked of the Python object, if at all.
pub(crate) fn address(address: &Address) -> R<Option<Obj>> {
    Ok(Some(match address {
        Address::Other => return Ok(None),
        // a zone has a name that only the C library knows
        Address::Ip(SocketAddr::V6(v6)) if v6.scope_id() != 0 => return Ok(None),
        Address::Ip(SocketAddr::V4(v4)) => {
            Obj::tuple(&[&Obj::str(&v4.ip().to_string())?, &Obj::int(v4.port().into())?])?
        }
        Address::Ip(SocketAddr::V6(v6)) => Obj::tuple(&[
            &Obj::str(&v6.ip().to_string())?,
            &Obj::int(v6.port().into())?,
            &Obj::int(v6.flowinfo().into())?,
            &Obj::int(v6.scope_id().into())?,
        ])?,
        Address::Unix(name) if name.first() == Some(&0) => bytes::new(name)?,
        Address::Unix(name) => bytes::new(name)?.call_method_str(
            "decode",
            &[
                &Obj::import("sys")?.call_method_str("getfilesystemencoding", &[])?,
                &Obj::str("surrogateescape")?,
            ],
        )?,
    }))
}
