//! `asyncio.subprocess.SubprocessStreamProtocol`: hands on what a child's transport says to readers, and takes from a
//! writer.
//!
//! Rules
//! 1. When the child has ended and nothing more can come from it, the transport is closed.
//! 2. `_stdin_closed` ends with stdin, with its exception, which nobody has to ask for. The future is made when
//!    somebody asks for it.

use crate::ffi::errors::R;
use crate::ffi::{Args, Class, ClassCell, Obj, Own, Slot, Slots, Visitor, class};
use crate::futures::methods;
use crate::imports::{self, names};
use crate::streams::flow::FlowControl;
use crate::streams::reader::{self, StreamReader};
use crate::streams::writer;
use std::cell::Cell;
use std::ffi::CStr;

/// The object.
#[repr(C)]
#[derive(Default)]
pub(crate) struct SubprocessStreamProtocol {
    flow: FlowControl,
    limit: Slot,
    /// A writer and two readers, as far as they are pipes.
    pub(super) stdin: Slot,
    pub(super) stdout: Slot,
    pub(super) stderr: Slot,
    transport: Slot,
    process_exited: Cell<bool>,
    /// Which of stdout and stderr may still bring something.
    open: [Cell<bool>; 3],
    /// Rule 2.
    stdin_closed: Slot,
    stdin_is_closed: Cell<bool>,
    /// What `_stdin_closed` ends with, if it is not made yet.
    stdin_lost_with: Slot,
}

class::extends!(SubprocessStreamProtocol, FlowControl, flow);

/// `__init__(limit, loop)`
fn init(args: &Args) -> R<Obj> {
    let this = args.this::<SubprocessStreamProtocol>()?;
    this.upcast::<FlowControl>().fill(args.opt(2))?;
    for slot in this.slots_held() {
        slot.put(None);
    }
    this.limit.set(args.req(1)?.clone());
    Ok(Obj::none())
}

impl SubprocessStreamProtocol {
    fn slots_held(&self) -> [&Slot; 7] {
        [
            &self.limit,
            &self.stdin,
            &self.stdout,
            &self.stderr,
            &self.transport,
            &self.stdin_closed,
            &self.stdin_lost_with,
        ]
    }
    /// The reader of descriptor `fd` of the child.
    fn reader(&self, fd: &Obj) -> R<Option<(usize, Obj)>> {
        for (number, slot) in [(1, &self.stdout), (2, &self.stderr)] {
            if fd.eq(&Obj::int(number as i64)?)? {
                return Ok(slot
                    .get()
                    .filter(|reader| !reader.is_none())
                    .map(|reader| (number, reader)));
            }
        }
        Ok(None)
    }
}

fn connection_made(args: &Args) -> R<Obj> {
    let (this, transport) = (args.this::<SubprocessStreamProtocol>()?, args.req(1)?);
    this.transport.set(transport.clone());
    let loop_ = this.flow.loop_();
    for (fd, slot) in [(1, &this.stdout), (2, &this.stderr)] {
        let pipe = transport.call_method_str("get_pipe_transport", &[&Obj::int(fd as i64)?])?;
        if pipe.is_none() {
            continue;
        }
        let reader = reader::create(this.limit.get().as_ref(), &loop_)?;
        reader.set_transport(&pipe)?;
        slot.set(reader.into_obj());
        this.open[fd].set(true);
    }
    let pipe = transport.call_method_str("get_pipe_transport", &[&Obj::int(0)?])?;
    if !pipe.is_none() {
        this.stdin
            .set(writer::create(&pipe, this.obj(), &Obj::none(), &loop_)?);
    }
    Ok(Obj::none())
}

fn pipe_data_received(args: &Args) -> R<Obj> {
    let (this, data) = (args.this::<SubprocessStreamProtocol>()?, args.req(2)?);
    if let Some((_, reader)) = this.reader(args.req(1)?)? {
        match Own::<StreamReader>::plain(&reader) {
            Some(ours) => ours.feed_data(data.clone())?,
            None => drop(reader.call_method(&names::FEED_DATA, &[data])?),
        }
    }
    Ok(Obj::none())
}

fn pipe_connection_lost(args: &Args) -> R<Obj> {
    let (this, fd, exception) = (
        args.this::<SubprocessStreamProtocol>()?,
        args.req(1)?,
        args.req(2)?,
    );
    if fd.eq(&Obj::int(0)?)? {
        if let Some(stdin) = this.stdin.get().filter(|stdin| !stdin.is_none()) {
            stdin.call_method(&names::CLOSE, &[])?;
        }
        // whoever waits in `drain()` goes on
        this.obj().call_method(&names::CONNECTION_LOST, &[exception])?;
        this.stdin_is_closed.set(true);
        this.stdin_lost_with.put(exception.non_none().cloned());
        if let Some(closed) = this.stdin_closed.get() {
            end(this, &closed)?;
        }
        return Ok(Obj::none());
    }
    if let Some((number, reader)) = this.reader(fd)? {
        match exception.non_none() {
            None => reader.call_method(&names::FEED_EOF, &[])?,
            Some(exception) => reader.call_method(&names::SET_EXCEPTION, &[exception])?,
        };
        this.open[number].set(false);
    }
    maybe_close(this)?;
    Ok(Obj::none())
}

