//! `_SelectorSocketTransport`: a TCP or Unix connection, from `connection_made` to `connection_lost`.
//!
//! Rules
//! 1. `connection_made` comes first, in a turn after the one that made the transport; reading begins right
//!    after it, and only then does whoever opened the connection go on.
//! 2. `connection_lost` comes last and once, never from inside a call of the program's (but for a queue
//!    that runs empty after `close()`).
//! 3. While the loop watches the descriptor, the loop keeps the transport alive; else only the program does.
//! 4. Whatever a protocol raises ends up at the exception handler; KeyboardInterrupt and SystemExit leave the
//!    loop, with the transport in order.

use super::flow::{self, Buffered, Flow};
use super::socket::{Socket, address};
use super::writing::Queue;
use super::{Happening, Source, log_debug, reading, report, writing};
use crate::event_loop::core::{self, Entry, LoopCore};
use crate::event_loop::readers::{self, Side};
use crate::event_loop::run::is_fatal;
use crate::event_loop::{errors, handles};
use crate::ffi::errors::{R, exc, raise, runtime_error};
use crate::ffi::pyclass::Field;
use crate::ffi::{
    Args, Class, ClassCell, Inner, Obj, Own, OwnSlot, Slot, Slots, Visitor, WeakRefs, class, context,
};
use crate::futures::Future;
use crate::imports::{self, names};
use crate::servers::server::{self, ServerCore};
use crate::version;
use aioxide_core::socket::{self as kernel, Address};
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// The object. Its first field is where `asyncio.BaseTransport` has its `_extra`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Stream {
    /// What the program asks for by `get_extra_info`, but for what the fields below say.
    extra: Slot,
    dict: Slot,
    weakrefs: WeakRefs,
    pub(super) loop_: Slot,
    pub(super) protocol: Slot,
    pub(super) socket: Socket,
    local: Address,
    peer: Address,
    server: OwnSlot<ServerCore>,
    /// Its place among the server's clients.
    seat: Cell<u32>,
    /// Whoever waits for the connection to be made.
    waiter: OwnSlot<Future>,
    /// That of `connection_made`, then of reading; since 3.15 of every callback.
    pub(super) context: Slot,
    /// That of writing, while the queue waits; at last that of `connection_lost`.
    pub(super) write_context: Slot,
    /// What `connection_lost` is going to be told.
    exception: Slot,
    pub(super) queue: Inner<Queue>,
    pub(super) flow: Flow,
    /// `loop.sendfile` waits for the queue to run empty; meanwhile nobody may write.
    pub(super) empty_waiter: Slot,
    /// Counts writes after the connection was lost. Not zero: `connection_lost` has been arranged for.
    pub(super) conn_lost: Cell<u32>,
    pub(super) closing: Cell<bool>,
    pub(super) paused: Cell<bool>,
    pub(super) eof: Cell<bool>,
    /// The protocol is a `BufferedProtocol`.
    pub(super) buffered: Cell<bool>,
    /// The loop watches for something to read.
    pub(super) reading: Cell<bool>,
    /// The loop watches for room to write.
    pub(super) writing: Cell<bool>,
    /// How much came at the last read.
    pub(super) last_read: Cell<u32>,
    pub(super) turns: writing::Turns,
    /// The loop knows that the number is a transport's.
    occupies: Cell<bool>,
}

/// `asyncio.BaseTransport` is a Python class with one slot. Ours has it in the same place.
pub(super) fn check_layout(base: &Obj) -> R<()> {
    let field = Field::new();
    field.find(base, "_extra")?;
    let size = base.getattr_str("__basicsize__")?.to_i64()? as usize;
    if field.offset() != class::body_offset() || size != class::body_offset() + size_of::<Slot>() {
        return Err(runtime_error(
            "this Python's asyncio.Transport is laid out differently",
        ));
    }
    Ok(())
}

