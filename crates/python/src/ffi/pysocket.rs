//! `socket.socket` objects: what lies behind one, in a few loads, and when we may do ourselves what a method of it does.
//!
//! A program may close the socket that it gave us, and the number may be another file's by then: so the
//! number is asked for each time it is used. `sock.fileno()` would be a method call.

use super::errors::{R, runtime_error};
use super::object::{Obj, Static};
use crate::imports::{self, names};
use pyo3::ffi as c;
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// `_socket.socket`
static BASE: Static = Static::new();

/// The beginning of CPython's `PySocketSockObject`.
#[repr(C)]
struct Head {
    head: c::PyObject,
    fd: c_int,
    family: c_int,
    kind: c_int,
    proto: c_int,
    error_handler: *mut c_void,
    /// In nanoseconds. 0: it does not block; negative: it may for ever.
    timeout: i64,
}

/// A method of `socket.socket`: its name, and what the class had there at first.
pub(crate) struct Method {
    name: &'static Static,
    original: Static,
    /// The version of the class in which it has been seen there; 0: of none.
    seen: AtomicU32,
}

impl Method {
    const fn named(name: &'static Static) -> Method {
        Method {
            name,
            original: Static::new(),
            seen: AtomicU32::new(0),
        }
    }

    /// Has nobody put something else into the class? (Instances of it have no attributes of their own.)
    ///
    /// A class has a version number as long as neither it nor a base is changed, and never the same one again.
    #[inline]
    fn is_original(&self) -> bool {
        // SAFETY: a class, alive for ever; the field is read under the GIL.
        let version = unsafe { (*imports::SOCKET.as_ptr().cast::<c::PyTypeObject>()).tp_version_tag };
        (version != 0 && version == self.seen.load(Relaxed)) || self.is_found()
    }

    #[cold]
    fn is_found(&self) -> bool {
        unsafe extern "C" {
            fn _PyType_Lookup(class: *mut c::PyTypeObject, name: *mut c::PyObject) -> *mut c::PyObject;
        }
        // SAFETY: a class and a name; the look-up gives a borrowed pointer, which is only compared. It gives the class
        // a version if it has none.
        unsafe {
            let class = imports::SOCKET.as_ptr().cast::<c::PyTypeObject>();
            let found =
                self.original.filled() && _PyType_Lookup(class, self.name.as_ptr()) == self.original.as_ptr();
            if found {
                self.seen.store((*class).tp_version_tag, Relaxed);
            }
            found
        }
    }
}

pub(crate) static ACCEPT: Method = Method::named(&names::ACCEPT);
pub(crate) static CONNECT: Method = Method::named(&names::CONNECT);
pub(crate) static GETSOCKOPT: Method = Method::named(&names::GETSOCKOPT);
static INIT: Method = Method::named(&names::DUNDER_INIT);
static SETBLOCKING: Method = Method::named(&names::SETBLOCKING);
pub(crate) static RECV: Method = Method::named(&names::RECV);
pub(crate) static RECV_INTO: Method = Method::named(&names::RECV_INTO);
pub(crate) static RECVFROM: Method = Method::named(&names::RECVFROM);
pub(crate) static RECVFROM_INTO: Method = Method::named(&names::RECVFROM_INTO);
pub(crate) static SEND: Method = Method::named(&names::SEND);
pub(crate) static SENDTO: Method = Method::named(&names::SENDTO);

/// Would a program that makes a socket and connects it get a `socket.socket`, and nothing else happen than the system
/// calls? Then nobody can tell whether the object is there before somebody asks for it.
pub(crate) fn is_untouched() -> R<bool> {
    Ok(imports::SOCKET_MODULE
        .getattr(&names::SOCKET)?
        .is(&imports::SOCKET)
        && [&INIT, &SETBLOCKING, &CONNECT, &GETSOCKOPT]
            .iter()
            .all(|method| method.is_original())
        && !super::audit::is_heard())
}

