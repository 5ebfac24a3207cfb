//! `_UnixSubprocessTransport`: a child process, from its spawning to `connection_lost`.
//!
//! Rules
//! 1. The protocol is told in this order: `connection_made` first; then what the pipes and the end of the child bring, as
//!    it comes; `connection_lost` last, when the child has ended and all of its pipes are gone. Each call is a callback
//!    of its own.
//! 2. A signal goes to the child or to nobody. (asyncio's goes to whoever has the pid.)
//! 3. Whoever drops it or closes it while the child runs kills the child.

use super::pipe_protocol::{self, PipeProtocol};
use super::spawning::{self, FILES, PIPE};
use crate::event_loop::class::EVENT_LOOP;
use crate::event_loop::core;
use crate::event_loop::handles;
use crate::ffi::errors::{R, assertion_error, attribute_error, exc, os_error, raise};
use crate::ffi::{
    Args, Class, ClassCell, Co, Coroutine, Fifo, Inner, Obj, Own, OwnSlot, Slot, Slots, Visitor, WeakRefs,
};
use crate::futures::methods;
use crate::imports::{self, names};
use crate::transports::{log, log_debug, read_pipe, warn_unclosed, write_pipe};
use crate::version;
use aioxide_core::child::Child;
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// The object. Its first field is where `asyncio.BaseTransport` has its `_extra`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Subprocess {
    extra: Slot,
    dict: Slot,
    weakrefs: WeakRefs,
    loop_: Slot,
    protocol: Slot,
    /// The `Popen`.
    popen: Slot,
    pub(super) child: Inner<Option<Child>>,
    /// The loop watches for its end.
    pub(super) watched: Cell<bool>,
    /// What the kernel has said, a turn before `returncode` may be asked for.
    pub(super) status: Cell<Option<i32>>,
    pub(super) returncode: Cell<Option<i32>>,
    pid: Slot,
    /// That in which the loop hears of its end.
    pub(super) context: Slot,
    /// stdin, stdout, stderr, as far as they are pipes and connected.
    pipes: [OwnSlot<PipeProtocol>; 3],
    /// Which of them are to be pipes.
    wanted: [Cell<bool>; 3],
    /// `_pending_calls`, until `connection_made` is arranged for: pairs of a callback and its arguments.
    pending: Fifo<(Obj, Obj)>,
    connected: Cell<bool>,
    /// A pipe could not be connected: `connection_lost` will not come.
    broken: Cell<bool>,
    /// Who waits for the end.
    waiters: Fifo<Obj>,
    closed: Cell<bool>,
    finished: Cell<bool>,
}

/// What is to be spawned.
pub(crate) struct Order<'a> {
    pub(crate) loop_: &'a Obj,
    pub(crate) protocol: &'a Obj,
    pub(crate) args: &'a Obj,
    pub(crate) shell: &'a Obj,
    /// stdin, stdout, stderr
    pub(crate) files: [&'a Obj; 3],
    pub(crate) bufsize: &'a Obj,
    /// A dict for `get_extra_info`.
    pub(crate) extra: Option<Obj>,
    /// What else `Popen` takes.
    pub(crate) kwargs: Option<Obj>,
}

/// Spawns it. Its pipes are not connected yet, and nobody watches for its end.
pub(crate) fn spawn(order: &Order<'_>) -> R<Own<Subprocess>> {
    let this = CLASS.alloc(Subprocess::default())?;
    this.extra.set(order.extra.clone().map_or_else(Obj::dict, Ok)?);
    this.loop_.set(order.loop_.clone());
    this.protocol.set(order.protocol.clone());
    let pipe = Obj::int(PIPE)?;
    for (file, wanted) in order.files.iter().zip(&this.wanted) {
        wanted.set(file.eq(&pipe)?);
    }
    // (until it has a child there is nothing to complain about)
    this.closed.set(true);
    let popen = spawning::popen(order)?;
    this.closed.set(false);
    this.popen.set(popen.clone());
    let pid = popen.getattr_str("pid")?;
    this.pid.set(pid.clone());
    this.extra
        .get_or_none()
        .dict_set(&Obj::interned("subprocess")?, &popen)?;
    match Child::watch(pid.to_i64()? as i32) {
        Ok(child) => this.child.with(|place| *place = Some(child)),
        Err(error) => {
            let failure = os_error(&error).take();
            close(&this)?;
            return Err(raise(&failure));
        }
    }
    if is_debugged(&this) {
        let program = match order.args.tuple_items().first() {
            Some(program) => program,
            None => order.args,
        };
        log_debug("process %r created: pid %s", &[program, &pid], None)?;
    }
    Ok(this)
}

