//! Sockets, by their numbers: what `socket.socket`'s methods do, without Python and without waiting.
//!
//! Owns the system calls and the form in which addresses come back.
//! Must never block (`MSG_DONTWAIT` where the kernel lets us say so) nor raise SIGPIPE, nor keep a descriptor.
//!
//! Whoever calls has made sure that the number is that of a socket of its own; a number that is not open
//! answers EBADF. An interrupted call is made again: nothing here takes long enough to be worth a signal.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrAny,
    SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::fd::with_borrowed;
use super::sender::Room;
use crate::effects;

pub use super::sender::{RawIp, Sender};

/// How many pieces one [`send_vectored`] takes, as the kernel; the rest is for the next.
pub const MOST_PIECES: usize = 1024;

/// Where a socket is, or its peer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Address {
    /// None that we know how to write down: a family of its own, or not known.
    #[default]
    Other,
    /// IPv4 and IPv6.
    Ip(SocketAddr),
    /// A path; or a name without a file, which begins with a NUL; or nothing, for a socket without a name.
    Unix(Box<[u8]>),
}

impl From<SocketAddrAny> for Address {
    fn from(any: SocketAddrAny) -> Self {
        match any.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => {
                SocketAddr::try_from(any).map_or(Self::Other, Self::Ip)
            }
            AddressFamily::UNIX => {
                SocketAddrUnix::try_from(any).map_or(Self::Other, |unix| Self::Unix(name_of(&unix)))
            }
            _ => Self::Other,
        }
    }
}

fn name_of(unix: &SocketAddrUnix) -> Box<[u8]> {
    if let Some(name) = unix.abstract_name().filter(|name| !name.is_empty()) {
        let mut all = vec![0];
        all.extend_from_slice(name);
        return all.into();
    }
    unix.path()
        .map_or_else(Box::default, |path| path.to_bytes().into())
}

/// `recv(2)`: `Ok(0)` is the end.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if there is nothing yet.
#[inline]
pub fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    with_borrowed(fd, |fd| {
        let (taken, _) = retry_on_intr(|| rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT))?;
        Ok(taken)
    })
}

