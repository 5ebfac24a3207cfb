//! The thread: sleeps until somebody rings, serves, sleeps again.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::clients::{Client, Fate};
use super::limit::Limit;
use super::{Answer, DIRECTORIES, IDLE, MOST_CLIENTS, OPEN};
use crate::clock::{Clock, Monotonic};
use crate::sys::apart;
use crate::sys::local::{self, Door, Heard, Listener, Wanted};
use crate::sys::names;

/// How long nobody is let in when that has failed, in seconds: there may be no descriptor left. (Whoever waits to be let
/// in stays, and `poll` would say so at once, again and again.)
const PAUSE: f64 = 0.1;

/// All that the thread has.
#[derive(Debug)]
pub(super) struct Server<A> {
    runtime: Option<PathBuf>,
    answer: A,
    /// Where it waits: who wants to ask rings, and so does who wants it to end.
    door: Arc<Door>,
    /// `None`: nobody has asked.
    reception: Option<Reception>,
    /// Somebody was connected when the thread ended, and may ask again.
    is_expecting: bool,
    limit: Limit,
    /// The thread that runs it, or has run it last.
    pub(super) thread: Option<PathBuf>,
}

/// What there is while somebody asks.
#[derive(Debug)]
struct Reception {
    listener: Listener,
    clients: Vec<Client>,
    /// When somebody was last heard of.
    active: f64,
    /// Until then nobody is let in: [`PAUSE`].
    closed_until: f64,
}

impl<A: Answer> Server<A> {
    pub(super) fn new(runtime: Option<PathBuf>, answer: A) -> io::Result<Self> {
        Ok(Self {
            runtime,
            answer,
            door: Arc::new(Door::new()?),
            reception: None,
            is_expecting: false,
            limit: Limit::new(Monotonic.now()),
            thread: None,
        })
    }

    pub(super) fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door)
    }

    /// Until it is told to end. `false`: rule 5 of the module, and none of the descriptors may be closed.
    #[must_use]
    pub(super) fn run(&mut self) -> bool {
        names::block_signals();
        self.thread = local::this_thread();
        note_open(&self.door, self.reception.as_ref());
        // (what it has in the program's table, from before, stays there)
        if self.reception.is_some() || !apart::leave() {
            return self.serve(&Arc::clone(&self.door));
        }
        let told = self.door.bring().is_ok_and(|door| self.serve(&door));
        let reception = self.reception.take();
        self.is_expecting |= reception.is_some_and(|reception| !reception.clients.is_empty());
        told
    }

    fn serve(&mut self, door: &Door) -> bool {
        loop {
            if !door.is_ours() {
                return false;
            }
            let heard = door.listen();
            if heard == Heard::Closed {
                return false;
            }
            if door.is_over() {
                return true;
            }
            if heard == Heard::Ring {
                self.open(door);
            }
            let Some(reception) = &mut self.reception else {
                let patience = self.is_expecting.then_some(IDLE);
                if local::wait(&[(door.as_fd(), Wanted::Read)], patience) == [false]
                    && std::mem::take(&mut self.is_expecting)
                {
                    self.answer.nobody_is_left();
                }
                continue;
            };
            if !reception.turn(door, &mut self.limit, &self.answer) {
                let closed = self.reception.take();
                // (first nobody would close their numbers, then they are free for others)
                note_open(door, None);
                drop(closed);
                self.answer.nobody_is_left();
            }
        }
    }

    /// Somebody has rung. Without a place for the socket, or a descriptor, he is not answered; he may ring again.
    fn open(&mut self, door: &Door) {
        let now = Monotonic.now();
        if let Some(reception) = &mut self.reception {
            reception.active = now;
            return;
        }
        let places = self
            .runtime
            .as_deref()
            .filter(|path| path.is_absolute())
            .into_iter()
            .chain(DIRECTORIES.map(Path::new));
        let listener = places.map(Listener::hidden_in).find_map(io::Result::ok);
        self.reception = listener.map(|listener| Reception {
            listener,
            clients: Vec::new(),
            active: now,
            closed_until: 0.0,
        });
        self.is_expecting &= self.reception.is_none();
        note_open(door, self.reception.as_ref());
    }
}

/// For a child of a `fork`. Before anything is closed: by the time that the child closes a number, it must still be ours.
/// What is in a table of this thread's own no child inherits.
fn note_open(door: &Door, reception: Option<&Reception>) {
    if apart::is_apart() {
        return;
    }
    let more = reception.into_iter().flat_map(|reception| {
        let clients = reception.clients.iter().map(AsFd::as_fd);
        [reception.listener.as_fd(), reception.listener.handle()]
            .into_iter()
            .chain(clients)
    });
    OPEN.note(std::iter::once(door.as_fd()).chain(more));
}

