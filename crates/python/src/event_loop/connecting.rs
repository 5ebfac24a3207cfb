//! From addresses to a connected socket: `_connect_sock`, addresses one after the other, and the race of RFC 8305
//! (`asyncio.staggered`).
//!
//! Rules
//! 1. A socket that does not become the winner is closed, whatever ends the attempt: an error, a cancellation, a
//!    faster one.
//! 2. Every attempt's errors are kept, in the order of the addresses, for the one who asks for all of them.
//! 3. A race begins the next attempt when the last one has failed or has had `happy_eyeballs_delay` seconds, and ends
//!    with the first success. Nobody goes on before all attempts have ended.
//! 4. Where nobody could tell the difference, an attempt is a descriptor: no `socket.socket` is made before the program
//!    asks the transport for it, and no coroutine.

use super::core::{self, Entry};
use super::readers::{self, Side};
use super::socket_calls::{connect_failed, is_under_way};
use super::sockets::loop_core;
use crate::ffi::errors::{exc, os_error, raise, type_error, value_error};
use crate::ffi::{Class, Co, Coroutine, Obj, R, Raised, pysocket};
use crate::futures::{Future, methods};
use crate::imports::{self, names};
use crate::tasks::wait;
use crate::transports::socket::{Socket, written_out};
use crate::version;
use aioxide_core::socket::{self, Address};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Locals of whoever connects, after the loop and the arguments: a list of lists of exceptions; a list of
/// `(family, type, proto, canonname, sockaddr)`; a list of those to bind to, or `None`; what is being awaited; the
/// tasks of a race.
pub(super) const EXCEPTIONS: usize = 2;
pub(super) const INFOS: usize = 3;
pub(super) const LOCAL_INFOS: usize = 4;
const FUTURE: usize = 5;
const RUNNING: usize = 6;
/// The socket that has won, and what has ended the race otherwise.
const WINNER: usize = 7;
const FAILURE: usize = 8;

const LOOP: usize = super::servers::LOOP;

// --- one after the other --------------------------------------------------------------------------

/// The first address that answers. `None`: nobody has.
pub(super) async fn one_by_one(co: &Co) -> R<Option<Socket>> {
    for index in 0..co.local(INFOS).len()? {
        match attempt(co, index).await {
            Ok(socket) => return Ok(Some(socket)),
            Err(raised) if raised.matches(exc::os_error()) => raised.ignore(),
            Err(raised) => return Err(raised),
        }
    }
    Ok(None)
}

async fn attempt(co: &Co, index: usize) -> R<Socket> {
    if let Some(target) = bare_target(co, index)? {
        return match connect(co, target, index).await {
            Ok(fd) => Ok(Socket::owned(fd)),
            Err(raised) => Err(record(co, raised)?),
        };
    }
    let connecting = {
        let (loop_, info) = (co.local(LOOP), co.local(INFOS).item(index)?);
        connecting(&loop_, &co.local(EXCEPTIONS), &info, &co.local(LOCAL_INFOS))?
    };
    let sock = co.wait(connecting).await?;
    Socket::of(&sock)
}

/// `self._connect_sock(exceptions, info, local_infos)`
fn connecting(loop_: &Obj, exceptions: &Obj, info: &Obj, local: &Obj) -> R<Obj> {
    match core::fast(loop_) {
        Some(_) => connect_sock(loop_, exceptions, info, local),
        None => loop_.call_method_str("_connect_sock", &[exceptions, info, local]),
    }
}

/// An OSError of a bare attempt is kept: rule 2.
#[cold]
fn record(co: &Co, raised: Raised) -> R<Raised> {
    if !raised.matches(exc::os_error()) {
        return Ok(raised);
    }
    let exception = raised.take();
    let errors = Obj::list(std::slice::from_ref(&exception))?;
    co.local(EXCEPTIONS).call_method_str("append", &[&errors])?;
    Ok(raise(&exception))
}

/// Nobody has answered.
pub(super) fn failure(co: &Co, all_errors: bool) -> R<Raised> {
    let mut exceptions = Vec::new();
    for of_one in co.local(EXCEPTIONS).to_vec()? {
        exceptions.extend(of_one.to_vec()?);
    }
    co.set(EXCEPTIONS, Obj::none());
    if all_errors {
        let list = Obj::list(&exceptions)?;
        let group = imports::EXCEPTION_GROUP.call(&[&Obj::str("create_connection failed")?, &list])?;
        return Ok(raise(&group));
    }
    let Some(model) = exceptions.first() else {
        let (class, text) = if version::EMPTY_RACE_TIMES_OUT.get() {
            (exc::timeout_error(), "create_connection failed")
        } else {
            (exc::index_error(), "list index out of range")
        };
        return Ok(raise(&class.call(&[&Obj::str(text)?])?));
    };
    let texts = exceptions
        .iter()
        .map(|exception| exception.to_str()?.to_string())
        .collect::<R<Vec<_>>>()?;
    if texts.iter().all(|text| *text == texts[0]) {
        return Ok(raise(model));
    }
    let text = Obj::str(&format!("Multiple exceptions: {}", texts.join(", ")))?;
    Ok(raise(&exc::os_error().call(&[&text])?))
}

