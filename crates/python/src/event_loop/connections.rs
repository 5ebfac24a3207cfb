//! "Opening network connections": create_connection, create_unix_connection, connect_accepted_socket.
//!
//! Each ends with a transport over a connected socket, made by [`over_socket`].
//!
//! Rules
//! 1. A socket that does not become the winner is closed, whatever ends the attempt: an error, a cancellation, a
//!    faster one.
//! 2. Every attempt's errors are kept, in the order of the addresses, for the one who asks for all of them.
//! 3. A race (RFC 8305) begins the next attempt when the last one has failed or has had `happy_eyeballs_delay`
//!    seconds, and ends with the first success.

use super::class::this;
use super::dns::{self, Resolved};
use super::readers;
use super::servers::{FACTORY, LOOP, begin, given, is_true, no_tls_yet};
use super::sockets::{check_no_ssl, loop_core};
use crate::ffi::errors::{assertion_error, exc, raise, type_error, value_error};
use crate::ffi::pyclass::Body;
use crate::ffi::{Class, Co, Coroutine, Obj, Own, R, Raised, context};
use crate::futures::Future;
use crate::imports::{self, names};
use crate::transports::log_debug;
use crate::transports::socket::Socket;
use crate::transports::stream::{self, Opening, Stream};
use crate::{tasks, version};

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method(
        "create_connection(self, protocol_factory, host=None, port=None, *, ssl=None, family=0, proto=0, flags=0, \
         sock=None, local_addr=None, server_hostname=None, ssl_handshake_timeout=None, \
         ssl_shutdown_timeout=None, happy_eyeballs_delay=None, interleave=None, all_errors=False)",
        |args| begin(args, 16, "BaseEventLoop.create_connection", create_connection),
    )?;
    body.async_method(
        "create_unix_connection(self, protocol_factory, path=None, *, ssl=None, sock=None, server_hostname=None, \
         ssl_handshake_timeout=None, ssl_shutdown_timeout=None)",
        |args| {
            begin(
                args,
                8,
                "_UnixSelectorEventLoop.create_unix_connection",
                create_unix_connection,
            )
        },
    )?;
    body.async_method(
        "connect_accepted_socket(self, protocol_factory, sock, *, ssl=None, ssl_handshake_timeout=None, \
         ssl_shutdown_timeout=None)",
        |args| {
            begin(
                args,
                6,
                "BaseEventLoop.connect_accepted_socket",
                connect_accepted_socket,
            )
        },
    )?;
    body.async_method(
        "_connect_sock(self, exceptions, addr_info, local_addr_infos=None)",
        |args| {
            let (loop_, none) = (this(args)?.0, Obj::none());
            connect_sock(loop_, args.req(1)?, args.req(2)?, args.get(3).unwrap_or(&none))
        },
    )?;
    body.method("_ensure_fd_no_transport(self, fd)", |args| {
        readers::ensure_no_transport(this(args)?.1, readers::fileno(args.req(1)?)?)?;
        Ok(Obj::none())
    })?;
    body.method(
        "_make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, server=None, context=None)",
        |args| {
            if args.opt(5).is_some() {
                return Err(type_error("a server's connections are made by the server itself"));
            }
            let waiter = match args
                .opt(3)
                .cloned()
                .map(|waiter| Future::class().take_instance(waiter))
            {
                Some(Err(_)) => return Err(type_error("waiter must be a Future")),
                Some(Ok(waiter)) => Some(waiter),
                None => None,
            };
            let made = open(
                this(args)?.0,
                args.req(1)?,
                args.req(2)?,
                waiter,
                args.opt(4).cloned(),
                args.opt(6).cloned(),
            )?;
            Ok(made.into_obj())
        },
    )
}

/// `ssl_…` arguments without `ssl`.
fn check_tls_arguments(ssl: bool, hostname: Option<&Obj>, timeouts: [Option<Obj>; 2]) -> R<()> {
    if ssl {
        return Ok(());
    }
    if hostname.is_some() {
        return Err(value_error("server_hostname is only meaningful with ssl"));
    }
    for (timeout, name) in timeouts
        .iter()
        .zip(["ssl_handshake_timeout", "ssl_shutdown_timeout"])
    {
        if timeout.is_some() {
            return Err(value_error(&format!("{name} is only meaningful with ssl")));
        }
    }
    Ok(())
}

