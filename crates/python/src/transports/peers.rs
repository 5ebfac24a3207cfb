//! Whom datagrams come from: the address tuples of the last peers, so that a conversation makes each of them once.
//!
//! A program mostly answers to the very tuple that it has been given: that is found again here, and need not be read.

use super::socket;
use crate::ffi::{Inner, Obj, R, Visitor};
use aioxide_core::socket::Address;
use std::net::{IpAddr, SocketAddr};

/// How many peers are remembered; each has one place where it may be.
const PLACES: usize = 32;

/// The last peers of all transports of a loop.
#[derive(Default)]
pub(crate) struct Peers(Inner<Option<Box<Places>>>);

#[derive(Default)]
struct Places {
    addresses: [Option<SocketAddr>; PLACES],
    tuples: [Option<Obj>; PLACES],
}

impl Peers {
    /// What `recvfrom()` says about a sender.
    #[inline]
    pub(crate) fn tuple(&self, sender: Option<&Address>) -> R<Obj> {
        match sender {
            None => Ok(Obj::none()),
            Some(Address::Ip(address)) => {
                let place = place(address);
                let known = self.0.with(|places| {
                    let places = places.as_deref()?;
                    if places.addresses[place].as_ref() != Some(address) {
                        return None;
                    }
                    places.tuples[place].clone()
                });
                known.map_or_else(|| self.meet(address, place), Ok)
            }
            Some(address) => Ok(socket::address(address)?.unwrap_or_else(Obj::none)),
        }
    }

    #[cold]
    fn meet(&self, address: &SocketAddr, place: usize) -> R<Obj> {
        let tuple = socket::address(&Address::Ip(*address))?.unwrap_or_else(Obj::none);
        let before = self.0.with(|places| {
            let places = places.get_or_insert_default();
            places.addresses[place] = Some(*address);
            places.tuples[place].replace(tuple.clone())
        });
        drop(before);
        Ok(tuple)
    }

    /// Whose tuple is it? Only for one that has come from [`tuple`](Peers::tuple).
    #[inline]
    pub(crate) fn address(&self, tuple: &Obj) -> Option<SocketAddr> {
        self.0.with(|places| {
            let places = places.as_deref()?;
            let is = |known: &Option<Obj>| known.as_ref().is_some_and(|known| known.is(tuple));
            places.addresses[places.tuples.iter().position(is)?]
        })
    }

    /// For the garbage collector.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        self.0.with(|places| {
            for tuple in places.iter().flat_map(|places| places.tuples.iter().flatten()) {
                visitor.obj(tuple);
            }
        });
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        drop(self.0.with(Option::take));
    }
}

/// Where a peer is remembered.
#[inline]
fn place(address: &SocketAddr) -> usize {
    let host = match address.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    (usize::from(address.port()) ^ usize::from(host)) % PLACES
}
