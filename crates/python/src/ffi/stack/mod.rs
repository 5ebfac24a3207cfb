//! What a thread is doing, and where a suspended coroutine stands, read without the GIL and without their help.
//!
//! The thread that is looked at may hold the GIL in a call into C that never returns; so whoever looks takes nothing
//! and stops nobody. It reads the interpreter's own structures (`layout.rs`) by reads that cannot fault
//! (`aioxide_core::memory`), while they change.
//!
//! Rules
//! 1. No address is believed: an object is one only if its class is right, a text only if it is valid, and every walk
//!    has a limit. What does not fit is left out.
//! 2. A stack that has changed under the reader is read again, and if it never holds still it is marked as not
//!    `consistent`: each frame was there, but perhaps not all at once.
//! 3. Nothing here needs the GIL, and nothing here touches a Python object but by such reads.
//!
//! Must never: follow a pointer.

mod layout;
mod lines;
mod many;
mod site;
mod tasks;

pub(crate) use site::Site;

use super::class::body_offset;
use super::coroutine;
use super::errors::R;
use super::object::Obj;
use aioxide_core::memory::{self, Piece};
use layout::{
    CODE_LOCALS, CODE_SIZE, Classes, FRAME_SIZE, Layout, OWNER_NO_FUNCTION, TEXT_KIND, TEXT_MORE, TEXT_SIZE,
};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

/// Where a function is: one line of a traceback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// `co_filename`
    pub(crate) file: Arc<str>,
    /// `co_qualname`
    pub(crate) function: Arc<str>,
    /// From 1.
    pub(crate) line: i32,
}

/// The frames of a thread.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    /// From the innermost outwards; the outermost ones of a deep stack are left out.
    pub(crate) frames: Vec<Frame>,
    /// All of them were there at one moment.
    pub(crate) consistent: bool,
}

/// The frames of a coroutine that is suspended, and of those that it awaits.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// From the coroutine itself inwards, to where it waits.
    pub(crate) frames: Vec<Frame>,
    /// The address of what the innermost of them awaits, if it is no coroutine itself; else 0.
    pub(crate) awaits: usize,
    /// All of them were there at one moment, and none of them runs.
    pub(crate) consistent: bool,
}

/// A thread of the interpreter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread {
    /// The address of its state: what [`Reader::thread`] takes.
    pub(crate) state: usize,
    /// `threading.get_ident()`
    pub(crate) ident: u64,
    /// `threading.get_native_id()`
    pub(crate) native: u64,
}

/// Who has the GIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The thread with the state at this address.
    Thread(usize),
    Nobody,
    Unknown,
}

/// How many frames are read of a stack, and coroutines of a chain.
const MOST_FRAMES: usize = 128;
/// How many coroutines, and what lies between them, are followed for it.
const MOST_OBJECTS: usize = 4 * MOST_FRAMES;
/// How many threads are listed.
const MOST_THREADS: usize = 1000;
/// How often a stack is read that does not hold still.
const ATTEMPTS: usize = 3;
/// What of a text is read, in characters, and of a table of lines, in bytes.
const LONGEST_TEXT: usize = 4096;
const LONGEST_TABLE: usize = 1 << 20;

/// What is known of this interpreter.
#[derive(Clone, Copy)]
struct Known {
    layout: Layout,
    classes: Classes,
}

static KNOWN: OnceLock<Result<Known, String>> = OnceLock::new();

/// Looks up the layout, and tries it on the caller. With the GIL, once.
pub(crate) fn init() -> R<()> {
    let known = layout::find().map(|layout| Known {
        layout,
        classes: Classes::find(),
    });
    let known = match known {
        Ok(known) => check(&known)?.map(|()| known),
        Err(reason) => Err(reason),
    };
    let _ = KNOWN.set(known);
    Ok(())
}

/// Why stacks cannot be read here; `None`: they can.
pub(crate) fn why_not() -> Option<&'static str> {
    match KNOWN.get() {
        Some(Ok(_)) => None,
        Some(Err(reason)) => Some(reason),
        None => Some("nobody has looked yet"),
    }
}

