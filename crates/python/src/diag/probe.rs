//! What the tests and the benchmarks need to try out `diag`'s parts; private names of `_core.diag`.
//!
//! Owns nothing.

use super::records::{self, Record};
use super::running;
use crate::event_loop::core;
use crate::ffi::errors::{runtime_error, value_error};
use crate::ffi::function::Kind::Plain;
use crate::ffi::stack::{self, Frame, Reader};
use crate::ffi::{Args, Obj, R, threads};
use crate::module::export;
use std::collections::BTreeMap;

/// Puts the functions into the module.
pub(super) fn register(diag: &Obj) -> R<()> {
    export(
        diag,
        &[
            ("aioxide._core.diag", "_stack_of(thread)", stack_of, Plain),
            (
                "aioxide._core.diag",
                "_stack_of_coroutine(coroutine)",
                stack_of_coroutine,
                Plain,
            ),
            ("aioxide._core.diag", "_capture(thread, count)", capture, Plain),
            ("aioxide._core.diag", "_look(loop)", look, Plain),
            ("aioxide._core.diag", "_emit(event, text, message)", emit, Plain),
            ("aioxide._core.diag", "_loops()", loops, Plain),
        ],
    )
}

fn reader() -> R<Reader> {
    Reader::new().ok_or_else(|| runtime_error(stack::why_not().unwrap_or_default()))
}

/// `(file, line, function)` of each frame.
fn list(frames: &[Frame]) -> R<Obj> {
    let frames = frames
        .iter()
        .map(|frame| {
            Obj::tuple(&[
                &Obj::str(&frame.file)?,
                &Obj::int(frame.line.into())?,
                &Obj::str(&frame.function)?,
            ])
        })
        .collect::<R<Vec<Obj>>>()?;
    Obj::list(&frames)
}

/// The address of a thread's state, by `threading.get_ident()`.
fn state_of(reader: &Reader, ident: &Obj) -> R<usize> {
    let ident = ident.to_i64()? as u64;
    reader
        .threads(threads::state())
        .iter()
        .find(|thread| thread.ident == ident)
        .map(|thread| thread.state)
        .ok_or_else(|| value_error("no such thread"))
}

/// `_stack_of(thread) -> (frames, consistent)`
fn stack_of(args: &Args) -> R<Obj> {
    let mut reader = reader()?;
    let state = state_of(&reader, args.req(0)?)?;
    let stack = reader.thread(state);
    Obj::tuple(&[&list(&stack.frames)?, &Obj::bool(stack.consistent)])
}

/// `_stack_of_coroutine(coroutine) -> (frames, consistent)`
fn stack_of_coroutine(args: &Args) -> R<Obj> {
    let chain = reader()?.coroutine(args.req(0)?.as_ptr().addr());
    Obj::tuple(&[&list(&chain.frames)?, &Obj::bool(chain.consistent)])
}

/// `_capture(thread, count) -> (captures, frames, consistent captures, {(file, function): frames})`: reads the stack of
/// a thread again and again, without the GIL, as fast as it can.
fn capture(args: &Args) -> R<Obj> {
    let state = state_of(&reader()?, args.req(0)?)?;
    let count = args.req(1)?.to_i64()?;
    let (frames, consistent, seen) = threads::without_gil(move || {
        let mut seen: BTreeMap<(String, String), i64> = BTreeMap::new();
        let (mut frames, mut consistent) = (0, 0);
        for _ in 0..count {
            let stack = stack::thread_stack(state);
            consistent += i64::from(stack.consistent);
            for frame in stack.frames {
                frames += 1;
                *seen
                    .entry((frame.file.to_string(), frame.function.to_string()))
                    .or_default() += 1;
            }
        }
        (frames, consistent, seen)
    });
    let by_function = Obj::dict()?;
    for ((file, function), count) in seen {
        let key = Obj::tuple(&[&Obj::str(&file)?, &Obj::str(&function)?])?;
        by_function.dict_set(&key, &Obj::int(count)?)?;
    }
    Obj::tuple(&[
        &Obj::int(count)?,
        &Obj::int(frames)?,
        &Obj::int(consistent)?,
        &by_function,
    ])
}

/// `_emit(event, text, message)`: a record with one text of every kind, from a thread without the GIL.
fn emit(args: &Args) -> R<Obj> {
    let (event, text) = (args.req(0)?.to_string()?, args.req(1)?.to_string()?);
    let message = args.opt(2).map(|message| message.to_string()).transpose()?;
    threads::without_gil(move || {
        let inner = Record::object().text("text", &text).boolean("true", true).close();
        let mut record = Record::new(&event)
            .text("text", &text)
            .text_or_null("nothing", None)
            .milliseconds("ms", 1234.56)
            .texts("texts", [&text, "b"])
            .raw("list", &format!("[{inner}]"));
        if let Some(message) = message {
            record = record.message(message);
        }
        records::emit(record);
    });
    Ok(Obj::none())
}

/// `_loops() -> [(number, has a thread, entries, state)]`: the loops that run.
fn loops(_: &Args) -> R<Obj> {
    let loops = running()
        .iter()
        .map(|running| {
            let vitals = &running.vitals;
            Obj::tuple(&[
                &Obj::int(vitals.number().into())?,
                &Obj::bool(vitals.thread() != 0),
                &Obj::int(vitals.pulse.entries() as i64)?,
                &Obj::str(&format!("{:?}", vitals.pulse.state()))?,
            ])
        })
        .collect::<R<Vec<Obj>>>()?;
    Obj::list(&loops)
}

/// `_look(loop)`: what a thread that watches does when it finds the loop running. `True`: the loop did not know yet.
fn look(args: &Args) -> R<Obj> {
    let Some(core) = core::of(args.req(0)?) else {
        return Err(value_error("no loop of aioxide's"));
    };
    let is_news = core.vitals.figures.looked(core.now());
    if is_news {
        core.vitals.pulse.ask();
    }
    Ok(Obj::bool(is_news))
}
