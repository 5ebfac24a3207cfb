//! OpenSSL itself, behind the objects of Python's `ssl`: the data of a connection without a Python call.
//!
//! An `_ssl._SSLSocket` between two `MemoryBIO`s is a `SSL *` between two `BIO *`. What Python makes of them stays its own
//! business: contexts, handshakes, shutdowns, sessions, and every exception. Only reading and writing in between is
//! ours.
//!
//! Rules
//! 1. Nothing is touched before it is proven: the Python version is one whose layouts are known, the library is the
//!    one that `_ssl` itself is linked with (`library.rs`), and OpenSSL's own answers lead from one pointer to the
//!    other (`Connection::prove`). What cannot be proven is left to Python's objects.
//! 2. Nobody else is inside of the object: whoever has called one of its methods, in another thread or below us, holds a
//!    reference to it while that runs, so the number of references tells.
//! 3. What is no data and no "again" is not looked at. OpenSSL's queue of errors stays as it is, the connection stays in
//!    the state of error, and the caller asks Python's object, which finds the same and raises what it always does.

mod library;

use super::bytes::{Buffer, Bytes};
use super::cells::Slot;
use super::class::{Own, Visitor};
use super::errors::R;
use super::object::Obj;
use super::window::Window;
use library::{Bio, Context, Library, Ssl};
use pyo3::ffi as c;
use std::cell::Cell;
use std::ffi::c_int;
use std::ops::Range;

/// The beginning of CPython's `PySSLSocket`, from 3.11 to 3.15.
#[repr(C)]
struct SocketHead {
    head: c::PyObject,
    /// A weak reference to a socket; null between BIOs.
    socket: *mut c::PyObject,
    ssl: *mut Ssl,
    /// A `PySSLContext`, which the program may replace.
    context: *mut c::PyObject,
}

/// The beginning of its `PySSLContext`.
#[repr(C)]
struct ContextHead {
    head: c::PyObject,
    context: *mut Context,
}

/// Its `PySSLMemoryBIO`.
#[repr(C)]
struct BioHead {
    head: c::PyObject,
    bio: *mut Bio,
    eof_written: c_int,
}

const SSL_ERROR_WANT_READ: c_int = 2;

/// Finds the library. Without one every connection is left to Python's objects.
pub(crate) fn init() -> R<()> {
    library::init()
}

/// Python's objects of one connection.
#[derive(Default)]
pub(crate) struct Connection {
    /// The `_ssl._SSLSocket`, or whatever has its methods.
    pub(crate) object: Slot,
    /// The `MemoryBIO`s, or what has their methods.
    pub(crate) incoming: Slot,
    pub(crate) outgoing: Slot,
    proof: Cell<Proof>,
    /// One of our own calls is running, and may have called Python.
    busy: Cell<bool>,
}

/// Rule 1.
#[derive(Clone, Copy, Default)]
enum Proof {
    /// Nobody has looked.
    #[default]
    Open,
    /// It is what we take it for.
    Made(Pointers),
    /// It is not.
    Failed,
}

/// What was proven. All of it lives as long as the `_ssl._SSLSocket`, which owns the `SSL`, which owns the `BIO`s.
#[derive(Clone, Copy)]
struct Pointers {
    ssl: *mut Ssl,
    incoming: *mut Bio,
    outgoing: *mut Bio,
    /// The `PySSLContext` that was looked at.
    context: *mut c::PyObject,
}

impl Connection {
    /// Something has been put into one of the slots.
    pub(crate) fn changed(&self) {
        self.proof.set(Proof::Open);
    }

