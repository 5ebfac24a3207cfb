//! "Watching file descriptors": add_reader, remove_reader, add_writer, remove_writer.

use super::class::this;
use super::core::{Entry, LoopCore, Watch};
use super::handles;
use crate::ffi::errors::{exc, os_error, runtime_error, value_error};
use crate::ffi::function::Imp;
use crate::ffi::{Args, Obj, Own, R, threads};
use crate::imports::names;
use aioxide_core::{Events, Interest};

/// What this file adds to the class.
pub(super) const METHODS: &[(&str, Imp)] = &[
    ("add_reader(self, fd, callback, *args)", |args| add_method(args, Side::Reader)),
    ("remove_reader(self, fd)", |args| remove_method(args, Side::Reader)),
    ("add_writer(self, fd, callback, *args)", |args| add_method(args, Side::Writer)),
    ("remove_writer(self, fd)", |args| remove_method(args, Side::Writer)),
    ("_add_reader(self, fd, callback, *args)", |args| add_method(args, Side::Reader)),
    ("_remove_reader(self, fd)", |args| remove_method(args, Side::Reader)),
    ("_add_writer(self, fd, callback, *args)", |args| add_method(args, Side::Writer)),
    ("_remove_writer(self, fd)", |args| remove_method(args, Side::Writer)),
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
        if self == Side::Reader { Interest::READABLE } else { Interest::WRITABLE }
    }
    fn of(self, watch: &mut Watch) -> &mut Option<Obj> {
        if self == Side::Reader { &mut watch.reader } else { &mut watch.writer }
    }
}

/// The descriptor behind an int or an object with `fileno()`, with selectors' error texts.
pub(crate) fn fileno(object: &Obj) -> R<i32> {
    let invalid = || -> R<crate::ffi::Raised> { Ok(value_error(&format!("Invalid file object: {}", object.repr()?))) };
    let number = if crate::ffi::object::is_int(object) {
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

fn add_method(args: &Args, side: Side) -> R<Obj> {
    let (loop_, core) = this(args)?;
    core.check_closed()?;
    let fd = fileno(args.req(1)?)?;
    let handle = handles::make(loop_, args.req(2)?.clone(), args.rest(), None)?;
    add(core, fd, side, handle.clone())?;
    Ok(handle)
}

/// Watches `fd`; a callback that was there is replaced and cancelled.
pub(crate) fn add(core: &Own<LoopCore>, fd: i32, side: Side, handle: Obj) -> R<()> {
    after_fork(core)?;
    core.check_closed()?;
    let index = fd as usize;
    let interest = core.reactor.with(|reactor| match reactor {
        Some(reactor) => {
            let wanted = reactor.interest(fd) | side.interest();
            reactor.set_interest(fd, wanted).map_err(Some)
        }
        None => Err(None),
    });
    match interest {
        Ok(()) => {}
        Err(Some(error)) => return Err(os_error(&error)),
        Err(None) => return Err(runtime_error("Event loop is closed")),
    }
    let old = core.watches.with(|watches| {
        if watches.len() <= index {
            watches.resize_with(index + 1, Watch::default);
        }
        side.of(&mut watches[index]).replace(handle)
    });
    match old {
        Some(old) => handles::cancel_handle(&old),
        None => {
            core.watched.set(core.watched.get() + 1);
            Ok(())
        }
    }
}

fn remove_method(args: &Args, side: Side) -> R<Obj> {
    let (_, core) = this(args)?;
    if core.closed.get() {
        return Ok(Obj::bool(false));
    }
    Ok(Obj::bool(remove(core, fileno(args.req(1)?)?, side)?))
}

/// Stops watching. `false`: nothing was watched there.
pub(crate) fn remove(core: &Own<LoopCore>, fd: i32, side: Side) -> R<bool> {
    after_fork(core)?;
    let old = core.watches.with(|watches| watches.get_mut(fd as usize).and_then(|watch| side.of(watch).take()));
    let Some(old) = old else { return Ok(false) };
    core.watched.set(core.watched.get() - 1);
    core.reactor.with(|reactor| {
        if let Some(reactor) = reactor {
            let left = reactor.interest(fd) & !side.interest();
            // The kernel may have forgotten a descriptor that was closed under us: nothing to undo then.
            if reactor.set_interest(fd, left).is_err() {
                reactor.forget(fd);
            }
        }
    });
    handles::cancel_handle(&old)?;
    Ok(true)
}

/// The callbacks of what is ready go to the end of the ready queue, reader before writer.
pub(super) fn dispatch(_: &Obj, core: &Own<LoopCore>, events: &mut Events) {
    core.reactor.with(|reactor| {
        let Some(reactor) = reactor else { return };
        reactor.dispatch(events, |fd, ready| {
            core.watches.with(|watches| {
                let Some(watch) = watches.get(fd as usize) else { return };
                for (is, handle) in [(ready.readable, &watch.reader), (ready.writable, &watch.writer)] {
                    if let (true, Some(handle)) = (is, handle) {
                        core.push(Entry::Handle(handle.clone()));
                    }
                }
            });
        });
    });
}

/// In a forked child the kernel's table is still the parent's: make one of our own.
pub(crate) fn after_fork(core: &LoopCore) -> R<()> {
    let epoch = threads::fork_epoch();
    if core.forks.replace(epoch) == epoch {
        return Ok(());
    }
    let reopened = core.reactor.with(|reactor| reactor.as_mut().map_or(Ok(()), |reactor| reactor.reopen_after_fork()));
    reopened.map_err(|error| os_error(&error))
}
