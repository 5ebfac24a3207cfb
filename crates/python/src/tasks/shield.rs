//! `asyncio.shield(arg)`.

use super::{spawn, waiting};
use crate::ffi::{Args, Class, Obj, Own, R};
use crate::futures::callbacks::{self, Outcome, as_native};
use crate::futures::{Future, Role, foreign, methods};
use crate::hook::Hook;
use crate::imports::names;
use crate::{graph, version};

/// The name of the callback on the future that `shield()` gives.
const ON_OUTER: &str = "shield.<locals>._outer_done_callback";

/// A future that ends as `arg` does; cancelling it leaves `arg` alone.
pub(crate) fn shield(args: &Args) -> R<Obj> {
    let inner = spawn::ensure(args.req(0)?, None)?;
    if callbacks::is_done(&inner)? {
        return Ok(inner);
    }
    let loop_ = foreign::loop_of(&inner)?;
    let outer = methods::create(&loop_)?;
    if let Some(outer) = as_native(&outer) {
        outer.role.set(Role::ForTasks);
    }
    let on_inner = Hook::waiting(
        "shield.<locals>._inner_done_callback",
        inner_done,
        Some(outer.clone()),
        graph::waiter(&loop_)?,
    )?;
    let on_outer = Hook::new(
        ON_OUTER,
        outer_done,
        Some(inner.clone()),
        Some(on_inner.obj().clone()),
    )?;
    callbacks::listen(&inner, &on_inner)?;
    callbacks::listen(&outer, &on_outer)?;
    Ok(outer)
}

/// What the future of a `shield()` waits for.
pub(crate) fn awaited(outer: &Own<Future>) -> Option<Obj> {
    let (first, _) = outer.callbacks().into_iter().next()?;
    let hook = Hook::class().exact(&first)?;
    (hook.name() == ON_OUTER).then(|| hook.a.get()).flatten()
}

/// `_inner_done_callback(inner)`: `a` is the outer future, `b` who awaits it.
fn inner_done(hook: &Own<Hook>, inner: Option<&Obj>) -> R<()> {
    let (Some(outer), Some(inner)) = (hook.a.get(), inner) else {
        return Ok(());
    };
    if callbacks::is_cancelled(&outer)? {
        if version::SHIELD_KEEPS_EXCEPTION.get() || callbacks::is_cancelled(inner)? {
            return Ok(());
        }
        // nobody will look at the exception: it counts as retrieved
        return callbacks::outcome(inner).map(drop);
    }
    match callbacks::outcome(inner)? {
        Outcome::Cancelled => callbacks::cancel(&outer, None).map(drop),
        Outcome::Result(value) => waiting::set_result(&outer, &value),
        Outcome::Exception(exception) => match as_native(&outer) {
            Some(outer) => outer.set_exception(&exception),
            None => outer.call_method(&names::SET_EXCEPTION, &[&exception]).map(drop),
        },
    }
}

/// `_outer_done_callback(outer)`: `a` is the inner future, `b` the hook on it.
fn outer_done(hook: &Own<Hook>, _: Option<&Obj>) -> R<()> {
    let (Some(inner), Some(on_inner)) = (hook.a.get(), hook.b.get()) else {
        return Ok(());
    };
    if callbacks::is_done(&inner)? {
        return Ok(());
    }
    let Some(on_inner) = crate::ffi::Class::class().exact(&on_inner) else {
        return Ok(());
    };
    callbacks::unlisten(&inner, on_inner)
}
