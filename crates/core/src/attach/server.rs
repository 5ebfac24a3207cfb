//! The thread: sleeps until somebody asks, serves, sleeps again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::clients::{Client, Fate};
use super::limit::Limit;
use super::place::Place;
use super::{Answer, IDLE, MOST_CLIENTS, OPEN};
use crate::clock::{Clock, Monotonic};
use crate::sys::local::{self, Bell, Notices, Wanted};
use crate::sys::names;

/// How long it waits before it makes the directory again that somebody has removed, and how often it does.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST_DIRECTORIES: u32 = 100;

/// All that the thread has.
#[derive(Debug)]
pub(super) struct Server<A> {
    runtime: Option<PathBuf>,
    answer: A,
    /// Rung when the thread is to end.
    bell: Arc<Bell>,
    /// `None`: there is none, for the moment or for ever.
    home: Option<Home>,
    /// How often the directory has been made.
    made: u32,
    limit: Limit,
    /// The thread that runs it, or has run it last.
    pub(super) thread: Option<PathBuf>,
}

/// What there is while the directory is there.
#[derive(Debug)]
struct Home {
    place: Place,
    notices: Notices,
    listener: Option<OwnedFd>,
    clients: Vec<Client>,
    /// When somebody was last heard of.
    active: f64,
}

impl<A: Answer> Server<A> {
    pub(super) fn new(runtime: Option<PathBuf>, answer: A) -> io::Result<Self> {
        Ok(Self {
            runtime,
            answer,
            bell: Arc::new(Bell::new()?),
            home: None,
            made: 0,
            limit: Limit::new(Monotonic.now()),
            thread: None,
        })
    }

    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// Until the bell is rung. `false`: rule 5 of the module, and none of the descriptors may be closed.
    #[must_use]
    pub(super) fn run(&mut self) -> bool {
        names::block_signals();
        self.thread = local::this_thread();
        loop {
            if !self.bell.is_ours() {
                return false;
            }
            if self.bell.take() {
                return true;
            }
            if self.home.is_none() && self.made < MOST_DIRECTORIES {
                self.made += 1;
                self.home = Home::find(self.runtime.as_deref()).ok();
                self.note_open();
                // a request may have been there before we have looked
                if let Some(home) = &mut self.home
                    && home.place.take_request()
                {
                    home.open();
                }
                self.note_open();
            }
            let stays = match &mut self.home {
                Some(home) => home.turn(&self.bell, &mut self.limit, &self.answer),
                None => {
                    let again = (self.made < MOST_DIRECTORIES).then_some(PATIENCE);
                    let _ = local::wait(&[(self.bell.as_fd(), Wanted::Read)], again);
                    continue;
                }
            };
            if !stays {
                let gone = self.home.take();
                // (first nobody would close their numbers, then they are free for others)
                self.note_open();
                drop(gone);
                let _ = local::wait(&[(self.bell.as_fd(), Wanted::Read)], Some(PATIENCE));
            }
        }
    }

    fn note_open(&self) {
        note_open(&self.bell, self.home.as_ref());
    }
}

/// For a child of a `fork`. Before anything is closed: by the time that the child closes a number, it must still be ours.
fn note_open(bell: &Bell, home: Option<&Home>) {
    let homes = home.into_iter().flat_map(|home| {
        let clients = home.clients.iter().map(AsFd::as_fd);
        std::iter::once(home.notices.as_fd())
            .chain(home.listener.as_ref().map(AsFd::as_fd))
            .chain(clients)
    });
    OPEN.note(std::iter::once(bell.as_fd()).chain(homes));
}

impl Home {
    fn find(runtime: Option<&Path>) -> io::Result<Self> {
        let place = Place::find(runtime)?;
        let notices = Notices::of(place.directory())?;
        Ok(Self {
            place,
            notices,
            listener: None,
            clients: Vec::new(),
            active: Monotonic.now(),
        })
    }

    /// Waits for what happens, and does what is due. `false`: the directory has gone.
    fn turn(&mut self, bell: &Bell, limit: &mut Limit, answer: &impl Answer) -> bool {
        let (ready, now) = self.wait(bell, limit);
        if !bell.is_ours() {
            return true; // (the caller finds that out, too)
        }
        let mut ready = ready.into_iter();
        // (the bell: the caller looks at it)
        let _ = ready.next();
        if ready.next() == Some(true) {
            let news = self.notices.take();
            if news.gone {
                self.close();
                return false;
            }
            if self.place.take_request() {
                self.active = now;
                self.open();
                note_open(bell, Some(self));
            }
        }
        if self.listener.is_none() {
            return true;
        }
        let asked = ready.next() == Some(true);
        let mut gone = self.progress(ready, now);
        gone.extend(self.answer_some(limit, answer, now));
        gone.extend(self.silent(now));
        self.forget(bell, gone);
        if asked {
            self.accept(now);
            note_open(bell, Some(self));
        }
        if self.clients.is_empty() && now - self.active >= IDLE.as_secs_f64() {
            let listener = self.listener.take();
            note_open(bell, Some(self));
            drop(listener);
            local::remove(&self.place.socket());
        }
        true
    }

    /// Sleeps until something happens or something is due: which of bell, watch, socket, connections are ready.
    fn wait(&self, bell: &Bell, limit: &mut Limit) -> (Vec<bool>, f64) {
        let mut all = vec![(bell.as_fd(), Wanted::Read), (self.notices.as_fd(), Wanted::Read)];
        let mut timeout = None;
        if let Some(listener) = &self.listener {
            let now = Monotonic.now();
            all.push((listener.as_fd(), Wanted::Read));
            timeout = Some(Duration::from_secs_f64(
                (self.active + IDLE.as_secs_f64() - now).max(0.0),
            ));
            let held_back = limit.wait(now);
            for client in &self.clients {
                if client.has_request() {
                    all.push((client.as_fd(), Wanted::Nothing));
                    timeout = Some(held_back);
                } else {
                    all.push((client.as_fd(), client.wanted()));
                }
            }
        }
        let ready = local::wait(&all, timeout);
        (ready, Monotonic.now())
    }

    /// Listens, if it does not yet.
    fn open(&mut self) {
        if self.listener.is_some() {
            return;
        }
        self.place.clean();
        let path = self.place.socket();
        // a process of our number that is no more may have left its own; another container's is left alone
        if !local::is_served(&path) {
            local::remove(&path);
            self.listener = local::listen(&path).ok();
        }
    }

    /// The directory has gone, and so has the socket's file.
    fn close(&self) {
        if self.listener.is_some() {
            local::remove(&self.place.socket());
        }
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

    fn forget(&mut self, bell: &Bell, mut gone: Vec<usize>) {
        if gone.is_empty() {
            return;
        }
        gone.sort_unstable();
        gone.dedup();
        let closing: Vec<Client> = gone
            .iter()
            .rev()
            .map(|index| self.clients.swap_remove(*index))
            .collect();
        note_open(bell, Some(self));
        drop(closing);
    }

    /// Rule 1 of the module. Whoever is one too many is let go of at once.
    fn accept(&mut self, now: f64) {
        while let Some(socket) = self
            .listener
            .as_ref()
            .and_then(|listener| local::accept(listener).ok())
        {
            let allowed = local::peer(&socket).is_ok_and(|user| user == local::user() || user == 0);
            if allowed && self.clients.len() < MOST_CLIENTS {
                self.active = now;
                self.clients.push(Client::new(socket, now));
            }
        }
    }
}
