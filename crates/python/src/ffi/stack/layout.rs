//! Where the fields lie that a reader of stacks follows, for the Python that we are built for.
//!
//! From 3.13 on the interpreter says it itself (`_Py_DebugOffsets`, at the head of `_PyRuntime`). What it leaves out,
//! and the whole of 3.11 and 3.12, is a table here; these structures do not change within a minor version. Either way
//! [`super::check`] tries it out before anybody relies on it.

use super::super::object::Obj;
use pyo3::ffi as c;

/// Offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// In the interpreter's state: the first thread's.
    pub(super) interpreter_threads: usize,
    /// … and where the pointer to its GIL is; on 3.11, in the runtime's state: where the GIL of all is.
    pub(super) gil: usize,
    /// In a thread's state.
    pub(super) thread_next: usize,
    pub(super) thread_interpreter: usize,
    pub(super) thread_ident: usize,
    pub(super) thread_native: usize,
    /// The current frame, or on 3.11 and 3.12 the place that has a pointer to it.
    pub(super) thread_frame: usize,
    /// In a frame.
    pub(super) frame_code: usize,
    pub(super) frame_previous: usize,
    pub(super) frame_instruction: usize,
    pub(super) frame_stack_top: usize,
    pub(super) frame_owner: usize,
    pub(super) frame_locals: usize,
    /// In a code object.
    pub(super) code_file: usize,
    pub(super) code_name: usize,
    pub(super) code_line_table: usize,
    pub(super) code_first_line: usize,
    pub(super) code_instructions: usize,
    /// In a generator or a coroutine; its frame is in the object itself.
    pub(super) generator_state: usize,
    pub(super) generator_frame: usize,
    /// In `str` and `bytes`.
    pub(super) text_length: usize,
    pub(super) text_state: usize,
    pub(super) text_ascii: usize,
    pub(super) bytes_data: usize,
}

/// In a code object: how many locals come before the stack of values. No version publishes it.
pub(super) const CODE_LOCALS: usize = if cfg!(Py_3_12) { 72 } else { 76 };
/// How far the characters of a `str` that is not ASCII are behind those of one that is.
pub(super) const TEXT_MORE: usize = if cfg!(Py_3_12) { 16 } else { 24 };
/// The first bit of `str`'s state that says its kind (bytes in a character); then come compact and ASCII.
pub(super) const TEXT_KIND: u32 = 2;
/// How much of a code object is read, of a frame, and of a text: no field that we look at is beyond.
pub(super) const CODE_SIZE: usize = 144;
pub(super) const FRAME_SIZE: usize = 80;
pub(super) const TEXT_SIZE: usize = 40;
/// A frame whose owner is this or higher is the interpreter's own, and no function's.
pub(super) const OWNER_NO_FUNCTION: u8 = 3;

/// In a GIL: who had it last.
const GIL_HOLDER: usize = 8;
/// Behind that: does he have it now?
pub(super) const GIL_LOCKED: usize = 8;

/// The address of the field that says who had the GIL last.
#[cfg(Py_3_12)]
pub(super) fn gil_of(layout: &Layout, interpreter: usize) -> Option<usize> {
    aioxide_core::memory::word(interpreter + layout.gil).map(|gil| gil + GIL_HOLDER)
}

/// The address of the field that says who had the GIL last. There is one for all interpreters, in the runtime's state.
#[cfg(not(Py_3_12))]
#[allow(clippy::unnecessary_wraps, reason = "other versions can fail")]
pub(super) fn gil_of(layout: &Layout, _: usize) -> Option<usize> {
    unsafe extern "C" {
        #[link_name = "_PyRuntime"]
        static RUNTIME: u8;
    }
    Some((&raw const RUNTIME).addr() + layout.gil + GIL_HOLDER)
}

/// The offsets, or why there are none.
pub(super) fn find() -> Result<Layout, String> {
    if cfg!(Py_GIL_DISABLED) {
        return Err("a free-threaded build lays its objects out differently".into());
    }
    if cfg!(not(target_pointer_width = "64")) {
        return Err("the layout of objects is known for 64 bits only".into());
    }
    let layout = known::find()?;
    let code = [
        layout.code_file,
        layout.code_name,
        layout.code_line_table,
        layout.code_first_line,
    ];
    let inside = code.iter().all(|at| at + 8 <= CODE_SIZE)
        && layout.frame_locals <= FRAME_SIZE
        && layout.text_state.max(layout.text_length) + 8 <= TEXT_SIZE;
    if inside {
        Ok(layout)
    } else {
        Err("this Python's objects are larger than expected".into())
    }
}

#[cfg(not(Py_3_13))]
mod known {
    use super::Layout;

    #[allow(clippy::unnecessary_wraps, reason = "other versions can fail")]
    pub(super) fn find() -> Result<Layout, String> {
        let is_312 = cfg!(Py_3_12);
        let of = |on_311, on_312| if is_312 { on_312 } else { on_311 };
        Ok(Layout {
            interpreter_threads: of(16, 72),
            gil: of(360, 384),
            thread_next: 8,
            thread_interpreter: 16,
            thread_ident: of(152, 136),
            thread_native: of(160, 144),
            thread_frame: 56,
            frame_code: of(32, 0),
            frame_previous: of(48, 8),
            frame_instruction: 56,
            frame_stack_top: 64,
            frame_owner: of(69, 70),
            frame_locals: 72,
            code_file: 112,
            code_name: 128,
            code_line_table: 136,
            code_first_line: of(72, 68),
            code_instructions: of(184, 192),
            generator_state: of(75, 67),
            generator_frame: of(80, 72),
            text_length: 16,
            text_state: 32,
            text_ascii: of(48, 40),
            bytes_data: 32,
        })
    }
}

