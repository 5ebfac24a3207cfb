//! `sys.audit`: the events that the socket module raises, where we take its place; and listening to those of others.

use super::errors::{R, Raised, runtime_error};
use super::object::{Obj, check};
use crate::diag::dev;
use pyo3::ffi as c;
use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// `sys.audit(event, socket, address)`
pub(crate) fn socket_event(event: &CStr, socket: &Obj, address: &Obj) -> R<()> {
    // SAFETY: alive; the format takes two objects.
    let audit = || unsafe { PySys_Audit(event.as_ptr(), c"OO".as_ptr(), socket.as_ptr(), address.as_ptr()) };
    check(dev::ours(audit))
}

/// `sys.audit("socket.getaddrinfo", host, port, family, type, proto)`
pub(crate) fn look_up(host: &Obj, port: &Obj, [family, kind, protocol]: [c_int; 3]) -> R<()> {
    // SAFETY: alive; the format takes two objects and three ints.
    let audit = || unsafe {
        PySys_Audit(
            c"socket.getaddrinfo".as_ptr(),
            c"OOiii".as_ptr(),
            host.as_ptr(),
            port.as_ptr(),
            family,
            kind,
            protocol,
        )
    };
    check(dev::ours(audit))
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

/// Who listens.
static LISTENER: std::sync::OnceLock<fn(&CStr, &Obj)> = std::sync::OnceLock::new();

/// Calls `listener` with each event and its arguments (a tuple), on the thread that raises it. It cannot be taken back.
pub(crate) fn listen(listener: fn(&CStr, &Obj)) -> R<()> {
    unsafe extern "C" fn hook(event: *const c_char, arguments: *mut c::PyObject, _: *mut c_void) -> c_int {
        if let Some(listener) = LISTENER.get()
            && !arguments.is_null()
        {
            // SAFETY: the interpreter calls with the GIL held, a text, and a tuple that lives for the call.
            unsafe { listener(CStr::from_ptr(event), Obj::view(&arguments)) };
        }
        0
    }
    unsafe extern "C" {
        fn PySys_AddAuditHook(
            hook: unsafe extern "C" fn(*const c_char, *mut c::PyObject, *mut c_void) -> c_int,
            data: *mut c_void,
        ) -> c_int;
    }
    if LISTENER.set(listener).is_err() {
        return Ok(());
    }
    // SAFETY: the function lives as long as the process.
    check(unsafe { PySys_AddAuditHook(hook, std::ptr::null_mut()) })
}
