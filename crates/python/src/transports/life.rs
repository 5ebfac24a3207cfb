//! What all transports share: the life of one, from `connection_made` to `connection_lost`
//! (`asyncio.selector_events._SelectorTransport`, and the same again in `asyncio.unix_events`).
//!
//! Owns the state that does not depend on what kind of transport it is ([`Life`], which a transport derefs to), and
//! the steps of that life. What differs stands in the transport's own file: its [`Transport`].
//!
//! Rules
//! 1. `connection_made` comes first, in a turn after the one that made the transport; reading begins right
//!    after it, and only then does whoever opened the connection go on.
//! 2. `connection_lost` comes last and once, never from inside a call of the program's (but for a queue
//!    that runs empty after `close()`).
//! 3. While the loop watches the descriptor, the loop keeps the transport alive; else only the program does.
//! 4. Whatever a protocol raises ends up at the exception handler; KeyboardInterrupt and SystemExit leave the
//!    loop, with the transport in order.
//! 5. The program may close a socket that it has given us, and its number may be another file's by then: a
//!    transport never touches what the loop has for a number that is not its own any more.

use super::socket::{Socket, address};
use super::{Happening, Source, log_debug, report, telling, trsock};
use crate::event_loop::core::{self, Entry, LoopCore};
use crate::event_loop::readers::{self, Side};
use crate::event_loop::run::is_fatal;
use crate::event_loop::{errors, handles};
use crate::ffi::errors::{R, exc, finally, raise, runtime_error};
use crate::ffi::object::Static;
use crate::ffi::pyclass::Field;
use crate::ffi::{Args, Class, Obj, Own, OwnSlot, Raised, Slot, Slots, Visitor, WeakRefs, class, context};
use crate::futures::Future;
use crate::imports::{self, names};
use crate::resource_warning;
use crate::version;
use aioxide_core::socket::Address;
use std::cell::Cell;
use std::mem::offset_of;
use std::ops::Deref;

/// The state. It is the first field of a transport, and its own first field is where `asyncio.BaseTransport`
/// has its `_extra`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Life {
    /// What the program asks for by `get_extra_info`, but for what the fields below say.
    extra: Slot,
    dict: Slot,
    weakrefs: WeakRefs,
    // What each read and each write looks at comes next, in one line of the cache.
    pub(super) loop_: Slot,
    pub(super) protocol: Slot,
    /// That of `connection_made`, then of reading; since 3.15 of every callback.
    pub(super) context: Slot,
    pub(super) socket: Socket,
    /// Counts writes after the connection was lost. Not zero: `connection_lost` has been arranged for.
    pub(super) conn_lost: Cell<u32>,
    pub(super) closing: Cell<bool>,
    pub(super) paused: Cell<bool>,
    /// The loop watches for something to read.
    pub(super) reading: Cell<bool>,
    /// The loop watches for room to write.
    pub(super) writing: Cell<bool>,
    /// The loop knows that the number is a transport's.
    occupies: Cell<bool>,
    // The rest is for its beginning and its end.
    pub(super) local: Address,
    pub(super) peer: Address,
    /// Whoever waits for the connection to be made.
    waiter: OwnSlot<Future>,
    /// That of writing, while the queue waits; at last that of `connection_lost`.
    pub(super) write_context: Slot,
    /// What `connection_lost` is going to be told.
    exception: Slot,
}

/// Where the instance dict and the list of weak references are, for [`Class`].
pub(super) const DICT: Option<usize> = Some(offset_of!(Life, dict));
/// See [`DICT`].
pub(super) const WEAKREFS: Option<usize> = Some(offset_of!(Life, weakrefs));