/// What a transport is made of.
pub(crate) struct Opening<'a> {
    pub(crate) loop_: &'a Obj,
    pub(crate) socket: Socket,
    pub(crate) protocol: &'a Obj,
    /// Ended when the connection is made.
    pub(crate) waiter: Option<Own<Future>>,
    /// A dict for `get_extra_info`.
    pub(crate) extra: Option<Obj>,
    /// To which it belongs.
    pub(crate) server: Option<Own<ServerCore>>,
    /// For all callbacks (3.15).
    pub(crate) context: Option<Obj>,
    /// Who is at the other end, if that is known.
    pub(crate) peer: Option<Address>,
}

/// Makes a transport, and arranges for rule 1.
pub(crate) fn open(opening: Opening<'_>) -> R<Own<Stream>> {
    let (fd, accepted) = (opening.socket.number(), opening.socket.made_object().is_none());
    let core = core::of(opening.loop_).ok_or_else(|| runtime_error("an EventLoop is required"))?;
    core.check_closed()?;
    let local = kernel::local_address(fd).unwrap_or_default();
    let peer = match opening.peer {
        Some(peer) => peer,
        None => kernel::peer_address(fd).unwrap_or_default(),
    };
    // (an accepted connection has it from its listening socket)
    if !accepted
        && matches!(local, Address::Ip(_))
        && kernel::kind(fd)
            .is_ok_and(|(_, kind, protocol)| kind == libc::SOCK_STREAM && protocol == libc::IPPROTO_TCP)
    {
        // as in asyncio: it is no reason to fail
        let _ = kernel::set_no_delay(fd);
    }
    let context = match opening.context {
        Some(context) => context,
        None => context::copy()?,
    };
    let stream = Stream {
        socket: opening.socket,
        local,
        peer,
        ..Stream::default()
    };
    stream.extra.put(opening.extra);
    stream.loop_.set(opening.loop_.clone());
    stream.waiter.put(opening.waiter);
    stream.context.set(context);
    let this = Stream::class().alloc(stream)?;
    ask_for_odd_addresses(&this)?;
    set_protocol(&this, opening.protocol)?;
    if let Some(server) = opening.server {
        this.seat.set(server::attach(&server, this.obj())?);
        this.server.put(Some(server));
    }
    readers::occupy(core, fd, this.obj());
    this.occupies.set(true);
    core.push(Entry::Source(Source::Stream(this.clone()), Happening::Made));
    Ok(this)
}