// --- a bare attempt: rule 4 -----------------------------------------------------------------------

/// Where to, in plain numbers.
pub(super) struct Target {
    pub(super) family: i32,
    pub(super) kind: i32,
    pub(super) proto: i32,
    pub(super) to: Address,
}

impl Target {
    /// Within this machine a connection is made by the call that begins it.
    fn is_here(&self) -> bool {
        match self.to {
            Address::Ip(SocketAddr::V4(v4)) => v4.ip().is_loopback(),
            Address::Ip(SocketAddr::V6(v6)) => v6.ip().is_loopback(),
            _ => true,
        }
    }
}

/// Can nobody tell whether there is a socket object?
pub(super) fn may_be_bare(loop_: &Obj) -> R<bool> {
    Ok(core::fast(loop_).is_some() && pysocket::is_untouched()?)
}

fn bare_target(co: &Co, index: usize) -> R<Option<Target>> {
    if !co.local(LOCAL_INFOS).is_none() || !may_be_bare(&co.local(LOOP))? {
        return Ok(None);
    }
    let info = co.local(INFOS).item(index)?;
    let [family, kind, proto, _, address] = info.tuple_items() else {
        return Ok(None);
    };
    let numbers = [family, kind, proto].map(|number| number.to_i32());
    let [Some(family), Some(kind), Some(proto)] = numbers else {
        return Ok(None);
    };
    Ok(written_out(family, address)?.map(|to| Target {
        family,
        kind,
        proto,
        to,
    }))
}

async fn connect(co: &Co, target: Target, index: usize) -> R<OwnedFd> {
    let shown = || -> R<Obj> {
        let info = co.local(INFOS).item(index)?;
        Ok(info.tuple_items().last().cloned().unwrap_or_else(Obj::none))
    };
    let fd = connect_bare(co, &target, shown).await?;
    if target.proto == libc::IPPROTO_TCP && target.kind == libc::SOCK_STREAM {
        // as in asyncio: it is no reason to fail
        let _ = socket::set_no_delay(fd.as_raw_fd());
    }
    Ok(fd)
}

/// A connected descriptor. `shown`: the address, for a message.
pub(super) async fn connect_bare(co: &Co, target: &Target, shown: impl Fn() -> R<Obj>) -> R<OwnedFd> {
    let fd = socket::open(target.family, target.kind, target.proto).map_err(|error| os_error(&error))?;
    match socket::connect(fd.as_raw_fd(), &target.to) {
        Ok(()) => return Ok(fd),
        Err(error) if is_under_way(&error) => {}
        Err(error) => return Err(os_error(&error)),
    }
    if target.is_here() {
        // asking again is cheaper than having it watched
        match socket::connect(fd.as_raw_fd(), &target.to) {
            Err(error) if is_under_way(&error) => {}
            connected => {
                two_turns(co).await?;
                return match connected {
                    Ok(()) => Ok(fd),
                    Err(error) => Err(failed(&error, &shown()?)?),
                };
            }
        }
    }
    until_connected(co, &fd).await?;
    match socket::take_error(fd.as_raw_fd()) {
        Ok(None) => Ok(fd),
        Ok(Some(error)) => Err(failed(&error, &shown()?)?),
        Err(error) => Err(os_error(&error)),
    }
}

/// asyncio hears of it in the next turn, and goes on in the one after. Whoever cancels until then finds a socket that
/// nobody has seen, and no protocol: asyncpg's pool does so with a connection that it has just begun, when it is closed.
async fn two_turns(co: &Co) -> R<()> {
    let future = {
        let loop_ = co.local(LOOP);
        let core = loop_core(&loop_)?;
        let future = methods::create_ours(&loop_, core)?;
        core.push(Entry::Slept(future.clone()));
        future.into_obj()
    };
    co.wait(future).await.map(drop)
}

#[cold]
fn failed(error: &std::io::Error, address: &Obj) -> R<Raised> {
    connect_failed(
        Obj::int(error.raw_os_error().unwrap_or_default().into())?,
        address,
    )
}

