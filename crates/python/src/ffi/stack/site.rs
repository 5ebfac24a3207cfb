//! A line of a program in eight bytes: what is kept of every cancellation, and in development of every task.
//!
//! It is a function's code object, by its address, and how far into it the function was. Taking it is a few loads: no
//! object is made, and none kept alive. What it means is found out when somebody asks, by reads that do not fault; if
//! the code object is no more by then, nothing is found, or (were another one made at its address) another function.
//!
//! Unlike the rest of [`super`] it follows pointers: those of its own thread, with the GIL, while nothing moves.

use super::{Frame, KNOWN, NATIVE_FILE, OWNER_NO_FUNCTION, Raw, Reader, untagged};
use crate::ffi::Obj;
use pyo3::ffi as c;

/// Bits for the offset, in code units.
const OFFSET_BITS: u32 = 16;
/// How many frames of the interpreter's own there may be above that of a function.
const MOST_SKIPPED: usize = 4;

/// The packed pair; 0: no line is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Site(u64);

impl Site {
    /// No line.
    pub(crate) const NOWHERE: Site = Site(0);

    /// Where this thread's innermost Python function is. With the GIL.
    #[inline]
    pub(crate) fn here() -> Site {
        let Some(Ok(known)) = KNOWN.get() else {
            return Site::NOWHERE;
        };
        let layout = &known.layout;
        // SAFETY: the state and the frames of the running thread, which stay as they are for as long as it is here;
        // `super::check` has seen that the offsets are right.
        unsafe {
            let word = |base: usize, offset: usize| *((base + offset) as *const usize);
            let mut frame = word(c::PyThreadState_Get().addr(), layout.thread_frame);
            if cfg!(not(Py_3_13)) {
                frame = word(frame, if cfg!(Py_3_12) { 0 } else { 8 });
            }
            for _ in 0..MOST_SKIPPED {
                if frame == 0 {
                    break;
                }
                if *((frame + layout.frame_owner) as *const u8) < OWNER_NO_FUNCTION {
                    let code = untagged(word(frame, layout.frame_code));
                    let start = code + layout.code_instructions;
                    let offset = word(frame, layout.frame_instruction).wrapping_sub(start) as isize >> 1;
                    // (up to 3.12 a new frame is one before its first code unit)
                    let offset = offset.clamp(0, (1 << OFFSET_BITS) - 1) as u64;
                    return Site((code as u64) << OFFSET_BITS | offset);
                }
                frame = word(frame, layout.frame_previous);
            }
        }
        Site::NOWHERE
    }

    /// Where a code object begins.
    pub(crate) fn beginning_of(code: &Obj) -> Site {
        Site((code.as_ptr().addr() as u64) << OFFSET_BITS)
    }

    /// What a reader has found where one was kept.
    pub(super) fn from_bytes(bytes: [u8; 8]) -> Site {
        Site(u64::from_ne_bytes(bytes))
    }

    /// The line, if its function is still there, and not one that we have put around a call for the sake of those who look
    /// up the stack. Any thread.
    pub(crate) fn resolve(self) -> Option<Frame> {
        if self == Site::NOWHERE {
            return None;
        }
        let mut reader = Reader::new()?;
        let code = (self.0 >> OFFSET_BITS) as usize;
        let offset = (self.0 & ((1 << OFFSET_BITS) - 1)) as usize;
        let frame = reader.frame(&Raw {
            at: 0,
            code,
            previous: 0,
            instruction: code + reader.known.layout.code_instructions + 2 * offset,
            stack_top: 0,
            owner: 0,
        })?;
        Some(frame).filter(|frame| !frame.file.starts_with(NATIVE_FILE))
    }
}
