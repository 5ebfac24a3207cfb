//! "DNS": getaddrinfo, getnameinfo.
//!
//! Names are looked up by threads of the loop's own, so that a program that fills its default executor can still look up
//! names, and lookups that hang do not take that executor's threads: by the resolver (`lookups.rs`), or, where Python
//! has to be asked, by a small executor.
//!
//! Rules
//! 1. An address that is written out is no reason for a thread: it is answered at once.
//! 2. `socket.getaddrinfo` is looked up when it is called; who has replaced it is asked about
//!    written-out addresses, too.

use super::class::{self, this};
use super::core::LoopCore;
use super::{executors, lookups, readers};
use crate::diag::dev;
use crate::ffi::errors::{raise, type_error, value_error};
use crate::ffi::object::{ascii, exact_int, exact_number, is_exact_str};
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Co, Coroutine, Obj, Own, R};
use crate::imports::{self, names};
use crate::kwnames;
use crate::transports::socket::ip_text;
use std::net::IpAddr;

/// How many lookups are under way at a time.
const THREADS: i64 = 8;
/// What makes no difference to an address that is written out.
const HARMLESS_FLAGS: i64 = (libc::AI_PASSIVE | libc::AI_NUMERICHOST | libc::AI_NUMERICSERV) as i64;
const TCP: i64 = libc::IPPROTO_TCP as i64;
const UDP: i64 = libc::IPPROTO_UDP as i64;
const STREAM: i64 = libc::SOCK_STREAM as i64;
const DATAGRAM: i64 = libc::SOCK_DGRAM as i64;
const ANY_FAMILY: i64 = libc::AF_UNSPEC as i64;
const IPV4: i64 = libc::AF_INET as i64;
const IPV6: i64 = libc::AF_INET6 as i64;

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method(
        "getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0)",
        getaddrinfo,
    )?;
    body.async_method("getnameinfo(self, sockaddr, flags=0)", getnameinfo)?;
    body.async_method(
        "_ensure_resolved(self, address, *, family=0, type=1, proto=0, flags=0, loop)",
        |args| {
            let zero = Obj::int(0)?;
            let given = |index: usize| args.get(index).unwrap_or(&zero).clone();
            let hints = [
                given(2),
                args.get(3).unwrap_or(&imports::SOCK_STREAM).clone(),
                given(4),
                given(5),
            ];
            Coroutine::boxed(
                "BaseEventLoop._ensure_resolved",
                &[args.req(6)?, args.req(1)?, &Obj::list(&hints)?],
                |co: Co| async move {
                    let looking_up = match resolve(&co.local(0), &co.local(1), &co.local(2).to_vec()?)? {
                        Resolved::Already(info) => return Obj::list(&[info]),
                        Resolved::Later(coroutine) => coroutine,
                    };
                    co.wait(looking_up).await
                },
            )
        },
    )?;
    body.method(
        "_getaddrinfo_debug(self, host, port, family, type, proto, flags)",
        getaddrinfo_debug,
    )
}

/// What is known of an address.
pub(super) enum Resolved {
    /// It was written out: its `(family, type, proto, canonname, sockaddr)`.
    Already(Obj),
    /// To be awaited: a list of those.
    Later(Obj),
}

/// `_ensure_resolved(address, family=…, type=…, proto=…, flags=…, loop=…)`, the hints in this order.
pub(super) fn resolve(loop_: &Obj, address: &Obj, hints: &[Obj]) -> R<Resolved> {
    let [family, kind, proto, flags] = hints else {
        return Err(type_error("four hints are required"));
    };
    let address = address.to_vec()?;
    let [host, port, scope @ ..] = address.as_slice() else {
        let text = format!("not enough values to unpack (expected 2, got {})", address.len());
        return Err(value_error(&text));
    };
    if let Some(info) = ipaddr_info(host, port, family, kind, proto, scope)? {
        return Ok(Resolved::Already(info));
    }
    let arguments = [host, port, family, kind, proto, flags];
    Ok(Resolved::Later(loop_.call_method_kw(
        &names::GETADDRINFO,
        &arguments,
        Some(&kwnames::HINTS),
    )?))
}

