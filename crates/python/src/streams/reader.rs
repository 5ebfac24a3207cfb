//! `asyncio.StreamReader`: what a program reads from, and what a protocol feeds.
//!
//! Rules
//! 1. Whoever is fed wakes the one who waits; the bytes are still the buffer's. So nothing is lost if that one is
//!    cancelled before it runs, or if somebody else is faster.
//! 2. Above twice the limit the transport is paused; at the limit, or when somebody waits, it is resumed.
//! 3. A class that overrides a method, and an instance with attributes of its own, is called by asyncio's names
//!    wherever asyncio itself would call (see [`Own<StreamReader>::is_plain`]).

use super::buffer::ReadBuffer;
use super::{reading, transport};
use crate::copying::{self, Copied};
use crate::event_loop::core;
use crate::ffi::errors::{R, assertion_error, attribute_error, exc, type_error, value_error};
use crate::ffi::object::{self, exact_number};
use crate::ffi::{Args, Class, ClassCell, Obj, Own, Slot, Slots, Visitor, WeakRefs};
use crate::futures::future::{Future, State, invalid_state};
use crate::imports::{self, names};
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;

/// `asyncio.streams._DEFAULT_LIMIT`
const DEFAULT_LIMIT: f64 = 65536.0;

/// What cutting off a bytearray says about a float.
pub(super) const NO_SIZE: &str = "slice indices must be integers or None or have an __index__ method";

/// The struct behind `asyncio.StreamReader`.
#[derive(Default)]
pub(crate) struct StreamReader {
    dict: Slot,
    weakrefs: WeakRefs,
    pub(super) loop_: Slot,
    pub(super) buffer: ReadBuffer,
    limit: Limit,
    /// The future of the one who waits.
    pub(super) waiter: Slot,
    pub(super) exception: Slot,
    pub(super) transport: Slot,
    source_traceback: Slot,
    pub(super) eof: Cell<bool>,
    pub(super) paused: Cell<bool>,
}

/// The longest line, and half the buffer. asyncio takes any number.
pub(super) struct Limit {
    number: Cell<f64>,
    /// As it was given, if it is not the default.
    object: Slot,
}

impl Default for Limit {
    fn default() -> Limit {
        Limit {
            number: Cell::new(DEFAULT_LIMIT),
            object: Slot::default(),
        }
    }
}

impl Limit {
    fn read(&self, limit: &Obj) -> R<()> {
        let number = match exact_number(limit) {
            Some(number) => number,
            // an int that no float holds is larger than any buffer
            None => limit.to_f64().or_else(|raised| {
                raised.ignore();
                Ok(f64::INFINITY)
            })?,
        };
        self.number.set(number);
        let is_default = number == DEFAULT_LIMIT && !object::is_float(limit);
        self.object.put((!is_default).then(|| limit.clone()));
        Ok(())
    }

    /// In bytes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.number.get() as usize
    }

    pub(super) fn object(&self) -> R<Obj> {
        self.object
            .get()
            .map_or_else(|| Obj::int(DEFAULT_LIMIT as i64), Ok)
    }

    /// Can so many bytes be taken?
    fn check_is_size(&self) -> R<()> {
        match self.object.get() {
            Some(limit) if object::is_float(&limit) => Err(type_error(NO_SIZE)),
            _ => Ok(()),
        }
    }
}

/// A new reader.
pub(crate) fn create(limit: Option<&Obj>, loop_: &Obj) -> R<Own<StreamReader>> {
    let reader = CLASS.alloc(StreamReader::default())?;
    fill(&reader, limit, Some(loop_))?;
    Ok(reader)
}

