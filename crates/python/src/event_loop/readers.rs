//! "Watching file descriptors": add_reader, remove_reader, add_writer, remove_writer; and the waits of `sock_*`.
//!
//! Rules
//! 1. A descriptor has at most one reader and one writer. A handle stays until it is removed; a future
//!    (of `sock_recv` and the like) leaves when it is ended.
//! 2. When a future has left, the kernel goes on to watch for readability, so that a conversation of
//!    `sock_recv`s costs no `epoll_ctl`. That is safe only for the socket object for which it began:
//!    `owner` refers to it weakly, and a wait for any other asks the kernel again, since the number may
//!    have been closed and given out anew in between.
//! 3. What the kernel reports and nobody waits for is not watched any longer.
//! 4. Whoever is watched by the object that he gave is kept alive by that, and may be removed by the same object when it
//!    has been closed and knows its number no longer (`selectors` keeps and finds it so, and anyio counts on it).

use super::class::this;
use super::core::{Entry, LoopCore, Waiter, Watch};
use super::{handles, lookups, signals};
use crate::ffi::errors::{connection_error, exc, os_error, raise, runtime_error, value_error};
use crate::ffi::function::Imp;
use crate::ffi::object::is_int;
use crate::ffi::{Args, Obj, Own, R, Unowned, threads};
use crate::futures::Future;
use crate::imports::names;
use crate::transports::life::Life;
use crate::transports::{Happening, Source};
use aioxide_core::{Events, Interest, Reactor};

/// What this file adds to the class.
pub(super) const METHODS: &[(&str, Imp)] = &[
    ("add_reader(self, fd, callback, *args)", |args| {
        not_of_transport(args)?;
        add_method(args, Side::Reader).map(|_| Obj::none())
    }),
    ("remove_reader(self, fd)", |args| {
        not_of_transport(args)?;
        remove_method(args, Side::Reader)
    }),
    ("add_writer(self, fd, callback, *args)", |args| {
        not_of_transport(args)?;
        add_method(args, Side::Writer).map(|_| Obj::none())
    }),
    ("remove_writer(self, fd)", |args| {
        not_of_transport(args)?;
        remove_method(args, Side::Writer)
    }),
    ("_add_reader(self, fd, callback, *args)", |args| {
        add_method(args, Side::Reader)
    }),
    ("_remove_reader(self, fd)", |args| {
        remove_method(args, Side::Reader)
    }),
    ("_add_writer(self, fd, callback, *args)", |args| {
        add_method(args, Side::Writer)
    }),
    ("_remove_writer(self, fd)", |args| {
        remove_method(args, Side::Writer)
    }),
];

/// Which of a descriptor's two callbacks.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    /// It can be read.
    Reader,
    /// It can be written.
    Writer,
}

impl Side {
    fn interest(self) -> Interest {
        if self == Side::Reader {
            Interest::READABLE
        } else {
            Interest::WRITABLE
        }
    }
    fn of(self, watch: &mut Watch) -> &mut Option<Waiter> {
        if self == Side::Reader {
            &mut watch.reader
        } else {
            &mut watch.writer
        }
    }
}

/// The descriptor behind an int or an object with `fileno()`, with selectors' error texts.
pub(crate) fn fileno(object: &Obj) -> R<i32> {
    let invalid =
        || -> R<crate::ffi::Raised> { Ok(value_error(&format!("Invalid file object: {}", object.repr()?))) };
    let number = if is_int(object) {
        object.clone()
    } else {
        match object.call_method(&names::FILENO, &[]) {
            Ok(number) => number,
            Err(raised) => {
                let wrong = raised.matches(exc::attribute_error())
                    || raised.matches(exc::type_error())
                    || raised.matches(exc::value_error());
                if !wrong {
                    return Err(raised);
                }
                raised.ignore();
                return Err(invalid()?);
            }
        }
    };
    let number = match number.to_i64() {
        Ok(number) => number,
        Err(raised) => {
            raised.ignore();
            return Err(invalid()?);
        }
    };
    match i32::try_from(number) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(value_error(&format!("Invalid file descriptor: {number}"))),
    }
}

fn not_of_transport(args: &Args) -> R<()> {
    let (core, named) = (this(args)?.1, args.req(1)?);
    ensure_no_transport(core, number_of(core, named)?, Some(named))
}