/// `base_events._ipaddr_info(host, port, family, type, proto, flowinfo=0, scopeid=0)`: what getaddrinfo
/// would say about an address that is written out; `None` if that needs looking up.
pub(super) fn ipaddr_info(
    host: &Obj,
    port: &Obj,
    family: &Obj,
    kind: &Obj,
    proto: &Obj,
    scope: &[Obj],
) -> R<Option<Obj>> {
    if host.is_none() || !matches!(proto.to_i64()?, 0 | TCP | UDP) {
        return Ok(None);
    }
    let proto = match kind.to_i64()? {
        STREAM => TCP,
        DATAGRAM => UDP,
        _ => return Ok(None),
    };
    let Some(port) = port_number(port)? else {
        return Ok(None);
    };
    let host = match as_text(host)? {
        Some(host) => host,
        None => host.call_method_str("decode", &[&Obj::str("idna")?])?,
    };
    let Some(address) = parse(&host)? else {
        return Ok(None);
    };
    let written = if address.is_ipv4() { IPV4 } else { IPV6 };
    let family = match family.to_i64()? {
        ANY_FAMILY => socket_family(address),
        wanted if wanted == written => family.clone(),
        _ => return Ok(None),
    };
    let zero = Obj::int(0)?;
    let part = |index: usize| scope.get(index).unwrap_or(&zero);
    let sockaddr = match address {
        IpAddr::V4(_) => Obj::tuple(&[&host, &port])?,
        IpAddr::V6(_) => Obj::tuple(&[&host, &port, part(0), part(1)])?,
    };
    Ok(Some(Obj::tuple(&[
        &family,
        kind,
        &Obj::int(proto)?,
        &Obj::str("")?,
        &sockaddr,
    ])?))
}

/// A port that is no service's name: `None`, `''`, `b''` or what `int()` takes.
fn port_number(port: &Obj) -> R<Option<Obj>> {
    if exact_int(port).is_some() {
        return Ok(Some(port.clone()));
    }
    if port.is_none() || port.eq(&Obj::str("")?)? || port.is_empty_bytes() {
        return Ok(Some(Obj::int(0)?));
    }
    match Obj::import("builtins")?.call_method_str("int", &[port]) {
        Ok(number) => Ok(Some(number)),
        Err(raised) => {
            use crate::ffi::errors::exc;
            if !raised.matches(exc::type_error()) && !raised.matches(exc::value_error()) {
                return Err(raised);
            }
            raised.ignore();
            Ok(None)
        }
    }
}

/// A str as it is; `None` for bytes, which are to be decoded; anything else cannot be a host.
fn as_text(host: &Obj) -> R<Option<Obj>> {
    if is_exact_str(host) {
        return Ok(Some(host.clone()));
    }
    Ok(if host.hasattr("decode")? {
        None
    } else {
        Some(host.clone())
    })
}

/// An address that is written out, without a zone (`fe80::1%eth0`).
fn parse(host: &Obj) -> R<Option<IpAddr>> {
    if let Some(host) = ascii(host) {
        return Ok(host.parse().ok());
    }
    if host.contains(&Obj::str("%")?)? {
        return Ok(None);
    }
    Ok(host.to_string()?.parse().ok())
}

fn socket_family(address: IpAddr) -> Obj {
    let family = if address.is_ipv4() {
        &imports::AF_INET
    } else {
        &imports::AF_INET6
    };
    family.get().clone()
}

/// `await loop.getaddrinfo(host, port, *, family=0, type=0, proto=0, flags=0)`
fn getaddrinfo(args: &Args) -> R<Obj> {
    let (loop_, _) = this(args)?;
    let zero = Obj::int(0)?;
    let hint = |index: usize| args.get(index).unwrap_or(&zero).clone();
    let query = Obj::list(&[
        args.req(1)?.clone(),
        args.req(2)?.clone(),
        hint(3),
        hint(4),
        hint(5),
        hint(6),
    ])?;
    Coroutine::boxed(
        "BaseEventLoop.getaddrinfo",
        &[loop_, &query],
        |co: Co| async move {
            let (future, number, logged) = match look_up(&co.local(0), &co.local(1).to_vec()?)? {
                LookUp::Answered(answer) => return Ok(answer),
                LookUp::InExecutor(future) => return co.wait(future).await,
                LookUp::Asked(future, number, logged) => (future, number, logged),
            };
            let result = co.wait(future).await;
            let loop_ = co.local(0);
            let core = state(&loop_)?;
            match (result, logged) {
                (Err(raised), _) => {
                    // cancelled, perhaps
                    let exception = raised.take();
                    lookups::forget(core, number);
                    Err(raise(&exception))
                }
                (Ok(answer), Some(logged)) => {
                    logged.answered(core, &answer)?;
                    Ok(answer)
                }
                (Ok(answer), None) => Ok(answer),
            }
        },
    )
}

