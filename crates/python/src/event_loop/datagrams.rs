//! "Creating datagram endpoints": create_datagram_endpoint.
//!
//! Rule: a socket that we have made is closed, however the attempt ends, unless a transport has it.

use super::class::this;
use super::connections::os_error;
use super::core;
use super::dns::{self, Resolved};
use super::readers;
use super::servers::{FACTORY, LOOP, begin, given, is_abstract, is_true, no_reuse_port, remove_stale};
use super::sockets::loop_core;
use crate::ffi::errors::{exc, raise, type_error, value_error};
use crate::ffi::pyclass::Body;
use crate::ffi::{Co, Obj, Own, R};
use crate::futures::{Future, methods};
use crate::imports::{self, names};
use crate::transports::datagram::{self, Datagram, Opening};
use crate::transports::log_debug;
use crate::version;

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method(
        "create_datagram_endpoint(self, protocol_factory, local_addr=None, remote_addr=None, *, family=0, proto=0, \
         flags=0, reuse_port=None, allow_broadcast=None, sock=None)",
        |args| {
            begin(
                args,
                10,
                "BaseEventLoop.create_datagram_endpoint",
                create_datagram_endpoint,
            )
        },
    )?;
    body.method(
        "_make_datagram_transport(self, sock, protocol, address=None, waiter=None, extra=None)",
        |args| {
            let waiter = methods::waiter_argument(args, 4)?;
            let made = open(
                this(args)?.0,
                args.req(1)?,
                args.req(2)?,
                args.opt(3).cloned(),
                waiter,
                args.opt(5).cloned(),
            )?;
            Ok(made.into_obj())
        },
    )
}

/// The arguments, by their places.
const LOCAL_ADDR: usize = 2;
const REMOTE_ADDR: usize = 3;
const FAMILY: usize = 4;
const PROTO: usize = 5;
const FLAGS: usize = 6;
const REUSE_PORT: usize = 7;
const ALLOW_BROADCAST: usize = 8;
const SOCK_GIVEN: usize = 9;

/// Locals, after those of [`begin`]: the socket, then the transport.
const SOCK: usize = 2;
/// A list of the pairs of addresses that are to be tried; then the one to send to.
const REMOTE: usize = 3;

async fn create_datagram_endpoint(co: Co) -> R<Obj> {
    match given(&co, SOCK_GIVEN) {
        Some(sock) => {
            check_given(&co, &sock)?;
            sock.call_method(&names::SETBLOCKING, &[&Obj::bool(false)])?;
            co.set(SOCK, sock);
            co.set(REMOTE, Obj::none());
        }
        None => {
            let pairs = pairs(&co).await?;
            co.set(REMOTE, Obj::list(&pairs)?);
            first_that_works(&co).await?;
        }
    }
    let (waiter, protocol) = start(&co)?;
    if let Err(raised) = co.wait(waiter).await {
        let exception = raised.take();
        co.local(SOCK).call_method(&names::CLOSE, &[])?;
        return Err(raise(&exception));
    }
    Obj::tuple(&[&co.local(SOCK), &protocol])
}