/// What one kind of transport adds. Its struct begins with a [`Life`].
pub(crate) trait Transport: Class + Deref<Target = Life> {
    /// Since 3.15 all its callbacks run in one context; those of the others in one each, as ever.
    const ONE_CONTEXT: bool = false;
    /// The names that `get_extra_info` knows without the dict.
    const EXTRA: &'static [&'static str] = &["socket", "sockname", "peername"];
    /// What it does when there is room is called so.
    const WRITE_READY: &'static str = "_write_ready";
    /// What `_fatal_error` says unless it is told what to say.
    const FATAL_ERROR: &'static str = "Fatal error on transport";
    /// The class of asyncio's that it stands for.
    const ASYNCIOS: &'static Static = &imports::SELECTOR_TRANSPORT;
    /// Others must not watch its descriptor.
    const OCCUPIES: bool = true;

    /// How the ready queue and the reactor have it.
    fn source(this: &Own<Self>) -> Source;
    /// `_read_ready()`, in its context.
    fn read_ready(this: &Own<Self>, loop_: &Obj, core: &Own<LoopCore>) -> R<()>;
    /// `_write_ready()`, in its context.
    fn write_ready(this: &Own<Self>) -> R<()>;
    /// `get_write_buffer_size()`
    fn waiting(&self) -> usize;
    /// Is there nothing that waits to be sent?
    fn is_idle(&self) -> bool {
        self.waiting() == 0
    }
    /// `close()`: what is queued is sent first.
    fn close(this: &Own<Self>) -> R<()> {
        close(this)
    }
    /// Is an exception that ends it no news, but for debug mode?
    fn expects(exception: &Obj) -> R<bool> {
        exception.isinstance(exc::os_error())
    }
    /// What has been held back goes out before somebody can tell.
    fn settle(_this: &Own<Self>) -> R<()> {
        Ok(())
    }
    /// What waits to be sent is dropped, and nobody watches for room.
    fn forget(this: &Own<Self>);
    /// `set_protocol(protocol)`
    fn set_protocol(this: &Own<Self>, protocol: &Obj) -> R<()> {
        this.protocol.set(protocol.clone());
        Ok(())
    }
    /// The descriptor is given up: whoever else knows of the transport is told.
    fn ended(_this: &Own<Self>) -> R<()> {
        Ok(())
    }
}

/// `asyncio.BaseTransport.get_extra_info`, as it was at first.
static GET_EXTRA_INFO: Static = Static::new();

/// `asyncio.BaseTransport` is a Python class with one slot, and those derived from it have no more. Ours has it in the
/// same place.
pub(crate) fn check_layout(base: &Obj) -> R<()> {
    GET_EXTRA_INFO.fill(base.getattr(&names::GET_EXTRA_INFO)?);
    let field = Field::new();
    field.find(base, "_extra")?;
    let size = base.getattr_str("__basicsize__")?.to_i64()? as usize;
    if field.offset() != class::body_offset() || size != class::body_offset() + size_of::<Slot>() {
        return Err(runtime_error(
            "this Python's asyncio transports are laid out differently",
        ));
    }
    Ok(())
}

// --- the beginning --------------------------------------------------------------------------------

impl Life {
    /// The state before [`begin`].
    pub(super) fn new(
        loop_: &Obj,
        socket: Socket,
        waiter: Option<Own<Future>>,
        extra: Option<Obj>,
        context: Option<Obj>,
    ) -> R<Life> {
        let life = Life {
            socket,
            ..Life::default()
        };
        life.extra.put(extra);
        life.loop_.set(loop_.clone());
        life.waiter.put(waiter);
        life.context.set(match context {
            Some(context) => context,
            None => context::copy()?,
        });
        Ok(life)
    }
    /// Has nobody given it methods of its own?
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.dict.is_empty()
    }
    /// The descriptor, for whoever sends in its place; `None` if the connection is lost.
    pub(crate) fn descriptor(&self) -> Option<i32> {
        (self.conn_lost.get() == 0 && !self.socket.is_gone()).then(|| self.socket.fd())
    }
    /// `is_closing()`
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }
    /// Is there something that `get_extra_info()` knows but the fields do not?
    pub(crate) fn has_extra(&self) -> bool {
        !self.extra.is_empty()
    }
    /// For the garbage collector.
    pub(super) fn visit(&self, visitor: &mut Visitor) {
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
        self.socket.visit(visitor);
        self.waiter.visit(visitor);
    }
    /// For the garbage collector, too.
    pub(super) fn clear(&self) {
        leave_loop(self);
        for slot in self.slots_held() {
            slot.put(None);
        }
        drop(self.waiter.take());
    }
    fn slots_held(&self) -> [&Slot; 6] {
        [
            &self.extra,
            &self.loop_,
            &self.protocol,
            &self.context,
            &self.write_context,
            &self.exception,
        ]
    }
}

