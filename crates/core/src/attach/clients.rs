//! One connection: requests come in, answers go out.
//!
//! On the wire both are four bytes of length, the most significant first, and so many bytes of UTF-8.
//!
//! Must never hold more than one request or one answer: who does not read what was answered is not read from.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::LONGEST_REQUEST;
use crate::sys::local::{self, Wanted};

/// The length before each message.
const PREFIX: usize = 4;

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    /// When it was last heard of.
    pub(super) active: f64,
}

/// What has become of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(super) enum Fate {
    /// It goes on.
    Stays,
    /// It has ended, or does not keep to the rules.
    Goes,
}

impl Client {
    /// Of a connection that was accepted.
    pub(super) fn new(socket: OwnedFd, now: f64) -> Self {
        Self {
            socket,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            active: now,
        }
    }

    /// What it waits for.
    pub(super) fn wanted(&self) -> Wanted {
        if self.outgoing.is_empty() {
            Wanted::Read
        } else {
            Wanted::Write
        }
    }

    /// Its descriptor is ready: moves what can be moved.
    pub(super) fn progress(&mut self, now: f64) -> Fate {
        self.active = now;
        if self.outgoing.is_empty() {
            self.read()
        } else {
            self.write()
        }
    }

    fn read(&mut self) -> Fate {
        let mut buffer = [0; 4096];
        match local::receive(&self.socket, &mut buffer) {
            Ok(0) => Fate::Goes,
            Ok(taken) => {
                self.incoming.extend_from_slice(&buffer[..taken]);
                match self.announced() {
                    Some(length) if length > LONGEST_REQUEST => Fate::Goes,
                    _ => Fate::Stays,
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Fate::Stays,
            Err(_) => Fate::Goes,
        }
    }

    fn write(&mut self) -> Fate {
        while self.sent < self.outgoing.len() {
            match local::send(&self.socket, &self.outgoing[self.sent..]) {
                Ok(taken) => self.sent += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Fate::Stays,
                Err(_) => return Fate::Goes,
            }
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        Fate::Stays
    }

    /// The length that the request says it has.
    fn announced(&self) -> Option<usize> {
        let prefix = self.incoming.first_chunk::<PREFIX>()?;
        Some(u32::from_be_bytes(*prefix) as usize)
    }

    /// Is there a whole request, and nothing left to send?
    pub(super) fn has_request(&self) -> bool {
        self.outgoing.is_empty()
            && self
                .announced()
                .is_some_and(|length| self.incoming.len() >= PREFIX + length)
    }

    /// Answers the request that is there. `Goes`: it was no text, or the connection has broken.
    pub(super) fn answer(&mut self, answer: impl FnOnce(&str, &mut Vec<u8>)) -> Fate {
        let Some(end) = self.announced().map(|length| PREFIX + length) else {
            return Fate::Stays;
        };
        let mut message = vec![0; PREFIX];
        match self.incoming.get(PREFIX..end).map(std::str::from_utf8) {
            Some(Ok(request)) => answer(request, &mut message),
            _ => return Fate::Goes,
        }
        let Ok(length) = u32::try_from(message.len() - PREFIX) else {
            return Fate::Goes;
        };
        message[..PREFIX].copy_from_slice(&length.to_be_bytes());
        self.incoming.drain(..end);
        self.outgoing = message;
        self.write()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
