//! `asyncio.subprocess.Process`: a child for coroutines; `create_subprocess_exec()` and `create_subprocess_shell()`.

use super::stream_protocol::SubprocessStreamProtocol;
use crate::event_loop::core;
use crate::ffi::errors::{R, exc, value_error};
use crate::ffi::function::Kind::Async;
use crate::ffi::{Args, Class, ClassCell, Co, Coroutine, Obj, Own, Slot, Slots, Visitor, WeakRefs, running};
use crate::imports::{self, names};
use crate::module::export;
use crate::tasks::gather;
use crate::transports::log_debug;
use crate::version;
use std::ffi::CStr;
use std::mem::offset_of;

/// The object.
#[derive(Default)]
pub(crate) struct Process {
    dict: Slot,
    weakrefs: WeakRefs,
    transport: Slot,
    protocol: Slot,
    loop_: Slot,
    stdin: Slot,
    stdout: Slot,
    stderr: Slot,
    pid: Slot,
}

/// `Process(transport, protocol, loop)`
fn fill(this: &Process, transport: &Obj, protocol: &Obj, loop_: &Obj) -> R<()> {
    this.transport.set(transport.clone());
    this.protocol.set(protocol.clone());
    this.loop_.set(loop_.clone());
    match SubprocessStreamProtocol::class().exact(protocol) {
        Some(ours) => {
            this.stdin.set(ours.stdin.get_or_none());
            this.stdout.set(ours.stdout.get_or_none());
            this.stderr.set(ours.stderr.get_or_none());
        }
        None => {
            for (slot, name) in [
                (&this.stdin, "stdin"),
                (&this.stdout, "stdout"),
                (&this.stderr, "stderr"),
            ] {
                slot.set(protocol.getattr_str(name)?);
            }
        }
    }
    this.pid.set(transport.call_method_str("get_pid", &[])?);
    Ok(())
}

impl Process {
    fn transport(&self) -> Obj {
        self.transport.get_or_none()
    }
    fn slots_held(&self) -> [&Slot; 7] {
        [
            &self.transport,
            &self.protocol,
            &self.loop_,
            &self.stdin,
            &self.stdout,
            &self.stderr,
            &self.pid,
        ]
    }
    fn is_debugged(&self) -> R<bool> {
        let loop_ = self.loop_.get_or_none();
        match core::fast(&loop_) {
            Some(_) => Ok(false),
            None => loop_.call_method(&names::GET_DEBUG, &[])?.truth(),
        }
    }
}

// --- wait and communicate -------------------------------------------------------------------------

/// `wait()`: the return code, when there is one.
fn wait(args: &Args) -> R<Obj> {
    Coroutine::boxed("Process.wait", &[args.req(0)?], |co: Co| async move {
        let waiting = co.this::<Process>()?.transport().call_method_str("_wait", &[])?;
        co.wait(waiting).await
    })
}

const INPUT: usize = 1;

/// `communicate(input=None)`: what it has written, when it has ended.
fn communicate(args: &Args) -> R<Obj> {
    let none = Obj::none();
    Coroutine::boxed(
        "Process.communicate",
        &[args.req(0)?, args.get(1).unwrap_or(&none)],
        |co: Co| async move {
            let (gathering, places) = begin_to_communicate(&co)?;
            let results = match gathering {
                Some(gathering) => co.wait(gathering).await?.to_vec()?,
                None => Vec::new(),
            };
            let output = {
                let at = |place: Option<usize>| {
                    place
                        .and_then(|place| results.get(place).cloned())
                        .unwrap_or_else(Obj::none)
                };
                Obj::tuple(&[&at(places[0]), &at(places[1])])?
            };
            drop(results);
            co.set(INPUT, output);
            let waiting = co.local(0).call_method(&names::WAIT, &[])?;
            co.wait(waiting).await?;
            Ok(co.local(INPUT))
        },
    )
}

/// `gather(stdin, stdout, stderr)` of those that there are, and where the output of the last two will be.
fn begin_to_communicate(co: &Co) -> R<(Option<Obj>, [Option<usize>; 2])> {
    let (this, input) = (co.this::<Process>()?, co.local(INPUT));
    let mut parts = Vec::new();
    // before 3.12 stdin is left open if there is nothing to write
    let feeds = if version::SINCE_312.get() {
        !this.stdin.get_or_none().is_none()
    } else {
        !input.is_none()
    };
    if feeds {
        parts.push(this.obj().call_method_str("_feed_stdin", &[&input])?);
    }
    let mut places = [None, None];
    for (fd, stream) in [(1, &this.stdout), (2, &this.stderr)] {
        if !stream.get_or_none().is_none() {
            places[fd - 1] = Some(parts.len());
            parts.push(
                this.obj()
                    .call_method_str("_read_stream", &[&Obj::int(fd as i64)?])?,
            );
        }
    }
    if parts.is_empty() {
        return Ok((None, places));
    }
    Ok((Some(gather::of(&parts, false)?), places))
}