/// The descriptor is that of `this` now: rule 1 is arranged for.
pub(super) fn begin<T: Transport>(this: &Own<T>, core: &LoopCore) {
    if T::OCCUPIES {
        readers::occupy(core, this.socket.number(), this.obj());
        this.occupies.set(true);
    }
    core.push(Entry::Source(T::source(this), Happening::Made));
}

/// Rule 1.
fn made<T: Transport>(
    this: &Own<T>,
    loop_: &Obj,
    core: &Own<LoopCore>,
    call: impl FnOnce(&Obj, &Obj) -> R<()>,
) -> R<()> {
    let (context, protocol) = (this.context.get_or_none(), this.protocol.get_or_none());
    if !has_one_context::<T>() && !telling::runs_no_code(&protocol) {
        // What `connection_made` sets, reading does not see.
        this.context.set(context::copy_of(&context)?);
    }
    let mut fatal = None;
    if let Err(raised) = call(&protocol, &context) {
        let is_fatal = is_fatal(&raised);
        let exception = raised.take();
        if is_fatal {
            fatal = Some(exception);
        } else {
            let connection_made = protocol.getattr(&names::CONNECTION_MADE)?;
            let handle = handles::make(loop_, connection_made, &[this.obj().clone()], Some(context))?;
            errors::report_callback(loop_, &handle, &exception)?;
        }
    }
    if let Err(raised) = start_reading(this, core, true) {
        let callback = this.obj().getattr_str("_add_reader")?;
        let exception = raised.take();
        let handle = handles::make(loop_, callback, &[], None)?;
        errors::report_callback(loop_, &handle, &exception)?;
    }
    if let Some(waiter) = this.waiter.take()
        && !waiter.is_done()
    {
        waiter.finish(Obj::none())?;
    }
    match fatal {
        Some(exception) => Err(raise(&exception)),
        None => Ok(()),
    }
}

// --- what the loop calls it for -------------------------------------------------------------------

/// Something has happened.
#[inline]
pub(super) fn run<T: Transport>(
    this: &Own<T>,
    loop_: &Obj,
    core: &Own<LoopCore>,
    happening: Happening,
) -> R<()> {
    if core.debug.get() {
        return run_in_debug_mode(this, loop_, core, happening);
    }
    match happening {
        // it may have been paused or closed earlier in this turn
        Happening::Readable | Happening::Again if !this.reading.get() => Ok(()),
        Happening::Readable | Happening::Again => {
            let context = this.context.get();
            let read = || T::read_ready(this, loop_, core);
            match context
                .as_ref()
                .map_or_else(read, |context| context::run(context, read))
            {
                Ok(()) => Ok(()),
                Err(raised) => failed(this, loop_, "_read_ready", &[], context, raised),
            }
        }
        Happening::Writable if !this.writing.get() => Ok(()),
        Happening::Writable => {
            let context = this.write_context.get();
            let write = || T::write_ready(this);
            match context
                .as_ref()
                .map_or_else(write, |context| context::run(context, write))
            {
                Ok(()) => Ok(()),
                Err(raised) => failed(this, loop_, T::WRITE_READY, &[], context, raised),
            }
        }
        Happening::Made => made(this, loop_, core, |protocol, context| {
            context::run(context, || {
                telling::connection_made(protocol, this.obj(), Some(context))
            })
        }),
        Happening::Lost => {
            let context = this.write_context.take();
            let exception = this.exception.take().unwrap_or_else(Obj::none);
            let lost = || call_connection_lost(this, &exception);
            match context
                .as_ref()
                .map_or_else(lost, |context| context::run(context, lost))
            {
                Ok(()) => Ok(()),
                Err(raised) => failed(
                    this,
                    loop_,
                    "_call_connection_lost",
                    &[exception],
                    context,
                    raised,
                ),
            }
        }
    }
}

