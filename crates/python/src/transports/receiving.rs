//! Datagrams that come in: `datagram_received` and `error_received`.
//!
//! Rules
//! 1. A transport takes one datagram a turn of the loop, as in asyncio: what a protocol has arranged for in
//!    `datagram_received` happens before it is given the next one, and when it has closed or paused the transport, it
//!    is given none.
//! 2. Where datagrams come faster than turns, the socket is asked in the next turn without asking the kernel first
//!    whether there is something (`LoopCore::eager`): an [`Appetite`] tells whether that is likely to be worth it.

use super::datagram::Datagram;
use super::{Happening, Source, life};
use crate::event_loop::core::{LoopCore, MOST};
use crate::event_loop::run::is_fatal;
use crate::event_loop::sockets::unless_it_blocks;
use crate::ffi::errors::{R, exc, os_error, type_error};
use crate::ffi::pysocket::{self, Plain};
use crate::ffi::{Obj, Own};
use crate::imports::names;
use aioxide_core::socket;
use std::cell::Cell;
use std::io::ErrorKind;

/// After asking in vain so many datagrams come by the kernel's word alone.
const FAST: u8 = 8;

/// Rule 2.
#[derive(Default)]
pub(super) struct Appetite {
    /// It is going to be asked, whatever the kernel says.
    eager: Cell<bool>,
    /// It is being asked, and the kernel has not said that there is something.
    unbidden: Cell<bool>,
    /// How many datagrams are still to come by the kernel's word.
    fast: Cell<u8>,
}

impl Appetite {
    /// `false`: the kernel says that there is something, and the socket is going to be asked in this turn anyway.
    #[inline]
    pub(super) fn is_to_be_asked(&self, happening: Happening) -> bool {
        match happening {
            Happening::Readable => !self.eager.get(),
            Happening::Again => {
                self.eager.set(false);
                self.unbidden.set(true);
                true
            }
            _ => true,
        }
    }
}

/// `_read_ready()`, in its context.
pub(super) fn receive(this: &Own<Datagram>, core: &LoopCore) -> R<()> {
    let unbidden = this.appetite.unbidden.replace(false);
    if this.conn_lost.get() > 0 {
        return Ok(());
    }
    let (Some(protocol), Some(sock)) = (this.protocol.get(), this.socket.made_object()) else {
        return Ok(());
    };
    match take_in(this, core, &sock) {
        Ok(Some((data, sender))) => {
            ask_again(this, core, unbidden);
            protocol
                .call_method(&names::DATAGRAM_RECEIVED, &[&data, &sender])
                .map(drop)
        }
        Ok(None) => {
            this.appetite.fast.set(FAST);
            Ok(())
        }
        Err(raised) if raised.matches(exc::os_error()) => {
            let exception = raised.take();
            protocol
                .call_method(&names::ERROR_RECEIVED, &[&exception])
                .map(drop)
        }
        Err(raised) if is_fatal(&raised) => Err(raised),
        Err(raised) => life::fatal_error(this, raised.take(), "Fatal read error on datagram transport"),
    }
}

/// A datagram has come: is there likely to be another one?
#[inline]
fn ask_again(this: &Own<Datagram>, core: &LoopCore, unbidden: bool) {
    let appetite = &this.appetite;
    match appetite.fast.get() {
        fast if fast > 0 && !unbidden => appetite.fast.set(fast - 1),
        _ if appetite.eager.replace(true) => {}
        _ => core.eager.push_back(Source::Datagram(this.clone())),
    }
}

/// `sock.recvfrom(max_size)`; `None`: there is nothing.
#[inline]
fn take_in(this: &Datagram, core: &LoopCore, sock: &Obj) -> R<Option<(Obj, Obj)>> {
    let size = life::own_max_size(this)?;
    let Some(plain) =
        Plain::with(sock, &pysocket::RECVFROM).filter(|plain| size.is_none() && plain.has_known_addresses())
    else {
        return ask(sock, size.unwrap_or(MOST as i64));
    };
    let received = core.with_scratch(|scratch| {
        socket::receive_from(plain.fd, scratch)
            .map(|(count, sender)| (core.spares.bytes(&scratch[..count]), sender))
    });
    match received {
        Ok((data, sender)) => Ok(Some((data?, core.peers.tuple(&sender)?))),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(os_error(&error)),
    }
}

/// A socket of another kind.
#[cold]
fn ask(sock: &Obj, size: i64) -> R<Option<(Obj, Obj)>> {
    let received = sock.call_method(&names::RECVFROM, &[&Obj::int(size)?]);
    let Some(pair) = unless_it_blocks(received)? else {
        return Ok(None);
    };
    let mut pair = pair.to_vec()?.into_iter();
    match (pair.next(), pair.next()) {
        (Some(data), Some(sender)) => Ok(Some((data, sender))),
        _ => Err(type_error("recvfrom() must return a pair")),
    }
}