/// How a question is going to be answered.
enum LookUp {
    /// It is.
    Answered(Obj),
    /// To be awaited.
    InExecutor(Obj),
    /// To be awaited, and taken back by its number if it is not.
    Asked(Obj, u64, Option<Logged>),
}

fn look_up(loop_: &Obj, query: &[Obj]) -> R<LookUp> {
    let (core, [host, port, ..]) = (state(loop_)?, query) else {
        return Err(type_error("host and port are required"));
    };
    core.check_closed()?;
    let function = imports::SOCKET_MODULE.getattr(&names::GETADDRINFO)?;
    let debug = core.debug.get();
    let native = function.is(&imports::GETADDRINFO)
        && (!debug || class::EVENT_LOOP.is_exact(loop_) && !core.patched.get());
    let ours = native && !debug;
    let written_out = is_written_out(host)? && is_number_or_none(port);
    if ours
        && written_out
        && let Some(answer) = answer(query)?
    {
        return Ok(LookUp::Answered(answer));
    }
    let function = if debug {
        loop_.getattr_str("_getaddrinfo_debug")?
    } else {
        function
    };
    if written_out {
        // libc reads it without asking anybody
        let answer = dev::ours(|| function.call(&query.iter().collect::<Vec<_>>()))?;
        return Ok(LookUp::Answered(answer));
    }
    if native && let Some(question) = lookups::question(query)? {
        let logged = debug
            .then(|| Logged::asked(core, &query.iter().collect::<Vec<_>>()))
            .transpose()?;
        let (future, number) = lookups::ask(loop_, core, question)?;
        return Ok(LookUp::Asked(future.into_obj(), number, logged));
    }
    executors::submit(loop_, &resolver(core)?, &function, query).map(LookUp::InExecutor)
}

fn state(loop_: &Obj) -> R<&Own<LoopCore>> {
    super::core::of(loop_).ok_or_else(|| type_error("an EventLoop is required"))
}

fn is_written_out(host: &Obj) -> R<bool> {
    Ok(is_exact_str(host) && parse(host)?.is_some())
}

/// A service's name may need looking up.
fn is_number_or_none(port: &Obj) -> bool {
    port.is_none() || crate::ffi::object::is_int(port)
}

/// libc's answer about an address that is written out, for the questions that programs ask.
fn answer(query: &[Obj]) -> R<Option<Obj>> {
    let [host, port, family, kind, proto, flags] = query else {
        return Ok(None);
    };
    let port = match exact_number(port) {
        Some(number) if (0.0..=65535.0).contains(&number) => port.clone(),
        None if port.is_none() => Obj::int(0)?,
        _ => return Ok(None),
    };
    let matching = matches!(
        (kind.to_i64()?, proto.to_i64()?),
        (STREAM, 0 | TCP) | (DATAGRAM, 0 | UDP)
    );
    let (Some(address), true) = (parse(host)?, matching && flags.to_i64()? & !HARMLESS_FLAGS == 0) else {
        return Ok(None);
    };
    let written = socket_family(address);
    if !matches!(family.to_i64()?, ANY_FAMILY) && !family.eq(&written)? {
        return Ok(None);
    }
    let kind: &Obj = if kind.to_i64()? == STREAM {
        &imports::SOCK_STREAM
    } else {
        &imports::SOCK_DGRAM
    };
    let info = ipaddr_info(&ip_text(address)?, &port, &written, kind, &Obj::int(0)?, &[])?;
    info.map(|info| Obj::list(&[info])).transpose()
}