/// Rule 4: what the program has raised is an exception in a callback, which is a method of the transport's.
#[cold]
fn failed<T: Transport>(
    this: &Own<T>,
    loop_: &Obj,
    method: &str,
    args: &[Obj],
    context: Option<Obj>,
    raised: Raised,
) -> R<()> {
    if is_fatal(&raised) {
        return Err(raised);
    }
    let failure = raised.take();
    let handle = handles::make(loop_, this.obj().getattr_str(method)?, args, context)?;
    errors::report_callback(loop_, &handle, &failure)
}

/// The same by way of a handle, which debug mode times and names.
#[cold]
fn run_in_debug_mode<T: Transport>(
    this: &Own<T>,
    loop_: &Obj,
    core: &Own<LoopCore>,
    happening: Happening,
) -> R<()> {
    let timed = |method: &str, args: &[Obj], context: Option<Obj>| {
        let callback = this.obj().getattr_str(method)?;
        crate::debug::run_timed(core, &handles::make(loop_, callback, args, context)?)
    };
    match happening {
        Happening::Readable | Happening::Again if !this.reading.get() => Ok(()),
        Happening::Readable | Happening::Again => timed("_read_ready", &[], this.context.get()),
        Happening::Writable if !this.writing.get() => Ok(()),
        Happening::Writable => timed(T::WRITE_READY, &[], this.write_context.get()),
        Happening::Lost => {
            let exception = this.exception.take().unwrap_or_else(Obj::none);
            timed("_call_connection_lost", &[exception], this.write_context.take())
        }
        Happening::Made => made(this, loop_, core, |protocol, context| {
            let handle = handles::make(
                loop_,
                protocol.getattr(&names::CONNECTION_MADE)?,
                &[this.obj().clone()],
                Some(context.clone()),
            )?;
            crate::debug::run_timed(core, &handle)
        }),
    }
}

// --- watching the descriptor ----------------------------------------------------------------------

/// `is_reading()`
pub(super) fn wants_to_read(this: &Life) -> bool {
    !this.closing.get() && !this.paused.get()
}

/// The loop watches for something to read, if that is wanted. `fresh`: the descriptor is new to it.
fn start_reading<T: Transport>(this: &Own<T>, core: &Own<LoopCore>, fresh: bool) -> R<()> {
    if !wants_to_read(this) || this.reading.get() || is_closed_behind_its_back(this) {
        return Ok(());
    }
    readers::add_source(core, this.socket.number(), Side::Reader, T::source(this), fresh)?;
    this.reading.set(true);
    Ok(())
}

/// The loop watches no longer for something to read. `pause`: it soon may again, and the kernel is not told;
/// so whoever stops for good after a pause has to tell it.
pub(super) fn stop_reading(this: &Life, pause: bool) {
    let told = !this.reading.replace(false);
    if told && (pause || !this.paused.get()) {
        return;
    }
    if let Some(loop_) = this.loop_.get()
        && let Some(core) = core::of(&loop_)
    {
        readers::remove_source_of(this, core, this.socket.number(), Side::Reader, pause);
    }
}

/// Rule 5.
fn is_closed_behind_its_back(this: &Life) -> bool {
    this.socket.fd() != this.socket.number()
}

