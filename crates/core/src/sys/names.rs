//! `getaddrinfo(3)`: what the C library knows about a name, without Python.
//!
//! Owns the call, and its answer as plain data.
//! It blocks, for seconds if the network is slow: only [`crate::resolver`]'s threads may make it.
#![allow(unsafe_code, reason = "the answer is a list of C structs")]

use std::ffi::{CStr, CString};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use super::socket::Address;

/// What is asked: `getaddrinfo`'s arguments.
#[derive(Debug)]
pub struct Question {
    /// A name or an address.
    pub host: Option<CString>,
    /// A number or a service's name.
    pub service: Option<CString>,
    /// `AF_UNSPEC`, or one that is wanted.
    pub family: i32,
    /// 0, or the type of socket.
    pub kind: i32,
    /// 0, or a protocol.
    pub protocol: i32,
    /// `AI_…`
    pub flags: i32,
}

/// One line of an answer.
#[derive(Debug)]
pub struct Found {
    /// `AF_INET` or `AF_INET6`.
    pub family: i32,
    /// `SOCK_…`
    pub kind: i32,
    /// `IPPROTO_…`
    pub protocol: i32,
    /// The canonical name, if it was asked for: in the first line.
    pub canonical: Option<CString>,
    /// Where it is.
    pub address: Address,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// An `EAI_…`.
    Name(i32),
    /// `EAI_SYSTEM`.
    System(io::Error),
}

/// Asks, and waits for the answer.
///
/// # Errors
/// Says why there is none.
pub fn look_up(question: &Question) -> Result<Vec<Found>, Failure> {
    let text = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    // SAFETY: a C struct of numbers and pointers, for which zeros are right.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_family = question.family;
    hints.ai_socktype = question.kind;
    hints.ai_protocol = question.protocol;
    hints.ai_flags = question.flags;
    let mut list = ptr::null_mut();
    // SAFETY: C strings or null, hints that are filled, a place for the answer.
    let code = unsafe { libc::getaddrinfo(text(&question.host), text(&question.service), &hints, &mut list) };
    match code {
        0 => Ok(taken(list)),
        libc::EAI_SYSTEM => Err(Failure::System(io::Error::last_os_error())),
        code => Err(Failure::Name(code)),
    }
}

/// Copies an answer and gives it back.
fn taken(list: *mut libc::addrinfo) -> Vec<Found> {
    let mut all = Vec::new();
    let mut next = list;
    // SAFETY: what `getaddrinfo` has given: a list that ends with null, whose strings and addresses are valid until it
    // is freed, once, below.
    unsafe {
        while let Some(info) = next.as_ref() {
            all.push(Found {
                family: info.ai_family,
                kind: info.ai_socktype,
                protocol: info.ai_protocol,
                canonical: (!info.ai_canonname.is_null())
                    .then(|| CStr::from_ptr(info.ai_canonname).to_owned()),
                address: address(info),
            });
            next = info.ai_next;
        }
        libc::freeaddrinfo(list);
    }
    all
}

/// # Safety
/// One of `getaddrinfo`'s, not freed.
unsafe fn address(info: &libc::addrinfo) -> Address {
    // SAFETY: the family says what the address is, and the length that it is all there. It need not be aligned.
    unsafe {
        match info.ai_family {
            libc::AF_INET if info.ai_addrlen as usize >= size_of::<libc::sockaddr_in>() => {
                let raw: libc::sockaddr_in = ptr::read_unaligned(info.ai_addr.cast());
                let ip = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
                Address::Ip(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 if info.ai_addrlen as usize >= size_of::<libc::sockaddr_in6>() => {
                let raw: libc::sockaddr_in6 = ptr::read_unaligned(info.ai_addr.cast());
                let (ip, port) = (Ipv6Addr::from(raw.sin6_addr.s6_addr), u16::from_be(raw.sin6_port));
                let flow = u32::from_be(raw.sin6_flowinfo);
                Address::Ip(SocketAddrV6::new(ip, port, flow, raw.sin6_scope_id).into())
            }
            _ => Address::Other,
        }
    }
}

/// `gai_strerror(code)`
#[must_use]
pub fn message(code: i32) -> String {
    // SAFETY: gives a static text for every number.
    unsafe { CStr::from_ptr(libc::gai_strerror(code)) }
        .to_string_lossy()
        .into_owned()
}

/// No signal is delivered to the calling thread any more: signals are for the threads that Python knows.
pub fn block_signals() {
    // SAFETY: fills a set, and gives it to the calling thread.
    unsafe {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
    }
}
