//! The library that `_ssl` is linked with, and the classes whose layouts we know.

use crate::ffi::errors::{R, Raised, exc};
use crate::ffi::object::{Obj, Static};
use crate::version;
use pyo3::ffi as c;
use std::ffi::{CStr, CString, c_int, c_ulong, c_void};
use std::mem::{size_of, transmute_copy};
use std::sync::OnceLock;

/// `SSL`
#[repr(C)]
pub(super) struct Ssl([u8; 0]);
/// `SSL_CTX`
#[repr(C)]
pub(super) struct Context([u8; 0]);
/// `BIO`
#[repr(C)]
pub(super) struct Bio([u8; 0]);

static SOCKET: Static = Static::new();
static CONTEXT: Static = Static::new();
static BIO: Static = Static::new();
/// `_SSLContext._msg_callback`
static CALLBACK: Static = Static::new();

/// What we call. Each of them is part of OpenSSL's documented interface since 1.1.1.
pub(super) struct Library {
    pub(super) ssl_read: unsafe extern "C" fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int,
    pub(super) ssl_write: unsafe extern "C" fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int,
    pub(super) ssl_error: unsafe extern "C" fn(*const Ssl, c_int) -> c_int,
    pub(super) ssl_context: unsafe extern "C" fn(*const Ssl) -> *mut Context,
    pub(super) ssl_incoming: unsafe extern "C" fn(*const Ssl) -> *mut Bio,
    pub(super) ssl_outgoing: unsafe extern "C" fn(*const Ssl) -> *mut Bio,
    pub(super) bio_read: unsafe extern "C" fn(*mut Bio, *mut c_void, c_int) -> c_int,
    pub(super) bio_write: unsafe extern "C" fn(*mut Bio, *const c_void, c_int) -> c_int,
    pub(super) bio_pending: unsafe extern "C" fn(*mut Bio) -> usize,
}

static LIBRARY: OnceLock<Library> = OnceLock::new();

/// The library, if everything was found.
#[inline]
pub(super) fn get() -> Option<&'static Library> {
    LIBRARY.get()
}

/// Looks for it. That it is not found is no error.
pub(super) fn init() -> R<()> {
    // (a free-threaded Python has no GIL that would keep others away)
    let known = (0x03_0b00..0x03_1000).contains(&version::hex()) && !cfg!(Py_GIL_DISABLED);
    if !known || std::env::var_os("AIOXIDE_TLS").is_some_and(|wanted| wanted == "portable") {
        return Ok(());
    }
    match find() {
        Ok(Some(library)) => {
            let _ = LIBRARY.set(library);
            Ok(())
        }
        Ok(None) => Ok(()),
        // (another implementation of the module, without what was asked for)
        Err(raised) if raised.matches(exc::attribute_error()) => {
            raised.ignore();
            Ok(())
        }
        Err(raised) => Err(raised),
    }
}

fn find() -> R<Option<Library>> {
    let module = Obj::import("_ssl")?;
    // (LibreSSL and AWS-LC have the functions, too, but not all of their behaviour)
    if !module
        .getattr_str("OPENSSL_VERSION")?
        .to_string()?
        .starts_with("OpenSSL ")
    {
        return Ok(None);
    }
    let Some(file) = module.getattr_opt(&Obj::interned("__file__")?)? else {
        return Ok(None);
    };
    let Ok(file) = CString::new(file.to_string()?) else {
        return Ok(None);
    };
    let number = module.getattr_str("OPENSSL_VERSION_NUMBER")?.to_i64()?;
    let Some(library) = open(&file, number) else {
        return Ok(None);
    };
    let classes = [
        (&SOCKET, "_SSLSocket", size_of::<super::SocketHead>()),
        (&CONTEXT, "_SSLContext", size_of::<super::ContextHead>()),
        (&BIO, "MemoryBIO", size_of::<super::BioHead>()),
    ];
    for (place, name, least) in classes {
        let class = module.getattr_str(name)?;
        if class.getattr_str("__basicsize__")?.to_i64()? < least as i64 {
            return Ok(None);
        }
        place.fill(class);
    }
    CALLBACK.fill(CONTEXT.getattr_str("_msg_callback")?);
    Ok(Some(library))
}

/// The functions as that extension module sees them: in the libraries that it was linked with, and nowhere else.
fn open(module: &CStr, version: i64) -> Option<Library> {
    // SAFETY: a path; it is loaded already (`RTLD_NOLOAD`), and never unloaded.
    let handle = unsafe { libc::dlopen(module.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_NOW) };
    if handle.is_null() {
        return None;
    }
    // SAFETY: each of OpenSSL's functions has the type of its field, see its manual.
    unsafe {
        let number: unsafe extern "C" fn() -> c_ulong = symbol(handle, c"OpenSSL_version_num")?;
        if i64::try_from(number()) != Ok(version) {
            return None;
        }
        Some(Library {
            ssl_read: symbol(handle, c"SSL_read_ex")?,
            ssl_write: symbol(handle, c"SSL_write_ex")?,
            ssl_error: symbol(handle, c"SSL_get_error")?,
            ssl_context: symbol(handle, c"SSL_get_SSL_CTX")?,
            ssl_incoming: symbol(handle, c"SSL_get_rbio")?,
            ssl_outgoing: symbol(handle, c"SSL_get_wbio")?,
            bio_read: symbol(handle, c"BIO_read")?,
            bio_write: symbol(handle, c"BIO_write")?,
            bio_pending: symbol(handle, c"BIO_ctrl_pending")?,
        })
    }
}

/// # Safety
/// `F` is a function pointer of the type that the symbol has.
unsafe fn symbol<F: Copy>(handle: *mut c_void, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: an open handle and a name.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    // SAFETY: not null, and the caller's promise.
    (!address.is_null()).then(|| unsafe { transmute_copy(&address) })
}

impl Library {
    /// Is it exactly an `_ssl._SSLSocket`?
    pub(super) fn is_socket(&self, object: &Obj) -> bool {
        object.is_exactly(&SOCKET)
    }
    /// Is it exactly a `MemoryBIO`?
    pub(super) fn is_bio(&self, object: &Obj) -> bool {
        object.is_exactly(&BIO)
    }
    /// Is it an `_ssl._SSLContext`?
    pub(super) fn is_context(&self, object: &Obj) -> bool {
        // SAFETY: both alive.
        unsafe { c::PyType_IsSubtype(c::Py_TYPE(object.as_ptr()), CONTEXT.as_ptr().cast()) != 0 }
    }
    /// Does the program want to hear of every message? What its function raises is kept for the next method of Python's
    /// object, so there has to be one.
    pub(super) fn calls_back(&self, context: &Obj) -> bool {
        match CALLBACK.call_method_str("__get__", &[context]) {
            Ok(callback) => !callback.is_none(),
            Err(raised) => {
                Raised::ignore(raised);
                true
            }
        }
    }
}