/// Does the reader see what `sys._getframe()` says of the caller? (There may be no caller: an embedding program.)
fn check(known: &Known) -> R<Result<(), String>> {
    let sys = Obj::import("sys")?;
    let frame = match sys.call_method_str("_getframe", &[]) {
        Err(raised) => {
            raised.ignore();
            return Ok(Ok(()));
        }
        Ok(frame) if frame.is_none() => return Ok(Ok(())),
        Ok(frame) => frame,
    };
    let code = frame.getattr_str("f_code")?;
    let expected = (
        code.getattr_str("co_filename")?.to_string()?,
        code.getattr_str("co_qualname")?.to_string()?,
        frame.getattr_str("f_lineno")?.to_i64()?,
    );
    let stack = Reader::of(*known).thread(super::threads::state());
    let seen = stack.frames.first().map(|frame| {
        (
            frame.file.to_string(),
            frame.function.to_string(),
            i64::from(frame.line),
        )
    });
    Ok(if stack.consistent && seen.as_ref() == Some(&expected) {
        Ok(())
    } else {
        Err("this Python's frames are laid out differently".into())
    })
}

/// The stack of the thread whose state is at this address. Any thread may ask; nobody's help is needed.
pub(crate) fn thread_stack(state: usize) -> Stack {
    Reader::new().map_or_else(Stack::default, |mut reader| reader.thread(state))
}

/// Reads stacks, and remembers the texts of the functions that it has met. To be made anew for each look: by the next
/// one another function may lie at the same address.
pub(crate) struct Reader {
    known: Known,
    codes: HashMap<usize, Option<Rc<Code>>>,
}

/// A function.
struct Code {
    file: Arc<str>,
    function: Arc<str>,
    first_line: i32,
    locals: usize,
    /// The address of its first code unit, and how many there are.
    start: usize,
    length: usize,
    lines: Vec<u8>,
}

/// A frame as it lies in memory.
#[derive(Clone, Copy, PartialEq)]
struct Raw {
    at: usize,
    code: usize,
    previous: usize,
    instruction: usize,
    stack_top: usize,
    owner: u8,
}

/// A coroutine or generator as it lies in memory.
struct Suspended {
    state: i8,
    frame: Raw,
}

/// What the state of a coroutine says.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Created,
    /// At a `yield`: nothing below it.
    Yielded,
    /// At an `await` or a `yield from`, if it is known; see [`Reader::awaited`].
    Awaits,
    Running,
    Ended,
}

/// Where in our own coroutines their name is.
const NATIVE_NAME: usize = body_offset() + coroutine::NAME_OFFSET;
/// The file of our own functions, as `frames.rs` has it.
const NATIVE_FILE: &str = "<aioxide>";
/// The field after the head of an object.
const FIRST_FIELD: usize = 16;

impl Reader {
    /// `None`: [`why_not`] says why.
    pub(crate) fn new() -> Option<Reader> {
        match KNOWN.get() {
            Some(Ok(known)) => Some(Reader::of(*known)),
            _ => None,
        }
    }

    fn of(known: Known) -> Reader {
        Reader {
            known,
            codes: HashMap::new(),
        }
    }

    /// The stack of the thread whose state is at this address (rule 2).
    pub(crate) fn thread(&mut self, state: usize) -> Stack {
        let mut frames = Vec::new();
        let mut consistent = false;
        for _ in 0..ATTEMPTS {
            let whole = self.walk(state, &mut frames);
            if whole && self.holds_still(state, &frames) {
                consistent = true;
                break;
            }
        }
        let frames = frames.iter().filter_map(|raw| self.frame(raw)).collect();
        Stack { frames, consistent }
    }

    /// The threads of the interpreter that this state belongs to.
    pub(crate) fn threads(&self, state: usize) -> Vec<Thread> {
        let layout = &self.known.layout;
        let mut threads = Vec::new();
        let mut next = memory::word(state + layout.thread_interpreter)
            .and_then(|interpreter| memory::word(interpreter + layout.interpreter_threads))
            .unwrap_or(0);
        while next != 0 && threads.len() < MOST_THREADS {
            let (mut link, mut ident, mut native) = ([0; 8], [0; 8], [0; 8]);
            let mut pieces = [
                Piece::new(next.wrapping_add(layout.thread_next), &mut link),
                Piece::new(next.wrapping_add(layout.thread_ident), &mut ident),
                Piece::new(next.wrapping_add(layout.thread_native), &mut native),
            ];
            memory::read_all(&mut pieces);
            if !pieces.iter().all(|piece| piece.whole) {
                break;
            }
            threads.push(Thread {
                state: next,
                ident: u64::from_ne_bytes(ident),
                native: u64::from_ne_bytes(native),
            });
            next = usize::from_ne_bytes(link);
        }
        threads
    }