/// `__init__(limit, loop)`
fn fill(this: &Own<StreamReader>, limit: Option<&Obj>, loop_: Option<&Obj>) -> R<()> {
    if let Some(limit) = limit {
        let too_small = match exact_number(limit) {
            Some(limit) => limit <= 0.0,
            None => limit.le(&Obj::int(0)?)?,
        };
        if too_small {
            return Err(value_error("Limit cannot be <= 0"));
        }
        this.limit.read(limit)?;
    }
    let loop_ = match loop_ {
        Some(loop_) => loop_.clone(),
        None => imports::GET_EVENT_LOOP.call0()?,
    };
    this.loop_.set(loop_.clone());
    this.buffer.adopt(None);
    this.eof.set(false);
    this.paused.set(false);
    for slot in [&this.waiter, &this.exception, &this.transport] {
        slot.put(None);
    }
    let debug = match core::fast(&loop_) {
        Some(_) => false,
        None => loop_.call_method(&names::GET_DEBUG, &[])?.truth()?,
    };
    if debug {
        this.source_traceback.set(crate::debug::extract_stack()?);
    }
    Ok(())
}

impl Own<StreamReader> {
    /// Exactly a StreamReader, and with no attributes of its own?
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.is_exact() && self.dict.is_empty()
    }

    /// `object`, if it is a plain reader.
    #[inline(always)]
    pub(crate) fn plain(object: &Obj) -> Option<&Own<StreamReader>> {
        CLASS.exact(object).filter(|reader| reader.dict.is_empty())
    }

    /// `feed_data(data)`
    pub(crate) fn feed_data(&self, data: Obj) -> R<()> {
        if self.eof.get() {
            return Err(assertion_error("feed_data after feed_eof"));
        }
        if !data.truth()? {
            return Ok(());
        }
        self.feed(data)
    }

    /// What `feed_data` does with what is not empty.
    #[inline]
    pub(super) fn feed(&self, data: Obj) -> R<()> {
        self.buffer.add(data)?;
        self.wake_up()?;
        // rule 2
        if self.transport.is_empty()
            || self.paused.get()
            || (self.buffer.len()? as f64) <= 2.0 * self.limit.number.get()
        {
            return Ok(());
        }
        self.pause_transport()
    }

    fn pause_transport(&self) -> R<()> {
        match transport::pause_reading(&self.transport.get_or_none()) {
            Ok(()) => {
                self.paused.set(true);
                Ok(())
            }
            // It cannot be paused, so all data will have to be kept. It is not asked again.
            Err(raised) if raised.matches(exc::not_implemented_error()) => {
                raised.ignore();
                self.transport.put(None);
                Ok(())
            }
            Err(raised) => Err(raised),
        }
    }

    /// `feed_eof()`
    pub(super) fn feed_eof(&self) -> R<()> {
        self.eof.set(true);
        self.wake_up()
    }

    /// `self._wakeup_waiter()`
    #[inline]
    fn wake_up(&self) -> R<()> {
        if self.is_plain() {
            return self.wake_waiter();
        }
        self.obj().call_method(&names::WAKEUP_WAITER_, &[]).map(drop)
    }

    /// `_wakeup_waiter()`
    #[inline]
    fn wake_waiter(&self) -> R<()> {
        let Some(waiter) = self.waiter.take() else {
            return Ok(());
        };
        let Some(future) = Future::class().exact(&waiter) else {
            return wake_foreign(&waiter, &names::SET_RESULT, &Obj::none());
        };
        match future.state.get() {
            State::Pending => future.finish(Obj::none()),
            State::Cancelled => Ok(()),
            _ => Err(invalid_state("invalid state")),
        }
    }

    /// `set_exception(exc)`
    pub(super) fn set_exception(&self, exception: &Obj) -> R<()> {
        self.exception.put(exception.non_none().cloned());
        match self.waiter.take() {
            Some(waiter) => wake_foreign(&waiter, &names::SET_EXCEPTION, exception),
            None => Ok(()),
        }
    }

    /// `set_transport(transport)`
    pub(crate) fn set_transport(&self, transport: &Obj) -> R<()> {
        if !self.transport.is_empty() {
            return Err(assertion_error("Transport already set"));
        }
        self.transport.put(transport.non_none().cloned());
        Ok(())
    }

    /// `_replace_transport(transport)`
    pub(super) fn replace_transport(&self, transport: &Obj) -> R<()> {
        if self.transport.is_empty() {
            return Err(assertion_error("Transport not set"));
        }
        self.transport.put(transport.non_none().cloned());
        Ok(())
    }

    /// `self._maybe_resume_transport()`
    #[inline]
    pub(super) fn resume_transport(&self) -> R<()> {
        if self.is_plain() {
            return self.maybe_resume_transport();
        }
        self.obj()
            .call_method(&names::MAYBE_RESUME_TRANSPORT_, &[])
            .map(drop)
    }

    /// `_maybe_resume_transport()`
    #[inline]
    fn maybe_resume_transport(&self) -> R<()> {
        if self.paused.get() && self.buffer.len()? as f64 <= self.limit.number.get() {
            return self.unpause();
        }
        Ok(())
    }

    /// Resumes the transport, which has been paused.
    #[cold]
    pub(super) fn unpause(&self) -> R<()> {
        self.paused.set(false);
        transport::resume_reading(&self.transport.get_or_none())
    }

    /// `at_eof()`
    fn is_at_eof(&self) -> R<bool> {
        Ok(self.eof.get() && self.buffer.is_empty()?)
    }

    /// `_limit`, in bytes.
    #[inline]
    pub(super) fn limit(&self) -> usize {
        self.limit.bytes()
    }

    /// `_source_traceback`
    pub(super) fn source_traceback(&self) -> Option<Obj> {
        self.source_traceback.get()
    }

    /// `read()` takes `limit` bytes at a time: asyncio cuts that off its buffer.
    pub(super) fn check_limit_is_size(&self) -> R<()> {
        self.limit.check_is_size()
    }

    /// `_limit`
    pub(super) fn limit_object(&self) -> R<Obj> {
        self.limit.object()
    }
}