async fn until_connected(co: &Co, fd: &OwnedFd) -> R<()> {
    let number = fd.as_raw_fd();
    let future = {
        let loop_ = co.local(LOOP);
        let core = loop_core(&loop_)?;
        let future = methods::create_ours(&loop_, core)?;
        readers::wait(core, number, Side::Writer, None, &future)?;
        co.set(FUTURE, future.obj().clone());
        future.into_obj()
    };
    let waited = co.wait(future).await;
    let (loop_, future) = (co.local(LOOP), co.take(FUTURE).unwrap_or_else(Obj::none));
    let raised = waited.map(drop).map_err(Raised::take);
    if let Some(future) = Future::class().exact(&future) {
        readers::leave(loop_core(&loop_)?, number, Side::Writer, future);
    }
    raised.map_err(|exception| raise(&exception))
}

// --- an attempt with a socket object --------------------------------------------------------------

/// `_connect_sock(exceptions, info, local_infos)`: one attempt. Its locals: see the consts.
pub(super) fn connect_sock(loop_: &Obj, exceptions: &Obj, info: &Obj, local: &Obj) -> R<Obj> {
    let arguments = Obj::tuple(&[exceptions, info, local])?;
    Coroutine::boxed(
        "BaseEventLoop._connect_sock",
        &[loop_, &arguments],
        |co: Co| async move {
            const ERRORS: usize = 2;
            const SOCK: usize = 3;
            {
                let (errors, arguments) = (Obj::list(&[])?, co.local(1));
                if let [exceptions, ..] = arguments.tuple_items() {
                    exceptions.call_method_str("append", &[&errors])?;
                }
                co.set(ERRORS, errors);
            }
            let raised = match prepare(&co, ERRORS, SOCK) {
                Ok(connecting) => match co.wait(connecting).await {
                    Ok(_) => return Ok(co.local(SOCK)),
                    Err(raised) => raised,
                },
                Err(raised) => raised,
            };
            let exception = raised.take();
            if exception.isinstance(exc::os_error())? {
                co.local(ERRORS).call_method_str("append", &[&exception])?;
            }
            if let Some(sock) = co.take(SOCK) {
                match sock.call_method(&names::CLOSE, &[]) {
                    // what ended the attempt is more important
                    Err(raised)
                        if raised.matches(exc::os_error()) && version::CLOSE_ERRORS_ARE_DROPPED.get() =>
                    {
                        raised.ignore();
                    }
                    result => drop(result?),
                }
            }
            Err(raise(&exception))
        },
    )
}

/// Makes the socket, binds it, and begins to connect it: the coroutine that does.
fn prepare(co: &Co, errors: usize, sock_local: usize) -> R<Obj> {
    let arguments = co.local(1);
    let [_, info, local] = arguments.tuple_items() else {
        return Err(type_error("three arguments are required"));
    };
    let info = info.to_vec()?;
    let [family, kind, proto, _, address] = info.as_slice() else {
        return Err(value_error("getaddrinfo() must give tuples of five"));
    };
    let sock = imports::SOCKET_MODULE.call_method(&names::SOCKET, &[family, kind, proto])?;
    co.set(sock_local, sock.clone());
    sock.call_method(&names::SETBLOCKING, &[&Obj::bool(false)])?;
    if !local.is_none() {
        bind(&sock, family, local, &co.local(errors))?;
    }
    co.local(LOOP).call_method_str("sock_connect", &[&sock, address])
}

/// To the first of the local addresses that will do.
fn bind(sock: &Obj, family: &Obj, local: &Obj, errors: &Obj) -> R<()> {
    for info in local.to_vec()? {
        let info = info.to_vec()?;
        let [own_family, _, _, _, address] = info.as_slice() else {
            return Err(value_error("getaddrinfo() must give tuples of five"));
        };
        if !own_family.eq(family)? {
            continue;
        }
        let Err(raised) = sock.call_method_str("bind", &[address]) else {
            return Ok(());
        };
        if !raised.matches(exc::os_error()) {
            return Err(raised);
        }
        let error = raised.take();
        let reason = if version::BIND_SKIPS_UNAVAILABLE.get() {
            error.to_str()?
        } else {
            error.getattr_str("strerror")?
        };
        let reason = reason.call_method_str("lower", &[])?.to_string()?;
        let text = format!(
            "error while attempting to bind on address {}: {reason}",
            address.repr()?
        );
        let error = exc::os_error().call(&[&error.getattr_str("errno")?, &Obj::str(&text)?])?;
        errors.call_method_str("append", &[&error])?;
    }
    if errors.len()? == 0 {
        let text = format!("no matching local address with family={} found", family.repr()?);
        return Err(raise(&exc::os_error().call(&[&Obj::str(&text)?])?));
    }
    Err(raise(&errors.call_method_str("pop", &[])?))
}

