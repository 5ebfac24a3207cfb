//! The transports of a server: `Server._clients`, a set of weak references without the references.
//!
//! A transport has a seat, whose number it keeps, and leaves it before it dies.

use crate::ffi::{Obj, Unowned};

/// Who sits where.
#[derive(Default)]
pub(crate) struct Clients {
    seats: Vec<Option<Unowned>>,
    free: Vec<u32>,
}

impl Clients {
    /// Gives `transport` a seat.
    pub(crate) fn sit(&mut self, transport: &Obj) -> u32 {
        let transport = Some(Unowned::to(transport));
        if let Some(seat) = self.free.pop() {
            self.seats[seat as usize] = transport;
            return seat;
        }
        self.seats.push(transport);
        (self.seats.len() - 1) as u32
    }

    /// Whoever sits there leaves.
    pub(crate) fn leave(&mut self, seat: u32) {
        if let Some(place) = self.seats.get_mut(seat as usize)
            && place.take().is_some()
        {
            self.free.push(seat);
        }
        if self.free.len() == self.seats.len() {
            *self = Clients::default();
        }
    }

    /// Where `transport` sits.
    pub(crate) fn seat_of(&self, transport: &Obj) -> Option<u32> {
        let sits = |seat: &Option<Unowned>| seat.as_ref().is_some_and(|here| here.is(transport));
        self.seats.iter().position(sits).map(|seat| seat as u32)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Obj> {
        self.seats.iter().flatten().map(Unowned::get).collect()
    }
}
