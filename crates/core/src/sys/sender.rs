//! Who has sent a datagram: the address that `recvfrom(2)` writes, kept as it is.
//!
//! A server hears from the same peers again and again, and finds what it knows of them by comparing: that needs no
//! reading. Owns the room that the kernel writes to, and the conversions.
//! Must never give out an address that the kernel has not written whole.

use std::io;
use std::mem::offset_of;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;

use super::socket::Address;

/// `sockaddr_storage`, in words.
const WORDS: usize = size_of::<libc::sockaddr_storage>() / 8;

/// Who has sent a datagram.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sender {
    /// A socket without a name; or the peer that we are connected to, of whom the kernel need not speak.
    Unnamed,
    /// IPv4 and IPv6.
    Ip(RawIp),
    /// All else.
    Other(Address),
}

impl Sender {
    /// The address, read. `None`: the kernel says nothing.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Unnamed => None,
            Self::Ip(raw) => Some(Address::Ip(raw.read())),
            Self::Other(address) => Some(address.clone()),
        }
    }
}

/// A `sockaddr_in` or a `sockaddr_in6`, with zeros behind: equal if and only if it is the same address and port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RawIp([u64; 4]);

impl RawIp {
    /// A number below `count`, a power of two, which is mostly another one for another peer.
    #[inline]
    #[must_use]
    pub const fn hash(&self, count: usize) -> usize {
        let [a, b, c, _] = self.0;
        let mixed = (a ^ b.rotate_left(16) ^ c.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (count - 1)
    }

    /// What it says.
    #[must_use]
    pub fn read(&self) -> SocketAddr {
        let mut bytes = [0; 32];
        for (place, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let port = u16::from_be_bytes(part(&bytes, offset_of!(libc::sockaddr_in, sin_port)));
        if i32::from(family(self.0[0])) == libc::AF_INET {
            let ip: [u8; 4] = part(&bytes, offset_of!(libc::sockaddr_in, sin_addr));
            return SocketAddrV4::new(ip.into(), port).into();
        }
        let ip: [u8; 16] = part(&bytes, offset_of!(libc::sockaddr_in6, sin6_addr));
        let flow = u32::from_be_bytes(part(&bytes, offset_of!(libc::sockaddr_in6, sin6_flowinfo)));
        let scope = u32::from_ne_bytes(part(&bytes, offset_of!(libc::sockaddr_in6, sin6_scope_id)));
        SocketAddrV6::new(ip.into(), port, flow, scope).into()
    }
}

fn part<const N: usize>(bytes: &[u8; 32], start: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[start + index])
}

/// The first two bytes.
#[inline]
fn family(first: u64) -> u16 {
    let [a, b, ..] = first.to_ne_bytes();
    u16::from_ne_bytes([a, b])
}

/// Where the kernel writes who has sent something.
pub(super) struct Room {
    words: [u64; WORDS],
    len: libc::socklen_t,
}

impl Room {
    /// Nothing is written there yet.
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            words: [0; WORDS],
            len: 0,
        }
    }

    /// `recvfrom(2)`, not by libc's function, which is a point of cancellation: that costs in a process with threads.
    #[inline]
    #[allow(unsafe_code, reason = "no safe wrapper leaves the address as it is")]
    pub(super) fn receive(&mut self, fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
        self.len = size_of_val(&self.words) as libc::socklen_t;
        // SAFETY: the buffer is writable for its length, the words for `len` bytes, and aligned for any address;
        // both outlive the call. A number that is not open answers EBADF.
        let taken = unsafe {
            libc::syscall(
                libc::SYS_recvfrom,
                fd,
                buffer.as_mut_ptr(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                self.words.as_mut_ptr(),
                &raw mut self.len,
            )
        };
        // It is -1 on errors only.
        usize::try_from(taken).map_err(|_| io::Error::last_os_error())
    }

    /// What is written there.
    #[inline]
    pub(super) fn sender(&self) -> Sender {
        let [a, b, c, d, ..] = self.words;
        let len = self.len as usize;
        match i32::from(family(a)) {
            libc::AF_INET if len == size_of::<libc::sockaddr_in>() => Sender::Ip(RawIp([a, b, c, d])),
            libc::AF_INET6 if len == size_of::<libc::sockaddr_in6>() => Sender::Ip(RawIp([a, b, c, d])),
            _ => self.other(len),
        }
    }

    #[cold]
    fn other(&self, len: usize) -> Sender {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.truncate(len);
        match bytes.split_at_checked(2) {
            None => Sender::Unnamed,
            Some((_, name)) if i32::from(family(self.words[0])) == libc::AF_UNIX => {
                Sender::Other(Address::Unix(unix_name(name)))
            }
            Some(_) => Sender::Other(Address::Other),
        }
    }
}

/// A path ends before a NUL; a name that begins with one has them anywhere.
fn unix_name(name: &[u8]) -> Box<[u8]> {
    match name {
        [0, _, ..] => name.into(),
        path => path.split(|byte| *byte == 0).next().unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(address: &[u8]) -> Room {
        let mut room = Room::new();
        for (word, bytes) in room.words.iter_mut().zip(address.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        room.len = address.len() as libc::socklen_t;
        room
    }

    fn family_of(number: i32) -> [u8; 2] {
        (number as u16).to_ne_bytes()
    }

    #[test]
    fn ip_addresses_are_read_as_they_are_written() {
        let mut four = family_of(libc::AF_INET).to_vec();
        four.extend([0x12, 0x34, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let Sender::Ip(raw) = room(&four).sender() else {
            panic!("not IPv4");
        };
        assert_eq!(raw.read(), "127.0.0.1:4660".parse().unwrap());
        let mut six = family_of(libc::AF_INET6).to_vec();
        six.extend([0x12, 0x34, 0, 0, 0, 5]);
        six.extend(1_u128.to_be_bytes());
        six.extend(7_u32.to_ne_bytes());
        let Sender::Ip(raw) = room(&six).sender() else {
            panic!("not IPv6");
        };
        assert_eq!(
            raw.read(),
            SocketAddrV6::new(1_u128.to_be_bytes().into(), 4660, 5, 7).into()
        );
    }

    #[test]
    fn other_addresses_are_told_apart() {
        let unix = |name: &[u8]| {
            let mut address = family_of(libc::AF_UNIX).to_vec();
            address.extend(name);
            room(&address).sender()
        };
        let named = |name: &[u8]| Sender::Other(Address::Unix(name.into()));
        assert_eq!(unix(b"/path\0"), named(b"/path"));
        assert_eq!(unix(b"\0ab\0c"), named(b"\0ab\0c"));
        assert_eq!(unix(b""), named(b""));
        assert_eq!(room(&[]).sender(), Sender::Unnamed);
        assert_eq!(
            room(&family_of(libc::AF_VSOCK)).sender(),
            Sender::Other(Address::Other)
        );
    }
}