// --- its pipes ------------------------------------------------------------------------------------

/// All pipes at once, and then `connection_made`. For a loop of which nothing is overridden.
pub(crate) fn connect_directly(this: &Own<Subprocess>) -> R<()> {
    match make_pipes(this).and_then(|()| connected(this)) {
        Ok(()) => Ok(()),
        Err(raised) => {
            let failure = raised.take();
            give_up(this)?;
            Err(raise(&failure))
        }
    }
}

fn make_pipes(this: &Own<Subprocess>) -> R<()> {
    let (loop_, popen) = (this.loop_.get_or_none(), this.popen.get_or_none());
    for (fd, name) in FILES.iter().enumerate() {
        let file = popen.getattr_str(name)?;
        if file.is_none() {
            continue;
        }
        let protocol = pipe_protocol::make(this, fd as u8)?;
        let pipe = if fd == 0 {
            write_pipe::open(&loop_, &file, protocol.obj(), None, None)?.into_obj()
        } else {
            read_pipe::open(&loop_, &file, protocol.obj(), None, None)?.into_obj()
        };
        protocol.pipe.set(pipe);
        this.wanted[fd].set(true);
        this.pipes[fd].put(Some(protocol));
    }
    Ok(())
}

/// Rule 1: from now on the protocol may be told.
fn connected(this: &Own<Subprocess>) -> R<()> {
    let (loop_, protocol) = (this.loop_.get_or_none(), this.protocol.get_or_none());
    let callback = protocol.getattr(&names::CONNECTION_MADE)?;
    soon(&loop_, callback, &[this.obj().clone()])?;
    while let Some((callback, args)) = this.pending.pop_front() {
        soon(&loop_, callback, args.tuple_items())?;
    }
    this.connected.set(true);
    Ok(())
}

/// A pipe could not be connected: the files of those that have no transport are closed.
fn give_up(this: &Own<Subprocess>) -> R<()> {
    this.broken.set(true);
    let popen = this.popen.get_or_none();
    for (fd, name) in FILES.iter().enumerate() {
        if this.pipes[fd].is_empty()
            && let Some(file) = popen.getattr_str(name)?.non_none()
        {
            file.call_method(&names::CLOSE, &[])?;
        }
    }
    Ok(())
}

/// `_connect_pipes(waiter)`: step by step, by the methods of the loop.
pub(crate) fn connect_pipes(this: &Own<Subprocess>, waiter: &Obj) -> R<Obj> {
    Coroutine::boxed(
        "BaseSubprocessTransport._connect_pipes",
        &[this.obj(), waiter],
        |co: Co| async move {
            let result = step_by_step(&co).await;
            let waiter = co.local(1);
            let failure = match result {
                Ok(()) => None,
                Err(raised) if crate::event_loop::run::is_fatal(&raised) => return Err(raised),
                Err(raised) => Some(raised.take()),
            };
            if failure.is_some() {
                give_up(&co.this::<Subprocess>()?)?;
            }
            if !waiter.is_none() && !waiter.call_method(&names::CANCELLED, &[])?.truth()? {
                match failure {
                    Some(exception) => waiter.call_method(&names::SET_EXCEPTION, &[&exception])?,
                    None => waiter.call_method(&names::SET_RESULT, &[&Obj::none()])?,
                };
            }
            Ok(Obj::none())
        },
    )
}

