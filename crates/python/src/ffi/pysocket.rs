//! `socket.socket` objects: the descriptor behind one, in one load.
//!
//! A program may close the socket that it gave us, and the number may be another file's by then: so the
//! number is asked for each time it is used. `sock.fileno()` would be a method call.

use super::errors::{R, runtime_error};
use super::object::{Obj, Static};
use pyo3::ffi as c;

/// `_socket.socket`
static BASE: Static = Static::new();

/// The beginning of CPython's `PySocketSockObject`.
#[repr(C)]
struct Head {
    head: c::PyObject,
    fd: std::ffi::c_int,
}

/// Checks that a socket is what we take it for.
pub(crate) fn init() -> R<()> {
    BASE.fill(Obj::import("_socket")?.getattr_str("socket")?);
    let probe = Obj::import("socket")?.getattr_str("socket")?.call0()?;
    let number = probe.call_method_str("fileno", &[])?.to_i64()?;
    let before = fd(&probe);
    probe.call_method_str("close", &[])?;
    if before.map(i64::from) != Some(number) || fd(&probe) != Some(-1) {
        return Err(runtime_error("this Python's sockets are laid out differently"));
    }
    Ok(())
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