/// `if not waiter.cancelled(): waiter.method(value)`, whatever its class.
#[cold]
fn wake_foreign(waiter: &Obj, method: &Obj, value: &Obj) -> R<()> {
    if waiter.call_method(&names::CANCELLED, &[])?.truth()? {
        return Ok(());
    }
    waiter.call_method(method, &[value]).map(drop)
}

fn init(args: &Args) -> R<Obj> {
    fill(args.this()?, args.get(1), args.opt(2))?;
    Ok(Obj::none())
}

fn repr(this: &Own<StreamReader>) -> R<Obj> {
    let mut info = vec!["StreamReader".to_owned()];
    let waiting = this.buffer.len()?;
    if waiting > 0 {
        info.push(format!("{waiting} bytes"));
    }
    if this.eof.get() {
        info.push("eof".to_owned());
    }
    if let Some(limit) = this.limit.object.get() {
        info.push(format!("limit={}", limit.to_str()?.to_string()?));
    }
    for (name, slot) in [
        ("waiter", &this.waiter),
        ("exception", &this.exception),
        ("transport", &this.transport),
    ] {
        if let Some(value) = slot.get()
            && value.truth()?
        {
            info.push(format!("{name}={}", value.repr()?));
        }
    }
    if this.paused.get() {
        info.push("paused".to_owned());
    }
    Obj::str(&format!("<{}>", info.join(" ")))
}

/// `__class__` is asyncio's own, so that `isinstance(reader, asyncio.StreamReader)` holds for those who imported it
/// before us. A derived class is itself.
fn class(this: &Own<StreamReader>) -> R<Obj> {
    Ok(if this.is_exact() {
        imports::STREAM_READER.clone()
    } else {
        this.obj().class()
    })
}

static CLASS: ClassCell<StreamReader> = ClassCell::new();