async fn step_by_step(co: &Co) -> R<()> {
    for (fd, name) in FILES.iter().enumerate() {
        let connecting = {
            let this = co.this::<Subprocess>()?;
            let file = this.popen.get_or_none().getattr_str(name)?;
            if file.is_none() {
                continue;
            }
            let protocol = pipe_protocol::make(&this, fd as u8)?;
            let method = if fd == 0 {
                "connect_write_pipe"
            } else {
                "connect_read_pipe"
            };
            let factory = protocol.obj().getattr_str("_itself")?;
            this.loop_
                .get_or_none()
                .call_method_str(method, &[&factory, &file])?
        };
        let pair = co.wait(connecting).await?.to_vec()?;
        let this = co.this::<Subprocess>()?;
        let made = pair.get(1).cloned().unwrap_or_else(Obj::none);
        this.wanted[fd].set(true);
        this.pipes[fd].put(PipeProtocol::class().instance(&made).cloned());
    }
    connected(&co.this::<Subprocess>()?)
}

// --- what comes from its pipes and from its end ---------------------------------------------------

/// `call_soon(callback, *args)`
fn soon(loop_: &Obj, callback: Obj, args: &[Obj]) -> R<()> {
    if EVENT_LOOP.is_exact(loop_)
        && let Some(core) = core::of(loop_)
        && !core.patched.get()
    {
        core.check_closed()?;
        return handles::soon(loop_, core, callback, args, None).map(drop);
    }
    let mut all = vec![&callback];
    all.extend(args);
    loop_.call_method(&names::CALL_SOON, &all).map(drop)
}

/// `_call(callback, *args)`
fn call(this: &Own<Subprocess>, callback: Obj, args: &[Obj]) -> R<()> {
    if this.connected.get() {
        return soon(&this.loop_.get_or_none(), callback, args);
    }
    this.pending.push_back((callback, Obj::tuple_of(args)?));
    Ok(())
}

/// `_pipe_data_received(fd, data)`
pub(super) fn pipe_data_received(this: &Own<Subprocess>, fd: u8, data: &Obj) -> R<()> {
    let callback = this.protocol.get_or_none().getattr_str("pipe_data_received")?;
    call(this, callback, &[Obj::int(fd.into())?, data.clone()])
}

/// `_pipe_connection_lost(fd, exc)`
pub(super) fn pipe_connection_lost(this: &Own<Subprocess>, fd: u8, exception: &Obj) -> R<()> {
    let callback = this.protocol.get_or_none().getattr_str("pipe_connection_lost")?;
    call(this, callback, &[Obj::int(fd.into())?, exception.clone()])?;
    try_finish(this)
}

/// `_process_exited(returncode)`
pub(super) fn process_exited(this: &Own<Subprocess>, returncode: i32) -> R<()> {
    if let Some(before) = this.returncode.get() {
        return Err(assertion_error(&before.to_string()));
    }
    if is_debugged(this) {
        let code = Obj::int(returncode.into())?;
        log(
            "info",
            "%r exited with return code %r",
            &[this.obj(), &code],
            None,
        )?;
    }
    this.returncode.set(Some(returncode));
    let popen = this.popen.get_or_none();
    if !popen.is_none() && popen.getattr_str("returncode")?.is_none() {
        popen.setattr_str("returncode", &Obj::int(returncode.into())?)?;
    }
    this.child.with(|child| {
        if let Some(child) = child {
            child.give_up();
        }
    });
    let callback = this.protocol.get_or_none().getattr_str("process_exited")?;
    call(this, callback, &[])?;
    if this.broken.get() {
        wake_waiters(this)?;
    }
    try_finish(this)?;
    // after connection_lost: who has waited finds that there is no process any longer
    if version::SINCE_314.get() {
        wake_waiters(this)?;
    }
    Ok(())
}

fn wake_waiters(this: &Own<Subprocess>) -> R<()> {
    let returncode = returncode(this)?;
    for waiter in this.waiters.take() {
        if !waiter.call_method(&names::DONE, &[])?.truth()? {
            waiter.call_method(&names::SET_RESULT, &[&returncode])?;
        }
    }
    Ok(())
}