    /// Who has the GIL of the interpreter that this state belongs to.
    pub(crate) fn gil_holder(&self, state: usize) -> Holder {
        let gil = memory::word(state + self.known.layout.thread_interpreter)
            .and_then(|interpreter| layout::gil_of(&self.known.layout, interpreter));
        let Some((holder, locked)) =
            gil.and_then(|gil| Some((memory::word(gil)?, memory::array::<4>(gil + layout::GIL_LOCKED)?)))
        else {
            return Holder::Unknown;
        };
        match i32::from_ne_bytes(locked) {
            1 => Holder::Thread(holder),
            0 => Holder::Nobody,
            _ => Holder::Unknown,
        }
    }

    /// Where the coroutine (or generator) at this address stands, and those that it awaits.
    pub(crate) fn coroutine(&mut self, address: usize) -> Chain {
        let mut chain = Chain {
            consistent: true,
            ..Chain::default()
        };
        let mut next = address;
        // (what lies between two frames has none of its own, and may lead back to itself by the time that it is read)
        for _ in 0..MOST_OBJECTS {
            if next == 0 || chain.frames.len() >= MOST_FRAMES {
                break;
            }
            let classes = self.known.classes;
            let Some(class) = memory::word(next.wrapping_add(8)) else {
                chain.consistent = false;
                return chain;
            };
            if classes.generator_steps.contains(&class) {
                next = memory::word(next.wrapping_add(FIRST_FIELD)).unwrap_or(0);
                continue;
            }
            if class == classes.native {
                chain.frames.extend(native_frame(next));
            }
            if ![classes.coroutine, classes.generator, classes.async_generator].contains(&class) {
                chain.awaits = next;
                return chain;
            }
            let Some(suspended) = self.suspended(next) else {
                chain.consistent = false;
                return chain;
            };
            let stage = stage(suspended.state);
            if stage == Stage::Ended {
                break;
            }
            let Some(frame) = self.frame(&suspended.frame) else {
                chain.consistent = false;
                return chain;
            };
            let inner = match stage {
                Stage::Awaits => self.awaited(&suspended.frame),
                _ => 0,
            };
            // it may have gone on meanwhile
            let still = self
                .suspended(next)
                .is_some_and(|now| now.state == suspended.state && now.frame == suspended.frame);
            chain.frames.push(frame);
            if !still || stage == Stage::Running {
                chain.consistent = false;
                return chain;
            }
            next = inner;
        }
        chain
    }

    /// The text at this address, if there is a `str`. Long ones are cut.
    pub(crate) fn text(&self, address: usize) -> Option<String> {
        let layout = &self.known.layout;
        let head: [u8; TEXT_SIZE] = memory::array(address)?;
        let state = half_in(&head, layout.text_state) as u32;
        let (kind, is_compact, is_ascii) = (
            (state >> TEXT_KIND) & 7,
            (state >> (TEXT_KIND + 3)) & 1 == 1,
            (state >> (TEXT_KIND + 4)) & 1 == 1,
        );
        if word_in(&head, 8) != self.known.classes.text || !is_compact || !matches!(kind, 1 | 2 | 4) {
            return None;
        }
        let length = word_in(&head, layout.text_length).min(LONGEST_TEXT);
        let data = address.wrapping_add(layout.text_ascii + if is_ascii { 0 } else { TEXT_MORE });
        let mut bytes = vec![0; length * kind as usize];
        if !memory::read(data, &mut bytes) {
            return None;
        }
        let character = |code: u32| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        Some(match kind {
            1 if is_ascii && !bytes.is_ascii() => return None,
            1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            2 => bytes
                .chunks_exact(2)
                .map(|pair| character(u32::from(u16::from_ne_bytes([pair[0], pair[1]]))))
                .collect(),
            _ => bytes
                .chunks_exact(4)
                .map(|four| character(half_in(four, 0) as u32))
                .collect(),
        })
    }

    /// Is it a text of one ASCII byte a character, right behind its head?
    fn is_plain(&self, head: &[u8]) -> bool {
        let state = half_in(head, self.known.layout.text_state) as u32 >> TEXT_KIND;
        state & 0b11111 == 0b11001
    }