/// Addresses that only Python's socket module can write down are asked for while they can be.
fn ask_for_odd_addresses(this: &Own<Stream>) -> R<()> {
    for (known, key, method) in [
        (&this.local, "sockname", "getsockname"),
        (&this.peer, "peername", "getpeername"),
    ] {
        let odd = match known {
            Address::Other => this.socket.made_object().is_some(),
            known => address(known)?.is_none(),
        };
        let key = Obj::interned(key)?;
        if !odd || (this.extra.get()).map_or(Ok(false), |extra| extra.contains(&key))? {
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

/// The dict, made if need be.
fn extra(this: &Own<Stream>) -> R<Obj> {
    if let Some(extra) = this.extra.get() {
        return Ok(extra);
    }
    let extra = Obj::dict()?;
    this.extra.set(extra.clone());
    Ok(extra)
}

/// What the loop calls it for.
#[inline]
pub(super) fn run(this: &Own<Stream>, loop_: &Obj, core: &Own<LoopCore>, happening: Happening) -> R<()> {
    if core.debug.get() {
        return run_in_debug_mode(this, loop_, core, happening);
    }
    match happening {
        Happening::Readable => reading::ready(this, loop_, core),
        Happening::Writable => writing::ready(this),
        Happening::Made => made(this, loop_, core, |connection_made, context| {
            context::run(context, || connection_made.call(&[this.obj()]).map(drop))
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
                Err(raised) if is_fatal(&raised) => Err(raised),
                Err(raised) => {
                    let failure = raised.take();
                    let callback = this.obj().getattr_str("_call_connection_lost")?;
                    let handle = handles::make(loop_, callback, &[exception], context)?;
                    errors::report_callback(loop_, &handle, &failure)
                }
            }
        }
    }
}

/// The same by way of a handle, which debug mode times and names.
#[cold]
fn run_in_debug_mode(this: &Own<Stream>, loop_: &Obj, core: &Own<LoopCore>, happening: Happening) -> R<()> {
    let timed = |method: &str, args: &[Obj], context: Option<Obj>| {
        let callback = this.obj().getattr_str(method)?;
        crate::debug::run_timed(core, &handles::make(loop_, callback, args, context)?)
    };
    match happening {
        Happening::Readable if !this.reading.get() => Ok(()),
        Happening::Readable => timed("_read_ready", &[], this.context.get()),
        Happening::Writable if !this.writing.get() => Ok(()),
        Happening::Writable => timed("_write_ready", &[], this.write_context.get()),
        Happening::Lost => {
            let exception = this.exception.take().unwrap_or_else(Obj::none);
            timed("_call_connection_lost", &[exception], this.write_context.take())
        }
        Happening::Made => made(this, loop_, core, |connection_made, context| {
            let handle = handles::make(
                loop_,
                connection_made.clone(),
                &[this.obj().clone()],
                Some(context.clone()),
            )?;
            crate::debug::run_timed(core, &handle)
        }),
    }
}

/// Rule 1.
fn made(
    this: &Own<Stream>,
    loop_: &Obj,
    core: &Own<LoopCore>,
    call: impl FnOnce(&Obj, &Obj) -> R<()>,
) -> R<()> {
    let (context, protocol) = (this.context.get_or_none(), this.protocol.get_or_none());
    if !version::CONNECTION_CONTEXT.get() {
        // What `connection_made` sets, reading does not see.
        this.context.set(context::copy_of(&context)?);
    }
    let connection_made = protocol.getattr(&names::CONNECTION_MADE)?;
    let mut fatal = None;
    if let Err(raised) = call(&connection_made, &context) {
        let is_fatal = is_fatal(&raised);
        let exception = raised.take();
        if is_fatal {
            fatal = Some(exception);
        } else {
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

/// `is_reading()`
fn wants_to_read(this: &Stream) -> bool {
    !this.closing.get() && !this.paused.get()
}

/// The loop watches for something to read, if that is wanted. `fresh`: the descriptor is new to it.
fn start_reading(this: &Own<Stream>, core: &Own<LoopCore>, fresh: bool) -> R<()> {
    if !wants_to_read(this) || this.reading.get() {
        return Ok(());
    }
    let source = Source::Stream(this.clone());
    readers::add_source(core, this.socket.number(), Side::Reader, source, fresh)?;
    this.reading.set(true);
    Ok(())
}

/// The loop watches no longer for something to read. `pause`: it soon may again, and the kernel is not told;
/// so whoever stops for good after a pause has to tell it.
fn stop_reading(this: &Own<Stream>, pause: bool) {
    let told = !this.reading.replace(false);
    if told && (pause || !this.paused.get()) {
        return;
    }
    if let Some(loop_) = this.loop_.get()
        && let Some(core) = core::of(&loop_)
    {
        readers::remove_source(core, this.socket.number(), Side::Reader, pause);
    }
}

/// The end of what the peer sends, and `eof_received()` wants to go on writing.
pub(super) fn stop_reading_for_good(this: &Own<Stream>) {
    stop_reading(this, false);
}

/// A context for a callback that is arranged for now.
pub(super) fn callback_context(this: &Stream) -> R<Obj> {
    if version::CONNECTION_CONTEXT.get() {
        return Ok(this.context.get_or_none());
    }
    context::copy()
}

/// `call_soon(_call_connection_lost, exception)`
fn arrange_for_connection_lost(this: &Own<Stream>, exception: Option<Obj>) -> R<()> {
    this.conn_lost.set(this.conn_lost.get() + 1);
    let Some(loop_) = this.loop_.get() else {
        return Ok(());
    };
    let Some(core) = core::of(&loop_) else {
        return Ok(());
    };
    core.check_closed()?;
    this.exception.put(exception);
    this.write_context.set(callback_context(this)?);
    core.push(Entry::Source(Source::Stream(this.clone()), Happening::Lost));
    Ok(())
}

/// `close()`: what is queued is sent first.
pub(super) fn close(this: &Own<Stream>) -> R<()> {
    writing::flush_now(this)?;
    if this.closing.replace(true) {
        return Ok(());
    }
    stop_reading(this, false);
    if this.waiting() == 0 {
        writing::stop(this);
        arrange_for_connection_lost(this, None)?;
    }
    Ok(())
}

/// `_force_close(exception)`: what is queued is lost.
pub(super) fn force_close(this: &Own<Stream>, exception: Option<Obj>) -> R<()> {
    if this.conn_lost.get() > 0 {
        return Ok(());
    }
    writing::forget(this);
    this.closing.set(true);
    stop_reading(this, false);
    arrange_for_connection_lost(this, exception)
}

/// `_fatal_error(exception, message)`
#[cold]
pub(super) fn fatal_error(this: &Own<Stream>, exception: Obj, message: &str) -> R<()> {
    if let Some(loop_) = this.loop_.get() {
        if !exception.isinstance(exc::os_error())? {
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

/// `_call_connection_lost(exception)`
pub(super) fn call_connection_lost(this: &Own<Stream>, exception: &Obj) -> R<()> {
    let told = match this.protocol.get() {
        Some(protocol) => protocol
            .call_method(&names::CONNECTION_LOST, &[exception])
            .map(drop),
        None => Ok(()),
    };
    let failure = told.err().map(|raised| raised.take());
    let gone = give_up_socket(this);
    this.protocol.put(None);
    this.context.put(None);
    this.write_context.put(None);
    this.loop_.put(None);
    let detached = match this.server.take() {
        Some(server) => server::detach(&server, this.seat.get()),
        None => Ok(()),
    };
    writing::nobody_empties_it(this)?;
    match failure {
        Some(exception) => Err(raise(&exception)),
        None => gone.and(detached),
    }
}

/// Closes the socket; the number is free for others.
fn give_up_socket(this: &Own<Stream>) -> R<()> {
    leave_loop(this);
    this.socket.close()
}

/// The loop forgets that the number is a transport's.
fn leave_loop(this: &Stream) {
    if this.occupies.replace(false)
        && let Some(loop_) = this.loop_.get()
        && let Some(core) = core::of(&loop_)
    {
        readers::vacate(core, this.socket.shown());
    }
}

/// The server forgets it, and nobody is told.
fn leave_server(this: &Stream) {
    if let Some(server) = this.server.take() {
        server::leave(&server, this.seat.get());
    }
}

fn set_protocol(this: &Own<Stream>, protocol: &Obj) -> R<()> {
    this.buffered
        .set(protocol.isinstance(&imports::BUFFERED_PROTOCOL)?);
    this.protocol.set(protocol.clone());
    Ok(())
}

impl Buffered for Own<Stream> {
    fn flow(&self) -> &Flow {
        &self.flow
    }
    fn waiting(&self) -> usize {
        self.queue.with(|queue| queue.size())
    }
    fn parties(&self) -> (Obj, Obj, Obj) {
        (
            self.obj().clone(),
            self.loop_.get_or_none(),
            self.protocol.get_or_none(),
        )
    }
}

// --- methods --------------------------------------------------------------------------------------

fn method_abort(args: &Args) -> R<Obj> {
    let this = args.this::<Stream>()?;
    writing::flush_now(this)?;
    force_close(this, None)?;
    Ok(Obj::none())
}

fn method_pause_reading(args: &Args) -> R<Obj> {
    let this = args.this::<Stream>()?;
    if wants_to_read(this) {
        this.paused.set(true);
        stop_reading(this, true);
        debug(this, "%r pauses reading")?;
    }
    Ok(Obj::none())
}

fn method_resume_reading(args: &Args) -> R<Obj> {
    let this = args.this::<Stream>()?;
    if this.closing.get() || !this.paused.get() {
        return Ok(Obj::none());
    }
    this.paused.set(false);
    if let Some(loop_) = this.loop_.get()
        && let Some(core) = core::of(&loop_)
    {
        if !version::CONNECTION_CONTEXT.get() {
            this.context.set(context::copy()?);
        }
        start_reading(this, core, false)?;
    }
    debug(this, "%r resumes reading")?;
    Ok(Obj::none())
}

/// Debug mode: what has happened to this transport.
pub(super) fn debug(this: &Own<Stream>, text: &str) -> R<()> {
    match this.loop_.get() {
        Some(loop_) if core::of(&loop_).is_some_and(|core| core.debug.get()) => {
            log_debug(text, &[this.obj()], None)
        }
        _ => Ok(()),
    }
}

fn method_get_extra_info(args: &Args) -> R<Obj> {
    let (this, name) = (args.this::<Stream>()?, args.req(1)?);
    if let Some(extra) = this.extra.get()
        && let Some(value) = extra.dict_get(name)?
    {
        return Ok(value);
    }
    Ok(match from_fields(this, name)? {
        Some(value) => value,
        None => args.get(2).cloned().unwrap_or_else(Obj::none),
    })
}

/// What the fields know of `name`.
fn from_fields(this: &Own<Stream>, name: &Obj) -> R<Option<Obj>> {
    let known = |text: &str| name.eq(&Obj::interned(text)?);
    if known("peername")? {
        return Ok(Some(address(&this.peer)?.unwrap_or_else(Obj::none)));
    }
    if known("sockname")? {
        return Ok(Some(address(&this.local)?.unwrap_or_else(Obj::none)));
    }
    if known("socket")? {
        writing::flush_now(this)?;
        let Some(object) = this.socket.object()? else {
            return Ok(None);
        };
        let shown = imports::TRANSPORT_SOCKET.call(&[&object])?;
        extra(this)?.dict_set(name, &shown)?;
        return Ok(Some(shown));
    }
    Ok(None)
}

/// `_extra`: everything, as a dict.
fn whole_extra(this: &Own<Stream>) -> R<Obj> {
    let extra = extra(this)?;
    for name in ["socket", "sockname", "peername"] {
        let name = Obj::interned(name)?;
        if extra.dict_get(&name)?.is_none()
            && let Some(value) = from_fields(this, &name)?
        {
            extra.dict_set(&name, &value)?;
        }
    }
    Ok(extra)
}

fn repr(this: &Own<Stream>) -> R<Obj> {
    let mut text = String::from("<_SelectorSocketTransport");
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

static CLASS: ClassCell<Stream> = ClassCell::new();

impl Class for Stream {
    const NAME: &'static CStr = c"asyncio.selector_events._SelectorSocketTransport";
    const SUBCLASSABLE: bool = false;
    const DICT: Option<usize> = Some(offset_of!(Stream, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(Stream, weakrefs));
    const FINALIZE: bool = true;

    fn class() -> &'static ClassCell<Stream> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Stream>) -> R<()> {
        slots.no_new();
        slots.repr(repr);
        slots.method("close(self)", |args| {
            close(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.method("abort(self)", method_abort)?;
        slots.method("is_closing(self)", |args| {
            Ok(Obj::bool(args.this::<Stream>()?.closing.get()))
        })?;
        slots.method("is_reading(self)", |args| {
            Ok(Obj::bool(wants_to_read(args.this::<Stream>()?)))
        })?;
        slots.method("pause_reading(self)", method_pause_reading)?;
        slots.method("resume_reading(self)", method_resume_reading)?;
        slots.method("set_protocol(self, protocol)", |args| {
            set_protocol(args.this()?, args.req(1)?)?;
            Ok(Obj::none())
        })?;
        slots.method("get_protocol(self)", |args| {
            Ok(args.this::<Stream>()?.protocol.get_or_none())
        })?;
        slots.method("get_extra_info(self, name, default=None)", method_get_extra_info)?;
        slots.method("get_write_buffer_limits(self)", |args| {
            args.this::<Stream>()?.flow.limits()
        })?;
        slots.method("set_write_buffer_limits(self, high=None, low=None)", |args| {
            let this = args.this::<Stream>()?;
            this.flow.set_limits(args)?;
            writing::flush_now(this)?;
            flow::maybe_pause(this)?;
            Ok(Obj::none())
        })?;
        // what a handle shows in debug mode and in reports
        slots.method("_read_ready(self)", |args| {
            let this = args.this::<Stream>()?;
            if let Some(loop_) = this.loop_.get()
                && let Some(core) = core::of(&loop_)
            {
                reading::received(this, &loop_, core)?;
            }
            Ok(Obj::none())
        })?;
        slots.method("_write_ready(self)", |args| {
            writing::room(args.this()?)?;
            Ok(Obj::none())
        })?;
        slots.method("_call_connection_lost(self, exc)", |args| {
            call_connection_lost(args.this()?, args.req(1)?)?;
            Ok(Obj::none())
        })?;
        slots.method("_add_reader(self)", |args| {
            let this = args.this::<Stream>()?;
            if let Some(loop_) = this.loop_.get()
                && let Some(core) = core::of(&loop_)
            {
                start_reading(this, core, true)?;
            }
            Ok(Obj::none())
        })?;
        slots.method("_force_close(self, exc)", |args| {
            force_close(args.this()?, args.opt(1).cloned())?;
            Ok(Obj::none())
        })?;
        slots.method(
            "_fatal_error(self, exc, message='Fatal error on transport')",
            |args| {
                let message = args.get(2).map_or_else(
                    || Ok("Fatal error on transport".to_owned()),
                    |message| message.to_str()?.to_string(),
                )?;
                fatal_error(args.this()?, args.req(1)?.clone(), &message)?;
                Ok(Obj::none())
            },
        )?;
        slots.attribute("max_size", Obj::int(256 * 1024)?);
        slots.attribute("_start_tls_compatible", Obj::bool(true));
        slots.attribute(
            "_sendfile_compatible",
            imports::SENDFILE_MODE.getattr_str("TRY_NATIVE")?,
        );
        slots.get(c"_extra", whole_extra);
        slots.get(c"_loop", |this| Ok(this.loop_.get_or_none()));
        slots.get(c"_protocol", |this| Ok(this.protocol.get_or_none()));
        slots.get(c"_sock", |this| {
            Ok(this.socket.object()?.unwrap_or_else(Obj::none))
        });
        slots.get(c"_sock_fd", |this| Obj::int(this.socket.shown().into()));
        slots.get(c"_closing", |this| Ok(Obj::bool(this.closing.get())));
        slots.get(c"_paused", |this| Ok(Obj::bool(this.paused.get())));
        slots.get(c"_eof", |this| Ok(Obj::bool(this.eof.get())));
        slots.get(c"_conn_lost", |this| Obj::int(this.conn_lost.get().into()));
        slots.get(c"_protocol_paused", |this| Ok(Obj::bool(this.flow.is_paused())));
        writing::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
        self.socket.visit(visitor);
        self.waiter.visit(visitor);
        self.server.visit(visitor);
    }
    fn clear(&self) {
        leave_loop(self);
        for slot in self.slots_held() {
            slot.put(None);
        }
        drop(self.waiter.take());
        leave_server(self);
    }
    fn leave(&self) {
        leave_loop(self);
        leave_server(self);
    }
    fn wants_finalize(&self) -> bool {
        !self.socket.is_gone()
    }
    /// "unclosed transport …"
    fn finalize(this: &Own<Stream>) {
        if this.socket.is_gone() {
            return;
        }
        if let Err(raised) = warn_unclosed(this) {
            raised.unraisable(this.obj());
        }
        stop_reading(this, false);
        writing::forget(this);
        if let Err(raised) = give_up_socket(this) {
            raised.unraisable(this.obj());
        }
        if let Some(server) = this.server.take()
            && let Err(raised) = server::detach(&server, this.seat.get())
        {
            raised.unraisable(this.obj());
        }
    }
}

fn warn_unclosed(this: &Own<Stream>) -> R<()> {
    let text = Obj::str(&format!("unclosed transport {}", this.obj().repr()?))?;
    let kwnames = Obj::tuple(&[&Obj::interned("source")?])?;
    imports::WARN
        .call_kw(&[&text, exc::resource_warning(), this.obj()], Some(&kwnames))
        .map(drop)
}

impl Stream {
    fn slots_held(&self) -> [&Slot; 7] {
        [
            &self.extra,
            &self.loop_,
            &self.protocol,
            &self.context,
            &self.write_context,
            &self.exception,
            &self.empty_waiter,
        ]
    }
}
