//! "Creating network servers": create_server, create_unix_server, and `_stop_serving`.
//!
//! Owns the listening sockets until the server has them: whatever goes wrong on the way, they are closed.

use super::class::this;
use super::core::LoopCore;
use super::dns::{self, Resolved};
use super::readers::{self, Side};
use super::sockets::{check_no_ssl, loop_core};
use crate::ffi::errors::{exc, raise, type_error, value_error};
use crate::ffi::pyclass::Body;
use crate::ffi::python_function::SeenAs;
use crate::ffi::{Args, Co, Coroutine, Obj, R, Raised};
use crate::imports::{self, names};
use crate::servers::server;
use crate::tasks::{self, gather};
use crate::version;

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method(
        "create_server(self, protocol_factory, host=None, port=None, *, family=socket.AF_UNSPEC, \
         flags=socket.AI_PASSIVE, sock=None, backlog=100, ssl=None, reuse_address=None, reuse_port=None, \
         keep_alive=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None, start_serving=True)",
        |args| begin(args, 15, "BaseEventLoop.create_server", create_server),
    )?;
    body.async_method(
        "create_unix_server(self, protocol_factory, path=None, *, sock=None, backlog=100, ssl=None, \
         ssl_handshake_timeout=None, ssl_shutdown_timeout=None, start_serving=True, cleanup_socket=True)",
        |args| {
            begin(
                args,
                10,
                "_UnixSelectorEventLoop.create_unix_server",
                create_unix_server,
            )
        },
    )?;
    body.method("_stop_serving(self, sock)", stop_serving)
}