#[cfg(Py_3_13)]
mod known {
    use super::Layout;

    const COOKIE: [u8; 8] = *b"xdebugpy";
    const INTERPRETER: usize = if cfg!(Py_3_14) { 16 } else { 13 };
    const THREAD: usize = if cfg!(Py_3_15) { 16 } else { 9 };
    const FRAME: usize = if cfg!(Py_3_14) { 8 } else { 6 };
    const CODE: usize = if cfg!(Py_3_14) { 11 } else { 10 };
    const TYPE: usize = if cfg!(Py_3_15) { 6 } else { 4 };
    const UNICODE: usize = if cfg!(Py_3_15) { 5 } else { 4 };
    const GC: usize = if cfg!(Py_3_15) { 5 } else { 2 };

    /// `_Py_DebugOffsets`, up to what we use. The first word of each group is a size.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct DebugOffsets {
        cookie: [u8; 8],
        version: u64,
        free_threaded: u64,
        runtime: [u64; 3],
        interpreter: [u64; INTERPRETER],
        thread: [u64; THREAD],
        #[cfg(Py_3_15)]
        exception_item: u64,
        frame: [u64; FRAME],
        code: [u64; CODE],
        object: [u64; 2],
        class: [u64; TYPE],
        #[cfg(Py_3_15)]
        heap_type: [u64; 2],
        tuple: [u64; 3],
        list: [u64; 3],
        #[cfg(Py_3_14)]
        set: [u64; 4],
        dict: [u64; 3],
        float: [u64; 2],
        long: [u64; 3],
        bytes: [u64; 3],
        unicode: [u64; UNICODE],
        gc: [u64; GC],
        #[cfg(Py_3_14)]
        generator: [u64; 4],
    }

    unsafe extern "C" {
        /// The state of the runtime, whose head is the table.
        #[link_name = "_PyRuntime"]
        static RUNTIME: DebugOffsets;
    }

    pub(super) fn find() -> Result<Layout, String> {
        // SAFETY: the interpreter that loads us has it, filled in since before it ran any code; never written again.
        let table = unsafe { RUNTIME };
        let version = (table.version >> 16) as u32;
        if table.cookie != COOKIE || version != crate::version::hex() >> 8 {
            return Err("this Python says nothing of its layout".into());
        }
        if table.free_threaded != 0 {
            return Err("a free-threaded build lays its objects out differently".into());
        }
        // 3.15 has three more fields before the thread's numbers
        let numbers = if cfg!(Py_3_15) { 8 } else { 5 };
        #[cfg(Py_3_14)]
        let (generator_state, generator_frame) = (table.generator[3], table.generator[2]);
        #[cfg(not(Py_3_14))]
        let (generator_state, generator_frame) = (67, 72);
        let layout = Layout {
            interpreter_threads: table.interpreter[3] as usize,
            gil: table.interpreter[if cfg!(Py_3_14) { 9 } else { 8 }] as usize,
            thread_next: table.thread[2] as usize,
            thread_interpreter: table.thread[3] as usize,
            thread_ident: table.thread[numbers] as usize,
            thread_native: table.thread[numbers + 1] as usize,
            thread_frame: table.thread[4] as usize,
            frame_code: table.frame[2] as usize,
            frame_previous: table.frame[1] as usize,
            frame_instruction: table.frame[3] as usize,
            frame_stack_top: 64,
            frame_owner: table.frame[5] as usize,
            frame_locals: table.frame[4] as usize,
            code_file: table.code[1] as usize,
            code_name: table.code[3] as usize,
            code_line_table: table.code[4] as usize,
            code_first_line: table.code[5] as usize,
            code_instructions: table.code[9] as usize,
            generator_state: generator_state as usize,
            generator_frame: generator_frame as usize,
            text_length: table.unicode[2] as usize,
            text_state: table.unicode[1] as usize,
            text_ascii: table.unicode[3] as usize,
            bytes_data: table.bytes[2] as usize,
        };
        Ok(layout)
    }
}

/// The addresses of the classes that a reader meets: what an address leads to is believed only if its class is one of
/// them. Classes of the interpreter never move.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classes {
    pub(super) code: usize,
    pub(super) text: usize,
    pub(super) bytes: usize,
    pub(super) coroutine: usize,
    pub(super) generator: usize,
    pub(super) async_generator: usize,
    /// What `asend()` and `athrow()` give: the generator is the first thing in it.
    pub(super) generator_steps: [usize; 2],
    /// Ours.
    pub(super) native: usize,
}

impl Classes {
    pub(super) fn find() -> Classes {
        use super::super::Class;
        use super::super::coroutine::Coroutine;
        use crate::imports::ASYNC_GENERATOR_STEPS;
        let at = |class: &Obj| class.as_ptr().addr();
        Classes {
            code: (&raw const c::PyCode_Type).addr(),
            text: (&raw const c::PyUnicode_Type).addr(),
            bytes: (&raw const c::PyBytes_Type).addr(),
            coroutine: (&raw const c::PyCoro_Type).addr(),
            generator: (&raw const c::PyGen_Type).addr(),
            async_generator: (&raw const c::PyAsyncGen_Type).addr(),
            generator_steps: [
                at(ASYNC_GENERATOR_STEPS[0].get()),
                at(ASYNC_GENERATOR_STEPS[1].get()),
            ],
            native: at(Coroutine::class().get()),
        }
    }
}
