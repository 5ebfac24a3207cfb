//! The turn of the loop: poll, due timers, then everything that was ready at that moment.
//!
//! Rules
//! 1. FIFO. What is scheduled during a turn runs in the next one. Within a turn: descriptors in the
//!    kernel's order, then due timers in the order of their deadlines, after what was ready before.
//! 2. The GIL is released only to sleep. A poll that does not block keeps it: winning it back from
//!    a busy thread costs a switch interval. So beside one the loop takes what is there already before
//!    it goes to sleep. While it is busy it hands the GIL over when it is asked to, and runs the handlers of
//!    signals, as bytecode does; every [`BREATH`] entries is often enough for that.
//! 3. While there is work, the kernel is asked at most every [`POLL_INTERVAL`], so that a burst of
//!    wake-ups does not pay a system call each; and not at all when no descriptor is watched. But what the loop has
//!    done itself can be seen in the next turn, as in asyncio: once something has been sent or closed, it asks.
//! 4. An exception of a callback goes to the exception handler; KeyboardInterrupt and SystemExit
//!    leave the loop, and what was still queued stays queued.

use super::core::{Entry, LoopCore, Timer};
use super::{errors, handles, lookups, readers};
use crate::diag::{self, dev};
use crate::ffi::errors::{R, Raised, exc, os_error, raise};
use crate::ffi::{Class, Obj, Own, context, threads, unseen};
use crate::futures::Role;
use crate::hook::Hook;
use crate::tasks::{alarm, step};
use crate::transports::Happening;
use aioxide_core::effects;
use aioxide_core::{Clock, Events, Monotonic, RESOLUTION, Timers, timeout_until};
use std::time::Duration;

/// How long ready work may keep the loop from looking at its descriptors.
const POLL_INTERVAL: f64 = 50e-6;
/// How many entries run between two looks at whether another thread wants the GIL.
const BREATH: u64 = 128;
/// Winning the GIL back takes longer than this only if another thread has it.
const CONTENTION: f64 = 20e-6;

/// Runs until `stopping`.
pub(crate) fn until_stopped(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    // However short the run, it looks at its descriptors, as every turn of asyncio's loop does.
    core.last_poll.set(0.0);
    loop {
        turn(loop_, core)?;
        if core.stopping.get() {
            unseen::show_all();
            return Ok(());
        }
    }
}

/// One turn, asked for by somebody else's loop: between two of them nobody can say what this one does.
pub(crate) fn turn_of_guest(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    let pulse = &core.vitals.pulse;
    let before = pulse.state();
    let now = core.now();
    pulse.wakes(now);
    pulse.goes_on(now);
    let result = turn(loop_, core);
    pulse.is_again(before);
    result
}

/// One turn.
fn turn(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    if core.is_idle() {
        // (a turn within a turn, as nest_asyncio does it: it may wait for the answer to what the outer one has written)
        core.outbox.flush()?;
        threads::check_signals()?;
        if core.vitals.pulse.is_asked() || core.vitals.figures.is_measuring() {
            aside(loop_, core)?;
        }
    }
    unseen::show_all();
    let begun = if core.is_idle() {
        sleep(loop_, core)?;
        fire_timers(core, core.time(loop_)?);
        core.last_poll.get()
    } else {
        busy(loop_, core)?
    };
    if lookups::are_answered(core) {
        lookups::deliver(core)?;
    }
    let pulse = &core.vitals.pulse;
    let ready = core.ready.len();
    core.vitals.figures.turn(ready);
    core.outbox.begin(pulse.entries(), ready, begun);
    for _ in 0..ready {
        if pulse.count() {
            watched_entry(loop_, core)?;
            continue;
        }
        let Some(entry) = core.ready.pop_front() else {
            break;
        };
        let result = run(loop_, core, entry);
        after_entry(core, result)?;
    }
    core.outbox.end(core);
    // (a turn within this one, by a signal handler, may have left fewer entries than were counted)
    if core.outbox.is_empty() {
        Ok(())
    } else {
        flush(core, Ok(()))
    }
}