/// The coroutine of a method: local 0 is the loop, local 1 a tuple of the arguments, `None` for what was not given.
pub(super) fn begin<F>(args: &Args, count: usize, name: &'static str, f: fn(Co) -> F) -> R<Obj>
where
    F: Future<Output = R<Obj>> + 'static,
{
    let (loop_, none) = (this(args)?.0, Obj::none());
    let all: Vec<&Obj> = (0..count).map(|index| args.get(index).unwrap_or(&none)).collect();
    Coroutine::boxed(name, &[loop_, &Obj::tuple(&all)?], f)
}

pub(super) const LOOP: usize = 0;
const GIVEN: usize = 1;
/// A list of the sockets that are to be closed if it fails.
const SOCKETS: usize = 2;
/// A list of `(family, type, proto, canonname, sockaddr)`.
const INFOS: usize = 3;
/// What is being made.
const SERVER: usize = 4;
/// An argument of `create_server`.
const PORT: usize = 3;

/// Argument `index`; `None` if it was not given or is `None`.
pub(super) fn given(co: &Co, index: usize) -> Option<Obj> {
    let all = co.local(GIVEN);
    all.tuple_items().get(index).and_then(Obj::non_none).cloned()
}

pub(super) fn is_true(value: Option<Obj>) -> R<bool> {
    value.map_or(Ok(false), |value| value.truth())
}

/// The arguments about TLS, in asyncio's order.
fn check_tls(ssl: Option<&Obj>, handshake: Option<Obj>, shutdown: Option<Obj>) -> R<()> {
    if let Some(ssl) = ssl
        && ssl.is_exactly(&Obj::bool(true).class())
    {
        return Err(type_error("ssl argument must be an SSLContext or None"));
    }
    for (timeout, name) in [
        (handshake, "ssl_handshake_timeout"),
        (shutdown, "ssl_shutdown_timeout"),
    ] {
        if timeout.is_some() && ssl.is_none() {
            return Err(value_error(&format!("{name} is only meaningful with ssl")));
        }
    }
    Ok(())
}

/// Runs `f`; if it fails, the sockets in local [`SOCKETS`] are closed.
fn or_close<T>(co: &Co, result: R<T>) -> R<T> {
    let Err(raised) = result else { return result };
    let exception = raised.take();
    let sockets = co.local(SOCKETS);
    if !sockets.is_none() {
        for socket in sockets.to_vec()? {
            socket.call_method(&names::CLOSE, &[])?;
        }
    }
    Err(raise(&exception))
}

// --- create_server --------------------------------------------------------------------------------

pub(super) const FACTORY: usize = 1;

async fn create_server(co: Co) -> R<Obj> {
    if !prepare(&co)? {
        look_up(&co).await?;
        co.set(SOCKETS, Obj::list(&[])?);
        let bound = bind_all(&co);
        or_close(&co, bound)?;
    }
    serve(&co, 7, 14, [8, 12, 13]).await
}

/// Looks at the arguments. `true`: there is a socket, and it is in its place.
fn prepare(co: &Co) -> R<bool> {
    let (sock, ssl) = (given(co, 6), given(co, 8));
    check_tls(ssl.as_ref(), given(co, 12), given(co, 13))?;
    if let Some(sock) = &sock {
        check_no_ssl(sock)?;
    }
    if given(co, 2).is_some() || given(co, PORT).is_some() {
        if sock.is_some() {
            return Err(value_error(
                "host/port and sock can not be specified at the same time",
            ));
        }
        return Ok(false);
    }
    let Some(sock) = sock else {
        return Err(value_error("Neither host/port nor sock were specified"));
    };
    check_kind(&sock)?;
    co.set(SOCKETS, Obj::list(&[sock])?);
    Ok(true)
}

fn check_kind(sock: &Obj) -> R<()> {
    let stream = Obj::int(libc::SOCK_STREAM.into())?;
    if sock.getattr(&names::TYPE)?.eq(&stream)? {
        return Ok(());
    }
    Err(value_error(&format!(
        "A Stream Socket was expected, got {}",
        sock.repr()?
    )))
}

/// `host`: nothing, one, or several.
fn hosts(host: Option<Obj>) -> R<Vec<Obj>> {
    let Some(host) = host else {
        return Ok(vec![Obj::none()]);
    };
    if host.eq(&Obj::str("")?)? {
        return Ok(vec![Obj::none()]);
    }
    let is_one = crate::ffi::object::is_exact_str(&host)
        || host.isinstance(&Obj::import("builtins")?.getattr_str("str")?)?
        || !host.isinstance(&imports::ITERABLE_ABC)?;
    if is_one { Ok(vec![host]) } else { host.to_vec() }
}

/// The addresses of all hosts, into local [`INFOS`]. Several hosts are looked up at the same time.
async fn look_up(co: &Co) -> R<()> {
    let (looking_up, one) = match hosts(given(co, 2))?.as_slice() {
        [host] => (look_up_one(co, host)?, true),
        hosts => {
            let all = hosts.iter().map(|host| look_up_one(co, host));
            (gather::of(&all.collect::<R<Vec<_>>>()?, false)?, false)
        }
    };
    let found = co.wait(looking_up).await?;
    // the same address twice is bound once
    let infos = Obj::list(&[])?;
    for of_one in if one { vec![found] } else { found.to_vec()? } {
        for info in of_one.to_vec()? {
            if !infos.contains(&info)? {
                infos.call_method(&names::APPEND, &[&info])?;
            }
        }
    }
    co.set(INFOS, infos);
    Ok(())
}

/// `_create_server_getaddrinfo(host, port, family, flags)`
fn look_up_one(co: &Co, host: &Obj) -> R<Obj> {
    let hint = |index: usize, default: i64| given(co, index).map_or_else(|| Obj::int(default), Ok);
    let hints = [
        hint(4, libc::AF_UNSPEC.into())?,
        imports::SOCK_STREAM.clone(),
        Obj::int(0)?,
        hint(5, libc::AI_PASSIVE.into())?,
    ];
    let address = Obj::tuple(&[host, &given(co, PORT).unwrap_or_else(Obj::none)])?;
    Coroutine::boxed(
        "BaseEventLoop._create_server_getaddrinfo",
        &[&co.local(LOOP), &address, &Obj::tuple_of(&hints)?],
        |co: Co| async move {
            let (address, hints) = (1, 2);
            let looking_up =
                match dns::resolve(&co.local(LOOP), &co.local(address), co.local(hints).tuple_items())? {
                    Resolved::Already(info) => return Obj::list(&[info]),
                    Resolved::Later(coroutine) => coroutine,
                };
            let infos = co.wait(looking_up).await?;
            if infos.truth()? {
                return Ok(infos);
            }
            let address = co.local(address);
            let host = address
                .tuple_items()
                .first()
                .map_or(Ok("None".into()), Obj::repr)?;
            let text = Obj::str(&format!("getaddrinfo({host}) returned empty list"))?;
            Err(raise(&exc::os_error().call(&[&text])?))
        },
    )
}

fn bind_all(co: &Co) -> R<()> {
    let (loop_, sockets) = (co.local(LOOP), co.local(SOCKETS));
    let (core, infos) = (loop_core(&loop_)?, co.local(INFOS).to_vec()?);
    for info in &infos {
        bind(co, core, &sockets, info)?;
    }
    if sockets.len()? == 0 && version::BIND_SKIPS_UNAVAILABLE.get() {
        let addresses = infos
            .iter()
            .map(|info| {
                info.to_vec()
                    .map(|mut parts| parts.pop().unwrap_or_else(Obj::none))
            })
            .collect::<R<Vec<_>>>()?;
        let text = format!(
            "could not bind on any address out of {}",
            Obj::list(&addresses)?.repr()?
        );
        return Err(raise(&exc::os_error().call(&[&Obj::str(&text)?])?));
    }
    Ok(())
}

/// `socket.socket(…)` as a module of asyncio's finds it: programs put something else there, to see what becomes of it.
fn make_socket(module: &Obj, arguments: &[&Obj]) -> R<Obj> {
    module
        .getattr(&names::SOCKET)?
        .call_method(&names::SOCKET, arguments)
}

fn bind(co: &Co, core: &LoopCore, sockets: &Obj, info: &Obj) -> R<()> {
    let parts = info.to_vec()?;
    let [family, kind, proto, _, address] = parts.as_slice() else {
        return Err(value_error("getaddrinfo() must give tuples of five"));
    };
    let socket = match make_socket(&imports::BASE_EVENTS, &[family, kind, proto]) {
        Ok(socket) => socket,
        // most likely a combination that this machine does not have
        Err(raised) if raised.matches(exc::os_error()) => {
            let exception = raised.take();
            if core.debug.get() {
                let text = "create_server() failed to create socket.socket(%r, %r, %r)";
                warn(text, &[family, kind, proto], Some(&exception))?;
            }
            return Ok(());
        }
        Err(raised) => return Err(raised),
    };
    sockets.call_method_str("append", &[&socket])?;
    let family_number = family.to_i64()? as i32;
    let is_inet = matches!(family_number, libc::AF_INET | libc::AF_INET6);
    let option = |level: i32, option: i32, on: bool| {
        let arguments = [
            &Obj::int(level.into())?,
            &Obj::int(option.into())?,
            &Obj::bool(on),
        ];
        socket.call_method_str("setsockopt", &arguments).map(drop)
    };
    if given(co, 9).map_or(Ok(true), |reuse| reuse.truth())? {
        option(libc::SOL_SOCKET, libc::SO_REUSEADDR, true)?;
    }
    if is_true(given(co, 10))? && is_inet {
        option(libc::SOL_SOCKET, libc::SO_REUSEPORT, true).map_err(no_reuse_port)?;
    }
    if is_true(given(co, 11))? {
        option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, true)?;
    }
    if family_number == libc::AF_INET6 {
        // one socket for each family, not one for both
        option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, true)?;
    }
    let Err(raised) = socket.call_method_str("bind", &[address]) else {
        return Ok(());
    };
    if !raised.matches(exc::os_error()) {
        return Err(raised);
    }
    let error = raised.take();
    let number = error.getattr_str("errno")?;
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
    if version::BIND_SKIPS_UNAVAILABLE.get() && number.eq(&Obj::int(libc::EADDRNOTAVAIL.into())?)? {
        // most likely a family that is not enabled
        sockets.call_method_str("pop", &[])?;
        socket.call_method(&names::CLOSE, &[])?;
        if core.debug.get() {
            warn(&text, &[], None)?;
        }
        return Ok(());
    }
    Err(raise(&exc::os_error().call(&[&number, &Obj::str(&text)?])?))
}