impl Reception {
    /// Waits for what happens, and does what is due. `false`: nobody has asked anything for long.
    fn turn(&mut self, door: &Door, limit: &mut Limit, answer: &impl Answer) -> bool {
        let (ready, now) = self.wait(door, limit);
        if !door.is_ours() {
            return true; // (the caller finds that out, too)
        }
        let mut ready = ready.into_iter();
        // (the door: the caller looks at it)
        let _ = ready.next();
        let asked = ready.next() == Some(true);
        let mut gone = self.progress(ready, now);
        gone.extend(self.answer_some(limit, answer, now));
        gone.extend(self.silent(now));
        if self.forget(door, gone) && self.clients.is_empty() {
            answer.nobody_is_left();
        }
        if asked {
            self.accept(now);
            note_open(door, Some(self));
        }
        !self.clients.is_empty() || now - self.active < IDLE.as_secs_f64()
    }

    /// Sleeps until something happens or something is due: which of door, socket, connections are ready.
    fn wait(&self, door: &Door, limit: &mut Limit) -> (Vec<bool>, f64) {
        let now = Monotonic.now();
        let closed = self.closed_until - now;
        let news = if closed > 0.0 {
            Wanted::Nothing
        } else {
            Wanted::Read
        };
        let mut all = vec![(door.as_fd(), Wanted::Read), (self.listener.as_fd(), news)];
        let mut timeout = Duration::from_secs_f64((self.active + IDLE.as_secs_f64() - now).max(0.0));
        let held_back = limit.wait(now);
        for client in &self.clients {
            if client.has_request() {
                all.push((client.as_fd(), Wanted::Nothing));
                timeout = held_back;
            } else {
                all.push((client.as_fd(), client.wanted()));
            }
        }
        if closed > 0.0 {
            timeout = timeout.min(Duration::from_secs_f64(closed));
        }
        let ready = local::wait(&all, Some(timeout));
        (ready, Monotonic.now())
    }

    /// Moves what can be moved. Which clients have left?
    fn progress(&mut self, ready: impl Iterator<Item = bool>, now: f64) -> Vec<usize> {
        let mut gone = Vec::new();
        for (index, (client, ready)) in self.clients.iter_mut().zip(ready).enumerate() {
            // (one that waits for its answer is ready only if it has left)
            if ready {
                self.active = now;
                if client.has_request() || client.progress(now) == Fate::Goes {
                    gone.push(index);
                }
            }
        }
        gone
    }

    /// Answers what has been asked, as far as the limit allows. Which clients have left?
    fn answer_some(&mut self, limit: &mut Limit, answer: &impl Answer, now: f64) -> Vec<usize> {
        let mut gone = Vec::new();
        for (index, client) in self.clients.iter_mut().enumerate() {
            if !client.has_request() || limit.wait(now) > Duration::ZERO {
                continue;
            }
            limit.take();
            if client.answer(|request, out| answer.answer(request, out)) == Fate::Goes {
                gone.push(index);
            }
        }
        gone
    }

    /// Of which nothing has been heard for long.
    fn silent(&self, now: f64) -> impl Iterator<Item = usize> {
        (0..self.clients.len()).filter(move |index| now - self.clients[*index].active > IDLE.as_secs_f64())
    }

    /// Lets go of these clients; `false`: of none.
    fn forget(&mut self, door: &Door, mut gone: Vec<usize>) -> bool {
        if gone.is_empty() {
            return false;
        }
        gone.sort_unstable();
        gone.dedup();
        let closing: Vec<Client> = gone
            .iter()
            .rev()
            .map(|index| self.clients.swap_remove(*index))
            .collect();
        note_open(door, Some(self));
        drop(closing);
        true
    }

    /// Rule 1 of the module. Whoever is one too many is let go of at once.
    fn accept(&mut self, now: f64) {
        loop {
            let socket = match self.listener.accept() {
                Ok(socket) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.closed_until = now + PAUSE;
                    return;
                }
            };
            let allowed = local::peer(&socket).is_ok_and(|user| user == local::user() || user == 0);
            if allowed && self.clients.len() < MOST_CLIENTS {
                self.active = now;
                self.clients.push(Client::new(socket, now));
            }
        }
    }
}
