//! `socket.getaddrinfo`, asked of the resolver's threads, which know nothing of Python and never want the GIL.
//!
//! Owns the questions that are under way: the futures that their answers end.
//!
//! Rules
//! 1. What `socket.getaddrinfo` would say, we say: the same tuples, enums, exceptions and audit event. What it would
//!    have to look at twice (arguments of odd types) is no question of ours: `None`.
//! 2. Who is cancelled takes the question back; the answer of one that is under way by then is dropped.

use super::core::LoopCore;
use super::readers;
use crate::ffi::bytes::{self, Bytes};
use crate::ffi::errors::{exc, os_error, raise_new};
use crate::ffi::object::{ascii, exact_int, is_str};
use crate::ffi::{Obj, Own, R, audit};
use crate::futures::{Future, methods};
use crate::imports;
use crate::transports::socket::address;
use aioxide_core::Resolver;
use aioxide_core::names::{self, Failure, Found, Question};
use aioxide_core::resolver::Answer;
use std::ffi::{CStr, CString};

/// The question that these arguments of `socket.getaddrinfo` are, audited.
pub(super) fn question(arguments: &[Obj]) -> R<Option<Question>> {
    let [host, port, numbers @ ..] = arguments else {
        return Ok(None);
    };
    let (Some(host_text), Some(service)) = (text_of_host(host)?, text_of_port(port)?) else {
        return Ok(None);
    };
    let numbers: Vec<i32> = numbers.iter().map_while(Obj::to_i32).collect();
    let [family, kind, protocol, flags] = numbers[..] else {
        return Ok(None);
    };
    audit::look_up(host, port, [family, kind, protocol])?;
    Ok(Some(Question {
        host: host_text,
        service,
        family,
        kind,
        protocol,
        flags,
    }))
}

/// Is any under way?
pub(crate) fn are_pending(core: &LoopCore) -> bool {
    core.asked.with(|asked| !asked.is_empty())
}

/// The outer `None`: see rule 1; the inner one: no host is given.
type Text = Option<Option<CString>>;

/// As the codec `idna` writes it.
fn text_of_host(host: &Obj) -> R<Text> {
    if host.is_none() {
        return Ok(Some(None));
    }
    if is_str(host) {
        if let Some(host) = ascii(host).filter(|host| has_good_labels(host)) {
            return Ok(CString::new(host).ok().map(Some));
        }
        let encoded = host.call_method_str("encode", &[&Obj::str("idna")?])?;
        return Ok(text_of_bytes(&encoded));
    }
    Ok(text_of_bytes(host))
}

/// Those of an ASCII name, which goes unchanged then. The last one may be empty.
fn has_good_labels(host: &str) -> bool {
    let mut labels = host.rsplit('.');
    labels.next().is_some_and(|last| last.len() < 64) && labels.all(|label| (1..64).contains(&label.len()))
}

fn text_of_bytes(host: &Obj) -> Text {
    Bytes::of(host)
        .and_then(|host| CString::new(host.as_slice()).ok())
        .map(Some)
}

fn text_of_port(port: &Obj) -> R<Text> {
    if port.is_none() {
        return Ok(Some(None));
    }
    if let Some(number) = exact_int(port) {
        return Ok(CString::new(number.to_string()).ok().map(Some));
    }
    if let Some(name) = ascii(port) {
        return Ok(CString::new(name).ok().map(Some));
    }
    Ok(text_of_bytes(port))
}

/// Asks. The future of the answer, and the number to [take the question back](forget) with.
pub(super) fn ask(loop_: &Obj, core: &Own<LoopCore>, question: Question) -> R<(Own<Future>, u64)> {
    readers::after_fork(core)?;
    let future = methods::create_ours(loop_, core)?;
    let waker = core
        .reactor
        .with(|reactor| reactor.as_ref().map(|reactor| reactor.waker().clone()));
    let Some(waker) = waker else {
        core.check_closed()?;
        return Ok((future, 0));
    };
    let asked = core
        .names
        .with(|names| names.get_or_insert_with(|| Resolver::new(waker)).ask(question));
    let Ok(number) = asked else {
        return Err(raise_new(exc::runtime_error(), "can't start new thread"));
    };
    core.asked.with(|asked| asked.insert(number, future.clone()));
    Ok((future, number))
}

/// Rule 2.
pub(super) fn forget(core: &LoopCore, number: u64) {
    drop(core.asked.with(|asked| asked.remove(&number)));
    core.names.with(|names| {
        if let Some(names) = names {
            names.forget(number);
        }
    });
}

/// Is there an answer that nobody has taken in?
pub(super) fn are_answered(core: &LoopCore) -> bool {
    core.names
        .with(|names| names.as_ref().is_some_and(Resolver::has_answers))
}

/// Ends the futures of what has been answered.
#[cold]
pub(super) fn deliver(core: &Own<LoopCore>) -> R<()> {
    let answers = core
        .names
        .with(|names| names.as_ref().map_or_else(Vec::new, Resolver::answers));
    for (number, answer) in answers {
        let Some(future) = core.asked.with(|asked| asked.remove(&number)) else {
            continue;
        };
        if future.is_done() {
            continue;
        }
        match as_list(&answer) {
            Ok(list) => future.finish(list)?,
            Err(raised) => future.set_exception(&raised.take())?,
        }
    }
    Ok(())
}

/// The loop is closed.
pub(super) fn close(core: &LoopCore) {
    drop(core.names.with(Option::take));
    drop(core.asked.with(std::mem::take));
}

/// In a forked child: the threads are in the parent, and so may be whoever has the lock.
pub(super) fn abandon(core: &LoopCore) {
    std::mem::forget(core.names.with(Option::take));
}

fn as_list(answer: &Answer) -> R<Obj> {
    match answer {
        Ok(lines) => Obj::list(&lines.iter().map(as_tuple).collect::<R<Vec<_>>>()?),
        Err(Failure::System(error)) => Err(os_error(error)),
        Err(Failure::Name(code)) => {
            let arguments = [&Obj::int((*code).into())?, &Obj::str(&names::message(*code))?];
            Err(crate::ffi::errors::raise(&imports::GAIERROR.call(&arguments)?))
        }
    }
}

/// `(family, type, proto, canonname, sockaddr)`
fn as_tuple(line: &Found) -> R<Obj> {
    let family = match line.family {
        libc::AF_INET => imports::AF_INET.clone(),
        libc::AF_INET6 => imports::AF_INET6.clone(),
        other => member(&imports::ADDRESS_FAMILY, other)?,
    };
    let kind = match line.kind {
        libc::SOCK_STREAM => imports::SOCK_STREAM.clone(),
        libc::SOCK_DGRAM => imports::SOCK_DGRAM.clone(),
        other => member(&imports::SOCKET_KIND, other)?,
    };
    let name = line.canonical.as_deref().map_or(&[][..], CStr::to_bytes);
    let name = match std::str::from_utf8(name) {
        Ok(name) => Obj::str(name)?,
        Err(_) => bytes::new(name)?.call_method_str("decode", &[])?,
    };
    let address = address(&line.address)?.unwrap_or_else(Obj::none);
    Obj::tuple(&[&family, &kind, &Obj::int(line.protocol.into())?, &name, &address])
}

/// `enum(number)`, or the number if it has no name.
fn member(class: &Obj, number: i32) -> R<Obj> {
    let number = Obj::int(number.into())?;
    match class.call(&[&number]) {
        Err(raised) if raised.matches(exc::value_error()) => {
            raised.ignore();
            Ok(number)
        }
        result => result,
    }
}