/// `_set_reuseport` says it in its own words.
pub(super) fn no_reuse_port(raised: Raised) -> Raised {
    if !raised.matches(exc::os_error()) {
        return raised;
    }
    raised.ignore();
    value_error("reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented.")
}

fn warn(text: &str, args: &[&Obj], exception: Option<&Obj>) -> R<()> {
    let text = Obj::str(text)?;
    let mut all = vec![&text];
    all.extend(args);
    let kwnames = Obj::tuple(&[&Obj::interned("exc_info")?])?;
    let kwnames = exception.map(|exception| {
        all.push(exception);
        &kwnames
    });
    imports::LOGGER
        .call_method_kw(&Obj::interned("warning")?, &all, kwnames)
        .map(drop)
}

/// The server over the sockets in local [`SOCKETS`].
/// `backlog`, `start_serving` and `tls` (the context and its two timeouts) say which arguments these are.
async fn serve(co: &Co, backlog: usize, start_serving: usize, tls: [usize; 3]) -> R<Obj> {
    {
        let sockets = co.local(SOCKETS).to_vec()?;
        for socket in &sockets {
            socket.call_method(&names::SETBLOCKING, &[&Obj::bool(false)])?;
        }
        let backlog = given(co, backlog).map_or_else(|| Obj::int(100), Ok)?;
        let factory = given(co, FACTORY).unwrap_or_else(Obj::none);
        let made = server::make(
            &co.local(LOOP),
            &sockets,
            &factory,
            &backlog,
            tls.map(|index| given(co, index)),
        )?;
        co.set(SERVER, made);
    }
    if given(co, start_serving).map_or(Ok(true), |start| start.truth())? {
        server::start(&co.local(SERVER))?;
        co.wait(tasks::sleep::now()?).await?;
    }
    let (loop_, made) = (co.local(LOOP), co.local(SERVER));
    if loop_core(&loop_)?.debug.get() {
        imports::LOGGER.call_method_str("info", &[&Obj::str("%r is serving")?, &made])?;
    }
    Ok(made)
}

