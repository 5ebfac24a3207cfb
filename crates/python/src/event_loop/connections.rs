//! "Opening network connections": create_connection, create_unix_connection, connect_accepted_socket.
//!
//! Each ends with a transport over a connected socket, made by [`over_socket`]. How the socket is connected is the
//! business of `connecting.rs`.

use super::class::this;
use super::connecting::{self, EXCEPTIONS, INFOS, LOCAL_INFOS, Target, connect_sock};
use super::dns::{self, Resolved};
use super::servers::{FACTORY, LOOP, begin, given, is_true};
use super::sockets::{check_no_ssl, loop_core};
use super::{core, readers};
use crate::ffi::errors::{assertion_error, exc, raise, type_error, value_error};
use crate::ffi::pyclass::Body;
use crate::ffi::{Co, Obj, Own, R, Raised, context};
use crate::futures::{Future, methods};
use crate::imports::{self, names};
use crate::tls::protocol::Settings;
use crate::tls::{self, Below};
use crate::transports::log_debug;
use crate::transports::socket::{Socket, written_out};
use crate::transports::stream::{self, Opening, Stream};
use crate::{kwnames, version};
use std::collections::VecDeque;

/// Arguments of `create_connection`: their places in the signature.
const HOST: usize = 2;
const PORT: usize = 3;
const SSL: usize = 4;
const SOCK: usize = 8;
const HOSTNAME: usize = 10;
/// That of `create_unix_connection`.
const UNIX_SSL: usize = 3;