    /// The frames of a thread, as far as they can be read; are those all?
    fn walk(&self, state: usize, frames: &mut Vec<Raw>) -> bool {
        frames.clear();
        let Some(mut next) = self.current(state) else {
            return false;
        };
        while next != 0 && frames.len() < MOST_FRAMES {
            let Some(raw) = self.raw(next) else {
                return false;
            };
            frames.push(raw);
            next = raw.previous;
        }
        true
    }

    /// Is the stack still what was read? What the innermost function is at may have changed: it is running, after all.
    fn holds_still(&self, state: usize, frames: &[Raw]) -> bool {
        if self.current(state) != Some(frames.first().map_or(0, |raw| raw.at)) {
            return false;
        }
        let size = self.known.layout.frame_locals;
        let mut buffers = vec![[0; FRAME_SIZE]; frames.len()];
        let mut pieces: Vec<Piece> = frames
            .iter()
            .zip(&mut buffers)
            .map(|(raw, buffer)| Piece::new(raw.at, &mut buffer[..size]))
            .collect();
        memory::read_all(&mut pieces);
        pieces
            .iter()
            .zip(frames)
            .enumerate()
            .all(|(index, (piece, then))| {
                let now = self.parse(then.at, piece.into);
                piece.whole
                    && now.code == then.code
                    && now.previous == then.previous
                    && (index == 0 || now.instruction == then.instruction)
            })
    }

    /// The address of the innermost frame.
    fn current(&self, state: usize) -> Option<usize> {
        let at = memory::word(state + self.known.layout.thread_frame)?;
        if cfg!(Py_3_13) {
            return Some(at);
        }
        // through the `_PyCFrame` of the innermost activation of the interpreter
        memory::word(at + if cfg!(Py_3_12) { 0 } else { 8 })
    }

    fn raw(&self, at: usize) -> Option<Raw> {
        let mut buffer = [0; FRAME_SIZE];
        let bytes = &mut buffer[..self.known.layout.frame_locals];
        memory::read(at, bytes).then(|| self.parse(at, bytes))
    }

    fn parse(&self, at: usize, bytes: &[u8]) -> Raw {
        let layout = &self.known.layout;
        Raw {
            at,
            code: untagged(word_in(bytes, layout.frame_code)),
            previous: word_in(bytes, layout.frame_previous),
            instruction: word_in(bytes, layout.frame_instruction),
            stack_top: word_in(bytes, layout.frame_stack_top),
            owner: bytes.get(layout.frame_owner).copied().unwrap_or(0),
        }
    }

    /// What a frame says, if it is one of a function.
    fn frame(&mut self, raw: &Raw) -> Option<Frame> {
        if raw.owner >= OWNER_NO_FUNCTION {
            return None;
        }
        let code = self.code(raw.code)?;
        let line = code.line_of(raw)?;
        // (3.12 has a frame named so between C and Python)
        if code.file.is_empty() || &*code.function == "<shim>" {
            return None;
        }
        Some(Frame {
            file: Arc::clone(&code.file),
            function: Arc::clone(&code.function),
            line,
        })
    }

    /// The function whose code object is at this address.
    fn code(&mut self, address: usize) -> Option<Rc<Code>> {
        if let Some(known) = self.codes.get(&address) {
            return known.clone();
        }
        let code = self.read_code(address).map(Rc::new);
        self.codes.insert(address, code.clone());
        code
    }

    fn read_code(&self, address: usize) -> Option<Code> {
        let layout = &self.known.layout;
        let bytes: [u8; CODE_SIZE] = memory::array(address)?;
        if word_in(&bytes, 8) != self.known.classes.code {
            return None;
        }
        Some(Code {
            file: self.text(word_in(&bytes, layout.code_file))?.into(),
            function: self.text(word_in(&bytes, layout.code_name))?.into(),
            first_line: half_in(&bytes, layout.code_first_line),
            locals: half_in(&bytes, CODE_LOCALS) as usize,
            start: address.wrapping_add(layout.code_instructions),
            length: word_in(&bytes, FIRST_FIELD),
            lines: self.bytes(word_in(&bytes, layout.code_line_table))?,
        })
    }

    /// The contents of the `bytes` at this address.
    fn bytes(&self, address: usize) -> Option<Vec<u8>> {
        let head: [u8; 24] = memory::array(address)?;
        let length = word_in(&head, FIRST_FIELD);
        if word_in(&head, 8) != self.known.classes.bytes || length > LONGEST_TABLE {
            return None;
        }
        let mut bytes = vec![0; length];
        memory::read(address.wrapping_add(self.known.layout.bytes_data), &mut bytes).then_some(bytes)
    }