// --- create_unix_server ---------------------------------------------------------------------------

async fn create_unix_server(co: Co) -> R<Obj> {
    prepare_unix(&co)?;
    serve(&co, 4, 8, [5, 6, 7]).await
}

/// Puts the socket in its place.
fn prepare_unix(co: &Co) -> R<()> {
    let (path, sock, ssl) = (given(co, 2), given(co, 3), given(co, 5));
    check_tls(ssl.as_ref(), given(co, 6), given(co, 7))?;
    let sock = match (path, sock) {
        (Some(_), Some(_)) => {
            return Err(value_error("path and sock can not be specified at the same time"));
        }
        (Some(path), None) => bind_path(&path)?,
        (None, None) => return Err(value_error("path was not specified, and no sock specified")),
        (None, Some(sock)) => {
            let is = |name, number: i32| sock.getattr(name)?.eq(&Obj::int(number.into())?);
            if !is(&names::FAMILY, libc::AF_UNIX)? || !is(&names::TYPE, libc::SOCK_STREAM)? {
                return Err(value_error(&format!(
                    "A UNIX Domain Stream Socket was expected, got {}",
                    sock.repr()?
                )));
            }
            sock
        }
    };
    let clean_up = co.local(GIVEN).tuple_items()[9].clone();
    let clean_up = if clean_up.is_none() {
        version::UNIX_SOCKETS_CLEANED.get()
    } else {
        clean_up.truth()?
    };
    if clean_up {
        remember_file(&co.local(LOOP), &sock)?;
    }
    co.set(SOCKETS, Obj::list(&[sock])?);
    Ok(())
}

/// Is it a name without a file?
pub(super) fn is_abstract(path: &Obj) -> R<bool> {
    let first = path.call_method_str("__getitem__", &[&Obj::int(0)?])?;
    Ok(first.eq(&Obj::int(0)?)? || first.eq(&Obj::str("\0")?)?)
}

fn bind_path(path: &Obj) -> R<Obj> {
    let os = Obj::import("os")?;
    let path = os.call_method_str("fspath", &[path])?;
    let kind = [
        &Obj::int(libc::AF_UNIX.into())?,
        &Obj::int(libc::SOCK_STREAM.into())?,
    ];
    let sock = make_socket(&imports::UNIX_EVENTS, &kind)?;
    let bound = is_abstract(&path).and_then(|is_abstract| {
        if !is_abstract {
            remove_stale(&os, &path)?;
        }
        sock.call_method_str("bind", &[&path])
    });
    let Err(raised) = bound else { return Ok(sock) };
    let exception = raised.take();
    sock.call_method(&names::CLOSE, &[])?;
    let in_use = exception.isinstance(exc::os_error())?
        && exception
            .getattr_str("errno")?
            .eq(&Obj::int(libc::EADDRINUSE.into())?)?;
    if !in_use {
        return Err(raise(&exception));
    }
    let text = format!("Address {} is already in use", path.repr()?);
    let error = exc::os_error().call(&[&Obj::int(libc::EADDRINUSE.into())?, &Obj::str(&text)?])?;
    Err(raise(&error))
}