/// `_fileobj_lookup(fileobj)`: rule 4.
fn number_of(core: &LoopCore, named: &Obj) -> R<i32> {
    fileno(named).or_else(|raised| {
        let found = core.watches.with(|watches| {
            let is_named = |waiter: &Option<Waiter>| match waiter {
                Some(Waiter::Handle(_, Some(name))) => name.is(named),
                _ => false,
            };
            watches
                .iter()
                .position(|watch| is_named(&watch.reader) || is_named(&watch.writer))
        });
        match found.and_then(|index| i32::try_from(index).ok()) {
            Some(fd) if raised.matches(exc::value_error()) => {
                raised.ignore();
                Ok(fd)
            }
            _ => Err(raised),
        }
    })
}

fn add_method(args: &Args, side: Side) -> R<Obj> {
    let (loop_, core) = this(args)?;
    core.check_closed()?;
    let named = args.req(1)?;
    let fd = fileno(named)?;
    let handle = handles::make(loop_, args.req(2)?.clone(), args.rest(), None)?;
    let named = (!is_int(named)).then(|| named.clone());
    add(core, fd, side, handle.clone(), named)?;
    Ok(handle)
}

/// `_ensure_fd_no_transport(fd)`: a descriptor of a transport is not to be watched by others. `named`: what the program
/// has called it.
pub(super) fn ensure_no_transport(core: &LoopCore, fd: i32, named: Option<&Obj>) -> R<()> {
    let transport = core.watches.with(|watches| {
        let watch = watches.get(fd as usize)?;
        watch.transport.as_ref().map(Unowned::get)
    });
    match transport {
        Some(transport) if !transport.call_method_str("is_closing", &[])?.truth()? => {
            let named = named.map_or_else(|| Ok(fd.to_string()), Obj::repr)?;
            Err(runtime_error(&format!(
                "File descriptor {named} is used by transport {}",
                transport.repr()?
            )))
        }
        _ => Ok(()),
    }
}

/// The descriptor is that of `transport` until [`vacate`].
pub(crate) fn occupy(core: &LoopCore, fd: i32, transport: &Obj) {
    let transport = Some(Unowned::to(transport));
    at(core, fd, |watch| watch.transport = transport);
}

/// The transport has given it up. If another one has it by now, that keeps it.
pub(crate) fn vacate(core: &LoopCore, fd: i32, life: &Life) {
    core.watches.with(|watches| {
        if let Some(watch) = watches.get_mut(fd as usize)
            && watch.transport.as_ref().is_some_and(|has| has.has_body(life))
        {
            watch.transport = None;
        }
    });
}

/// The transport is about to close it: who waits for room there, which only a file that is being sent does, waits in
/// vain.
pub(crate) fn abandon(core: &LoopCore, fd: i32) -> R<()> {
    let waits = |waiter: &Waiter| matches!(waiter, Waiter::Future(_));
    let Some(Waiter::Future(future)) = take(core, fd, Side::Writer, waits) else {
        return Ok(());
    };
    unwatch(core, fd, Side::Writer);
    if future.is_done() {
        return Ok(());
    }
    future.set_exception(&connection_error("Connection is closed by peer").take())
}

/// Watches one side of `fd` for a transport. `fresh`: the kernel does not know of it, whatever we think.
pub(crate) fn add_source(core: &Own<LoopCore>, fd: i32, side: Side, source: Source, fresh: bool) -> R<()> {
    after_fork(core)?;
    core.check_closed()?;
    let known = || {
        core.reactor.with(|reactor| {
            let interest = reactor.as_ref().map(|reactor| reactor.interest(fd));
            interest.is_some_and(|interest| interest.contains(side.interest()))
        })
    };
    if fresh || !known() {
        watch(core, fd, side)?;
    }
    replace(core, fd, side, Waiter::Source(source))
}

/// Watches it no longer. `pause`: it is likely to be watched again soon, and the kernel is not told unless
/// something arrives meanwhile.
pub(crate) fn remove_source(core: &Own<LoopCore>, fd: i32, side: Side, pause: bool) {
    remove_source_if(core, fd, side, pause, |_| true);
}

/// The same for a transport, whose descriptor may have been closed behind its back, and the number be another's.
pub(crate) fn remove_source_of(life: &Life, core: &Own<LoopCore>, fd: i32, side: Side, pause: bool) {
    remove_source_if(core, fd, side, pause, |source| {
        Unowned::to(source.obj()).has_body(life)
    });
}

fn remove_source_if(core: &LoopCore, fd: i32, side: Side, pause: bool, which: impl FnOnce(&Source) -> bool) {
    let old = take(
        core,
        fd,
        side,
        |waiter| matches!(waiter, Waiter::Source(source) if which(source)),
    );
    if !pause && is_free(core, fd, side) {
        unwatch(core, fd, side);
    }
    drop(old);
}