/// What the entry has written goes out, unless it waits for more.
#[inline(always)]
fn after_entry(core: &Own<LoopCore>, result: R<()>) -> R<()> {
    if core.outbox.is_empty() || (result.is_ok() && core.outbox.waits(core)) {
        result
    } else {
        flush(core, result)
    }
}

/// The next entry, for which the loop has come aside: it is timed if it is one of the sample, and written down if the flight
/// recorder is on.
#[cold]
fn watched_entry(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    let is_sample = match aside(loop_, core) {
        Ok(is_sample) => is_sample,
        // (a signal handler has raised, and the turn ends here)
        Err(raised) => return flush(core, Err(raised)),
    };
    let Some(entry) = core.ready.pop_front() else {
        return Ok(());
    };
    let flight = core.flight();
    let task = match (&flight, &entry) {
        (Some(_), Entry::Step(task) | Entry::Wake(task)) => Some(task.clone()),
        _ => None,
    };
    if let Some(flight) = &flight {
        flight.before(core, &entry);
    }
    let begun = if is_sample { core.now() } else { 0.0 };
    let result = run(loop_, core, entry);
    if is_sample {
        core.vitals.figures.entries.record_seconds(core.now() - begun);
    }
    if let Some(flight) = &flight {
        flight.after(core, task.as_ref());
    }
    drop((task, flight));
    after_entry(core, result)
}

/// Between two entries: what is due every [`BREATH`] of them, and what threads that watch ask for. `true`: the next entry
/// is one of a sample.
#[cold]
fn aside(loop_: &Obj, core: &Own<LoopCore>) -> R<bool> {
    let (pulse, figures) = (&core.vitals.pulse, &core.vitals.figures);
    let (entries, asked) = (pulse.entries(), pulse.is_asked());
    let is_due = entries >= core.breath.get();
    if is_due {
        // Not always the same number, or of tasks that take turns the same one would always be the sample.
        let less = entries.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59;
        core.breath.set(entries + BREATH - less);
    }
    let lag = figures.aside(entries, core.ready.len(), || core.now());
    let after = if core.is_recording() {
        1
    } else {
        lag.map_or(u64::MAX, |lag| lag.max(1))
            .min(core.breath.get() - entries)
    };
    pulse.rearm(after);
    if asked {
        diag::at_boundary(loop_, core)?;
    }
    if is_due || asked {
        let now = core.now();
        core.diagnosis.passing(loop_, core, now);
        if is_due && dev::enabled() {
            dev::pace(core, now)?;
        }
        threads::breathe()?;
    }
    Ok(is_due)
}

/// What the entry has written goes out, however it has ended. Telling of a connection that is broken runs
/// Python code, which must not find the entry's exception set.
#[inline(never)]
fn flush(core: &Own<LoopCore>, result: R<()>) -> R<()> {
    let failure = result.err().map(Raised::take);
    let flushed = core.outbox.flush();
    let Some(exception) = failure else {
        return flushed;
    };
    if let Err(raised) = flushed {
        raised.unraisable(core.obj());
    }
    Err(raise(&exception))
}

/// There is work: look at descriptors and timers without sleeping (rule 3). When that was; 0: nothing has asked the clock.
#[inline]
fn busy(loop_: &Obj, core: &Own<LoopCore>) -> R<f64> {
    let timers = core.timers.with(|timers| timers.len());
    let watched = core.watched.get() > 0;
    let now = if timers > 0 || watched {
        let now = core.now();
        core.vitals.pulse.turns(now);
        now
    } else {
        0.0
    };
    if watched
        && (core.effects.get() != effects::count()
            || now - core.last_poll.get() > POLL_INTERVAL
            || core.stopping.get())
    {
        core.last_poll.set(now);
        poll(loop_, core, Some(Duration::ZERO))?;
    }
    while let Some(source) = core.eager.pop_front() {
        core.push(Entry::Source(source, Happening::Again));
    }
    if timers > 0 {
        purge_timers(core);
        let due = if core.own_time.get() {
            core.time(loop_)?
        } else {
            now
        };
        fire_timers(core, due);
    }
    Ok(now)
}