/// The loop watches for room to write.
pub(super) fn start_writing<T: Transport>(this: &Own<T>) -> R<()> {
    let Some(loop_) = this.loop_.get() else {
        return Ok(());
    };
    let Some(core) = core::of(&loop_) else {
        return Ok(());
    };
    if is_closed_behind_its_back(this) || this.writing.replace(true) {
        return Ok(());
    }
    this.write_context.set(callback_context::<T>(this)?);
    readers::add_source(core, this.socket.number(), Side::Writer, T::source(this), true)
}

/// The loop does not watch for room any longer.
pub(super) fn stop_writing(this: &Life) {
    if !this.writing.replace(false) {
        return;
    }
    if let Some(loop_) = this.loop_.get()
        && let Some(core) = core::of(&loop_)
    {
        readers::remove_source_of(this, core, this.socket.number(), Side::Writer, false);
    }
}

/// A context for a callback that is arranged for now.
fn callback_context<T: Transport>(this: &Own<T>) -> R<Obj> {
    if has_one_context::<T>() {
        return Ok(this.context.get_or_none());
    }
    context::copy()
}

fn has_one_context<T: Transport>() -> bool {
    T::ONE_CONTEXT && version::CONNECTION_CONTEXT.get()
}

/// Debug mode: what has happened to this transport.
pub(super) fn debug<T: Transport>(this: &Own<T>, text: &str) -> R<()> {
    match this.loop_.get() {
        Some(loop_) if core::of(&loop_).is_some_and(|core| core.debug.get()) => {
            log_debug(text, &[this.obj()], None)
        }
        _ => Ok(()),
    }
}

// --- the end --------------------------------------------------------------------------------------

/// `close()`: what is queued is sent first.
pub(crate) fn close<T: Transport>(this: &Own<T>) -> R<()> {
    T::settle(this)?;
    if this.closing.replace(true) {
        return Ok(());
    }
    stop_reading(this, false);
    if this.is_idle() {
        stop_writing(this);
        arrange_for_connection_lost(this, None)?;
    }
    Ok(())
}

/// `_force_close(exception)`: what is queued is lost.
pub(super) fn force_close<T: Transport>(this: &Own<T>, exception: Option<Obj>) -> R<()> {
    if this.conn_lost.get() > 0 {
        return Ok(());
    }
    T::forget(this);
    this.closing.set(true);
    stop_reading(this, false);
    arrange_for_connection_lost(this, exception)
}

/// `_fatal_error(exception, message)`
#[cold]
pub(super) fn fatal_error<T: Transport>(this: &Own<T>, exception: Obj, message: &str) -> R<()> {
    if let Some(loop_) = this.loop_.get() {
        if !T::expects(&exception)? {
            report(
                &loop_,
                message,
                &exception,
                this.obj(),
                &this.protocol.get_or_none(),
            )?;
        } else if core::of(&loop_).is_some_and(|core| core.debug.get()) {
            log_debug("%r: %s", &[this.obj(), &Obj::str(message)?], Some(&exception))?;
        }
    }
    force_close(this, Some(exception))
}

/// `call_soon(_call_connection_lost, exception)`
pub(super) fn arrange_for_connection_lost<T: Transport>(this: &Own<T>, exception: Option<Obj>) -> R<()> {
    this.conn_lost.set(this.conn_lost.get() + 1);
    let Some(loop_) = this.loop_.get() else {
        return Ok(());
    };
    let Some(core) = core::of(&loop_) else {
        return Ok(());
    };
    core.check_closed()?;
    this.exception.put(exception);
    this.write_context.set(callback_context::<T>(this)?);
    core.push(Entry::Source(T::source(this), Happening::Lost));
    Ok(())
}

/// `_call_connection_lost(exception)`
pub(super) fn call_connection_lost<T: Transport>(this: &Own<T>, exception: &Obj) -> R<()> {
    let told = match this.protocol.get() {
        Some(protocol) => telling::connection_lost(&protocol, exception),
        None => Ok(()),
    };
    finally(told, || {
        finally(give_up_socket(this), || {
            this.protocol.put(None);
            this.context.put(None);
            this.write_context.put(None);
            this.loop_.put(None);
            T::ended(this)
        })
    })
}

