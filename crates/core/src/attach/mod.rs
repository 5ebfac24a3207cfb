//! How another process of the same user asks this one what it is doing: `python -m aioxide ps PID`.
//!
//! Until somebody asks there is a directory, and a thread that sleeps in the kernel until a file appears in it: no
//! socket, no wake-up. Who asks creates `PID.attach` there; the thread then listens on `PID.sock`, answers, and
//! closes it when nobody has asked anything for [`IDLE`].
//!
//! Owns the directory, the socket, the thread and the limits. What the answers say is the caller's: [`Answer`].
//!
//! Rules
//! 1. Nobody but the user of this process and root gets an answer: the directory is 0700 and no symbolic link, the
//!    request file is theirs, the socket is 0600, and the kernel says who has connected.
//! 2. The thread runs nothing that it is sent; it writes nothing but its socket and its answers.
//! 3. A process with more rights than whoever started it (`AT_SECURE`) has none of this.
//! 4. A child of a `fork` has no thread. It closes what it has inherited ([`after_fork`]) and may [`start`] its own.
//! 5. A program may close all descriptors (`os.closerange`), ours too, and their numbers are then its own. The thread ends
//!    when it finds that out, and touches none of them any more.
//! 6. Whatever goes wrong here is no error of the program: then nobody can ask, and that is all.

mod clients;
mod limit;
mod place;
mod server;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::sys::local::{Bell, Inherited, until_gone};
use server::Server;

pub use place::{FALLBACK, NAME};

/// How long the socket stays when nobody asks.
pub const IDLE: Duration = Duration::from_secs(60);
/// How many may be connected at a time.
pub const MOST_CLIENTS: usize = 4;
/// The longest request.
pub const LONGEST_REQUEST: usize = 64 * 1024;
/// How many requests are answered in a second, all clients together; the others wait.
pub const REQUESTS_PER_SECOND: u32 = 100;
/// The name of the thread: how a tool sees that there is somebody to ask (15 bytes are the most).
pub const THREAD: &str = "aioxide-attach";

/// What the caller knows.
pub trait Answer: Send + 'static {
    /// Writes the answer to a request to the end of `answer`. Runs on the thread of this module, and must end.
    fn answer(&self, request: &str, answer: &mut Vec<u8>);
}

/// Everything that the thread has open: the bell, the watch, the socket, the connections.
static OPEN: Inherited<{ MOST_CLIENTS + 3 }> = Inherited::new();

/// The thread.
#[derive(Debug)]
pub struct Running<A> {
    bell: Arc<Bell>,
    /// `None` in the end: rule 5.
    thread: JoinHandle<Option<Box<Server<A>>>>,
}

/// All that the thread has, while there is none.
#[derive(Debug)]
pub struct Stopped<A>(Box<Server<A>>);

/// Starts the thread. `runtime`: the user's own directory for such things (`XDG_RUNTIME_DIR`), if there is one. `None`:
/// rule 3.
///
/// # Errors
/// There can be no more threads, or no more descriptors.
pub fn start<A: Answer>(runtime: Option<PathBuf>, answer: A) -> io::Result<Option<Running<A>>> {
    if crate::sys::local::is_privileged() {
        return Ok(None);
    }
    Stopped(Box::new(Server::new(runtime, answer)?)).go_on().map(Some)
}

impl<A: Answer> Running<A> {
    /// Ends the thread, when it has answered what it is at. What it has open stays so: nobody who is connected notices.
    ///
    /// (`os.fork()` warns of processes with threads: before it there is to be none that the program has not started.)
    #[must_use]
    pub fn stop(self) -> Option<Stopped<A>> {
        if !self.bell.ring() {
            // rule 5: it may not hear of its end for long, and is left to itself; so is the number of the bell
            OPEN.note(std::iter::empty());
            std::mem::forget(self.bell);
            return None;
        }
        let server = self.thread.join().ok()??;
        if let Some(thread) = &server.thread {
            until_gone(thread);
        }
        Some(Stopped(server))
    }
}

impl<A: Answer> Stopped<A> {
    /// Starts the thread again.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn go_on(self) -> io::Result<Running<A>> {
        let Self(mut server) = self;
        let bell = server.bell();
        let thread = std::thread::Builder::new()
            .name(THREAD.into())
            .stack_size(256 * 1024)
            .spawn(move || {
                if server.run() {
                    return Some(server);
                }
                OPEN.note(std::iter::empty());
                std::mem::forget(server);
                None
            })?;
        Ok(Running { bell, thread })
    }
}

/// In the child of a `fork`, before anything else: lets go of what the parent's thread has open. May be called where
/// only a signal handler's functions may be.
pub fn after_fork() {
    OPEN.close();
}