/// `_try_finish()`
fn try_finish(this: &Own<Subprocess>) -> R<()> {
    if this.returncode.get().is_none() || this.finished.get() {
        return Ok(());
    }
    let gone = |(wanted, pipe): (&Cell<bool>, &OwnSlot<PipeProtocol>)| {
        !wanted.get() || pipe.get().is_some_and(|pipe| pipe.disconnected.get())
    };
    if this.wanted.iter().zip(&this.pipes).all(gone) {
        this.finished.set(true);
        let callback = this.obj().getattr_str("_call_connection_lost")?;
        call(this, callback, &[Obj::none()])?;
    }
    Ok(())
}

/// `_call_connection_lost(exc)`
fn call_connection_lost(this: &Own<Subprocess>, exception: &Obj) -> R<()> {
    let told = this
        .protocol
        .get_or_none()
        .call_method(&names::CONNECTION_LOST, &[exception]);
    let failure = told.err().map(|raised| raised.take());
    let woken = wake_waiters(this);
    for slot in [&this.loop_, &this.popen, &this.protocol, &this.context] {
        slot.put(None);
    }
    let child = this.child.with(Option::take);
    drop(child);
    match failure {
        Some(exception) => Err(raise(&exception)),
        None => woken,
    }
}

// --- methods --------------------------------------------------------------------------------------

fn is_debugged(this: &Subprocess) -> bool {
    this.loop_
        .get()
        .is_some_and(|loop_| core::of(&loop_).is_some_and(|core| core.debug.get()))
}

fn returncode(this: &Subprocess) -> R<Obj> {
    this.returncode
        .get()
        .map_or_else(|| Ok(Obj::none()), |code| Obj::int(code.into()))
}

impl Subprocess {
    /// Its protocol.
    pub(super) fn protocol(&self) -> Obj {
        self.protocol.get_or_none()
    }
    /// Its `Popen`.
    pub(super) fn popen(&self) -> Obj {
        self.popen.get_or_none()
    }
    /// Its pid.
    pub(crate) fn pid(&self) -> R<Obj> {
        Ok(self.pid.get_or_none())
    }
}

/// `close()`; rule 3.
pub(crate) fn close(this: &Own<Subprocess>) -> R<()> {
    if this.closed.replace(true) {
        return Ok(());
    }
    let loop_is_open = match this.loop_.get() {
        Some(loop_) => core::of(&loop_).is_some_and(|core| !core.closed.get()),
        None => false,
    };
    // (the transports of a loop that is closed cannot be, which asyncio knows since 3.14)
    if loop_is_open {
        for pipe in &this.pipes {
            if let Some(protocol) = pipe.get() {
                protocol.pipe.get_or_none().call_method(&names::CLOSE, &[])?;
            }
        }
    }
    if this.popen.is_empty() || this.returncode.get().is_some() {
        return Ok(());
    }
    let runs = this
        .child
        .with(|child| child.as_ref().map(|child| !child.has_ended()));
    match runs {
        Some(false) => return Ok(()),
        Some(true) => {}
        None if !this.popen().call_method_str("poll", &[])?.is_none() => return Ok(()),
        None => {}
    }
    if is_debugged(this) {
        log(
            "warning",
            "Close running child process: kill %r",
            &[this.obj()],
            None,
        )?;
    }
    match kill(this) {
        Err(raised) if raised.matches(exc::process_lookup_error()) => raised.ignore(),
        // it may be running as another user
        Err(raised) if version::SINCE_313.get() && raised.matches(exc::permission_error()) => raised.ignore(),
        result => result?,
    }
    Ok(())
}

/// Rule 2.
fn signal(this: &Subprocess, number: &Obj) -> R<()> {
    let number = number.to_i64()?;
    let number = i32::try_from(number).unwrap_or(-1);
    let sent = this
        .child
        .with(|child| child.as_ref().map(|child| child.signal(number)));
    match sent {
        Some(sent) => sent.map_err(|error| os_error(&error)),
        // there is no child of ours: the test of a program
        None => this
            .popen()
            .call_method_str("send_signal", &[&Obj::int(number.into())?])
            .map(drop),
    }
}

/// The end of a child that still runs: by `Popen.kill`, if that is the program's.
fn kill(this: &Subprocess) -> R<()> {
    if is_replaced(this, "kill")? {
        return this.popen().call_method_str("kill", &[]).map(drop);
    }
    signal(this, &Obj::int(libc::SIGKILL.into())?)
}