/// Nothing to do: sleep until a descriptor, a timer, a signal or another thread calls.
fn sleep(loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
    purge_timers(core);
    let timeout = core
        .timers
        .with(|timers| timers.peek_when())
        .map(|when| Ok(timeout_until(when, core.time(loop_)?)))
        .transpose()?;
    if core.contended.get() && core.watched.get() > 0 {
        poll(loop_, core, Some(Duration::ZERO))?;
        if !core.ready.is_empty() {
            core.last_poll.set(core.now());
            return Ok(());
        }
    }
    core.diagnosis.passing(loop_, core, core.last_poll.get());
    if dev::enabled() {
        dev::rest(core)?;
    }
    let asked = timeout;
    let limited = core.diagnosis.limit(core, asked);
    let Some(waker) = core
        .reactor
        .with(|reactor| reactor.as_ref().map(|reactor| reactor.waker().clone()))
    else {
        return core.check_closed();
    };
    waker.park();
    // With the GIL held nobody has been able to push since the check above; a signal may have come, and
    // has written to the pipe. The resolver's threads do without the GIL.
    // So do those who watch.
    let pulse = &core.vitals.pulse;
    let timeout = if lookups::are_answered(core) || pulse.is_asked() {
        Some(Duration::ZERO)
    } else {
        limited
    };
    if timeout == Some(Duration::ZERO) {
        core.last_poll.set(core.now());
    }
    let result = poll(loop_, core, timeout);
    waker.unpark();
    result?;
    // The handlers run before anything else, as they do in a loop written in Python.
    threads::check_signals()?;
    if core.is_idle() && timeout.is_some() && timeout != asked {
        core.diagnosis.was_idle(core);
    }
    Ok(())
}

/// Asks the kernel and queues what it answers.
fn poll(loop_: &Obj, core: &Own<LoopCore>, timeout: Option<Duration>) -> R<()> {
    readers::after_fork(core)?;
    core.effects.set(effects::count());
    let Some(poller) = core
        .reactor
        .with(|reactor| reactor.as_ref().map(|reactor| reactor.poller()))
    else {
        return core.check_closed();
    };
    let mut events = core.events.take().unwrap_or_else(|| Box::new(Events::new()));
    let flight = core.flight();
    if let Some(flight) = &flight {
        flight.polls(timeout != Some(Duration::ZERO));
    }
    let waited = if timeout == Some(Duration::ZERO) {
        poller.wait(&mut events, timeout)
    } else {
        let (events, clock) = (&mut events, Monotonic);
        let pulse = &core.vitals.pulse;
        core.vitals.figures.sleeps(core.now());
        pulse.sleeps();
        let (waited, woke) = threads::without_gil(move || {
            let waited = poller.wait(events, timeout);
            let woke = clock.now();
            pulse.wakes(woke);
            (waited, woke)
        });
        let now = core.now();
        pulse.goes_on(now);
        core.contended.set(now - woke > CONTENTION);
        core.last_poll.set(now);
        core.vitals.figures.wakes(woke, now);
        waited
    };
    if let Some(flight) = &flight {
        flight.wakes();
    }
    let outcome = match waited {
        Ok(()) => readers::dispatch(loop_, core, &mut events),
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(os_error(&error)),
    };
    core.events.set(Some(events));
    outcome
}

/// Due timers become ready, in the order of their deadlines.
fn fire_timers(core: &LoopCore, now: f64) {
    let end = now + RESOLUTION;
    let mut is_first = true;
    while let Some((when, timer)) = core.timers.with(|timers| timers.pop_due(end)) {
        if is_cancelled(&timer) {
            discount(core, &timer);
            continue;
        }
        if std::mem::take(&mut is_first) {
            core.vitals.figures.timers.record_seconds(now - when);
        }
        match timer {
            Timer::Handle(handle) => {
                handles::unschedule(handle.get());
                core.push(Entry::Handle(handle));
            }
            Timer::Sleep(future) => {
                future.role.set(Role::Any);
                core.push(Entry::Slept(future));
            }
            Timer::Hook(hook) => {
                alarm::unset(&hook);
                core.push(Entry::Callback {
                    callback: hook.into_obj(),
                    argument: None,
                    context: None,
                });
            }
        }
    }
}

