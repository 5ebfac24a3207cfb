//! Whom datagrams come from: the address tuples of the last peers, so that a conversation makes each of them once.
//!
//! A program mostly answers to the very tuple that it has been given, or sends to the very tuple that it sent to
//! before: those are found again here, and need not be read.

use super::socket;
use crate::ffi::{Inner, Obj, R, Visitor};
use aioxide_core::socket::{RawIp, Sender};
use std::net::SocketAddr;

/// How many peers are remembered.
const PLACES: usize = 128;
/// In how many places a peer may be: two that would share one must not push each other out, datagram by datagram.
const WAYS: usize = 4;

/// The last peers of all transports of a loop.
#[derive(Default)]
pub(crate) struct Peers(Inner<Option<Box<Places>>>);

struct Places {
    /// As the kernel writes them.
    senders: [Option<RawIp>; PLACES],
    /// The same as the program sees it, and as we send to it.
    tuples: [Option<(Obj, SocketAddr)>; PLACES],
    /// Which place has the tuple: by the tuple's own address in memory.
    by_tuple: [u8; PLACES],
    /// The next one to be pushed out, of those that it may be.
    oldest: u8,
    /// The tuple that the program has made and sent to, the last time.
    made: Option<(Obj, SocketAddr)>,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            senders: [None; PLACES],
            tuples: std::array::from_fn(|_| None),
            by_tuple: [0; PLACES],
            oldest: 0,
            made: None,
        }
    }
}

impl Places {
    /// The tuple for this sender, who is likely to be answered now.
    #[inline]
    fn find(&mut self, sender: &RawIp) -> Option<Obj> {
        let first = sender.hash(PLACES / WAYS) * WAYS;
        let ways = &self.senders[first..first + WAYS];
        let place = first + ways.iter().position(|known| known.as_ref() == Some(sender))?;
        let (tuple, _) = self.tuples[place].as_ref()?;
        self.by_tuple[index_of(tuple)] = place as u8;
        Some(tuple.clone())
    }

    /// Puts a new one in somebody's place. What was there goes to the caller, who drops it.
    fn put(&mut self, sender: RawIp, address: SocketAddr, tuple: Obj) -> Option<(Obj, SocketAddr)> {
        let first = sender.hash(PLACES / WAYS) * WAYS;
        let free = self.senders[first..first + WAYS].iter().position(Option::is_none);
        let place = first
            + free.unwrap_or_else(|| {
                self.oldest = self.oldest.wrapping_add(1);
                usize::from(self.oldest) % WAYS
            });
        self.senders[place] = Some(sender);
        self.by_tuple[index_of(&tuple)] = place as u8;
        self.tuples[place].replace((tuple, address))
    }
}

impl Peers {
    /// What `recvfrom()` says about a sender.
    #[inline]
    pub(crate) fn tuple(&self, sender: &Sender) -> R<Obj> {
        match sender {
            Sender::Ip(sender) => {
                let known = self.0.with(|places| places.as_mut()?.find(sender));
                known.map_or_else(|| self.meet(sender), Ok)
            }
            other => socket::sender(other),
        }
    }

    #[cold]
    fn meet(&self, sender: &RawIp) -> R<Obj> {
        let address = sender.read();
        let tuple = socket::ip_address(&address)?;
        let before = self.0.with(|places| {
            let places = places.get_or_insert_default();
            places.put(*sender, address, tuple.clone())
        });
        drop(before);
        Ok(tuple)
    }

    /// What is in `tuple`, if that has come from [`tuple`](Peers::tuple) or was [made](Peers::note) by the program.
    #[inline]
    pub(crate) fn address(&self, tuple: &Obj) -> Option<SocketAddr> {
        self.0.with(|places| {
            let places = places.as_deref()?;
            let place = usize::from(places.by_tuple[index_of(tuple)]);
            let known = |known: &Option<(Obj, SocketAddr)>| match known {
                Some((known, address)) if known.is(tuple) => Some(*address),
                _ => None,
            };
            known(&places.tuples[place]).or_else(|| known(&places.made))
        })
    }

    /// The program sends to `tuple`, in which nothing can change, and which says this.
    pub(crate) fn note(&self, tuple: &Obj, address: SocketAddr) {
        let before = self.0.with(|places| {
            let places = places.get_or_insert_default();
            places.made.replace((tuple.clone(), address))
        });
        drop(before);
    }

    /// For the garbage collector.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        self.0.with(|places| {
            for places in places.iter() {
                for (tuple, _) in places.tuples.iter().chain([&places.made]).flatten() {
                    visitor.obj(tuple);
                }
            }
        });
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        drop(self.0.with(Option::take));
    }
}

/// Where to look for a tuple. (Objects lie sixteen bytes apart, at least.)
#[inline]
fn index_of(tuple: &Obj) -> usize {
    let address = tuple.as_ptr() as usize;
    ((address >> 4) ^ (address >> 11)) % PLACES
}