/// Watches `fd`; whoever waited there is replaced, and cancelled if it is a handle.
fn add(core: &Own<LoopCore>, fd: i32, side: Side, handle: Obj, named: Option<Obj>) -> R<()> {
    after_fork(core)?;
    core.check_closed()?;
    watch(core, fd, side)?;
    replace(core, fd, side, Waiter::Handle(handle, named))
}

/// The next readiness of `fd` ends `future`. It belongs to the socket `owner`, or to whoever calls.
pub(super) fn wait(
    core: &Own<LoopCore>,
    fd: i32,
    side: Side,
    owner: Option<&Obj>,
    future: &Own<Future>,
) -> R<()> {
    after_fork(core)?;
    core.check_closed()?;
    if !owner.is_some_and(|owner| is_watched_for(core, fd, side, owner)) {
        let reference = match owner.map(Obj::weak_reference).transpose() {
            Ok(reference) => reference,
            // something like a socket: the kernel is asked each time
            Err(raised) if raised.matches(exc::type_error()) => {
                raised.ignore();
                None
            }
            Err(raised) => return Err(raised),
        };
        watch(core, fd, side)?;
        let old = at(core, fd, |watch| std::mem::replace(&mut watch.owner, reference));
        drop(old);
    }
    replace(core, fd, side, Waiter::Future(future.clone()))
}

/// Rule 2.
fn is_watched_for(core: &LoopCore, fd: i32, side: Side, owner: &Obj) -> bool {
    let interest = core
        .reactor
        .with(|reactor| reactor.as_ref().map(|reactor| reactor.interest(fd)));
    interest.is_some_and(|interest| interest.contains(side.interest()))
        && core.watches.with(|watches| {
            let owned = |watch: &Watch| {
                watch
                    .owner
                    .as_ref()
                    .is_some_and(|reference| reference.weakly_refers_to(owner))
            };
            watches.get(fd as usize).is_some_and(owned)
        })
}

/// Tells the kernel to watch one side of `fd`, too.
fn watch(core: &LoopCore, fd: i32, side: Side) -> R<()> {
    let watched = core.reactor.with(|reactor| match reactor {
        Some(reactor) => {
            let wanted = reactor.interest(fd) | side.interest();
            reactor.set_interest(fd, wanted).map_err(Some)
        }
        None => Err(None),
    });
    match watched {
        Ok(()) => Ok(()),
        Err(Some(error)) => Err(os_error(&error)),
        Err(None) => Err(runtime_error("Event loop is closed")),
    }
}

/// Tells the kernel to watch one side of `fd` no longer. Nobody may wait there.
fn unwatch(core: &LoopCore, fd: i32, side: Side) {
    core.reactor.with(|reactor| {
        if let Some(reactor) = reactor {
            let left = reactor.interest(fd) & !side.interest();
            // The kernel may have forgotten a descriptor that was closed under us: nothing to undo then.
            if reactor.set_interest(fd, left).is_err() {
                reactor.forget(fd);
            }
        }
    });
}

/// The entry of `fd`, which is made if need be. `f` must not run Python code.
fn at<T>(core: &LoopCore, fd: i32, f: impl FnOnce(&mut Watch) -> T) -> T {
    let index = fd as usize;
    core.watches.with(|watches| {
        if watches.len() <= index {
            watches.resize_with(index + 1, Watch::default);
        }
        f(&mut watches[index])
    })
}

fn replace(core: &LoopCore, fd: i32, side: Side, waiter: Waiter) -> R<()> {
    let old = at(core, fd, |watch| side.of(watch).replace(waiter));
    match old {
        Some(Waiter::Handle(old, _)) => handles::cancel_handle(&old),
        // As in asyncio, whoever awaits it is left to itself.
        Some(Waiter::Future(_) | Waiter::Source(_)) => Ok(()),
        None => {
            core.watched.set(core.watched.get() + 1);
            Ok(())
        }
    }
}

fn take(core: &LoopCore, fd: i32, side: Side, which: impl FnOnce(&Waiter) -> bool) -> Option<Waiter> {
    let taken = core.watches.with(|watches| {
        let place = side.of(watches.get_mut(fd as usize)?);
        if place.as_ref().is_some_and(which) {
            place.take()
        } else {
            None
        }
    });
    if taken.is_some() {
        core.watched.set(core.watched.get() - 1);
    }
    taken
}

fn remove_method(args: &Args, side: Side) -> R<Obj> {
    let (_, core) = this(args)?;
    if core.closed.get() {
        return Ok(Obj::bool(false));
    }
    Ok(Obj::bool(remove(core, number_of(core, args.req(1)?)?, side)?))
}