/// asyncio's rule: clean the heap when it is large and more than half of it is cancelled; and drop
/// cancelled timers from its top.
fn purge_timers(core: &LoopCore) {
    if core.timers.with(|timers| timers.should_purge()) {
        for timer in core.timers.with(|timers| timers.purge(is_cancelled)) {
            is_counted(&timer);
        }
        return;
    }
    while core.timers.with(|timers| timers.peek().is_some_and(is_cancelled)) {
        if let Some((_, timer)) = core.timers.with(Timers::pop) {
            discount(core, &timer);
        }
    }
}

/// A cancelled timer has left the timers.
fn discount(core: &LoopCore, timer: &Timer) {
    if is_counted(timer) {
        core.timers.with(Timers::note_uncounted);
    }
}

/// Has a cancelled timer that has left the timers been counted? A sleeper counts its own when it runs again,
/// which is later than its future's cancellation: from now on it does not.
fn is_counted(timer: &Timer) -> bool {
    match timer {
        Timer::Sleep(future) => future.role.replace(Role::Any) != Role::Timed,
        _ => true,
    }
}

fn is_cancelled(timer: &Timer) -> bool {
    match timer {
        Timer::Handle(handle) => handles::is_cancelled(handle.get()),
        Timer::Sleep(future) => future.is_done(),
        Timer::Hook(hook) => !alarm::is_set(hook),
    }
}

/// Runs one entry; rule 4. In line in the turn, whoever else calls it.
#[inline(always)]
fn run(loop_: &Obj, core: &Own<LoopCore>, entry: Entry) -> R<()> {
    match entry {
        Entry::Step(task) => match step::on_our_loop(task, core) {
            Ok(()) => Ok(()),
            Err((task, raised)) => failed_step(loop_, &task, raised),
        },
        Entry::Wake(task) => match step::wake(task, core) {
            Ok(()) => Ok(()),
            Err((task, raised)) => failed_step(loop_, &task, raised),
        },
        Entry::Callback {
            callback,
            argument,
            context,
        } => match run_callback(&callback, argument.as_ref(), context.as_ref()) {
            Ok(()) => Ok(()),
            Err(raised) => failed_callback(loop_, callback, argument, context, raised),
        },
        Entry::Handle(handle) => handles::run(loop_, core, handle.get()),
        Entry::Slept(future) => {
            if future.is_done() {
                return Ok(());
            }
            let value = future.value.get_or_none();
            future.finish(value)
        }
        Entry::Source(source, happening) => source.run(loop_, core, happening),
    }
}

#[inline]
fn run_callback(callback: &Obj, argument: Option<&Obj>, context: Option<&Obj>) -> R<()> {
    if let Some(hook) = Hook::class().exact(callback) {
        return match context {
            None => hook.run(argument),
            Some(context) => context::run(context, || hook.run(argument)),
        };
    }
    let call = || match argument {
        Some(argument) => callback.call(&[argument]).map(drop),
        None => callback.call0().map(drop),
    };
    match context {
        Some(context) => context::run(context, call),
        None => call(),
    }
}

/// KeyboardInterrupt and SystemExit.
pub(crate) fn is_fatal(raised: &Raised) -> bool {
    raised.matches(exc::keyboard_interrupt()) || raised.matches(exc::system_exit())
}

#[cold]
fn failed_step(loop_: &Obj, task: &Own<crate::tasks::Task>, raised: Raised) -> R<()> {
    if is_fatal(&raised) {
        return Err(raised);
    }
    let exception = raised.take();
    let callback = Hook::step(task, None)?.into_obj();
    let handle = handles::make(loop_, callback, &[], task.context.get())?;
    errors::report_callback(loop_, &handle, &exception)
}

#[cold]
fn failed_callback(
    loop_: &Obj,
    callback: Obj,
    argument: Option<Obj>,
    context: Option<Obj>,
    raised: Raised,
) -> R<()> {
    if is_fatal(&raised) {
        return Err(raised);
    }
    let exception = raised.take();
    let arguments: Vec<Obj> = argument.into_iter().collect();
    let handle = handles::make(loop_, callback, &arguments, context)?;
    errors::report_callback(loop_, &handle, &exception)
}