/// `_feed_stdin(input)`
fn feed_stdin(args: &Args) -> R<Obj> {
    Coroutine::boxed(
        "Process._feed_stdin",
        &[args.req(0)?, args.req(1)?],
        |co: Co| async move {
            let written = begin_to_feed(&co);
            let drained = match written {
                Ok(draining) => co.wait(draining).await.map(drop),
                Err(raised) => Err(raised),
            };
            let this = co.this::<Process>()?;
            if let Err(raised) = drained {
                // a child that does not read to the end is no error
                if !raised.matches(exc::broken_pipe_error()) && !raised.matches(exc::connection_reset_error())
                {
                    return Err(raised);
                }
                let exception = raised.take();
                if this.is_debugged()? {
                    log_debug("%r communicate: stdin got %r", &[this.obj(), &exception], None)?;
                }
            }
            if this.is_debugged()? {
                log_debug("%r communicate: close stdin", &[this.obj()], None)?;
            }
            this.stdin.get_or_none().call_method(&names::CLOSE, &[])?;
            Ok(Obj::none())
        },
    )
}

/// Writes, and gives what `drain()` gives.
fn begin_to_feed(co: &Co) -> R<Obj> {
    let (this, input) = (co.this::<Process>()?, co.local(INPUT));
    let stdin = this.stdin.get_or_none();
    if !input.is_none() {
        stdin.call_method(&names::WRITE, &[&input])?;
        if this.is_debugged()? {
            let length = Obj::int(input.len()? as i64)?;
            let text = "%r communicate: feed stdin (%s bytes)";
            log_debug(text, &[this.obj(), &length], None)?;
        }
    }
    stdin.call_method_str("drain", &[])
}

/// `_read_stream(fd)`
fn read_stream(args: &Args) -> R<Obj> {
    Coroutine::boxed(
        "Process._read_stream",
        &[args.req(0)?, args.req(1)?],
        |co: Co| async move {
            const OUTPUT: usize = 2;
            let reading = {
                let this = co.this::<Process>()?;
                if this.is_debugged()? {
                    let text = format!("%r communicate: read {}", name_of(&co)?);
                    log_debug(&text, &[this.obj()], None)?;
                }
                let stream = if is_stderr(&co)? {
                    &this.stderr
                } else {
                    &this.stdout
                };
                stream.get_or_none().call_method_str("read", &[])?
            };
            let output = co.wait(reading).await?;
            co.set(OUTPUT, output);
            let this = co.this::<Process>()?;
            if this.is_debugged()? {
                let text = format!("%r communicate: close {}", name_of(&co)?);
                log_debug(&text, &[this.obj()], None)?;
            }
            let pipe = this
                .transport()
                .call_method_str("get_pipe_transport", &[&co.local(1)])?;
            pipe.call_method(&names::CLOSE, &[])?;
            Ok(co.local(OUTPUT))
        },
    )
}

fn is_stderr(co: &Co) -> R<bool> {
    co.local(1).eq(&Obj::int(2)?)
}

fn name_of(co: &Co) -> R<&'static str> {
    Ok(if is_stderr(co)? { "stderr" } else { "stdout" })
}

// --- the class ------------------------------------------------------------------------------------

fn on_transport(args: &Args, method: &str) -> R<Obj> {
    let transport = args.this::<Process>()?.transport();
    match args.get(1) {
        Some(argument) => transport.call_method_str(method, &[argument]),
        None => transport.call_method_str(method, &[]),
    }
}

static CLASS: ClassCell<Process> = ClassCell::new();

impl Class for Process {
    const NAME: &'static CStr = c"asyncio.subprocess.Process";
    const DICT: Option<usize> = Some(offset_of!(Process, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Process, weakrefs));