pub(super) fn os_error(text: &str) -> Raised {
    match Obj::str(text).and_then(|text| exc::os_error().call(&[&text])) {
        Ok(error) => raise(&error),
        Err(raised) => raised,
    }
}

fn check_stream(sock: &Obj) -> R<()> {
    let stream = Obj::int(libc::SOCK_STREAM.into())?;
    if sock.getattr(&names::TYPE)?.eq(&stream)? {
        return Ok(());
    }
    Err(value_error(&format!(
        "A Stream Socket was expected, got {}",
        sock.repr()?
    )))
}

// --- create_connection ----------------------------------------------------------------------------

/// Locals of `create_connection`, after those of [`begin`]: a list of lists of exceptions.
const EXCEPTIONS: usize = 2;

async fn create_connection(co: Co) -> R<Obj> {
    let (host, port, sock) = (given(&co, 2), given(&co, 3), given(&co, 8));
    let (hostname, ssl) = (given(&co, 10), is_true(given(&co, 4))?);
    check_tls_arguments(ssl, hostname.as_ref(), [given(&co, 11), given(&co, 12)])?;
    if ssl && hostname.is_none() && !is_true(host.clone())? {
        return Err(value_error(
            "You must set server_hostname when using ssl without a host",
        ));
    }
    if let Some(sock) = &sock {
        check_no_ssl(sock)?;
    }
    let sock = if host.is_some() || port.is_some() {
        if sock.is_some() {
            return Err(value_error(
                "host/port and sock can not be specified at the same time",
            ));
        }
        no_tls_yet(given(&co, 4).filter(|_| ssl), "create_connection")?;
        let address = {
            let none = Obj::none();
            Obj::tuple(&[host.as_ref().unwrap_or(&none), port.as_ref().unwrap_or(&none)])?
        };
        let mut infos = look_up(&co, &address).await?;
        let local = match given(&co, 9) {
            Some(local) => Obj::list(&look_up(&co, &local).await?)?,
            None => Obj::none(),
        };
        let delay = given(&co, 13).map(|delay| delay.to_f64()).transpose()?;
        // a race goes from one family to the other unless it is told otherwise
        let interleave = match given(&co, 14) {
            Some(interleave) => interleave.to_i64()?,
            None => delay.is_some().into(),
        };
        if interleave != 0 {
            infos = interleaved(infos, interleave)?;
        }
        co.set(EXCEPTIONS, Obj::list(&[])?);
        let winner = match delay {
            None => one_by_one(&co, &infos, &local).await?,
            Some(delay) => race(&co, &infos, &local, delay).await?,
        };
        match winner {
            Some(sock) => sock,
            None => return Err(failure(&co)?),
        }
    } else {
        let Some(sock) = sock else {
            return Err(value_error(
                "host and port was not specified and no sock specified",
            ));
        };
        check_stream(&sock)?;
        no_tls_yet(given(&co, 4).filter(|_| ssl), "create_connection")?;
        sock
    };
    let pair = over_socket(&co, sock).await?;
    let loop_ = co.local(LOOP);
    if loop_core(&loop_)?.debug.get() {
        let none = Obj::none();
        let (host, port) = (host.as_ref().unwrap_or(&none), port.as_ref().unwrap_or(&none));
        if let [transport, protocol] = pair.tuple_items() {
            let shown = transport.call_method_str("get_extra_info", &[&Obj::str("socket")?])?;
            log_debug(
                "%r connected to %s:%r: (%r, %r)",
                &[&shown, host, port, transport, protocol],
                None,
            )?;
        }
    }
    Ok(pair)
}

/// `_ensure_resolved(address, …)`, which must find something.
async fn look_up(co: &Co, address: &Obj) -> R<Vec<Obj>> {
    let looking_up = {
        let number = |index: usize| given(co, index).map_or_else(|| Obj::int(0), Ok);
        let hints = [
            number(5)?,
            Obj::import("socket")?.getattr_str("SOCK_STREAM")?,
            number(6)?,
            number(7)?,
        ];
        match dns::resolve(&co.local(LOOP), address, &hints)? {
            Resolved::Already(info) => return Ok(vec![info]),
            Resolved::Later(coroutine) => coroutine,
        }
    };
    let infos = co.wait(looking_up).await?.to_vec()?;
    if infos.is_empty() {
        return Err(os_error("getaddrinfo() returned empty list"));
    }
    Ok(infos)
}