    /// What lies behind the objects, if that is known and nobody else uses it: rules 1 and 2.
    #[inline]
    pub(crate) fn direct(&self) -> Option<Direct<'_>> {
        let library = library::get()?;
        let pointers = match self.proof.get() {
            Proof::Made(pointers) => pointers,
            Proof::Failed => return None,
            Proof::Open => self.prove(library)?,
        };
        let object = self.object.get()?;
        // SAFETY: `changed` is called for every other object, so this is the one that was proven.
        let context = unsafe { (*object.as_ptr().cast::<SocketHead>()).context };
        if context != pointers.context {
            self.changed();
            self.prove(library)?;
        }
        // one reference is ours, one the program's `ssl.SSLObject`'s, one the copy made above. (Are there fewer, then the
        // program has taken it out of the `SSLObject`, and the third may be anybody's.)
        if object.refcount() != 3 || self.busy.replace(true) {
            return None;
        }
        Some(Direct {
            connection: self,
            library,
            pointers,
            _object: object,
        })
    }

    #[cold]
    fn prove(&self, library: &Library) -> Option<Pointers> {
        let proven = self.find(library);
        self.proof.set(match proven {
            Some(pointers) => Proof::Made(pointers),
            None => Proof::Failed,
        });
        proven
    }

    fn find(&self, library: &Library) -> Option<Pointers> {
        let (object, incoming, outgoing) = (self.object.get()?, self.incoming.get()?, self.outgoing.get()?);
        if !library.is_socket(&object) || !library.is_bio(&incoming) || !library.is_bio(&outgoing) {
            return None;
        }
        // SAFETY: exactly of these classes, whose layouts `library::init` has found to be known.
        let (head, incoming, outgoing) = unsafe {
            (
                object.as_ptr().cast::<SocketHead>().read(),
                object_bio(&incoming)?,
                object_bio(&outgoing)?,
            )
        };
        if !head.socket.is_null() || head.ssl.is_null() || head.context.is_null() {
            return None;
        }
        // SAFETY: not null, and the object's own.
        let context = unsafe { Obj::borrowed_unchecked(head.context) };
        if !library.is_context(&context) || library.calls_back(&context) {
            return None;
        }
        // SAFETY: of the class or derived from it.
        let theirs = unsafe { (*context.as_ptr().cast::<ContextHead>()).context };
        // SAFETY: the object's `SSL`, and functions that only look.
        let fits = unsafe {
            (library.ssl_context)(head.ssl) == theirs
                && (library.ssl_incoming)(head.ssl) == incoming
                && (library.ssl_outgoing)(head.ssl) == outgoing
        };
        fits.then_some(Pointers {
            ssl: head.ssl,
            incoming,
            outgoing,
            context: head.context,
        })
    }

    /// For the garbage collector.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        for slot in [&self.object, &self.incoming, &self.outgoing] {
            slot.visit(visitor);
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        self.changed();
        for slot in [&self.object, &self.incoming, &self.outgoing] {
            slot.put(None);
        }
    }
}

/// The `BIO` of a `MemoryBIO` to which nobody has written an end.
///
/// # Safety
/// `bio` is one, laid out as we know it.
unsafe fn object_bio(bio: &Obj) -> Option<*mut Bio> {
    // SAFETY: the caller's promise.
    let head = unsafe { bio.as_ptr().cast::<BioHead>().read() };
    (!head.bio.is_null() && head.eof_written == 0).then_some(head.bio)
}

/// What has come of reading.
#[must_use]
pub(crate) enum Taken {
    /// So many bytes, at least one.
    Some(usize),
    /// More has to come from below.
    Again,
    /// Python's object knows what: rule 3.
    Other,
}

/// The connection, while we use it.
///
/// All calls are made with the GIL held, and without the lock that some versions of `_ssl` have in an object for those of its
/// methods that give up the GIL: rule 2 has excluded that one is running, and none can begin before the call returns,
/// except from a callback of OpenSSL's to Python below it. That one finds us busy.
pub(crate) struct Direct<'a> {
    connection: &'a Connection,
    library: &'static Library,
    pointers: Pointers,
    /// Keeps everything alive.
    _object: Obj,
}

