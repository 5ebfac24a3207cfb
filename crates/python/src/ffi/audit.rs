//! `sys.audit`: the events that the socket module raises, where we take its place.

use super::errors::{R, Raised, runtime_error};
use super::object::{Obj, check};
use pyo3::ffi as c;
use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// `sys.audit(event, socket, address)`
pub(crate) fn socket_event(event: &CStr, socket: &Obj, address: &Obj) -> R<()> {
    // SAFETY: alive; the format takes two objects.
    check(unsafe { PySys_Audit(event.as_ptr(), c"OO".as_ptr(), socket.as_ptr(), address.as_ptr()) })
}

/// `sys.audit("socket.getaddrinfo", host, port, family, type, proto)`
pub(crate) fn look_up(host: &Obj, port: &Obj, [family, kind, protocol]: [c_int; 3]) -> R<()> {
    // SAFETY: alive; the format takes two objects and three ints.
    check(unsafe {
        PySys_Audit(
            c"socket.getaddrinfo".as_ptr(),
            c"OOiii".as_ptr(),
            host.as_ptr(),
            port.as_ptr(),
            family,
            kind,
            protocol,
        )
    })
}

/// Does anybody listen? Then there must be objects to tell of.
///
/// The arguments of an event are made only if there is a hook. These cannot be made, so no hook ever hears of it.
pub(crate) fn is_heard() -> bool {
    unsafe extern "C" fn refuse(_: *mut c_void) -> *mut c::PyObject {
        runtime_error("not an event").leave();
        std::ptr::null_mut()
    }
    // SAFETY: the format takes a function that makes an object, and what it is called with.
    let result = unsafe {
        PySys_Audit(
            c"socket.connect".as_ptr(),
            c"O&".as_ptr(),
            refuse as unsafe extern "C" fn(*mut c_void) -> *mut c::PyObject,
            std::ptr::null_mut::<c_void>(),
        )
    };
    check(result).map_err(Raised::ignore).is_err()
}