/// Closes the socket; the number is free for others.
fn give_up_socket(this: &Life) -> R<()> {
    leave_loop(this);
    let loop_ = this.loop_.get();
    let abandoned = match loop_.as_ref().and_then(core::of) {
        Some(core) => readers::abandon(core, this.socket.shown()),
        None => Ok(()),
    };
    finally(abandoned, || this.socket.close())
}

/// The loop forgets that the number is a transport's.
pub(super) fn leave_loop(this: &Life) {
    if this.occupies.replace(false)
        && let Some(loop_) = this.loop_.get()
        && let Some(core) = core::of(&loop_)
    {
        readers::vacate(core, this.socket.shown(), this);
    }
}

/// Nobody has it any more, and nobody has closed it: "unclosed transport …"
pub(super) fn finalize<T: Transport>(this: &Own<T>) {
    if this.socket.is_gone() {
        return;
    }
    if let Err(raised) = warn_unclosed(T::ASYNCIOS, this.obj()) {
        raised.unraisable(this.obj());
    }
    stop_reading(this, false);
    T::forget(this);
    for end in [|this: &Own<T>| give_up_socket(this), T::ended] {
        if let Err(raised) = end(this) {
            raised.unraisable(this.obj());
        }
    }
}

/// `asyncios` is the class of asyncio's that would.
pub(crate) fn warn_unclosed(asyncios: &Obj, this: &Obj) -> R<()> {
    resource_warning::warn(
        asyncios,
        "__del__",
        &format!("unclosed transport {}", this.repr()?),
        Some(this),
    )
}

// --- what the program may ask for -----------------------------------------------------------------

/// The dict of `get_extra_info`, made if need be.
pub(super) fn extra(this: &Life) -> R<Obj> {
    if let Some(extra) = this.extra.get() {
        return Ok(extra);
    }
    let extra = Obj::dict()?;
    this.extra.set(extra.clone());
    Ok(extra)
}

/// `max_size`, if the program has set it: how much is read at once.
#[inline]
pub(super) fn own_max_size(this: &Life) -> R<Option<i64>> {
    match this.dict.get() {
        None => Ok(None),
        Some(dict) => {
            let size = dict.dict_get(&Obj::interned("max_size")?)?;
            size.as_ref().map(Obj::to_i64).transpose()
        }
    }
}

/// Addresses that only Python's socket module can write down are asked for while they can be.
pub(super) fn ask_for_odd_addresses(this: &Life) -> R<()> {
    for (known, key, method) in [
        (&this.local, "sockname", "getsockname"),
        (&this.peer, "peername", "getpeername"),
    ] {
        if !matches!(known, Address::Other) || this.socket.made_object().is_none() {
            continue;
        }
        let key = Obj::interned(key)?;
        if (this.extra.get()).map_or(Ok(false), |extra| extra.contains(&key))? {
            continue;
        }
        let Some(object) = this.socket.object()? else {
            continue;
        };
        let value = match object.call_method_str(method, &[]) {
            Ok(value) => value,
            Err(raised) if raised.matches(exc::os_error()) => {
                raised.ignore();
                Obj::none()
            }
            Err(raised) => return Err(raised),
        };
        extra(this)?.dict_set(&key, &value)?;
    }
    Ok(())
}

fn get_extra_info<T: Transport>(args: &Args) -> R<Obj> {
    let (this, name) = (args.this::<T>()?, args.req(1)?);
    if let Some(patched) = patched_get_extra_info(this.obj())? {
        return match args.get(2) {
            Some(default) => patched.call(&[name, default]),
            None => patched.call(&[name]),
        };
    }
    if let Some(extra) = this.extra.get()
        && let Some(value) = extra.dict_get(name)?
    {
        return Ok(value);
    }
    for known in T::EXTRA {
        if name.eq(&Obj::interned(known)?)?
            && let Some(value) = from_fields(this, known)?
        {
            return Ok(value);
        }
    }
    Ok(args.get(2).cloned().unwrap_or_else(Obj::none))
}

