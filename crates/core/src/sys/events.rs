//! The buffer that events come in.
//!
//! Owns the memory that the kernel writes events to, in the kernel's layout, so that nothing is copied; it is
//! reused from turn to turn, and doubled when it was full.
//! Must never be shared between two waits at a time.

use rustix::event::epoll::{Event, EventData, EventFlags};

use crate::reactor::{Readiness, Token};

/// How many events one wait can bring at first.
const CAPACITY: usize = 256;

/// What happened during the last wait.
pub struct Events {
    /// Filled up to `len`; what is behind is left over from before.
    buffer: Vec<Event>,
    len: usize,
}

// SAFETY: `Event` is not Send only because rustix lets its data be a pointer. Here it is never anything but
// the number of a token, which we wrote and the kernel gives back.
#[allow(unsafe_code, reason = "a loop may be made in one thread and run in another")]
unsafe impl Send for Events {}
// SAFETY: the same, and nothing changes through a shared reference.
#[allow(unsafe_code, reason = "as above")]
unsafe impl Sync for Events {}

impl Events {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: vec![NOTHING; CAPACITY],
            len: 0,
        }
    }

    /// How many events there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing happened.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many events the next wait can bring.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        // A full buffer is doubled by the next wait.
        if self.len == self.buffer.len() {
            self.len * 2
        } else {
            self.buffer.len()
        }
    }

    /// Forgets all events.
    #[inline]
    pub fn clear(&mut self) {
        self.grow_if_full();
        self.len = 0;
    }

    /// The events, in the kernel's order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Token, Readiness)> {
        self.buffer[..self.len]
            .iter()
            .map(|event| (Token::from_bits(event.data.u64()), readiness(event.flags)))
    }

    /// Adds an event: for backends that make them up.
    pub fn push(&mut self, token: Token, readiness: Readiness) {
        self.grow_if_full();
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, readiness.readable);
        flags.set(EventFlags::OUT, readiness.writable);
        self.buffer[self.len] = Event {
            flags,
            data: EventData::new_u64(token.to_bits()),
        };
        self.len += 1;
    }

    /// Lets `fill` write to the buffer and say how many events it wrote. What was there before is gone.
    #[inline]
    pub(super) fn fill<E>(&mut self, fill: impl FnOnce(&mut [Event]) -> Result<usize, E>) -> Result<(), E> {
        self.clear();
        self.len = fill(&mut self.buffer)?;
        Ok(())
    }

    /// Doubles a full buffer: there may have been more events than it took.
    #[inline]
    fn grow_if_full(&mut self) {
        if self.len == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, NOTHING);
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

const NOTHING: Event = Event {
    flags: EventFlags::empty(),
    data: EventData::new_u64(0),
};

/// What epoll's bits mean, word for word as in `selectors.EpollSelector.select`: all that is not EPOLLOUT
/// makes it readable, all that is not EPOLLIN writable. So an error or a hang-up, being neither, is both.
#[inline]
fn readiness(flags: EventFlags) -> Readiness {
    Readiness {
        readable: flags.intersects(EventFlags::OUT.complement()),
        writable: flags.intersects(EventFlags::IN.complement()),
    }
}