/// The pool for names, made when it is first needed.
fn resolver(core: &Own<LoopCore>) -> R<Obj> {
    readers::after_fork(core)?;
    if let Some(pool) = core.resolver.get() {
        return Ok(pool);
    }
    let kwnames = Obj::tuple(&[
        &Obj::interned("max_workers")?,
        &Obj::interned("thread_name_prefix")?,
    ])?;
    let pool = executors::thread_pool()?.call_kw(
        &[&Obj::int(THREADS)?, &Obj::str("aioxide-resolver")?],
        Some(&kwnames),
    )?;
    core.resolver.set(pool.clone());
    Ok(pool)
}

/// The loop is closed: nobody waits for an answer any more. A lookup that is under way is left to its thread.
pub(super) fn on_close(core: &Own<LoopCore>) -> R<()> {
    lookups::close(core);
    let Some(pool) = core.resolver.take() else {
        return Ok(());
    };
    let kwnames = Obj::tuple(&[&Obj::interned("wait")?, &Obj::interned("cancel_futures")?])?;
    pool.call_method_kw(
        &names::SHUTDOWN,
        &[&Obj::bool(false), &Obj::bool(true)],
        Some(&kwnames),
    )
    .map(drop)
}

/// A question in debug mode: what it is, and how long it takes, is logged.
struct Logged {
    question: String,
    began: f64,
}

impl Logged {
    fn asked(core: &LoopCore, query: &[&Obj]) -> R<Logged> {
        let mut question = String::new();
        for (index, part) in query.iter().enumerate() {
            match index {
                0 => question = part.to_str()?.to_string()?,
                1 => question.push_str(&format!(":{}", part.repr()?)),
                _ if part.truth()? => {
                    let name = ["family", "type", "proto", "flags"].get(index - 2).unwrap_or(&"");
                    question.push_str(&format!(", {name}={}", part.repr()?));
                }
                _ => {}
            }
        }
        imports::LOGGER.call_method_str(
            "debug",
            &[&Obj::str("Get address info %s")?, &Obj::str(&question)?],
        )?;
        Ok(Logged {
            question,
            began: core.now(),
        })
    }

    fn answered(&self, core: &LoopCore, answer: &Obj) -> R<()> {
        let took = core.now() - self.began;
        let text = format!(
            "Getting address info {} took {:.3}ms: {}",
            self.question,
            took * 1e3,
            answer.repr()?
        );
        let slow = took >= core.slow_callback_duration.get_or_none().to_f64()?;
        imports::LOGGER.call_method_str(if slow { "info" } else { "debug" }, &[&Obj::str(&text)?])?;
        Ok(())
    }
}

/// `socket.getaddrinfo` in debug mode, in the thread that asks.
fn getaddrinfo_debug(args: &Args) -> R<Obj> {
    let (_, core) = this(args)?;
    let query: Vec<&Obj> = (1..=6).map(|index| args.req(index)).collect::<R<_>>()?;
    let logged = Logged::asked(core, &query)?;
    let answer = imports::SOCKET_MODULE.call_method(&names::GETADDRINFO, &query)?;
    logged.answered(core, &answer)?;
    Ok(answer)
}

/// `await loop.getnameinfo(sockaddr, flags=0)`
fn getnameinfo(args: &Args) -> R<Obj> {
    let (loop_, _) = this(args)?;
    let zero = Obj::int(0)?;
    let flags = args.get(2).unwrap_or(&zero);
    Coroutine::boxed(
        "BaseEventLoop.getnameinfo",
        &[loop_, args.req(1)?, flags],
        |co: Co| async move {
            let looking_up = {
                let (loop_, query) = (co.local(0), [co.local(1), co.local(2)]);
                let core = state(&loop_)?;
                core.check_closed()?;
                let function = Obj::import("socket")?.getattr(&names::GETNAMEINFO)?;
                const NUMERIC: i64 = (libc::NI_NUMERICHOST | libc::NI_NUMERICSERV) as i64;
                if query[1].to_i64()? & NUMERIC == NUMERIC {
                    // nobody is asked: it is only written out
                    return function.call(&[&query[0], &query[1]]);
                }
                executors::submit(&loop_, &resolver(core)?, &function, &query)?
            };
            co.wait(looking_up).await
        },
    )
}
