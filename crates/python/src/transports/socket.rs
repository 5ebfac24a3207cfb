//! The socket of a transport: a descriptor of ours, or a `socket.socket` that somebody has given us or asked for.
//!
//! Accepted connections begin as a bare descriptor; the Python object, which takes as much memory as the rest
//! of an idle connection, is made when the program asks for it, and owns the descriptor from then on.

use crate::ffi::errors::os_error;
use crate::ffi::object::{ascii, exact_int};
use crate::ffi::pysocket::Plain;
use crate::ffi::{Obj, R, Slot, Visitor, bytes, pysocket};
use crate::imports::{self, names};
use aioxide_core::effects;
use aioxide_core::socket::{self, Address, Sender};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

/// The size of `sun_path`.
const MOST_OF_A_PATH: usize = 108;

/// No descriptor.
const NONE: RawFd = -1;

/// The socket.
pub(crate) struct Socket {
    object: Slot,
    /// Ours, if there is no object; else what the object had when we got it.
    fd: Cell<RawFd>,
    /// The same, for messages, when it is closed.
    was: RawFd,
    /// The object is of another class than `socket.socket`.
    foreign: Cell<bool>,
}

impl Default for Socket {
    fn default() -> Socket {
        Socket {
            object: Slot::default(),
            fd: Cell::new(NONE),
            was: NONE,
            foreign: Cell::new(false),
        }
    }
}

impl Socket {
    /// A connection that we have accepted.
    pub(crate) fn owned(fd: OwnedFd) -> Socket {
        let fd = fd.into_raw_fd();
        Socket {
            object: Slot::default(),
            fd: Cell::new(fd),
            was: fd,
            foreign: Cell::new(false),
        }
    }

    /// A `socket.socket`, or something like it.
    pub(crate) fn of(object: &Obj) -> R<Socket> {
        let fd = match pysocket::fd(object) {
            Some(fd) => fd,
            None => object.call_method(&names::FILENO, &[])?.to_i64()? as RawFd,
        };
        let socket = Socket {
            object: Slot::default(),
            fd: Cell::new(fd),
            was: fd,
            foreign: Cell::new(!object.is_exactly(&imports::SOCKET)),
        };
        socket.object.set(object.clone());
        Ok(socket)
    }

    /// The descriptor to use now; -1 if it is closed, by us or behind our back.
    #[inline]
    pub(crate) fn fd(&self) -> RawFd {
        match self.object.get() {
            None => self.fd.get(),
            Some(object) => pysocket::fd(&object).unwrap_or_else(|| self.fd.get()),
        }
    }

    /// The number under which the loop watches it, whoever may have closed it since.
    #[inline]
    pub(crate) fn number(&self) -> RawFd {
        self.fd.get()
    }

    /// The number that it has or had.
    pub(crate) fn shown(&self) -> RawFd {
        self.was
    }

    /// Has it been given up?
    pub(crate) fn is_gone(&self) -> bool {
        self.fd.get() == NONE
    }

    /// The Python object, which from now on is the owner.
    pub(crate) fn object(&self) -> R<Option<Obj>> {
        if let Some(object) = self.object.get() {
            return Ok(Some(object));
        }
        let fd = self.fd.get();
        if fd == NONE {
            return Ok(None);
        }
        let (family, kind, proto) = socket::kind(fd).map_err(|error| os_error(&error))?;
        let object = Plain {
            fd,
            family,
            kind,
            proto,
        }
        .object()?;
        self.object.set(object.clone());
        Ok(Some(object))
    }

    /// The Python object, if it is of another class than `socket.socket`: what that class makes of `recv()` and the like
    /// is not for us to know, so its methods are called.
    #[inline]
    pub(crate) fn foreign(&self) -> Option<Obj> {
        if !self.foreign.get() {
            return None;
        }
        self.object.get()
    }

    /// The Python object, if there is one.
    pub(crate) fn made_object(&self) -> Option<Obj> {
        self.object.get()
    }

    /// Another object in its place, or none: what was there is the program's, and stays open.
    pub(crate) fn replace(&self, object: Option<&Obj>) -> R<()> {
        let fresh = object.map(Socket::of).transpose()?;
        self.fd.set(fresh.as_ref().map_or(NONE, Socket::number));
        self.foreign
            .set(fresh.as_ref().is_some_and(|fresh| fresh.foreign.get()));
        self.object.put(fresh.and_then(|fresh| fresh.object.get()));
        Ok(())
    }

