//! `WriteSubprocessPipeProto` and `ReadSubprocessPipeProto`: the protocol of one pipe of a child, which hands on what
//! it is told to the child's transport.

use super::transport::{self, Subprocess};
use crate::ffi::errors::R;
use crate::ffi::{Args, Class, ClassCell, Obj, Own, OwnSlot, Slot, Slots, Visitor, class};
use crate::imports::names;
use std::cell::Cell;
use std::ffi::CStr;

/// That of a pipe to write to.
#[repr(C)]
#[derive(Default)]
pub(crate) struct PipeProtocol {
    /// The child's transport, until the pipe is gone.
    process: OwnSlot<Subprocess>,
    /// The number of the descriptor in the child: 0, 1, 2.
    fd: Cell<u8>,
    /// The pipe's transport.
    pub(super) pipe: Slot,
    pub(super) disconnected: Cell<bool>,
}

/// That of a pipe to read from.
#[repr(C)]
#[derive(Default)]
pub(crate) struct ReadPipeProtocol {
    base: PipeProtocol,
}

class::extends!(ReadPipeProtocol, PipeProtocol, base);

/// A new one for descriptor `fd` of the child.
pub(super) fn make(process: &Own<Subprocess>, fd: u8) -> R<Own<PipeProtocol>> {
    let protocol = PipeProtocol::default();
    protocol.process.put(Some(process.clone()));
    protocol.fd.set(fd);
    if fd == 0 {
        return WRITE_CLASS.alloc(protocol);
    }
    Ok(READ_CLASS
        .alloc(ReadPipeProtocol { base: protocol })?
        .upcast()
        .clone())
}

fn connection_lost(args: &Args) -> R<Obj> {
    let this = args.this::<PipeProtocol>()?;
    this.disconnected.set(true);
    if let Some(process) = this.process.get() {
        transport::pipe_connection_lost(&process, this.fd.get(), args.req(1)?)?;
    }
    this.process.put(None);
    Ok(Obj::none())
}

fn data_received(args: &Args) -> R<Obj> {
    let this = args.this::<PipeProtocol>()?;
    if let Some(process) = this.process.get() {
        transport::pipe_data_received(&process, this.fd.get(), args.req(1)?)?;
    }
    Ok(Obj::none())
}

/// `self.proc._protocol.name()`
fn tell(args: &Args, name: &Obj) -> R<Obj> {
    match args.this::<PipeProtocol>()?.process.get() {
        Some(process) => process.protocol().call_method(name, &[]),
        None => Ok(Obj::none()),
    }
}

static WRITE_CLASS: ClassCell<PipeProtocol> = ClassCell::new();
static READ_CLASS: ClassCell<ReadPipeProtocol> = ClassCell::new();

impl Class for PipeProtocol {
    const NAME: &'static CStr = c"asyncio.base_subprocess.WriteSubprocessPipeProto";
    fn class() -> &'static ClassCell<PipeProtocol> {
        &WRITE_CLASS
    }
    fn slots(slots: &mut Slots<PipeProtocol>) -> R<()> {
        slots.no_new();
        slots.repr(|this: &Own<PipeProtocol>| {
            Obj::str(&format!(
                "<{} fd={} pipe={}>",
                this.obj().class_name(),
                this.fd.get(),
                this.pipe.get_or_none().repr()?
            ))
        });
        slots.method("connection_made(self, transport)", |args| {
            args.this::<PipeProtocol>()?.pipe.set(args.req(1)?.clone());
            Ok(Obj::none())
        })?;
        // a protocol factory
        slots.method("_itself(self)", |args| args.req(0).cloned())?;
        slots.method("connection_lost(self, exc)", connection_lost)?;
        slots.method("pause_writing(self)", |args| tell(args, &names::PAUSE_WRITING))?;
        slots.method("resume_writing(self)", |args| tell(args, &names::RESUME_WRITING))?;
        slots.get(c"proc", |this| {
            Ok(this.process.get().map_or_else(Obj::none, Own::into_obj))
        });
        slots.get(c"fd", |this| Obj::int(this.fd.get().into()));
        slots.get(c"pipe", |this| Ok(this.pipe.get_or_none()));
        slots.get(c"disconnected", |this| Ok(Obj::bool(this.disconnected.get())));
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.process.visit(visitor);
        self.pipe.visit(visitor);
    }
    fn clear(&self) {
        drop(self.process.take());
        self.pipe.put(None);
    }
}

impl Class for ReadPipeProtocol {
    const NAME: &'static CStr = c"asyncio.base_subprocess.ReadSubprocessPipeProto";
    const SUBCLASSABLE: bool = false;
    fn class() -> &'static ClassCell<ReadPipeProtocol> {
        &READ_CLASS
    }
    fn slots(slots: &mut Slots<ReadPipeProtocol>) -> R<()> {
        slots.no_new();
        slots.method("data_received(self, data)", data_received)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.base.visit(visitor);
    }
    fn clear(&self) {
        self.base.clear();
    }
}