static CREATE_UNIX_SERVER: SeenAs = SeenAs::new("asyncio.unix_events", "create_unix_server");
static STOP_SERVING: SeenAs = SeenAs::new("asyncio.unix_events", "_stop_serving");

/// A socket file that a server has left behind.
pub(super) fn remove_stale(os: &Obj, path: &Obj) -> R<()> {
    let remove = || {
        let mode = CREATE_UNIX_SERVER
            .call(&os.getattr_str("stat")?, &[path], None)?
            .getattr_str("st_mode")?;
        if Obj::import("stat")?
            .call_method_str("S_ISSOCK", &[&mode])?
            .truth()?
        {
            os.call_method_str("remove", &[path])?;
        }
        Ok(())
    };
    unless_not_found(
        remove(),
        "Unable to check or remove stale UNIX socket %r: %r",
        path,
    )
}

/// `except FileNotFoundError: pass`, `except OSError`: a line in the log.
fn unless_not_found(result: R<()>, text: &str, path: &Obj) -> R<()> {
    match result {
        Err(raised) if raised.matches(exc::file_not_found_error()) => {
            raised.ignore();
            Ok(())
        }
        Err(raised) if raised.matches(exc::os_error()) => {
            let error = raised.take();
            imports::LOGGER
                .call_method_str("error", &[&Obj::str(text)?, path, &error])
                .map(drop)
        }
        result => result,
    }
}

/// `_unix_server_sockets[sock] = inode`
fn remember_file(loop_: &Obj, sock: &Obj) -> R<()> {
    let path = sock.call_method_str("getsockname", &[])?;
    if path.len()? == 0 || is_abstract(&path)? {
        return Ok(());
    }
    let stat = Obj::import("os")?.getattr_str("stat")?;
    let inode = match CREATE_UNIX_SERVER.call(&stat, &[&path], None) {
        Ok(status) => status.getattr_str("st_ino")?,
        Err(raised) if raised.matches(exc::file_not_found_error()) => {
            raised.ignore();
            return Ok(());
        }
        Err(raised) => return Err(raised),
    };
    let core = loop_core(loop_)?;
    let known = match core.unix_servers.get() {
        Some(known) => known,
        None => {
            let known = Obj::dict()?;
            core.unix_servers.set(known.clone());
            known
        }
    };
    known.dict_set(sock, &inode)
}

/// `_stop_serving(sock)`: closes a listening socket, and removes its file if that is still its own.
fn stop_serving(args: &Args) -> R<Obj> {
    let ((_, core), sock) = (this(args)?, args.req(1)?);
    let known = core.unix_servers.get();
    let inode = match &known {
        Some(known) => known.dict_get(sock)?,
        None => None,
    };
    let path = inode
        .as_ref()
        .map(|_| sock.call_method_str("getsockname", &[]))
        .transpose()?;
    let fd = sock.call_method(&names::FILENO, &[])?.to_i64()?;
    if fd >= 0 {
        readers::remove(core, fd as i32, Side::Reader)?;
    }
    sock.call_method(&names::CLOSE, &[])?;
    if let (Some(known), Some(inode), Some(path)) = (known, inode, path) {
        known.dict_discard(sock)?;
        let remove = || {
            let os = Obj::import("os")?;
            let now = STOP_SERVING
                .call(&os.getattr_str("stat")?, &[&path], None)?
                .getattr_str("st_ino")?;
            if now.eq(&inode)? {
                STOP_SERVING.call(&os.getattr_str("unlink")?, &[&path], None)?;
            }
            Ok(())
        };
        unless_not_found(remove(), "Unable to clean up listening UNIX socket %r: %r", &path)?;
    }
    Ok(Obj::none())
}
