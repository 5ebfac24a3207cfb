//! `await future`: the iterator that `Future.__await__` gives.

use super::future::Future;
use crate::ffi::class::Resume;
use crate::ffi::errors::{raise, raise_new, runtime_error, type_error};
use crate::ffi::exceptions;
use crate::ffi::{Args, Class, ClassCell, Obj, Own, OwnSlot, R, Slots, Step, Visitor};
use std::ffi::CStr;

/// Yields the future once, then ends with its result.
#[derive(Default)]
pub(crate) struct FutureIter {
    future: OwnSlot<Future>,
}

/// Where the future is: `diag/attach` reads it without the GIL.
pub(crate) const FUTURE: usize = std::mem::offset_of!(FutureIter, future);

impl FutureIter {
    /// `iter(future)`
    #[inline]
    pub(crate) fn of(future: &Own<Future>) -> R<Obj> {
        let iter = FutureIter::default();
        iter.future.put(Some(future.clone()));
        Ok(CLASS.alloc(iter)?.into_obj())
    }
}

/// One resumption of `await future`, for whoever holds the future itself.
#[inline(always)]
pub(crate) fn resume_future(future: &Own<Future>) -> Step {
    if !future.is_done() {
        if future.blocking.get() {
            return Step::Raise(runtime_error("await wasn't used with future"));
        }
        future.blocking.set(true);
        return Step::Yield(future.obj().clone());
    }
    Step::from(future.result())
}

impl Resume for FutureIter {
    fn resume(this: &Own<FutureIter>, _value: &Obj) -> Step {
        let Some(future) = this.future.get() else {
            return Step::Return(Obj::none());
        };
        if future.is_done() {
            this.future.put(None);
        }
        resume_future(&future)
    }
}

fn send(args: &Args) -> R<Obj> {
    match FutureIter::resume(args.this()?, args.req(1)?) {
        Step::Yield(value) => Ok(value),
        Step::Return(value) => {
            crate::ffi::send::stop_iteration(value);
            Err(crate::ffi::Raised::set())
        }
        Step::Raise(raised) => Err(raised),
    }
}

/// `throw(type_or_exc, value=None, traceback=None)`: the future is let go, the exception raised.
fn throw(args: &Args) -> R<Obj> {
    let this = args.this::<FutureIter>()?;
    let exception = thrown(args)?;
    this.future.put(None);
    Err(raise(&exception))
}

/// The exception that the arguments of a `throw()` mean, made as generators make it.
pub(crate) fn thrown(args: &Args) -> R<Obj> {
    let (kind, value, traceback) = (args.req(1)?, args.opt(2), args.opt(3));
    if args.get(2).is_some() && crate::version::SINCE_312.get() {
        let text =
            "the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.";
        let category = crate::ffi::errors::exc::deprecation_warning();
        crate::imports::WARN.call(&[&Obj::str(text)?, category, &Obj::int(1)?])?;
    }
    if let Some(traceback) = traceback
        && traceback.class_name() != "traceback"
    {
        return Err(type_error("throw() third argument must be a traceback object"));
    }
    let exception = if exceptions::is_class(kind) {
        match value {
            Some(value) if value.isinstance(kind)? => value.clone(),
            Some(value) if !value.tuple_items().is_empty() => kind.call_with(value, None)?,
            Some(value) => kind.call(&[value])?,
            None => kind.call0()?,
        }
    } else if exceptions::is_instance(kind) {
        if value.is_some() {
            return Err(type_error("instance exception may not have a separate value"));
        }
        kind.clone()
    } else {
        let name = kind.class_name();
        return Err(type_error(&format!(
            "exceptions must be classes deriving BaseException or instances of such a class, not {name}"
        )));
    };
    if !exceptions::is_instance(&exception) {
        return Err(raise_new(
            crate::ffi::errors::exc::type_error(),
            "exceptions must derive from BaseException",
        ));
    }
    if let Some(traceback) = traceback {
        exceptions::set_traceback(&exception, traceback);
    }
    Ok(exception)
}

fn close(args: &Args) -> R<Obj> {
    args.this::<FutureIter>()?.future.put(None);
    Ok(Obj::none())
}

fn itself(this: &Own<FutureIter>) -> R<Obj> {
    Ok(this.obj().clone())
}

static CLASS: ClassCell<FutureIter> = ClassCell::new();

impl Class for FutureIter {
    const NAME: &'static CStr = c"_asyncio.FutureIter";
    const SUBCLASSABLE: bool = false;
    const FREELIST: usize = 255;
    fn class() -> &'static ClassCell<FutureIter> {
        &CLASS
    }
    fn slots(slots: &mut Slots<FutureIter>) -> R<()> {
        slots.no_new();
        slots.iter(itself);
        slots.resume();
        slots.method("send(self, value, /)", send)?;
        slots.method("throw(self, typ, val=None, tb=None, /)", throw)?;
        slots.method("close(self, /)", close)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.future.visit(visitor);
    }
    fn clear(&self) {
        self.future.put(None);
    }
}