/// Somebody has put something else into `asyncio.Transport` or `asyncio.BaseTransport`, from which asyncio's transports
/// inherit this method: so that is what a test gets that patches it there (websockets' do).
fn patched_get_extra_info(this: &Obj) -> R<Option<Obj>> {
    let class = this.class();
    let inherited = class.getattr_str("__base__")?.getattr(&names::GET_EXTRA_INFO)?;
    if inherited.is(GET_EXTRA_INFO.get()) {
        return Ok(None);
    }
    let parent = Obj::import("builtins")?.call_method_str("super", &[&class, this])?;
    parent.getattr(&names::GET_EXTRA_INFO).map(Some)
}

/// What the fields know of `name`.
fn from_fields<T: Transport>(this: &Own<T>, name: &str) -> R<Option<Obj>> {
    let written = match name {
        "peername" => address(&this.peer)?,
        "sockname" => address(&this.local)?,
        _ => {
            T::settle(this)?;
            let Some(object) = this.socket.object()? else {
                return Ok(None);
            };
            let shown = trsock::shown(&object)?;
            extra(this)?.dict_set(&Obj::interned(name)?, &shown)?;
            return Ok(Some(shown));
        }
    };
    Ok(Some(written.unwrap_or_else(Obj::none)))
}

/// `_extra`: everything, as a dict.
fn whole_extra<T: Transport>(this: &Own<T>) -> R<Obj> {
    let extra = extra(this)?;
    for known in T::EXTRA {
        let name = Obj::interned(known)?;
        if extra.dict_get(&name)?.is_none()
            && let Some(value) = from_fields(this, known)?
        {
            extra.dict_set(&name, &value)?;
        }
    }
    Ok(extra)
}

/// `_SelectorTransport.__repr__`
pub(super) fn repr<T: Transport>(this: &Own<T>) -> R<Obj> {
    let name = T::NAME.to_string_lossy();
    let mut text = format!("<{}", name.rsplit('.').next().unwrap_or_default());
    if this.socket.is_gone() {
        text.push_str(" closed");
    } else if this.closing.get() {
        text.push_str(" closing");
    }
    text.push_str(&format!(" fd={}", this.socket.shown()));
    let open = match this.loop_.get() {
        Some(loop_) => core::of(&loop_).is_some_and(|core| !core.closed.get()),
        None => false,
    };
    if open {
        let polls = |is: bool| if is { "polling" } else { "idle" };
        text.push_str(&format!(
            " read={} write=<{}, bufsize={}>",
            polls(this.reading.get()),
            polls(this.writing.get()),
            this.waiting()
        ));
    }
    text.push('>');
    Obj::str(&text)
}

/// `pause_reading()`
pub(crate) fn pause_reading<T: Transport>(this: &Own<T>) -> R<()> {
    if wants_to_read(this) {
        this.paused.set(true);
        stop_reading(this, true);
        debug(this, "%r pauses reading")?;
    }
    Ok(())
}

/// `resume_reading()`
pub(crate) fn resume_reading<T: Transport>(this: &Own<T>) -> R<()> {
    if this.closing.get() || !this.paused.get() {
        return Ok(());
    }
    this.paused.set(false);
    if let Some(loop_) = this.loop_.get()
        && let Some(core) = core::of(&loop_)
    {
        if !has_one_context::<T>() {
            this.context.set(context::copy()?);
        }
        start_reading(this, core, false)?;
    }
    debug(this, "%r resumes reading")
}