/// `_interleave_addrinfos(infos, first_address_family_count)`: one of each family in turn, families in the order in
/// which they first come.
fn interleaved(infos: Vec<Obj>, first: i64) -> R<Vec<Obj>> {
    let mut families: Vec<(i64, std::collections::VecDeque<Obj>)> = Vec::new();
    for info in infos {
        let family = info.to_vec()?.first().map_or(Ok(0), Obj::to_i64)?;
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, members)) => members.push_back(info),
            None => families.push((family, [info].into())),
        }
    }
    let mut ordered = Vec::new();
    if let Some((_, members)) = families.first_mut() {
        let ahead = usize::try_from(first - 1).unwrap_or(0).min(members.len());
        ordered.extend(members.drain(..ahead));
    }
    while families.iter().any(|(_, members)| !members.is_empty()) {
        ordered.extend(families.iter_mut().filter_map(|(_, members)| members.pop_front()));
    }
    Ok(ordered)
}

/// The first address that answers.
async fn one_by_one(co: &Co, infos: &[Obj], local: &Obj) -> R<Option<Obj>> {
    for info in infos {
        let connecting = connect_sock(&co.local(LOOP), &co.local(EXCEPTIONS), info, local)?;
        match co.wait(connecting).await {
            Ok(sock) => return Ok(Some(sock)),
            Err(raised) if raised.matches(exc::os_error()) => raised.ignore(),
            Err(raised) => return Err(raised),
        }
    }
    Ok(None)
}

/// Rule 3.
async fn race(co: &Co, infos: &[Obj], local: &Obj, delay: f64) -> R<Option<Obj>> {
    let mut running = Vec::new();
    let result = run_race(co, infos, local, delay, &mut running).await;
    // Rule 1: whoever is still on the way closes its socket as it is cancelled; whoever has arrived is turned away.
    let (winner, mut failure) = match result {
        Ok(winner) => (winner, None),
        Err(raised) => (None, Some(raised.take())),
    };
    for task in running {
        if let Err(raised) = turn_away(&task, winner.as_ref()) {
            failure = Some(raised.take());
        }
    }
    match failure {
        Some(exception) => Err(raise(&exception)),
        None => Ok(winner),
    }
}

/// The race is over for `task`, unless it is the winner's.
fn turn_away(task: &Obj, winner: Option<&Obj>) -> R<()> {
    if !task.call_method(&names::DONE, &[])?.truth()? {
        task.call_method(&names::CANCEL, &[])?;
    } else if let Some(sock) = outcome(task)?
        && !winner.is_some_and(|winner| winner.is(&sock))
    {
        sock.call_method(&names::CLOSE, &[])?;
    }
    Ok(())
}