impl Copied for StreamReader {
    const STATE: &'static [&'static str] = &[
        "_limit",
        "_loop",
        "_buffer",
        "_eof",
        "_waiter",
        "_exception",
        "_transport",
        "_paused",
        "_source_traceback",
    ];
    fn dict(&self) -> &Slot {
        &self.dict
    }
}

impl Class for StreamReader {
    const NAME: &'static CStr = c"asyncio.streams.StreamReader";
    const DICT: Option<usize> = Some(offset_of!(StreamReader, dict));
    const WEAKREFS: Option<usize> = Some(offset_of!(StreamReader, weakrefs));

    fn class() -> &'static ClassCell<StreamReader> {
        &CLASS
    }
    fn slots(slots: &mut Slots<StreamReader>) -> R<()> {
        slots.init("(self, limit=65536, loop=None)", init);
        slots.repr(repr);
        slots.get(c"__class__", class);
        slots.method("exception(self)", |args| {
            Ok(args.this::<StreamReader>()?.exception.get_or_none())
        })?;
        slots.method("set_exception(self, exc)", |args| {
            args.this::<StreamReader>()?.set_exception(args.req(1)?)?;
            Ok(Obj::none())
        })?;
        slots.method("_wakeup_waiter(self)", |args| {
            args.this::<StreamReader>()?.wake_waiter()?;
            Ok(Obj::none())
        })?;
        slots.method("set_transport(self, transport)", |args| {
            args.this::<StreamReader>()?.set_transport(args.req(1)?)?;
            Ok(Obj::none())
        })?;
        if imports::STREAM_READER.hasattr("_replace_transport")? {
            slots.method("_replace_transport(self, transport)", |args| {
                args.this::<StreamReader>()?.replace_transport(args.req(1)?)?;
                Ok(Obj::none())
            })?;
        }
        slots.method("_maybe_resume_transport(self)", |args| {
            args.this::<StreamReader>()?.maybe_resume_transport()?;
            Ok(Obj::none())
        })?;
        slots.method("feed_eof(self)", |args| {
            args.this::<StreamReader>()?.feed_eof()?;
            Ok(Obj::none())
        })?;
        slots.method("at_eof(self)", |args| {
            Ok(Obj::bool(args.this::<StreamReader>()?.is_at_eof()?))
        })?;
        slots.method("feed_data(self, data)", |args| {
            args.this::<StreamReader>()?.feed_data(args.req(1)?.clone())?;
            Ok(Obj::none())
        })?;
        reading::slots(slots)?;
        attributes(slots);
        copying::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
        self.buffer.visit(visitor);
    }
    fn clear(&self) {
        for slot in self.slots_held() {
            slot.put(None);
        }
        self.buffer.adopt(None);
    }
}

/// What libraries read, and sometimes write, in asyncio's own.
fn attributes(slots: &mut Slots<StreamReader>) {
    slots.get_set(
        c"_limit",
        |this| this.limit.object(),
        |this, value| match value {
            Some(value) => this.limit.read(value),
            None => Err(attribute_error("_limit")),
        },
    );
    slots.get_set(
        c"_buffer",
        |this| this.buffer.lend(),
        |this, value| match value {
            Some(value) => {
                this.buffer.adopt(Some(value.clone()));
                Ok(())
            }
            None => Err(attribute_error("_buffer")),
        },
    );
    slots.object(c"_loop", |this| &this.loop_);
    slots.object(c"_waiter", |this| &this.waiter);
    slots.object(c"_exception", |this| &this.exception);
    slots.object(c"_transport", |this| &this.transport);
    slots.object(c"_source_traceback", |this| &this.source_traceback);
    slots.flag(c"_eof", |this| &this.eof);
    slots.flag(c"_paused", |this| &this.paused);
}

impl StreamReader {
    fn slots_held(&self) -> [&Slot; 6] {
        [
            &self.loop_,
            &self.limit.object,
            &self.waiter,
            &self.exception,
            &self.transport,
            &self.source_traceback,
        ]
    }
}