/// Has the program put something in the place of `Popen` (a derived class, a mock), or of this method of the object?
fn is_replaced(this: &Subprocess, method: &str) -> R<bool> {
    let popen = this.popen();
    Ok(!popen.is_exactly(&imports::POPEN)
        || popen
            .getattr_str("__dict__")?
            .dict_get(&Obj::interned(method)?)?
            .is_some())
}

/// `_check_proc()`
fn check(this: &Subprocess) -> R<()> {
    if this.popen.is_empty() {
        return Err(raise(&exc::process_lookup_error().call0()?));
    }
    Ok(())
}

/// `send_signal(signal)`, `terminate()`, `kill()`. Before 3.13 asyncio leaves them to `Popen`'s methods of these names, which
/// may be the program's; since then it sends the signal itself.
fn send(args: &Args, method: &str, number: &Obj) -> R<Obj> {
    let this = args.this::<Subprocess>()?;
    check(this)?;
    if !version::SIGNALS_WITHOUT_POPEN.get() && is_replaced(this, method)? {
        let arguments: Vec<&Obj> = args.opt(1).into_iter().collect();
        this.popen().call_method_str(method, &arguments)?;
    } else {
        signal(this, number)?;
    }
    Ok(Obj::none())
}

fn get_pipe_transport(args: &Args) -> R<Obj> {
    let (this, wanted) = (args.this::<Subprocess>()?, args.req(1)?);
    for fd in 0..3 {
        if this.wanted[fd].get() && wanted.eq(&Obj::int(fd as i64)?)? {
            return match this.pipes[fd].get() {
                Some(protocol) => Ok(protocol.pipe.get_or_none()),
                None => Err(attribute_error("'NoneType' object has no attribute 'pipe'")),
            };
        }
    }
    Ok(Obj::none())
}

/// `_wait()`: the return code, when there is one.
fn wait(args: &Args) -> R<Obj> {
    let this = args.this::<Subprocess>()?;
    Coroutine::boxed(
        "BaseSubprocessTransport._wait",
        &[this.obj()],
        |co: Co| async move {
            let this = co.this::<Subprocess>()?;
            if this.returncode.get().is_some() {
                return returncode(&this);
            }
            let waiter = methods::create(&this.loop_.get_or_none())?;
            this.waiters.push_back(waiter.clone());
            co.set(1, waiter.clone());
            drop(this);
            let result = co.wait(waiter).await;
            let (this, waiter) = (co.this::<Subprocess>()?, co.local(1));
            drop(this.waiters.remove_first(|one| one.is(&waiter)));
            result
        },
    )
}

/// `_pipes`: a dict made for the occasion.
fn pipes(this: &Own<Subprocess>) -> R<Obj> {
    let all = Obj::dict()?;
    for fd in 0..3 {
        if this.wanted[fd].get() {
            let protocol = this.pipes[fd].get().map_or_else(Obj::none, Own::into_obj);
            all.dict_set(&Obj::int(fd as i64)?, &protocol)?;
        }
    }
    Ok(all)
}

fn repr(this: &Own<Subprocess>) -> R<Obj> {
    let mut text = String::from("<_UnixSubprocessTransport");
    if this.closed.get() {
        text.push_str(" closed");
    }
    match (this.pid.get(), this.returncode.get()) {
        (Some(pid), Some(code)) => text.push_str(&format!(" pid={} returncode={code}", pid.repr()?)),
        (Some(pid), None) => text.push_str(&format!(" pid={} running", pid.repr()?)),
        (None, _) => text.push_str(" not started"),
    }
    for (pipe, name) in this.pipes.iter().zip(FILES) {
        if let Some(protocol) = pipe.get() {
            text.push_str(&format!(
                " {name}={}",
                protocol.pipe.get_or_none().to_str()?.to_string()?
            ));
        }
    }
    text.push('>');
    Obj::str(&text)
}

static CLASS: ClassCell<Subprocess> = ClassCell::new();