/// Stops watching. `false`: nothing was watched there.
pub(crate) fn remove(core: &Own<LoopCore>, fd: i32, side: Side) -> R<bool> {
    after_fork(core)?;
    let Some(old) = take(core, fd, side, |_| true) else {
        return Ok(false);
    };
    unwatch(core, fd, side);
    if let Waiter::Handle(old, _) = &old {
        handles::cancel_handle(old)?;
    }
    Ok(true)
}

/// Does nobody wait there?
fn is_free(core: &LoopCore, fd: i32, side: Side) -> bool {
    core.watches.with(|watches| {
        watches
            .get_mut(fd as usize)
            .is_none_or(|watch| side.of(watch).is_none())
    })
}

/// Nobody awaits `future` any longer: what it waited for is over, one way or another.
///
/// Most sockets are writable all the time, and the kernel would report it at once: unlike readability,
/// that is not worth going on with.
pub(super) fn leave(core: &LoopCore, fd: i32, side: Side, future: &Own<Future>) {
    let ours = |waiter: &Waiter| matches!(waiter, Waiter::Future(here) if here.is(future));
    drop(take(core, fd, side, ours));
    let free = side == Side::Writer && is_free(core, fd, side);
    let armed = || {
        core.reactor
            .with(|reactor| reactor.as_ref().is_some_and(|r| r.interest(fd).is_writable()))
    };
    if free && armed() {
        unwatch(core, fd, side);
    }
}

/// The handles of what is ready go to the end of the ready queue and the futures are ended, in the
/// kernel's order, reader before writer.
pub(super) fn dispatch(loop_: &Obj, core: &Own<LoopCore>, events: &mut Events) -> R<()> {
    let mut told = core.told.take();
    let mut idle = Vec::new();
    let mut signalled = false;
    let signals = signals::reader(core);
    core.reactor.with(|reactor| {
        let Some(reactor) = reactor else { return };
        reactor.dispatch(events, |fd, ready| {
            if signals == Some(fd) {
                signalled = true;
                return;
            }
            core.watches.with(|watches| {
                let mut watch = watches.get_mut(fd as usize);
                for (is, side) in [(ready.readable, Side::Reader), (ready.writable, Side::Writer)] {
                    if !is {
                        continue;
                    }
                    match watch.as_mut().and_then(|watch| side.of(watch).as_ref()) {
                        Some(waiter) if waits(waiter) => told.push((waiter.clone(), side)),
                        _ => idle.push((fd, side)),
                    }
                }
            });
        });
    });
    core.reactor
        .with(|reactor| reactor.as_mut().map_or(Ok(()), Reactor::shed_orphans))
        .map_err(|error| os_error(&error))?;
    for (fd, side) in idle {
        // a cancelled handle, or a future that was ended and has not left yet
        drop(take(core, fd, side, |waiter| !waits(waiter)));
        unwatch(core, fd, side);
    }
    let mut failure = None;
    for (waiter, side) in told.drain(..) {
        match waiter {
            Waiter::Handle(handle, _) => core.push(Entry::Handle(handles::Queued::shared(handle))),
            Waiter::Future(future) if !future.is_done() => {
                if let Err(raised) = future.finish(Obj::none()) {
                    failure = Some(raised.take());
                }
            }
            Waiter::Future(_) => {}
            Waiter::Source(source) => {
                let happening = if side == Side::Reader {
                    Happening::Readable
                } else {
                    Happening::Writable
                };
                core.push(Entry::Source(source, happening));
            }
        }
    }
    core.told.set(told);
    if signalled {
        signals::arrived(loop_, core)?;
    }
    match failure {
        Some(exception) => Err(raise(&exception)),
        None => Ok(()),
    }
}

/// Is there still somebody to tell?
fn waits(waiter: &Waiter) -> bool {
    match waiter {
        Waiter::Handle(handle, _) => !handles::is_cancelled(handle),
        Waiter::Future(future) => !future.is_done(),
        Waiter::Source(_) => true,
    }
}

/// In a forked child the kernel's table is still the parent's: make one of our own.
pub(crate) fn after_fork(core: &LoopCore) -> R<()> {
    let epoch = threads::fork_epoch();
    if core.forks.replace(epoch) == epoch {
        return Ok(());
    }
    // the threads of the resolver live in the parent
    core.resolver.put(None);
    lookups::abandon(core);
    // and so does whoever watches
    if core.thread.get() != 0 {
        crate::diag::on_run(core);
    }
    let pipe = core
        .signal_pipe
        .with(|pipe| pipe.as_ref().map_or(Ok(()), |pipe| pipe.reopen()));
    let reopened = core.reactor.with(|reactor| {
        reactor
            .as_mut()
            .map_or(Ok(()), |reactor| reactor.reopen_after_fork())
    });
    pipe.and(reopened).map_err(|error| os_error(&error))
}