    fn suspended(&self, address: usize) -> Option<Suspended> {
        let layout = &self.known.layout;
        let mut buffer = [0; FRAME_SIZE];
        let mut state = [0; 1];
        let mut pieces = [
            Piece::new(address.wrapping_add(layout.generator_state), &mut state),
            Piece::new(
                address.wrapping_add(layout.generator_frame),
                &mut buffer[..layout.frame_locals],
            ),
        ];
        memory::read_all(&mut pieces);
        pieces.iter().all(|piece| piece.whole).then(|| Suspended {
            state: state[0] as i8,
            frame: self.parse(
                address.wrapping_add(layout.generator_frame),
                &buffer[..layout.frame_locals],
            ),
        })
    }

    /// The address of what the frame awaits: the topmost value of its stack; 0 if it awaits nothing.
    fn awaited(&mut self, raw: &Raw) -> usize {
        if cfg!(not(Py_3_13)) && !is_awaiting(raw.instruction) {
            return 0;
        }
        self.stack_top(raw).and_then(memory::word).map_or(0, untagged)
    }

    /// Where the topmost value of a frame's stack is, if there is one.
    fn stack_top(&mut self, raw: &Raw) -> Option<usize> {
        let locals = raw.at.wrapping_add(self.known.layout.frame_locals);
        let code = self.code(raw.code)?;
        // an index into the locals, since 3.14 the address behind it
        let top = if cfg!(Py_3_14) {
            // (3.15 has the index of a loop over a sequence above what is iterated; an `await` has none)
            raw.stack_top.wrapping_sub(if cfg!(Py_3_15) { 16 } else { 8 })
        } else {
            let index = (raw.stack_top & 0xffff_ffff).wrapping_sub(1);
            locals.wrapping_add(index.wrapping_mul(8))
        };
        (top >= locals.checked_add(code.locals.checked_mul(8)?)?).then_some(top)
    }
}

impl Code {
    /// The line that the frame is at. `None`: it is not in this function at all.
    fn line_of(&self, raw: &Raw) -> Option<i32> {
        // up to 3.12 that of a new frame is one before the first
        let index = (raw.instruction.wrapping_sub(self.start) as isize) >> 1;
        if index < -1 || index > isize::try_from(self.length).ok()? {
            return None;
        }
        Some(lines::line_at(&self.lines, self.first_line, index.max(0) as i64))
    }
}

/// Without the marks that 3.14 and later put into the lowest bits of a reference.
fn untagged(reference: usize) -> usize {
    if cfg!(Py_3_14) { reference & !3 } else { reference }
}

/// Is the code unit after this one that with which an `await` goes on (`RESUME 2` or `3`)?
fn is_awaiting(instruction: usize) -> bool {
    const RESUME: u8 = 151;
    const RESUME_AGAIN: u8 = if cfg!(Py_3_12) { 240 } else { 150 };
    memory::array::<2>(instruction.wrapping_add(2))
        .is_some_and(|[operation, argument]| matches!(operation, RESUME | RESUME_AGAIN) && argument & 3 >= 2)
}

fn stage(state: i8) -> Stage {
    if cfg!(Py_3_15) {
        return match state {
            0 => Stage::Created,
            1 => Stage::Yielded,
            2 | 3 => Stage::Awaits,
            4 => Stage::Running,
            _ => Stage::Ended,
        };
    }
    match state {
        0 => Stage::Running,
        1.. => Stage::Ended,
        -1 => Stage::Awaits,
        -2 if cfg!(Py_3_13) => Stage::Yielded,
        _ => Stage::Created,
    }
}

/// The name of the coroutine of ours at this address, as a frame.
fn native_frame(address: usize) -> Option<Frame> {
    let name: [u8; 16] = memory::array(address.wrapping_add(NATIVE_NAME))?;
    let mut text = vec![0; word_in(&name, 8).min(LONGEST_TEXT)];
    if !memory::read(word_in(&name, 0), &mut text) {
        return None;
    }
    Some(Frame {
        file: NATIVE_FILE.into(),
        function: String::from_utf8(text).ok()?.into(),
        line: 1,
    })
}

fn word_in(bytes: &[u8], at: usize) -> usize {
    bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, usize::from_ne_bytes)
}

fn half_in(bytes: &[u8], at: usize) -> i32 {
    bytes
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, i32::from_ne_bytes)
}