/// What a socket is, and its descriptor (-1 if it is closed).
#[derive(Clone, Copy)]
pub(crate) struct Plain {
    pub(crate) fd: RawFd,
    pub(crate) family: i32,
    pub(crate) kind: i32,
    pub(crate) proto: i32,
}

impl Plain {
    /// `socket`, if it is a non-blocking `socket.socket` and nothing derived from it, whose `method` is the one that it
    /// came with. Then a system call does what the method does.
    #[inline]
    pub(crate) fn with(socket: &Obj, method: &Method) -> Option<Plain> {
        if !socket.is_exactly(&imports::SOCKET) || !method.is_original() {
            return None;
        }
        // SAFETY: alive, and of a class whose layout `init` has checked.
        unsafe {
            let head = &*socket.as_ptr().cast::<Head>();
            if head.timeout != 0 {
                return None;
            }
            Some(Plain {
                fd: head.fd,
                family: head.family,
                kind: head.kind,
                proto: head.proto,
            })
        }
    }

    /// Is it of a family whose addresses we can write down?
    pub(crate) fn has_known_addresses(&self) -> bool {
        matches!(self.family, libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX)
    }

    /// A non-blocking `socket.socket` for this descriptor, which it owns if that succeeds.
    pub(crate) fn object(&self) -> R<Obj> {
        imports::SOCKET.call(&[
            &Obj::int(self.family.into())?,
            &Obj::int((self.kind | libc::SOCK_NONBLOCK).into())?,
            &Obj::int(self.proto.into())?,
            &Obj::int(self.fd.into())?,
        ])
    }
}

/// Checks that a socket is what we take it for.
pub(crate) fn init() -> R<()> {
    BASE.fill(Obj::import("_socket")?.getattr_str("socket")?);
    let probe = imports::SOCKET.call0()?;
    let settled = check_layout(&probe);
    probe.call_method_str("close", &[])?;
    if !settled? || fd(&probe) != Some(-1) {
        return Err(runtime_error("this Python's sockets are laid out differently"));
    }
    for method in [
        &ACCEPT,
        &CONNECT,
        &GETSOCKOPT,
        &INIT,
        &SETBLOCKING,
        &RECV,
        &RECV_INTO,
        &RECVFROM,
        &RECVFROM_INTO,
        &SEND,
        &SENDTO,
    ] {
        method.original.fill(imports::SOCKET.getattr(method.name)?);
    }
    Ok(())
}

fn check_layout(probe: &Obj) -> R<bool> {
    if fd(probe).is_none() {
        return Ok(false);
    }
    // SAFETY: of the class; every field that is read lies within its size, and is compared with what Python says.
    let head = || unsafe { std::ptr::read(probe.as_ptr().cast::<Head>()) };
    let size = BASE.getattr_str("__basicsize__")?.to_i64()?;
    if (size as usize) < size_of::<Head>() {
        return Ok(false);
    }
    for (name, value) in [
        ("family", head().family),
        ("type", head().kind),
        ("proto", head().proto),
    ] {
        if probe.getattr_str(name)?.to_i64()? != i64::from(value) {
            return Ok(false);
        }
    }
    if probe.call_method_str("fileno", &[])?.to_i64()? != i64::from(head().fd) {
        return Ok(false);
    }
    for (seconds, timeout) in [(Obj::float(1.5)?, 1_500_000_000), (Obj::int(0)?, 0)] {
        probe.call_method_str("settimeout", &[&seconds])?;
        if head().timeout != timeout {
            return Ok(false);
        }
    }
    probe.call_method_str("settimeout", &[&Obj::none()])?;
    Ok(head().timeout < 0)
}

/// The descriptor, or -1 if the socket is closed. `None`: it is not a real socket.
#[inline]
pub(crate) fn fd(socket: &Obj) -> Option<i32> {
    // SAFETY: alive; the class is checked before its layout is used.
    unsafe {
        let class = c::Py_TYPE(socket.as_ptr());
        if c::PyType_IsSubtype(class, BASE.get().as_ptr().cast()) == 0 {
            return None;
        }
        Some((*socket.as_ptr().cast::<Head>()).fd)
    }
}