    fn class() -> &'static ClassCell<Process> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Process>) -> R<()> {
        slots.init("(self, transport, protocol, loop)", |args| {
            fill(args.this::<Process>()?, args.req(1)?, args.req(2)?, args.req(3)?)?;
            Ok(Obj::none())
        });
        slots.repr(|this: &Own<Process>| {
            let pid = this.pid.get_or_none().to_str()?.to_string()?;
            Obj::str(&format!("<{} {pid}>", this.obj().class_name()))
        });
        slots.get(c"returncode", |this| {
            this.transport().call_method_str("get_returncode", &[])
        });
        slots.async_method("wait(self)", wait)?;
        slots.method("send_signal(self, signal)", |args| {
            on_transport(args, "send_signal")?;
            Ok(Obj::none())
        })?;
        slots.method("terminate(self)", |args| {
            on_transport(args, "terminate")?;
            Ok(Obj::none())
        })?;
        slots.method("kill(self)", |args| {
            on_transport(args, "kill")?;
            Ok(Obj::none())
        })?;
        slots.async_method("communicate(self, input=None)", communicate)?;
        slots.async_method("_feed_stdin(self, input)", feed_stdin)?;
        slots.async_method("_read_stream(self, fd)", read_stream)?;
        slots.object(c"stdin", |this| &this.stdin);
        slots.object(c"stdout", |this| &this.stdout);
        slots.object(c"stderr", |this| &this.stderr);
        slots.object(c"pid", |this| &this.pid);
        slots.object(c"_transport", |this| &this.transport);
        slots.object(c"_protocol", |this| &this.protocol);
        slots.object(c"_loop", |this| &this.loop_);
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        for slot in self.slots_held() {
            slot.put(None);
        }
    }
}

// --- create_subprocess_exec and create_subprocess_shell -------------------------------------------

/// `loop.method(lambda: SubprocessStreamProtocol(limit=limit, loop=loop), *command, stdin=…, …, **kwds)`
///
/// Both functions have the command first; then come stdin, stdout, stderr and limit.
fn create(args: &Args, name: &'static str, method: &'static str) -> R<Obj> {
    let (none, rest) = (Obj::none(), args.rest());
    let mut command = vec![args.req(0)?.clone()];
    command.extend_from_slice(rest);
    let kwargs = Obj::dict()?;
    if let Some(more) = args.kwargs() {
        kwargs.call_method_str("update", &[more])?;
    }
    for (index, name) in [(1, "stdin"), (2, "stdout"), (3, "stderr")] {
        kwargs.dict_set(&Obj::interned(name)?, args.get(index).unwrap_or(&none))?;
    }
    let limit = args.get(4).cloned().map_or_else(|| Obj::int(65536), Ok)?;
    let command = Obj::tuple_of(&command)?;
    Coroutine::boxed(name, &[&command, &kwargs, &limit], move |co: Co| async move {
        const LOOP: usize = 3;
        let starting = {
            let loop_ = running::require()?;
            let limit = co.local(2);
            let names = Obj::tuple(&[&Obj::interned("limit")?, &names::LOOP])?;
            let factory = imports::PARTIAL.call_kw(
                &[SubprocessStreamProtocol::class().get(), &limit, &loop_],
                Some(&names),
            )?;
            let command = co.local(0);
            let mut all = vec![&factory];
            all.extend(command.tuple_items());
            let starting = loop_
                .getattr_str(method)?
                .call_with(&Obj::tuple(&all)?, Some(&co.local(1)))?;
            co.set(LOOP, loop_);
            starting
        };
        let started = co.wait(starting).await?.to_vec()?;
        let [transport, protocol] = started.as_slice() else {
            return Err(value_error("not enough values to unpack (expected 2)"));
        };
        let process = CLASS.alloc(Process::default())?;
        fill(&process, transport, protocol, &co.local(LOOP))?;
        Ok(process.into_obj())
    })
}

/// Exports this area's classes and functions.
pub(crate) fn register(module: &Obj) -> R<()> {
    const HOME: &str = "asyncio.subprocess";
    module.setattr_str("Process", CLASS.get())?;
    module.setattr_str(
        "SubprocessStreamProtocol",
        SubprocessStreamProtocol::class().get(),
    )?;
    export(
        module,
        &[
            (
                HOME,
                "create_subprocess_shell(cmd, stdin=None, stdout=None, stderr=None, limit=65536, **kwds)",
                |args| create(args, "create_subprocess_shell", "subprocess_shell"),
                Async,
            ),
            (
                HOME,
                "create_subprocess_exec(program, *args, stdin=None, stdout=None, stderr=None, limit=65536, **kwds)",
                |args| create(args, "create_subprocess_exec", "subprocess_exec"),
                Async,
            ),
        ],
    )
}