/// Rule 1: `_maybe_close_transport()`
fn maybe_close(this: &Own<SubprocessStreamProtocol>) -> R<()> {
    if this.open.iter().any(Cell::get) || !this.process_exited.get() {
        return Ok(());
    }
    match this.transport.take() {
        Some(transport) => transport.call_method(&names::CLOSE, &[]).map(drop),
        None => Ok(()),
    }
}

/// Rule 2: stdin is closed.
fn end(this: &Own<SubprocessStreamProtocol>, closed: &Obj) -> R<()> {
    match this.stdin_lost_with.take() {
        Some(exception) => {
            closed.call_method(&names::SET_EXCEPTION, &[&exception])?;
            closed.setattr_str("_log_traceback", &Obj::bool(false))
        }
        None => closed.call_method(&names::SET_RESULT, &[&Obj::none()]).map(drop),
    }
}

/// `_stdin_closed`
fn stdin_closed(this: &Own<SubprocessStreamProtocol>) -> R<Obj> {
    if let Some(closed) = this.stdin_closed.get() {
        return Ok(closed);
    }
    let closed = methods::create(&this.flow.loop_())?;
    this.stdin_closed.set(closed.clone());
    if this.stdin_is_closed.get() {
        end(this, &closed)?;
    }
    Ok(closed)
}

/// `_get_close_waiter(stream)`
fn get_close_waiter(args: &Args) -> R<Obj> {
    let (this, stream) = (args.this::<SubprocessStreamProtocol>()?, args.req(1)?);
    if this.stdin.holds(stream) {
        return stdin_closed(this);
    }
    Ok(Obj::none())
}

fn repr(this: &Own<SubprocessStreamProtocol>) -> R<Obj> {
    let mut text = format!("<{}", this.obj().class_name());
    for (name, slot) in [
        ("stdin", &this.stdin),
        ("stdout", &this.stdout),
        ("stderr", &this.stderr),
    ] {
        if let Some(stream) = slot.get().filter(|stream| !stream.is_none()) {
            text.push_str(&format!(" {name}={}", stream.repr()?));
        }
    }
    text.push('>');
    Obj::str(&text)
}

static CLASS: ClassCell<SubprocessStreamProtocol> = ClassCell::new();

impl Class for SubprocessStreamProtocol {
    const NAME: &'static CStr = c"asyncio.subprocess.SubprocessStreamProtocol";
    const DICT: Option<usize> = FlowControl::DICT;
    const WEAKREFS: Option<usize> = FlowControl::WEAKREFS;

    fn class() -> &'static ClassCell<SubprocessStreamProtocol> {
        &CLASS
    }
    fn slots(slots: &mut Slots<SubprocessStreamProtocol>) -> R<()> {
        slots.init("(self, limit, loop)", init);
        slots.repr(repr);
        slots.attribute(
            "__doc__",
            imports::SUBPROCESS_STREAM_PROTOCOL.getattr_str("__doc__")?,
        );
        slots.method("connection_made(self, transport)", connection_made)?;
        slots.method("pipe_data_received(self, fd, data)", pipe_data_received)?;
        slots.method("pipe_connection_lost(self, fd, exc)", pipe_connection_lost)?;
        slots.method("process_exited(self)", |args| {
            let this = args.this::<SubprocessStreamProtocol>()?;
            this.process_exited.set(true);
            maybe_close(this)?;
            Ok(Obj::none())
        })?;
        slots.method("_maybe_close_transport(self)", |args| {
            maybe_close(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.method("_get_close_waiter(self, stream)", get_close_waiter)?;
        slots.object(c"stdin", |this| &this.stdin);
        slots.object(c"stdout", |this| &this.stdout);
        slots.object(c"stderr", |this| &this.stderr);
        slots.object(c"_limit", |this| &this.limit);
        slots.object(c"_transport", |this| &this.transport);
        slots.flag(c"_process_exited", |this| &this.process_exited);
        slots.get(c"_pipe_fds", |this| {
            let mut open = Vec::new();
            for fd in 1..3 {
                if this.open[fd].get() {
                    open.push(Obj::int(fd as i64)?);
                }
            }
            Obj::list(&open)
        });
        slots.get(c"_stdin_closed", stdin_closed);
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.flow.visit_fields(visitor);
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        self.flow.clear_fields();
        for slot in self.slots_held() {
            slot.put(None);
        }
    }
}
