//! Reads of our own memory that cannot fault: what is not mapped is an answer and no signal.
//!
//! Owns the two ways to do it. For threads that look at what another thread is changing at that moment: an address
//! that was right a microsecond ago may lead nowhere now.
//! Must never be taken for a proof that what was read is what it should be: memory that has been given to somebody else
//! reads as well as any. Whoever interprets it has to check.
//!
//! * `process_vm_readv(2)` on ourselves, for which the kernel asks for no right (it is our own address space), even in a
//!   process that is not dumpable. One system call reads up to [`BATCH`] pieces.
//! * Where a filter of system calls forbids that: `write(2)` from the address into a pipe, which fails as honestly, and
//!   `read(2)` out of it. A few system calls for each page.
#![allow(
    unsafe_code,
    reason = "the kernel is handed addresses that nobody answers for"
)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{read as read_descriptor, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};

/// How many pieces one system call reads: the kernel's `UIO_MAXIOV`.
pub const BATCH: usize = 1024;
/// What a pipe takes at once, whatever its size.
const PAGE: usize = 4096;

/// What is to be read.
#[derive(Debug)]
pub struct Piece<'a> {
    /// From where.
    pub address: usize,
    /// To where; its length says how much.
    pub into: &'a mut [u8],
    /// Has all of it been read? If not, what `into` holds is of no meaning.
    pub whole: bool,
}

impl<'a> Piece<'a> {
    /// Still to be read.
    pub fn new(address: usize, into: &'a mut [u8]) -> Self {
        Self {
            address,
            into,
            whole: false,
        }
    }
}

/// How memory is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By `process_vm_readv`.
    Vectors,
    /// By a pipe.
    Pipe,
}

/// `process_vm_readv` has been refused. It stays so: filters of system calls are never lifted.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// The way that works here, as far as is known.
#[must_use]
pub fn way() -> Way {
    if REFUSED.load(Ordering::Relaxed) {
        Way::Pipe
    } else {
        Way::Vectors
    }
}

/// Reads `into.len()` bytes at `address`. `false`: not all of them can be read.
#[must_use]
pub fn read(address: usize, into: &mut [u8]) -> bool {
    let mut pieces = [Piece::new(address, into)];
    read_all(&mut pieces);
    pieces[0].whole
}

/// The `N` bytes at `address`.
#[must_use]
pub fn array<const N: usize>(address: usize) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    read(address, &mut bytes).then_some(bytes)
}

/// The word at `address`: a pointer or a size.
#[must_use]
pub fn word(address: usize) -> Option<usize> {
    array(address).map(usize::from_ne_bytes)
}

/// Reads all pieces, each for itself: one that cannot be read keeps no other from it.
pub fn read_all(pieces: &mut [Piece]) {
    read_all_by(way(), pieces);
}

/// As [`read_all`], in a way of the caller's choice.
pub fn read_all_by(way: Way, pieces: &mut [Piece]) {
    if way == Way::Pipe {
        return read_by_pipe(pieces);
    }
    let mut rest = pieces;
    while !rest.is_empty() {
        let count = rest.len().min(BATCH);
        let Some(mut bytes) = read_by_vectors(&mut rest[..count]) else {
            REFUSED.store(true, Ordering::Relaxed);
            return read_by_pipe(rest);
        };
        let mut done = 0;
        for piece in &mut rest[..count] {
            piece.whole = piece.into.len() <= bytes;
            done += 1;
            if !piece.whole {
                break; // the kernel stops at the first that it cannot read; what follows is for the next call
            }
            bytes -= piece.into.len();
        }
        rest = &mut rest[done..];
    }
}

/// How many bytes were read before the first that could not be. `None`: we may not.
fn read_by_vectors(pieces: &mut [Piece]) -> Option<usize> {
    const NOTHING: libc::iovec = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let (mut few_here, mut few_there) = ([NOTHING; 8], [NOTHING; 8]);
    let (mut many_here, mut many_there) = (Vec::new(), Vec::new());
    let (here, there): (&mut [libc::iovec], &mut [libc::iovec]) = if pieces.len() <= few_here.len() {
        (&mut few_here, &mut few_there)
    } else {
        many_here.resize(pieces.len(), NOTHING);
        many_there.resize(pieces.len(), NOTHING);
        (&mut many_here, &mut many_there)
    };
    for ((piece, here), there) in pieces.iter_mut().zip(here.iter_mut()).zip(there.iter_mut()) {
        here.iov_base = piece.into.as_mut_ptr().cast();
        there.iov_base = piece.address as *mut libc::c_void;
        (here.iov_len, there.iov_len) = (piece.into.len(), piece.into.len());
    }
    // SAFETY: the local vectors are the callers' buffers, exclusively borrowed; the kernel checks the remote ones.
    let bytes = unsafe {
        libc::process_vm_readv(
            libc::getpid(),
            here.as_ptr(),
            pieces.len() as libc::c_ulong,
            there.as_ptr(),
            pieces.len() as libc::c_ulong,
            0,
        )
    };
    if let Ok(bytes) = usize::try_from(bytes) {
        return Some(bytes);
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS | libc::EACCES) => None,
        _ => Some(0),
    }
}

/// A pipe of this call's own: nobody else's bytes are in it, not even after a `fork`.
fn read_by_pipe(pieces: &mut [Piece]) {
    let Ok((reader, writer)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
        return;
    };
    for piece in pieces {
        let mut address = piece.address;
        piece.whole = piece.into.chunks_mut(PAGE).all(|chunk| {
            let read = through_pipe(&reader, &writer, address, chunk);
            address = address.wrapping_add(chunk.len());
            read
        });
    }
}

fn through_pipe(reader: &OwnedFd, writer: &OwnedFd, address: usize, into: &mut [u8]) -> bool {
    // SAFETY: the kernel checks the address, and reads at most a page from it.
    let written = unsafe { libc::write(writer.as_raw_fd(), address as *const libc::c_void, into.len()) };
    let Ok(mut left) = usize::try_from(written) else {
        return false;
    };
    let whole = left == into.len();
    let mut at = 0;
    while left > 0 {
        match retry_on_intr(|| read_descriptor(reader, &mut into[at..at + left])) {
            Ok(count) if count > 0 => {
                at += count;
                left -= count;
            }
            _ => return false,
        }
    }
    whole
}
