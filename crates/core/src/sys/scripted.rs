//! A backend without a kernel: it replays a script.
//!
//! Owns the script, the registrations, and a record of all that was asked of it. It is the contract of
//! [`sys`](super) at its plainest, and lets a test say what no kernel can be brought to do on command.
//! Must never block: a wait that finds no script left has timed out.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use super::Backend;
use super::events::Events;
use crate::reactor::{Interest, Readiness, Token};

/// How one wait ends.
#[derive(Clone, Debug)]
pub enum Step {
    /// With events for these descriptors, under their present tokens. One that is not registered is left out,
    /// as a kernel would.
    Ready(Vec<(RawFd, Readiness)>),
    /// With events for these very tokens, whether they are still good or not.
    Tokens(Vec<(Token, Readiness)>),
    /// By a signal.
    Interrupted,
    /// By its timeout.
    TimedOut,
}

/// What the backend was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// [`Backend::add`].
    Add(RawFd, Token, Interest),
    /// [`Backend::modify`].
    Modify(RawFd, Token, Interest),
    /// [`Backend::delete`].
    Delete(RawFd),
    /// [`Backend::wait`].
    Wait(Option<Duration>),
    /// [`Backend::reopen`].
    Reopen,
}

/// The backend that replays a script.
#[derive(Debug, Default)]
pub struct Scripted {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Step>,
    registered: BTreeMap<RawFd, (Token, Interest)>,
    calls: Vec<Call>,
}

impl Scripted {
    /// Says how the next wait that has no step yet ends.
    pub fn then(&self, step: Step) {
        self.state().script.push_back(step);
    }

    /// Closes a descriptor: its registration ends without a word.
    pub fn close(&self, fd: RawFd) {
        self.state().registered.remove(&fd);
    }

    /// The registration of a descriptor.
    #[must_use]
    pub fn registration(&self, fd: RawFd) -> Option<(Token, Interest)> {
        self.state().registered.get(&fd).copied()
    }

    /// Takes the record of the calls since the last time.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock has failed already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Scripted {
    fn new() -> io::Result<Self> {
        Ok(Self::default())
    }

    fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push(Call::Add(fd, token, interest));
        if fd < 0 {
            return Err(Errno::BADF.into());
        }
        if state.registered.contains_key(&fd) {
            return Err(Errno::EXIST.into());
        }
        state.registered.insert(fd, (token, interest));
        Ok(())
    }

    fn add_waker(&self, fd: RawFd) -> io::Result<()> {
        self.add(fd, Token::WAKER, Interest::READABLE)
    }

    fn modify(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push(Call::Modify(fd, token, interest));
        *state.registered.get_mut(&fd).ok_or(Errno::NOENT)? = (token, interest);
        Ok(())
    }

    fn delete(&self, fd: RawFd) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push(Call::Delete(fd));
        state.registered.remove(&fd).ok_or(Errno::NOENT)?;
        Ok(())
    }

    fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push(Call::Wait(timeout));
        events.clear();
        match state.script.pop_front() {
            Some(Step::Ready(list)) => {
                for (fd, readiness) in list {
                    if let Some((token, _)) = state.registered.get(&fd) {
                        events.push(*token, readiness);
                    }
                }
            }
            Some(Step::Tokens(list)) => {
                for (token, readiness) in list {
                    events.push(token, readiness);
                }
            }
            Some(Step::Interrupted) => return Err(Errno::INTR.into()),
            Some(Step::TimedOut) | None => {}
        }
        Ok(())
    }

    fn reopen(&self) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push(Call::Reopen);
        state.registered.clear();
        Ok(())
    }
}