impl Direct<'_> {
    /// Bytes from below. `false`: there is no memory for them, and nothing was taken.
    #[inline]
    pub(crate) fn feed(&self, window: &Own<Window>, part: Range<usize>) -> bool {
        let (data, size) = window.address(part);
        let Ok(size) = c_int::try_from(size) else {
            return false;
        };
        // SAFETY: proven and alive; so many bytes of the window, which are copied.
        size == 0 || unsafe { (self.library.bio_write)(self.pointers.incoming, data.cast(), size) } == size
    }

    /// How many bytes from below wait to be decrypted.
    #[inline]
    pub(crate) fn incoming_size(&self) -> usize {
        // SAFETY: proven and alive.
        unsafe { (self.library.bio_pending)(self.pointers.incoming) }
    }

    /// How many bytes wait for the transport below.
    #[inline]
    pub(crate) fn outgoing_size(&self) -> usize {
        // SAFETY: proven and alive.
        unsafe { (self.library.bio_pending)(self.pointers.outgoing) }
    }

    /// Decrypts into a part of a window.
    #[inline]
    pub(crate) fn read(&self, window: &Own<Window>, part: Range<usize>) -> Taken {
        let (place, room) = window.address(part);
        // SAFETY: so many bytes of the window, which the caller keeps alive.
        unsafe { self.read_to(place, room) }
    }

    /// Decrypts into a buffer, from `start` on.
    #[inline]
    pub(crate) fn read_into(&self, buffer: &mut Buffer, start: usize) -> Taken {
        let (place, room) = buffer.begin_mut();
        if start > room {
            return Taken::Other;
        }
        // SAFETY: the part of the buffer behind `start`, which the view keeps in place.
        unsafe { self.read_to(place.add(start), room - start) }
    }

    /// # Safety
    /// `place` has room for so many bytes until this returns, whatever Python code runs meanwhile.
    #[inline]
    unsafe fn read_to(&self, place: *mut u8, room: usize) -> Taken {
        if room == 0 {
            return Taken::Other;
        }
        let mut count = 0;
        // SAFETY: proven and alive; the caller's promise.
        let result =
            unsafe { (self.library.ssl_read)(self.pointers.ssl, place.cast(), room, &raw mut count) };
        if result > 0 {
            return Taken::Some(count);
        }
        // SAFETY: proven and alive; the result of the last call.
        match unsafe { (self.library.ssl_error)(self.pointers.ssl, result) } {
            SSL_ERROR_WANT_READ => Taken::Again,
            _ => Taken::Other,
        }
    }

    /// Encrypts a part of some bytes: how many. 0: Python's object knows why, or takes them (rule 3).
    #[inline]
    pub(crate) fn write(&self, data: &Bytes, part: Range<usize>) -> usize {
        match data.as_slice().get(part) {
            // SAFETY: the bytes are immutable, and the caller keeps them alive.
            Some(data) => unsafe { self.write_from(data.as_ptr(), data.len()) },
            None => 0,
        }
    }

    /// The same of somebody's buffer.
    #[inline]
    pub(crate) fn write_view(&self, view: &Buffer) -> usize {
        let (data, size) = view.begin();
        // SAFETY: the view keeps the buffer in place.
        unsafe { self.write_from(data, size) }
    }

    /// The same of a part of a window.
    #[inline]
    pub(crate) fn write_part(&self, window: &Own<Window>, part: Range<usize>) -> usize {
        let (data, size) = window.address(part);
        // SAFETY: so many bytes of the window, which the caller keeps alive.
        unsafe { self.write_from(data, size) }
    }

    /// # Safety
    /// `data` points to so many bytes until this returns.
    #[inline]
    unsafe fn write_from(&self, data: *const u8, size: usize) -> usize {
        if size == 0 {
            return 0;
        }
        let mut count = 0;
        // SAFETY: proven and alive; the caller's promise.
        let result =
            unsafe { (self.library.ssl_write)(self.pointers.ssl, data.cast(), size, &raw mut count) };
        if result > 0 { count } else { 0 }
    }

    /// Takes bytes for the transport below out of the engine, as many as the window has room for.
    #[inline]
    pub(crate) fn drain(&self, window: &Own<Window>) -> usize {
        let (place, room) = window.address(0..window.size());
        let room = c_int::try_from(room).unwrap_or(c_int::MAX);
        // SAFETY: proven and alive; the whole window. Less than nothing: there is nothing.
        let count = unsafe { (self.library.bio_read)(self.pointers.outgoing, place.cast(), room) };
        usize::try_from(count).unwrap_or(0)
    }
}

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        self.connection.busy.set(false);
    }
}
