//! Flow control: `asyncio.transports._FlowControlMixin`.
//!
//! A protocol is told to pause as soon as more than `high` bytes wait to be written, inside of the call that
//! writes, and to resume when no more than `low` do.

use super::life::Transport;
use crate::event_loop::run::is_fatal;
use crate::ffi::errors::{R, value_error};
use crate::ffi::{Args, Obj, Own, Slots};
use crate::imports::names;
use std::cell::Cell;

/// 64 KiB, asyncio's mark.
const HIGH: i64 = 64 * 1024;

/// The marks of one transport.
pub(crate) struct Flow {
    high: Cell<i64>,
    low: Cell<i64>,
    paused: Cell<bool>,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            high: Cell::new(HIGH),
            low: Cell::new(HIGH / 4),
            paused: Cell::new(false),
        }
    }
}

/// Who has a buffer that a protocol may fill too fast.
pub(super) trait Buffered: Transport {
    /// The marks.
    fn flow(&self) -> &Flow;
}

impl Flow {
    /// Is the protocol told to pause?
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// Would so many bytes be too many?
    #[inline]
    pub(crate) fn is_above(&self, waiting: usize) -> bool {
        waiting as i64 > self.high.get()
    }

    /// `get_write_buffer_limits()`: `(low, high)`
    pub(crate) fn limits(&self) -> R<Obj> {
        Obj::tuple(&[&Obj::int(self.low.get())?, &Obj::int(self.high.get())?])
    }

    /// `_set_write_buffer_limits(high=None, low=None)`
    pub(crate) fn set_limits(&self, args: &Args) -> R<()> {
        let (high, low) = limits(args, HIGH)?;
        self.high.set(high);
        self.low.set(low);
        Ok(())
    }
}

/// The marks `high=None, low=None` (arguments 1 and 2): `(high, low)`.
pub(crate) fn limits(args: &Args, default: i64) -> R<(i64, i64)> {
    let number = |index| args.opt(index).map(Obj::to_i64).transpose();
    let (high, low) = (number(1)?, number(2)?);
    let high = match (high, low) {
        (Some(high), _) => high,
        (None, None) => default,
        (None, Some(low)) => low.saturating_mul(4),
    };
    let low = low.unwrap_or(high.div_euclid(4));
    if !(high >= low && low >= 0) {
        return Err(value_error(&format!(
            "high ({high}) must be >= low ({low}) must be >= 0"
        )));
    }
    Ok((high, low))
}

/// `_maybe_pause_protocol()`
#[inline]
pub(super) fn maybe_pause<T: Buffered>(this: &Own<T>) -> R<()> {
    let flow = this.flow();
    if !flow.is_above(this.waiting()) || flow.paused.get() {
        return Ok(());
    }
    flow.paused.set(true);
    tell(this, &names::PAUSE_WRITING, "protocol.pause_writing() failed")
}

/// `_maybe_resume_protocol()`
#[inline]
pub(super) fn maybe_resume<T: Buffered>(this: &Own<T>) -> R<()> {
    let flow = this.flow();
    if !flow.paused.get() || this.waiting() as i64 > flow.low.get() {
        return Ok(());
    }
    flow.paused.set(false);
    tell(this, &names::RESUME_WRITING, "protocol.resume_writing() failed")
}

/// The methods of a transport that has marks.
pub(super) fn slots<T: Buffered>(slots: &mut Slots<T>) -> R<()> {
    slots.method("get_write_buffer_limits(self)", |args| {
        args.this::<T>()?.flow().limits()
    })?;
    slots.method("set_write_buffer_limits(self, high=None, low=None)", |args| {
        let this = args.this::<T>()?;
        this.flow().set_limits(args)?;
        T::settle(this)?;
        maybe_pause(this)?;
        Ok(Obj::none())
    })?;
    slots.get(c"_protocol_paused", |this| Ok(Obj::bool(this.flow().is_paused())));
    Ok(())
}

#[cold]
fn tell<T: Buffered>(this: &Own<T>, method: &Obj, message: &str) -> R<()> {
    let (loop_, protocol) = (this.loop_.get_or_none(), this.protocol.get_or_none());
    match protocol.call_method(method, &[]) {
        Ok(_) => Ok(()),
        Err(raised) if is_fatal(&raised) => Err(raised),
        Err(raised) => super::report(&loop_, message, &raised.take(), this.obj(), &protocol),
    }
}