// --- a race: rule 3 -------------------------------------------------------------------------------

/// The first address that answers, several being asked at a time. `None`: nobody has.
pub(super) async fn race(co: &Co, delay: f64) -> R<Option<Socket>> {
    co.set(RUNNING, Obj::list(&[])?);
    if let Err(raised) = run_race(co, delay).await {
        co.set(FAILURE, raised.take());
    }
    while let Some(ending) = send_home(co)? {
        if let Err(raised) = co.wait(ending).await {
            co.set(FAILURE, raised.take());
        }
    }
    let winner = co.take(WINNER).and_then(|sock| sock.non_none().cloned());
    close_others(co, winner.as_ref())?;
    co.set(RUNNING, Obj::none());
    let failure = co.take(FAILURE).and_then(|failure| failure.non_none().cloned());
    match (winner, failure) {
        (winner, None) => winner.map(|sock| Socket::of(&sock)).transpose(),
        (winner, Some(failure)) => {
            if let Some(sock) = winner {
                sock.call_method(&names::CLOSE, &[])?;
            }
            Err(raise(&failure))
        }
    }
}

/// Until somebody has answered, or nobody is left.
async fn run_race(co: &Co, delay: f64) -> R<()> {
    let (mut next, total) = (0, co.local(INFOS).len()?);
    // which attempts we have looked at when they had ended
    let mut known: Vec<bool> = Vec::new();
    // when the attempt after the last one begins
    let mut due = f64::NEG_INFINITY;
    loop {
        let now = co.local(LOOP).call_method(&names::TIME, &[])?.to_f64()?;
        if next < total && now >= due {
            start(co, next)?;
            known.push(false);
            (next, due) = (next + 1, now + delay);
        }
        let waiting = {
            let mut pending = Vec::new();
            for (task, known) in co.local(RUNNING).to_vec()?.into_iter().zip(&mut known) {
                if !is_done(&task)? {
                    pending.push(task);
                } else if !std::mem::replace(known, true) {
                    if let Some(sock) = outcome(&task)? {
                        co.set(WINNER, sock);
                        return Ok(());
                    }
                }
            }
            // the last one has failed
            if known.last() == Some(&true) && next < total {
                due = f64::NEG_INFINITY;
                continue;
            }
            if pending.is_empty() {
                return Ok(());
            }
            let seconds = (next < total).then_some((due - now).max(0.0));
            wait::on(&pending, seconds, "FIRST_COMPLETED")?
        };
        co.wait(waiting).await?;
    }
}

fn start(co: &Co, index: usize) -> R<()> {
    let (loop_, info) = (co.local(LOOP), co.local(INFOS).item(index)?);
    let attempt = connecting(&loop_, &co.local(EXCEPTIONS), &info, &co.local(LOCAL_INFOS))?;
    let task = loop_.call_method(&names::CREATE_TASK, &[&attempt])?;
    co.local(RUNNING).call_method(&names::APPEND, &[&task]).map(drop)
}

fn is_done(task: &Obj) -> R<bool> {
    task.call_method(&names::DONE, &[])?.truth()
}

/// The race is over: who is still on the way is told so. `None`: nobody is.
fn send_home(co: &Co) -> R<Option<Obj>> {
    let mut pending = Vec::new();
    for task in co.local(RUNNING).to_vec()? {
        if !is_done(&task)? {
            task.call_method(&names::CANCEL, &[])?;
            pending.push(task);
        }
    }
    if pending.is_empty() {
        return Ok(None);
    }
    wait::on(&pending, None, "ALL_COMPLETED").map(Some)
}

/// Rule 1, of those who have arrived.
fn close_others(co: &Co, winner: Option<&Obj>) -> R<()> {
    for task in co.local(RUNNING).to_vec()? {
        match outcome(&task) {
            Ok(Some(sock)) if !winner.is_some_and(|winner| winner.is(&sock)) => {
                sock.call_method(&names::CLOSE, &[])?;
            }
            Ok(_) => {}
            Err(raised) => co.set(FAILURE, raised.take()),
        }
    }
    Ok(())
}

/// What a finished attempt came to: its socket, or `None` for an OSError (which is on record).
fn outcome(task: &Obj) -> R<Option<Obj>> {
    match task.call_method(&names::RESULT, &[]) {
        Ok(sock) => Ok(Some(sock)),
        Err(raised) if raised.matches(exc::keyboard_interrupt()) || raised.matches(exc::system_exit()) => {
            Err(raised)
        }
        Err(raised) => {
            raised.ignore();
            Ok(None)
        }
    }
}