async fn run_race(co: &Co, infos: &[Obj], local: &Obj, delay: f64, running: &mut Vec<Obj>) -> R<Option<Obj>> {
    let mut waiting = infos.iter();
    let mut next = waiting.next();
    // when the attempt after the last one begins
    let mut due = f64::NEG_INFINITY;
    loop {
        let now = co.local(LOOP).call_method(&names::TIME, &[])?.to_f64()?;
        if let Some(info) = next
            && now >= due
        {
            let loop_ = co.local(LOOP);
            let connecting = connect_sock(&loop_, &co.local(EXCEPTIONS), info, local)?;
            running.push(loop_.call_method(&names::CREATE_TASK, &[&connecting])?);
            next = waiting.next();
            due = now + delay;
        }
        let mut pending = Vec::new();
        for task in running.iter() {
            if !task.call_method(&names::DONE, &[])?.truth()? {
                pending.push(task.clone());
            }
        }
        if pending.is_empty() && next.is_none() {
            return Ok(None);
        }
        if !pending.is_empty() {
            let last = pending.last().cloned();
            let seconds = next.is_some().then_some((due - now).max(0.0));
            co.wait(tasks::wait::first(&pending, seconds)?).await?;
            for task in &pending {
                if !task.call_method(&names::DONE, &[])?.truth()? {
                    continue;
                }
                if let Some(sock) = outcome(task)? {
                    return Ok(Some(sock));
                }
                if last.as_ref().is_some_and(|last| last.is(task))
                    && running.last().is_some_and(|last| last.is(task))
                {
                    due = f64::NEG_INFINITY;
                }
            }
        } else {
            due = f64::NEG_INFINITY;
        }
    }
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

/// Nobody answered: rule 2.
fn failure(co: &Co) -> R<Raised> {
    let mut exceptions = Vec::new();
    for of_one in co.local(EXCEPTIONS).to_vec()? {
        exceptions.extend(of_one.to_vec()?);
    }
    co.set(EXCEPTIONS, Obj::none());
    if is_true(given(co, 15))? {
        let list = Obj::list(&exceptions)?;
        let group = imports::EXCEPTION_GROUP.call(&[&Obj::str("create_connection failed")?, &list])?;
        return Ok(raise(&group));
    }
    let Some(model) = exceptions.first() else {
        let text = Obj::str("create_connection failed")?;
        return Ok(raise(&exc::timeout_error().call(&[&text])?));
    };
    let texts = exceptions
        .iter()
        .map(|exception| exception.to_str()?.to_string())
        .collect::<R<Vec<_>>>()?;
    if texts.iter().all(|text| *text == texts[0]) {
        return Ok(raise(model));
    }
    Ok(os_error(&format!("Multiple exceptions: {}", texts.join(", "))))
}

/// `_connect_sock(exceptions, info, local_infos)`: one attempt. Its locals: see the consts.
fn connect_sock(loop_: &Obj, exceptions: &Obj, info: &Obj, local: &Obj) -> R<Obj> {
    let arguments = Obj::tuple(&[exceptions, info, local])?;
    Coroutine::boxed(
        "BaseEventLoop._connect_sock",
        &[loop_, &arguments],
        |co: Co| async move {
            const ERRORS: usize = 2;
            const SOCK: usize = 3;
            let errors = Obj::list(&[])?;
            let arguments = co.local(1);
            if let [exceptions, ..] = arguments.tuple_items() {
                exceptions.call_method_str("append", &[&errors])?;
            }
            co.set(ERRORS, errors);
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
            if let Some(sock) = co.local(SOCK).non_none() {
                sock.call_method(&names::CLOSE, &[])?;
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
    let sock = imports::SOCKET.call(&[family, kind, proto])?;
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
        return Err(os_error(&format!(
            "no matching local address with family={} found",
            family.repr()?
        )));
    }
    Err(raise(&errors.call_method_str("pop", &[])?))
}

// --- create_unix_connection -----------------------------------------------------------------------

async fn create_unix_connection(co: Co) -> R<Obj> {
    let (path, sock, hostname) = (given(&co, 2), given(&co, 4), given(&co, 5));
    let ssl = is_true(given(&co, 3))?;
    if let Some(hostname) = &hostname
        && !hostname.isinstance(&Obj::import("builtins")?.getattr_str("str")?)?
    {
        return Err(assertion_error(""));
    }
    if ssl && hostname.is_none() {
        return Err(value_error("you have to pass server_hostname when using ssl"));
    }
    check_tls_arguments(ssl, hostname.as_ref(), [given(&co, 6), given(&co, 7)])?;
    let sock = match (path, sock) {
        (Some(_), Some(_)) => {
            return Err(value_error("path and sock can not be specified at the same time"));
        }
        (None, None) => return Err(value_error("no path and sock were specified")),
        (None, Some(sock)) => {
            let is = |name, number: i32| sock.getattr(name)?.eq(&Obj::int(number.into())?);
            if !is(&names::FAMILY, libc::AF_UNIX)? || !is(&names::TYPE, libc::SOCK_STREAM)? {
                return Err(value_error(&format!(
                    "A UNIX Domain Stream Socket was expected, got {}",
                    sock.repr()?
                )));
            }
            no_tls_yet(given(&co, 3).filter(|_| ssl), "create_unix_connection")?;
            sock
        }
        (Some(path), None) => {
            let path = Obj::import("os")?.call_method_str("fspath", &[&path])?;
            no_tls_yet(given(&co, 3).filter(|_| ssl), "create_unix_connection")?;
            let sock = imports::SOCKET.call(&[
                &Obj::int(libc::AF_UNIX.into())?,
                &Obj::int(libc::SOCK_STREAM.into())?,
            ])?;
            let connecting = sock
                .call_method(&names::SETBLOCKING, &[&Obj::bool(false)])
                .and_then(|_| co.local(LOOP).call_method_str("sock_connect", &[&sock, &path]));
            let connected = match connecting {
                Ok(connecting) => co.wait(connecting).await,
                Err(raised) => Err(raised),
            };
            if let Err(raised) = connected {
                let exception = raised.take();
                sock.call_method(&names::CLOSE, &[])?;
                return Err(raise(&exception));
            }
            sock
        }
    };
    over_socket(&co, sock).await
}

// --- a transport over a socket --------------------------------------------------------------------

async fn connect_accepted_socket(co: Co) -> R<Obj> {
    let ssl = is_true(given(&co, 3))?;
    for (index, name) in [(4, "ssl_handshake_timeout"), (5, "ssl_shutdown_timeout")] {
        if given(&co, index).is_some() && !ssl {
            return Err(value_error(&format!("{name} is only meaningful with ssl")));
        }
    }
    let Some(sock) = given(&co, 2) else {
        return Err(type_error("a socket is required"));
    };
    check_no_ssl(&sock)?;
    check_stream(&sock)?;
    no_tls_yet(given(&co, 3).filter(|_| ssl), "connect_accepted_socket")?;
    let pair = over_socket(&co, sock).await?;
    let loop_ = co.local(LOOP);
    if loop_core(&loop_)?.debug.get()
        && let [transport, protocol] = pair.tuple_items()
    {
        let shown = transport.call_method_str("get_extra_info", &[&Obj::str("socket")?])?;
        log_debug("%r handled: (%r, %r)", &[&shown, transport, protocol], None)?;
    }
    Ok(pair)
}

/// `_create_connection_transport(sock, protocol_factory)`: the pair of transport and protocol. Local 1 has the factory.
async fn over_socket(co: &Co, sock: Obj) -> R<Obj> {
    let waiter = {
        let loop_ = co.local(LOOP);
        // a socket that another transport has is not ours to close
        readers::ensure_no_transport(loop_core(&loop_)?, Socket::of(&sock)?.number())?;
        Future::class().alloc(Future::pending(loop_))?
    };
    let (transport, protocol) = match start(co, &sock, &waiter) {
        Ok(pair) => pair,
        Err(raised) => {
            let exception = raised.take();
            sock.call_method(&names::CLOSE, &[])?;
            return Err(raise(&exception));
        }
    };
    drop(sock);
    if let Err(raised) = co.wait(waiter.into_obj()).await {
        let exception = raised.take();
        transport.obj().call_method(&names::CLOSE, &[])?;
        return Err(raise(&exception));
    }
    Obj::tuple(&[transport.obj(), &protocol])
}

fn start(co: &Co, sock: &Obj, waiter: &Own<Future>) -> R<(Own<Stream>, Obj)> {
    sock.call_method(&names::SETBLOCKING, &[&Obj::bool(false)])?;
    let context = if version::CONNECTION_CONTEXT.get() {
        Some(context::copy()?)
    } else {
        None
    };
    let protocol = given(co, FACTORY).unwrap_or_else(Obj::none).call0()?;
    let waiter = Some(waiter.clone());
    let transport = open(&co.local(LOOP), sock, &protocol, waiter, None, context)?;
    Ok((transport, protocol))
}

/// `_make_socket_transport(sock, protocol, waiter, extra=…, context=…)`
fn open(
    loop_: &Obj,
    sock: &Obj,
    protocol: &Obj,
    waiter: Option<Own<Future>>,
    extra: Option<Obj>,
    context: Option<Obj>,
) -> R<Own<Stream>> {
    let socket = Socket::of(sock)?;
    readers::ensure_no_transport(loop_core(loop_)?, socket.number())?;
    stream::open(Opening {
        loop_,
        socket,
        protocol,
        waiter,
        extra,
        server: None,
        context,
        peer: None,
    })
}