/// The same into memory that holds nothing yet: the first so many bytes of it are filled.
///
/// # Errors
/// As for [`receive`].
#[inline]
pub fn receive_uninit(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    with_borrowed(fd, |fd| {
        // (not by `retry_on_intr`: what `recv` gives borrows the buffer)
        loop {
            match rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, taken)) => return Ok(taken),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
}

/// `recv(2)` to the end of `bytes`, into the room that it has there.
///
/// # Errors
/// As for [`receive`].
#[inline]
pub fn receive_onto(fd: RawFd, bytes: &mut Vec<u8>) -> io::Result<usize> {
    with_borrowed(fd, |fd| {
        loop {
            match rustix::net::recv(fd, rustix::buffer::spare_capacity(bytes), RecvFlags::DONTWAIT) {
                Ok((taken, _)) => return Ok(taken),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
}

/// `send(2)`: how much of it the kernel took.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if that is nothing.
#[inline]
pub fn send(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    effects::happened();
    with_borrowed(fd, |fd| {
        Ok(retry_on_intr(|| {
            rustix::net::send(fd, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        })?)
    })
}

/// `sendmsg(2)` with several pieces, of which it looks at the first [`MOST_PIECES`].
///
/// # Errors
/// As for [`send`].
#[inline]
pub fn send_vectored(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    effects::happened();
    let pieces = &pieces[..pieces.len().min(MOST_PIECES)];
    with_borrowed(fd, |fd| {
        Ok(retry_on_intr(|| {
            let mut nothing = SendAncillaryBuffer::default();
            rustix::net::sendmsg(
                fd,
                pieces,
                &mut nothing,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            )
        })?)
    })
}

/// `recvfrom(2)`: how many bytes, and who sent them. A longer datagram is cut off.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if there is none.
#[inline]
pub fn receive_from(fd: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Sender)> {
    let mut room = Room::new();
    loop {
        match room.receive(fd, buffer) {
            Ok(taken) => return Ok((taken, room.sender())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `sendto(2)` to an IP address. No effect that the next turn has to look for: a datagram may take its time, and a server
/// that answers each of many would ask the kernel for events as often.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if the kernel has no room for it.
#[inline]
pub fn send_to(fd: RawFd, data: &[u8], to: &SocketAddr) -> io::Result<usize> {
    with_borrowed(fd, |fd| {
        Ok(retry_on_intr(|| {
            rustix::net::sendto(fd, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, to)
        })?)
    })
}

/// `socket(2)`: non-blocking and close-on-exec. The numbers are Python's, and the kernel's.
///
/// # Errors
/// What the kernel answers: EAFNOSUPPORT, EPROTONOSUPPORT, EMFILE.
pub fn open(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let (Ok(family), Ok(kind)) = (u16::try_from(family), u32::try_from(kind)) else {
        return Err(Errno::INVAL.into());
    };
    let protocol = u32::try_from(protocol)
        .ok()
        .and_then(std::num::NonZeroU32::new)
        .map(Protocol::from_raw);
    Ok(rustix::net::socket_with(
        AddressFamily::from_raw(family),
        SocketType::from_raw(kind),
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        protocol,
    )?)
}

/// `connect(2)`, which goes on in the background where it cannot be done at once.
///
/// # Errors
/// EINPROGRESS: it has begun. EAFNOSUPPORT for [`Address::Other`], ENAMETOOLONG for a path that is too long.
pub fn connect(fd: RawFd, to: &Address) -> io::Result<()> {
    effects::happened();
    with_borrowed(fd, |fd| {
        // (not made again after EINTR: it goes on then, too)
        match to {
            Address::Ip(to) => rustix::net::connect(fd, to)?,
            Address::Unix(name) => rustix::net::connect(fd, &unix_address(name)?)?,
            Address::Other => return Err(Errno::AFNOSUPPORT.into()),
        }
        Ok(())
    })
}

fn unix_address(name: &[u8]) -> io::Result<SocketAddrUnix> {
    Ok(match name {
        [0, name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        path => SocketAddrUnix::new(path)?,
    })
}

/// `SO_ERROR`: what has become of a [`connect`], for instance. Asking forgets it.
///
/// # Errors
/// What the kernel answers about the question itself.
pub fn take_error(fd: RawFd) -> io::Result<Option<io::Error>> {
    with_borrowed(fd, |fd| Ok(sockopt::socket_error(fd)?.err().map(io::Error::from)))
}

/// `accept4(2)`: a connection, non-blocking and close-on-exec, and where it comes from.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if nobody waits, ECONNABORTED if somebody did, EMFILE and the like if there
/// is no room for it.
#[inline]
pub fn accept(fd: RawFd) -> io::Result<(OwnedFd, Address)> {
    with_borrowed(fd, |fd| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (connection, from) = retry_on_intr(|| rustix::net::acceptfrom_with(fd, flags))?;
        Ok((connection, from.map_or(Address::Other, Address::from)))
    })
}

/// `getsockname(2)`
///
/// # Errors
/// What the kernel answers.
pub fn local_address(fd: RawFd) -> io::Result<Address> {
    with_borrowed(fd, |fd| Ok(rustix::net::getsockname(fd)?.into()))
}

/// `getpeername(2)`; [`Address::Other`] if the kernel knows of a peer but not of its name.
///
/// # Errors
/// ENOTCONN and whatever else the kernel answers.
pub fn peer_address(fd: RawFd) -> io::Result<Address> {
    with_borrowed(fd, |fd| {
        Ok(rustix::net::getpeername(fd)?.map_or(Address::Other, Address::from))
    })
}

/// `shutdown(fd, SHUT_WR)`: the peer finds the end.
///
/// # Errors
/// What the kernel answers.
pub fn shutdown_write(fd: RawFd) -> io::Result<()> {
    effects::happened();
    with_borrowed(fd, |fd| Ok(rustix::net::shutdown(fd, Shutdown::Write)?))
}

/// Is it a TCP socket? Its family, type and protocol as Python's `socket.socket` takes them.
///
/// # Errors
/// What the kernel answers: ENOTSOCK, EBADF.
pub fn kind(fd: RawFd) -> io::Result<(i32, i32, i32)> {
    with_borrowed(fd, |fd| {
        let family: AddressFamily = sockopt::socket_domain(fd)?;
        let kind: SocketType = sockopt::socket_type(fd)?;
        let protocol = sockopt::socket_protocol(fd)?.map_or(0, |protocol| protocol.as_raw().get() as i32);
        Ok((family.as_raw().into(), kind.as_raw() as i32, protocol))
    })
}

/// `TCP_NODELAY`: small writes are sent without waiting for an acknowledgement.
///
/// # Errors
/// What the kernel answers.
pub fn set_no_delay(fd: RawFd) -> io::Result<()> {
    with_borrowed(fd, |fd| Ok(sockopt::set_tcp_nodelay(fd, true)?))
}

/// `SO_KEEPALIVE`
///
/// # Errors
/// What the kernel answers.
pub fn set_keep_alive(fd: RawFd) -> io::Result<()> {
    with_borrowed(fd, |fd| Ok(sockopt::set_socket_keepalive(fd, true)?))
}

/// `close(2)`, of a descriptor that its last owner gives up. An error is nobody's business any more.
pub fn close(fd: RawFd) {
    effects::happened();
    super::fd::close(fd);
}