/// What may be said about a socket that is there already.
fn check_given(co: &Co, sock: &Obj) -> R<()> {
    let is = |kind: i32| sock.getattr(&names::TYPE)?.eq(&Obj::int(kind.into())?);
    let (fits, wanted) = if version::SINCE_313.get() {
        (!is(libc::SOCK_STREAM)?, "datagram socket")
    } else {
        (is(libc::SOCK_DGRAM)?, "UDP Socket")
    };
    if !fits {
        return Err(value_error(&format!(
            "A {wanted} was expected, got {}",
            sock.repr()?
        )));
    }
    let mut problems = Vec::new();
    for (index, name) in [
        (LOCAL_ADDR, "local_addr"),
        (REMOTE_ADDR, "remote_addr"),
        (FAMILY, "family"),
        (PROTO, "proto"),
        (FLAGS, "flags"),
        (REUSE_PORT, "reuse_port"),
        (ALLOW_BROADCAST, "allow_broadcast"),
    ] {
        if let Some(value) = given(co, index)
            && value.truth()?
        {
            let shown = imports::FORMAT.call(&[&value])?.to_string()?;
            problems.push(format!("{name}={shown}"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(value_error(&format!(
        "socket modifier keyword arguments can not be used when sock is specified. ({})",
        problems.join(", ")
    )))
}

/// `addr_pairs_info`: tuples of family, protocol, local and remote address.
async fn pairs(co: &Co) -> R<Vec<Obj>> {
    let (local, remote) = (given(co, LOCAL_ADDR), given(co, REMOTE_ADDR));
    let none = Obj::none();
    let (family, proto) = (number(co, FAMILY)?, number(co, PROTO)?);
    if !is_true(local.clone())? && !is_true(remote.clone())? {
        if family.eq(&Obj::int(0)?)? {
            return Err(value_error("unexpected address family"));
        }
        return Ok(vec![Obj::tuple(&[&family, &proto, &none, &none])?]);
    }
    if family.eq(&Obj::int(libc::AF_UNIX.into())?)? {
        let (local, remote) = (local.unwrap_or_else(Obj::none), remote.unwrap_or_else(Obj::none));
        check_paths(&local, &remote)?;
        return Ok(vec![Obj::tuple(&[&family, &proto, &local, &remote])?]);
    }
    // by family and protocol, in the order in which they first come
    let mut known: Vec<[Obj; 4]> = Vec::new();
    for (index, address) in [(2, local.clone()), (3, remote.clone())] {
        let Some(address) = address else { continue };
        for info in look_up(co, &address).await? {
            let info = info.to_vec()?;
            let [family, _, proto, _, address] = info.as_slice() else {
                return Err(value_error("getaddrinfo() must give tuples of five"));
            };
            let mut place = None;
            for (at, pair) in known.iter().enumerate() {
                if pair[0].eq(family)? && pair[1].eq(proto)? {
                    place = Some(at);
                }
            }
            let place = place.unwrap_or_else(|| {
                known.push([family.clone(), proto.clone(), Obj::none(), Obj::none()]);
                known.len() - 1
            });
            known[place][index] = address.clone();
        }
    }
    let (has_local, has_remote) = (is_true(local)?, is_true(remote)?);
    known.retain(|pair| !(has_local && pair[2].is_none() || has_remote && pair[3].is_none()));
    if known.is_empty() {
        return Err(value_error("can not get address information"));
    }
    known.iter().map(|pair| Obj::tuple_of(pair)).collect()
}

fn number(co: &Co, index: usize) -> R<Obj> {
    given(co, index).map_or_else(|| Obj::int(0), Ok)
}

/// Paths of Unix sockets; what a socket has left at the local one is removed.
fn check_paths(local: &Obj, remote: &Obj) -> R<()> {
    let str_class = Obj::import("builtins")?.getattr_str("str")?;
    for path in [local, remote] {
        if !path.is_none() && !path.isinstance(&str_class)? {
            return Err(type_error("string is expected"));
        }
    }
    if local.truth()? && !is_abstract(local)? {
        remove_stale(&Obj::import("os")?, local)?;
    }
    Ok(())
}

/// `_ensure_resolved(address, …)`, which must find something.
async fn look_up(co: &Co, address: &Obj) -> R<Vec<Obj>> {
    let looking_up = {
        let tuple_class = Obj::empty_tuple().class();
        if !address.isinstance(&tuple_class)? || address.len()? != 2 {
            return Err(type_error("2-tuple is expected"));
        }
        let hints = [
            number(co, FAMILY)?,
            Obj::import("socket")?.getattr_str("SOCK_DGRAM")?,
            number(co, PROTO)?,
            number(co, FLAGS)?,
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

/// A socket for the first pair of addresses that will do. The first failure stands for all.
async fn first_that_works(co: &Co) -> R<()> {
    let mut first = None;
    for pair in co.local(REMOTE).to_vec()? {
        let connecting = match prepare(co, &pair) {
            Ok(None) => return Ok(()),
            Ok(Some(connecting)) => co.wait(connecting).await,
            Err(raised) => Err(raised),
        };
        let Err(raised) = connecting else { return Ok(()) };
        let exception = raised.take();
        if let Some(sock) = co.local(SOCK).non_none() {
            sock.call_method(&names::CLOSE, &[])?;
        }
        if !exception.isinstance(exc::os_error())? {
            return Err(raise(&exception));
        }
        first.get_or_insert(exception);
    }
    Err(match first {
        Some(exception) => raise(&exception),
        None => value_error("can not get address information"),
    })
}

/// Makes the socket and binds it; what is to be awaited for it to be connected, if it is to be. Leaves the address
/// to send to in local [`REMOTE`].
fn prepare(co: &Co, pair: &Obj) -> R<Option<Obj>> {
    co.set(SOCK, Obj::none());
    let [family, proto, local, remote] = pair.tuple_items() else {
        return Err(value_error("four items are required"));
    };
    let kind = Obj::import("socket")?.getattr_str("SOCK_DGRAM")?;
    let sock = imports::SOCKET.call(&[family, &kind, proto])?;
    co.set(SOCK, sock.clone());
    let option = |option: i32| {
        let arguments = [
            &Obj::int(libc::SOL_SOCKET.into())?,
            &Obj::int(option.into())?,
            &Obj::int(1)?,
        ];
        sock.call_method_str("setsockopt", &arguments).map(drop)
    };
    if is_true(given(co, REUSE_PORT))? {
        option(libc::SO_REUSEPORT).map_err(no_reuse_port)?;
    }
    let broadcasts = is_true(given(co, ALLOW_BROADCAST))?;
    if broadcasts {
        option(libc::SO_BROADCAST)?;
    }
    sock.call_method(&names::SETBLOCKING, &[&Obj::bool(false)])?;
    if is_true(given(co, LOCAL_ADDR))? {
        sock.call_method_str("bind", &[local])?;
    }
    if !is_true(given(co, REMOTE_ADDR))? {
        co.set(REMOTE, Obj::none());
        return Ok(None);
    }
    let connecting = if broadcasts {
        None
    } else {
        Some(co.local(LOOP).call_method_str("sock_connect", &[&sock, remote])?)
    };
    co.set(REMOTE, remote.clone());
    Ok(connecting)
}

/// The transport, which from now on has the socket, in local [`SOCK`]; its waiter, and the protocol.
fn start(co: &Co) -> R<(Obj, Obj)> {
    let (loop_, sock) = (co.local(LOOP), co.local(SOCK));
    let made = make(co, &loop_, &sock);
    let (transport, waiter, protocol) = match made {
        Ok(made) => made,
        Err(raised) => {
            let exception = raised.take();
            if given(co, SOCK_GIVEN).is_none() {
                sock.call_method(&names::CLOSE, &[])?;
            }
            return Err(raise(&exception));
        }
    };
    co.set(SOCK, transport.clone());
    if loop_core(&loop_)?.debug.get() {
        let none = Obj::none();
        let (local, remote) = (given(co, LOCAL_ADDR), given(co, REMOTE_ADDR));
        let remote = remote.as_ref().unwrap_or(&none);
        if is_true(local.clone())? {
            imports::LOGGER.call_method_str(
                "info",
                &[
                    &Obj::str("Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)")?,
                    &local.unwrap_or_else(Obj::none),
                    remote,
                    &transport,
                    &protocol,
                ],
            )?;
        } else {
            log_debug(
                "Datagram endpoint remote_addr=%r created: (%r, %r)",
                &[remote, &transport, &protocol],
                None,
            )?;
        }
    }
    Ok((waiter, protocol))
}

/// Transport, waiter, protocol.
fn make(co: &Co, loop_: &Obj, sock: &Obj) -> R<(Obj, Obj, Obj)> {
    let protocol = given(co, FACTORY).unwrap_or_else(Obj::none).call0()?;
    let address = co.local(REMOTE);
    let Some(core) = core::fast(loop_) else {
        // a derived class may have its own
        let waiter = methods::create_ours(loop_, loop_core(loop_)?)?.into_obj();
        let arguments = [sock, &protocol, &address, &waiter];
        let transport = loop_.call_method_str("_make_datagram_transport", &arguments)?;
        return Ok((transport, waiter, protocol));
    };
    let waiter = methods::create_native(loop_, core)?;
    let address = address.non_none().cloned();
    let transport = open(loop_, sock, &protocol, address, Some(waiter.clone()), None)?;
    Ok((transport.into_obj(), waiter.into_obj(), protocol))
}

/// `_make_datagram_transport(sock, protocol, address, waiter, extra)`
fn open(
    loop_: &Obj,
    sock: &Obj,
    protocol: &Obj,
    address: Option<Obj>,
    waiter: Option<Own<Future>>,
    extra: Option<Obj>,
) -> R<Own<Datagram>> {
    readers::ensure_no_transport(loop_core(loop_)?, readers::fileno(sock)?, Some(sock))?;
    datagram::open(Opening {
        loop_,
        sock,
        protocol,
        address,
        waiter,
        extra,
    })
}