/// Locals, after those of `connecting.rs`: where to (Unix); the socket, then the transport; the protocol.
const PATH: usize = INFOS;
const MADE: usize = 7;
const PROTOCOL: usize = 8;

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
        let named = args.req(1)?;
        readers::ensure_no_transport(this(args)?.1, readers::fileno(named)?, Some(named))?;
        Ok(Obj::none())
    })?;
    body.method(
        "_make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, server=None, context=None)",
        |args| {
            if args.opt(5).is_some() {
                return Err(type_error("a server's connections are made by the server itself"));
            }
            let waiter = methods::waiter_argument(args, 3)?;
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

async fn create_connection(co: Co) -> R<Obj> {
    check_arguments(&co)?;
    let socket = if given(&co, HOST).is_some() || given(&co, PORT).is_some() {
        connect_to_host(&co).await?
    } else {
        given_socket(&co)?
    };
    let tls = is_true(given(&co, SSL))?.then_some(Tls {
        context: SSL,
        // the host's, if there is no other
        hostname: Some(if given(&co, HOSTNAME).is_some() {
            HOSTNAME
        } else {
            HOST
        }),
        timeouts: [11, 12],
        server_side: false,
    });
    let pair = over_socket(&co, socket, tls).await?;
    let loop_ = co.local(LOOP);
    if loop_core(&loop_)?.debug.get()
        && let [transport, protocol] = pair.tuple_items()
    {
        let none = Obj::none();
        let (host, port) = (given(&co, HOST), given(&co, PORT));
        let (host, port) = (host.as_ref().unwrap_or(&none), port.as_ref().unwrap_or(&none));
        let shown = transport.call_method_str("get_extra_info", &[&Obj::str("socket")?])?;
        log_debug(
            "%r connected to %s:%r: (%r, %r)",
            &[&shown, host, port, transport, protocol],
            None,
        )?;
    }
    Ok(pair)
}

fn check_arguments(co: &Co) -> R<()> {
    let (hostname, ssl) = (given(co, HOSTNAME), is_true(given(co, SSL))?);
    check_tls_arguments(ssl, hostname.as_ref(), [given(co, 11), given(co, 12)])?;
    if ssl && hostname.is_none() && !is_true(given(co, HOST))? {
        return Err(value_error(
            "You must set server_hostname when using ssl without a host",
        ));
    }
    match given(co, SOCK) {
        Some(sock) => check_no_ssl(&sock),
        None => Ok(()),
    }
}

fn given_socket(co: &Co) -> R<Socket> {
    let Some(sock) = given(co, SOCK) else {
        return Err(value_error(
            "host and port was not specified and no sock specified",
        ));
    };
    check_stream(&sock)?;
    taken_over(co, &sock)
}

async fn connect_to_host(co: &Co) -> R<Socket> {
    if given(co, SOCK).is_some() {
        return Err(value_error(
            "host/port and sock can not be specified at the same time",
        ));
    }
    let address = {
        let (none, host, port) = (Obj::none(), given(co, HOST), given(co, PORT));
        Obj::tuple(&[host.as_ref().unwrap_or(&none), port.as_ref().unwrap_or(&none)])?
    };
    let infos = look_up(co, address).await?;
    co.set(INFOS, infos);
    if let Some(local) = given(co, 9) {
        let infos = look_up(co, local).await?;
        co.set(LOCAL_INFOS, infos);
    }
    let delay = given(co, 13).map(|delay| delay.to_f64()).transpose()?;
    // a race goes from one family to the other unless it is told otherwise
    let interleave = match given(co, 14) {
        Some(interleave) => interleave.to_i64()?,
        None => delay.is_some().into(),
    };
    if interleave != 0 {
        co.set(INFOS, interleaved(&co.local(INFOS), interleave)?);
    }
    co.set(EXCEPTIONS, Obj::list(&[])?);
    let winner = match delay {
        None => connecting::one_by_one(co).await?,
        Some(delay) => connecting::race(co, delay).await?,
    };
    match winner {
        Some(socket) => Ok(socket),
        None => Err(connecting::failure(co, is_true(given(co, 15))?)?),
    }
}

/// `_ensure_resolved(address, …)`, which must find something: a list.
async fn look_up(co: &Co, address: Obj) -> R<Obj> {
    let looking_up = {
        let number = |index: usize| given(co, index).map_or_else(|| Obj::int(0), Ok);
        let hints = [number(5)?, imports::SOCK_STREAM.clone(), number(6)?, number(7)?];
        match dns::resolve(&co.local(LOOP), &address, &hints)? {
            Resolved::Already(info) => return Obj::list(&[info]),
            Resolved::Later(coroutine) => coroutine,
        }
    };
    drop(address);
    let infos = co.wait(looking_up).await?;
    if !infos.truth()? {
        return Err(os_error("getaddrinfo() returned empty list"));
    }
    Obj::list(&infos.to_vec()?)
}

/// `_interleave_addrinfos(infos, first_address_family_count)`: one of each family in turn, families in the order in
/// which they first come.
fn interleaved(infos: &Obj, first: i64) -> R<Obj> {
    let mut families: Vec<(i64, VecDeque<Obj>)> = Vec::new();
    for info in infos.to_vec()? {
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
    Obj::list(&ordered)
}

// --- create_unix_connection -----------------------------------------------------------------------

async fn create_unix_connection(co: Co) -> R<Obj> {
    let socket = match check_unix_arguments(&co)? {
        Some(sock) => taken_over(&co, &sock)?,
        None => match bare_path(&co)? {
            Some(target) => Socket::owned(connecting::connect_bare(&co, &target, || Ok(Obj::none())).await?),
            None => connect_to_path(&co).await?,
        },
    };
    let tls = is_true(given(&co, UNIX_SSL))?.then_some(Tls {
        context: UNIX_SSL,
        hostname: Some(5),
        timeouts: [6, 7],
        server_side: false,
    });
    over_socket(&co, socket, tls).await
}

/// The socket, if it is given.
fn check_unix_arguments(co: &Co) -> R<Option<Obj>> {
    let (path, sock, hostname) = (given(co, 2), given(co, 4), given(co, 5));
    let ssl = is_true(given(co, UNIX_SSL))?;
    if let Some(hostname) = &hostname
        && !hostname.isinstance(&Obj::import("builtins")?.getattr_str("str")?)?
    {
        return Err(assertion_error(""));
    }
    if ssl && hostname.is_none() {
        return Err(value_error("you have to pass server_hostname when using ssl"));
    }
    check_tls_arguments(ssl, hostname.as_ref(), [given(co, 6), given(co, 7)])?;
    match (path, sock) {
        (Some(_), Some(_)) => Err(value_error("path and sock can not be specified at the same time")),
        (None, None) => Err(value_error("no path and sock were specified")),
        (None, Some(sock)) => {
            let is = |name, number: i32| sock.getattr(name)?.eq(&Obj::int(number.into())?);
            if !is(&names::FAMILY, libc::AF_UNIX)? || !is(&names::TYPE, libc::SOCK_STREAM)? {
                return Err(value_error(&format!(
                    "A UNIX Domain Stream Socket was expected, got {}",
                    sock.repr()?
                )));
            }
            Ok(Some(sock))
        }
        (Some(path), None) => {
            co.set(PATH, Obj::import("os")?.call_method_str("fspath", &[&path])?);
            Ok(None)
        }
    }
}

/// Where nobody could tell whether there is a socket object.
fn bare_path(co: &Co) -> R<Option<Target>> {
    if !connecting::may_be_bare(&co.local(LOOP))? {
        return Ok(None);
    }
    Ok(written_out(libc::AF_UNIX, &co.local(PATH))?.map(|to| Target {
        family: libc::AF_UNIX,
        kind: libc::SOCK_STREAM,
        proto: 0,
        to,
    }))
}

async fn connect_to_path(co: &Co) -> R<Socket> {
    let connecting = {
        let (family, kind) = (
            Obj::int(libc::AF_UNIX.into())?,
            Obj::int(libc::SOCK_STREAM.into())?,
        );
        let sock = imports::SOCKET_MODULE.call_method(&names::SOCKET, &[&family, &kind])?;
        co.set(MADE, sock.clone());
        sock.call_method(&names::SETBLOCKING, &[&Obj::bool(false)])
            .and_then(|_| {
                co.local(LOOP)
                    .call_method_str("sock_connect", &[&sock, &co.local(PATH)])
            })
    };
    let connected = match connecting {
        Ok(connecting) => co.wait(connecting).await,
        Err(raised) => Err(raised),
    };
    let sock = co.take(MADE).unwrap_or_else(Obj::none);
    if let Err(raised) = connected {
        let exception = raised.take();
        sock.call_method(&names::CLOSE, &[])?;
        return Err(raise(&exception));
    }
    Socket::of(&sock)
}

// --- a transport over a socket --------------------------------------------------------------------

async fn connect_accepted_socket(co: Co) -> R<Obj> {
    let socket = accepted_socket(&co)?;
    let tls = is_true(given(&co, 3))?.then_some(Tls {
        context: 3,
        hostname: None,
        timeouts: [4, 5],
        server_side: true,
    });
    let pair = over_socket(&co, socket, tls).await?;
    let loop_ = co.local(LOOP);
    if loop_core(&loop_)?.debug.get()
        && let [transport, protocol] = pair.tuple_items()
    {
        let shown = transport.call_method_str("get_extra_info", &[&Obj::str("socket")?])?;
        log_debug("%r handled: (%r, %r)", &[&shown, transport, protocol], None)?;
    }
    Ok(pair)
}

fn accepted_socket(co: &Co) -> R<Socket> {
    let ssl = is_true(given(co, 3))?;
    for (index, name) in [(4, "ssl_handshake_timeout"), (5, "ssl_shutdown_timeout")] {
        if given(co, index).is_some() && !ssl {
            return Err(value_error(&format!("{name} is only meaningful with ssl")));
        }
    }
    let sock = given(co, 2).unwrap_or_else(Obj::none);
    check_no_ssl(&sock)?;
    check_stream(&sock)?;
    taken_over(co, &sock)
}

/// A socket that the program has given us. One that another transport has is not ours to close.
fn taken_over(co: &Co, sock: &Obj) -> R<Socket> {
    let socket = Socket::of(sock)?;
    readers::ensure_no_transport(loop_core(&co.local(LOOP))?, socket.number(), Some(sock))?;
    Ok(socket)
}

/// Which arguments say how TLS is to be spoken.
#[derive(Clone, Copy)]
struct Tls {
    context: usize,
    hostname: Option<usize>,
    timeouts: [usize; 2],
    server_side: bool,
}

/// `_create_connection_transport(sock, protocol_factory)`: the pair of transport and protocol. Local 1 has the factory.
async fn over_socket(co: &Co, socket: Socket, tls: Option<Tls>) -> R<Obj> {
    let waiter = start(co, socket, tls)?;
    let waited = co.wait(waiter).await;
    let (transport, protocol) = (co.local(MADE), co.local(PROTOCOL));
    if let Err(raised) = waited {
        let exception = raised.take();
        transport.call_method(&names::CLOSE, &[])?;
        return Err(raise(&exception));
    }
    Obj::tuple(&[&transport, &protocol])
}

/// Puts the pair in its places. The future of `connection_made`; if there is none, the socket is closed.
fn start(co: &Co, socket: Socket, tls: Option<Tls>) -> R<Obj> {
    let shown = socket.made_object();
    begin_transport(co, socket, tls).map_err(|raised| {
        let exception = raised.take();
        match shown.map_or(Ok(()), |sock| sock.call_method(&names::CLOSE, &[]).map(drop)) {
            Ok(()) => raise(&exception),
            Err(raised) => raised,
        }
    })
}

fn begin_transport(co: &Co, socket: Socket, tls: Option<Tls>) -> R<Obj> {
    let loop_ = co.local(LOOP);
    if let Some(sock) = socket.made_object() {
        sock.call_method(&names::SETBLOCKING, &[&Obj::bool(false)])?;
    }
    let context = if version::CONNECTION_CONTEXT.get() {
        Some(context::copy()?)
    } else {
        None
    };
    let protocol = given(co, FACTORY).unwrap_or_else(Obj::none).call0()?;
    if let Some(tls) = tls {
        return begin_tls(co, socket, tls, protocol, context);
    }
    let Some(core) = core::fast(&loop_) else {
        return begin_transport_by_method(co, &socket, protocol, context);
    };
    readers::ensure_no_transport(core, socket.number(), None)?;
    let waiter = methods::create_native(&loop_, core)?;
    let transport = stream::open(Opening {
        loop_: &loop_,
        socket,
        protocol: &protocol,
        waiter: Some(waiter.clone()),
        extra: None,
        server: None,
        context,
        peer: None,
    })?;
    co.set(MADE, transport.into_obj());
    co.set(PROTOCOL, protocol);
    Ok(waiter.into_obj())
}

/// The same with a handshake, to the end of which the future belongs.
fn begin_tls(co: &Co, socket: Socket, tls: Tls, protocol: Obj, context: Option<Obj>) -> R<Obj> {
    let loop_ = co.local(LOOP);
    let core = loop_core(&loop_)?;
    readers::ensure_no_transport(core, socket.number(), None)?;
    let waiter = methods::create_ours(&loop_, core)?.into_obj();
    // `ssl=True`: the default context
    let is_bool = |ssl: &Obj| ssl.is_exactly(&Obj::bool(true).class());
    let below = Below {
        socket,
        server: None,
        context,
        peer: None,
        extra: None,
    };
    let transport = tls::open(
        below,
        &Settings {
            loop_: &loop_,
            app: &protocol,
            context: given(co, tls.context).filter(|ssl| !is_bool(ssl)).as_ref(),
            waiter: Some(waiter.clone()),
            server_side: tls.server_side,
            hostname: tls.hostname.and_then(|index| given(co, index)).as_ref(),
            tell_made: true,
            handshake_timeout: given(co, tls.timeouts[0]).as_ref(),
            shutdown_timeout: given(co, tls.timeouts[1]).as_ref(),
        },
    )?;
    co.set(MADE, transport.into_obj());
    co.set(PROTOCOL, protocol);
    Ok(waiter)
}

/// `_make_socket_transport` may be overridden.
#[cold]
fn begin_transport_by_method(co: &Co, socket: &Socket, protocol: Obj, context: Option<Obj>) -> R<Obj> {
    let loop_ = co.local(LOOP);
    let sock = socket.object()?.unwrap_or_else(Obj::none);
    let waiter = methods::create_ours(&loop_, loop_core(&loop_)?)?.into_obj();
    let name = Obj::interned("_make_socket_transport")?;
    let transport = match &context {
        Some(context) => loop_.call_method_kw(
            &name,
            &[&sock, &protocol, &waiter, context],
            Some(&kwnames::CONTEXT),
        ),
        None => loop_.call_method(&name, &[&sock, &protocol, &waiter]),
    }?;
    co.set(MADE, transport);
    co.set(PROTOCOL, protocol);
    Ok(waiter)
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
    readers::ensure_no_transport(loop_core(loop_)?, socket.number(), Some(sock))?;
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