impl Class for Subprocess {
    const NAME: &'static CStr = c"asyncio.unix_events._UnixSubprocessTransport";
    const SUBCLASSABLE: bool = false;
    const DICT: Option<usize> = Some(offset_of!(Subprocess, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Subprocess, weakrefs));
    const FINALIZE: bool = true;

    fn class() -> &'static ClassCell<Subprocess> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Subprocess>) -> R<()> {
        slots.no_new();
        slots.repr(repr);
        // for `isinstance`
        slots.get(c"__class__", |_| Ok(imports::UNIX_SUBPROCESS_TRANSPORT.clone()));
        slots.method("set_protocol(self, protocol)", |args| {
            args.this::<Subprocess>()?.protocol.set(args.req(1)?.clone());
            Ok(Obj::none())
        })?;
        slots.method("get_protocol(self)", |args| {
            Ok(args.this::<Subprocess>()?.protocol())
        })?;
        slots.method("is_closing(self)", |args| {
            Ok(Obj::bool(args.this::<Subprocess>()?.closed.get()))
        })?;
        slots.method("close(self)", |args| {
            close(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.method("get_pid(self)", |args| args.this::<Subprocess>()?.pid())?;
        slots.method("get_returncode(self)", |args| {
            returncode(args.this::<Subprocess>()?)
        })?;
        slots.method("get_pipe_transport(self, fd)", get_pipe_transport)?;
        slots.method("send_signal(self, signal)", |args| {
            send(args, "send_signal", args.req(1)?)
        })?;
        slots.method("terminate(self)", |args| {
            send(args, "terminate", &Obj::int(libc::SIGTERM.into())?)
        })?;
        slots.method("kill(self)", |args| {
            send(args, "kill", &Obj::int(libc::SIGKILL.into())?)
        })?;
        slots.async_method("_wait(self)", wait)?;
        slots.method("_check_proc(self)", |args| {
            check(args.this::<Subprocess>()?)?;
            Ok(Obj::none())
        })?;
        slots.async_method("_connect_pipes(self, waiter)", |args| {
            connect_pipes(args.this()?, args.req(1)?)
        })?;
        slots.method("_process_exited(self, returncode)", |args| {
            process_exited(args.this()?, args.req(1)?.to_i64()? as i32)?;
            Ok(Obj::none())
        })?;
        slots.method("_call_connection_lost(self, exc)", |args| {
            call_connection_lost(args.this()?, args.req(1)?)?;
            Ok(Obj::none())
        })?;
        slots.get(c"_loop", |this| Ok(this.loop_.get_or_none()));
        slots.get(c"_protocol", |this| Ok(this.protocol()));
        slots.get(c"_proc", |this| Ok(this.popen()));
        slots.get(c"_pid", |this| this.pid());
        slots.get(c"_returncode", |this| returncode(this));
        slots.get(c"_pipes", pipes);
        slots.get(c"_closed", |this| Ok(Obj::bool(this.closed.get())));
        slots.get(c"_finished", |this| Ok(Obj::bool(this.finished.get())));
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
        for pipe in &self.pipes {
            pipe.visit(visitor);
        }
        self.pending.for_each(|(callback, args)| {
            visitor.obj(callback);
            visitor.obj(args);
        });
        self.waiters.for_each(|waiter| visitor.obj(waiter));
    }
    fn clear(&self) {
        for slot in self.slots_held() {
            slot.put(None);
        }
        for pipe in &self.pipes {
            drop(pipe.take());
        }
        drop(self.pending.take());
        drop(self.waiters.take());
    }
    fn wants_finalize(&self) -> bool {
        !self.closed.get()
    }
    /// "unclosed transport …"; rule 3.
    fn finalize(this: &Own<Subprocess>) {
        if this.closed.get() {
            return;
        }
        for end in [
            |this: &Own<Subprocess>| warn_unclosed(&imports::UNIX_SUBPROCESS_TRANSPORT, this.obj()),
            close,
        ] {
            if let Err(raised) = end(this) {
                raised.unraisable(this.obj());
            }
        }
    }
}

impl Subprocess {
    fn slots_held(&self) -> [&Slot; 6] {
        [
            &self.extra,
            &self.loop_,
            &self.protocol,
            &self.popen,
            &self.pid,
            &self.context,
        ]
    }
}