    /// `sock.close()`; twice is no error.
    pub(crate) fn close(&self) -> R<()> {
        let fd = self.fd.replace(NONE);
        match self.object.take() {
            Some(object) => {
                effects::happened();
                object.call_method(&names::CLOSE, &[]).map(drop)
            }
            None => {
                socket::close(fd);
                Ok(())
            }
        }
    }

    /// For the garbage collector.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        self.object.visit(visitor);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.object.is_empty() {
            socket::close(self.fd.get());
        }
    }
}

/// What `getsockname()` and `getpeername()` say. `None`: to be asked of the Python object, if at all.
pub(crate) fn address(address: &Address) -> R<Option<Obj>> {
    Ok(Some(match address {
        Address::Other => return Ok(None),
        Address::Ip(address) => ip_address(address)?,
        Address::Unix(name) if name.first() == Some(&0) => bytes::new(name)?,
        Address::Unix(name) => bytes::new(name)?.call_method_str(
            "decode",
            &[
                &Obj::import("sys")?.call_method_str("getfilesystemencoding", &[])?,
                &Obj::str("surrogateescape")?,
            ],
        )?,
    }))
}

/// The tuple for an IP address.
pub(crate) fn ip_address(address: &SocketAddr) -> R<Obj> {
    match address {
        SocketAddr::V4(v4) => Obj::tuple(&[&ip_text((*v4.ip()).into())?, &Obj::int(v4.port().into())?]),
        SocketAddr::V6(v6) => Obj::tuple(&[
            &ip_text((*v6.ip()).into())?,
            &Obj::int(v6.port().into())?,
            &Obj::int(v6.flowinfo().into())?,
            &Obj::int(v6.scope_id().into())?,
        ]),
    }
}

/// What `recvfrom()` says of who has sent something.
pub(crate) fn sender(sender: &Sender) -> R<Obj> {
    match sender.address() {
        Some(known) => Ok(address(&known)?.unwrap_or_else(Obj::none)),
        None => Ok(Obj::none()),
    }
}

/// As `inet_ntop(3)` writes it, which differs from Rust in the addresses that have an IPv4 address at their end.
pub(crate) fn ip_text(ip: IpAddr) -> R<Obj> {
    if let IpAddr::V6(v6) = ip
        && let [0, 0, 0, 0, 0, 0, high, _] = v6.segments()
        && high != 0
    {
        let [.., a, b, c, d] = v6.octets();
        return Obj::str(&format!("::{}", Ipv4Addr::new(a, b, c, d)));
    }
    Obj::str(&ip.to_string())
}

/// An address as a program gives it to a socket of this family, if nothing about it has to be looked up.
pub(crate) fn written_out(family: i32, address: &Obj) -> R<Option<Address>> {
    if family == libc::AF_UNIX {
        // other texts depend on the encoding of file names, or are too long
        return Ok(ascii(address)
            .filter(|path| (1..MOST_OF_A_PATH).contains(&path.len()) && !path.contains('\0'))
            .map(|path| Address::Unix(path.as_bytes().into())));
    }
    let [host, port, rest @ ..] = address.tuple_items() else {
        return Ok(None);
    };
    let (Some(host), Some(port)) = (ascii(host), exact_int(port)) else {
        return Ok(None);
    };
    let Ok(port) = u16::try_from(port) else {
        return Ok(None);
    };
    Ok(match family {
        libc::AF_INET if rest.is_empty() => host
            .parse()
            .ok()
            .map(|ip| Address::Ip(SocketAddrV4::new(ip, port).into())),
        libc::AF_INET6 if rest.len() <= 2 => {
            let number = |index: usize| match rest.get(index) {
                None => Some(0),
                Some(number) => exact_int(number).and_then(|number| u32::try_from(number).ok()),
            };
            match (host.parse(), number(0), number(1)) {
                (Ok(ip), Some(flow @ ..=0xf_ffff), Some(scope)) => {
                    Some(Address::Ip(SocketAddrV6::new(ip, port, flow, scope).into()))
                }
                _ => None,
            }
        }
        _ => None,
    })
}