/// The methods and attributes of every transport.
pub(super) fn slots<T: Transport>(slots: &mut Slots<T>) -> R<()> {
    slots.method("close(self)", |args| {
        T::close(args.this::<T>()?)?;
        Ok(Obj::none())
    })?;
    slots.method("is_closing(self)", |args| {
        Ok(Obj::bool(args.this::<T>()?.closing.get()))
    })?;
    slots.method("set_protocol(self, protocol)", |args| {
        T::set_protocol(args.this()?, args.req(1)?)?;
        Ok(Obj::none())
    })?;
    slots.method("get_protocol(self)", |args| {
        Ok(args.this::<T>()?.protocol.get_or_none())
    })?;
    slots.method("get_extra_info(self, name, default=None)", get_extra_info::<T>)?;
    // what a handle shows in debug mode and in reports
    slots.method("_call_connection_lost(self, exc)", |args| {
        call_connection_lost(args.this::<T>()?, args.req(1)?)?;
        Ok(Obj::none())
    })?;
    slots.method(
        &format!("_fatal_error(self, exc, message='{}')", T::FATAL_ERROR),
        |args| {
            let message = args.get(2).map_or_else(
                || Ok(T::FATAL_ERROR.to_owned()),
                |message| message.to_str()?.to_string(),
            )?;
            fatal_error(args.this::<T>()?, args.req(1)?.clone(), &message)?;
            Ok(Obj::none())
        },
    )?;
    slots.get(c"_extra", whole_extra);
    slots.get(c"_loop", |this| Ok(this.loop_.get_or_none()));
    slots.get(c"_protocol", |this| Ok(this.protocol.get_or_none()));
    slots.get(c"_closing", |this| Ok(Obj::bool(this.closing.get())));
    Ok(())
}

/// Those of one that reads.
pub(super) fn reading_slots<T: Transport>(slots: &mut Slots<T>) -> R<()> {
    slots.method("is_reading(self)", |args| {
        Ok(Obj::bool(wants_to_read(args.this::<T>()?)))
    })?;
    slots.method("pause_reading(self)", |args| {
        pause_reading(args.this::<T>()?)?;
        Ok(Obj::none())
    })?;
    slots.method("resume_reading(self)", |args| {
        resume_reading(args.this::<T>()?)?;
        Ok(Obj::none())
    })?;
    slots.method("_read_ready(self)", |args| {
        let this = args.this::<T>()?;
        if let Some(loop_) = this.loop_.get()
            && let Some(core) = core::of(&loop_)
        {
            T::read_ready(this, &loop_, core)?;
        }
        Ok(Obj::none())
    })?;
    slots.method("_add_reader(self)", |args| {
        let this = args.this::<T>()?;
        if let Some(loop_) = this.loop_.get()
            && let Some(core) = core::of(&loop_)
        {
            start_reading(this, core, true)?;
        }
        Ok(Obj::none())
    })?;
    slots.attribute("max_size", Obj::int(core::MOST as i64)?);
    slots.get(c"_paused", |this| Ok(Obj::bool(this.paused.get())));
    Ok(())
}

/// Those of one over a socket.
pub(super) fn socket_slots<T: Transport>(slots: &mut Slots<T>) -> R<()> {
    slots.repr(repr::<T>);
    slots.method("abort(self)", |args| {
        let this = args.this::<T>()?;
        T::settle(this)?;
        force_close(this, None)?;
        Ok(Obj::none())
    })?;
    slots.method("_force_close(self, exc)", |args| {
        let this = args.this::<T>()?;
        T::settle(this)?;
        force_close(this, args.opt(1).cloned())?;
        Ok(Obj::none())
    })?;
    slots.get(c"_sock", |this| {
        Ok(this.socket.object()?.unwrap_or_else(Obj::none))
    });
    slots.get(c"_sock_fd", |this| Obj::int(this.socket.shown().into()));
    slots.get(c"_conn_lost", |this| Obj::int(this.conn_lost.get().into()));
    Ok(())
}
