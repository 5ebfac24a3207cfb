//! How another process of the same user asks this one what it is doing: `python -m aioxide ps PID`.
//!
//! Until somebody asks there is a pipe without a name, and a thread that sleeps in the kernel until somebody writes to it:
//! no file, no socket, no wake-up. Who asks finds the pipe's number in the name of the thread ([`THREAD`]), opens
//! `/proc/PID/fd/N` and writes a byte. Then the thread listens on a socket whose file has no name any more either (`/proc`
//! shows what it was: [`HIDDEN`]), answers, and closes it when nobody has asked anything for [`IDLE`].
//!
//! Owns the pipe, the socket, the thread and the limits. What the answers say is the caller's: [`Answer`].
//!
//! Rules
//! 1. Nobody but the user of this process and root gets an answer: the kernel lets nobody else look into `/proc/PID/fd`, pipe
//!    and socket are 0600, and the kernel says who has connected.
//! 2. The thread runs nothing that it is sent; it writes nothing but its socket and its answers.
//! 3. A process with more rights than whoever started it (`AT_SECURE`) has none of this.
//! 4. A child of a `fork` has no thread. It closes what it has inherited ([`after_fork`]) and may [`start`] its own.
//! 5. What the thread opens lies in a table of its own, where the kernel allows that (`sys/apart.rs`): it ends with the
//!    thread, and who is connected asks again. Elsewhere, and as far as the pipe goes, a program may close all descriptors
//!    (`os.closerange`), ours too, and their numbers are then its own. The thread ends when it finds that out (at once, if
//!    it has a table of its own), and touches none of them any more; who wants to be asked again starts another. (Who rings
//!    first looks whether that is a pipe of which one descriptor is both ends, which programs do not have.)
//! 6. Whatever goes wrong here is no error of the program: then nobody can ask, and that is all.
//! 7. Nothing is left behind by a process that is killed, and nothing needs to be cleaned up: there are no names.

mod clients;
mod limit;
mod server;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::sys::apart;
use crate::sys::local::{Door, Inherited, soon, until_gone};
use crate::sys::threads;
use server::Server;

pub use crate::sys::local::HIDDEN;

/// Where the socket may have its name for a moment, after the user's own directory: the first one that lets us. (The
/// first is in memory, and there also where all else is read-only.)
pub const DIRECTORIES: [&str; 3] = ["/dev/shm", "/tmp", "/var/tmp"];

/// How long the socket stays when nobody asks.
pub const IDLE: Duration = Duration::from_secs(60);
/// How many may be connected at a time.
pub const MOST_CLIENTS: usize = 4;
/// The longest request.
pub const LONGEST_REQUEST: usize = 64 * 1024;
/// How many requests are answered in a second, all clients together; the others wait.
pub const REQUESTS_PER_SECOND: u32 = 100;
/// What the name of the thread begins with, by which a tool sees that there is somebody to ask; then comes the number of the
/// pipe (15 bytes are the most).
pub const THREAD: &str = threads::names::ATTACH;

/// What the caller knows.
pub trait Answer: Send + 'static {
    /// Writes the answer to a request to the end of `answer`. Runs on the thread of this module, and must end.
    fn answer(&self, request: &str, answer: &mut Vec<u8>);

    /// The last one that was connected has gone, and will not ask again: for all that is known. On the same thread.
    fn nobody_is_left(&self);
}

/// Everything that the thread has open and a child inherits: the door; and where there is one table of descriptors for all
/// (rule 5), the socket and its handle, the connections.
static OPEN: Inherited<{ MOST_CLIENTS + 3 }> = Inherited::new();

/// The thread.
#[derive(Debug)]
pub struct Running<A> {
    door: Arc<Door>,
    thread: JoinHandle<Ended<A>>,
}

/// What a thread leaves.
#[derive(Debug)]
struct Ended<A> {
    /// `None`: rule 5.
    server: Option<Box<Server<A>>>,
    /// Where the kernel has shown it.
    thread: Option<PathBuf>,
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
    /// Ends the thread, when it has answered what it is at. Whoever is connected may find the connection closed,
    /// and then has to ask again (rule 5).
    ///
    /// (`os.fork()` warns of processes with threads: before it there is to be none that the program has not started.)
    #[must_use]
    pub fn stop(self) -> Option<Stopped<A>> {
        let Self { door, thread } = self;
        if !door.end() {
            // rule 5: the number of the door is the program's
            OPEN.note(std::iter::empty());
            std::mem::forget(door);
            // in the program's table it may not hear of its end for long, and is left to itself
            if !soon(|| thread.is_finished()) {
                return None;
            }
        }
        let ended = thread.join().ok()?;
        if let Some(thread) = &ended.thread {
            until_gone(thread);
        }
        ended.server.map(Stopped)
    }

    /// Can it be asked? Not if the program has closed its pipe (rule 5): then [`stop`](Running::stop) answers `None`, and
    /// another may be started.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.door.is_ours()
    }
}

impl<A: Answer> Stopped<A> {
    /// Starts the thread again.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn go_on(self) -> io::Result<Running<A>> {
        let Self(mut server) = self;
        let door = server.door();
        apart::try_out();
        let thread = std::thread::Builder::new()
            .name(format!("{THREAD}{}", door.number()))
            .stack_size(256 * 1024)
            .spawn(move || {
                let told = server.run();
                let thread = server.thread.clone();
                if told {
                    return Ended {
                        server: Some(server),
                        thread,
                    };
                }
                OPEN.note(std::iter::empty());
                std::mem::forget(server);
                Ended { server: None, thread }
            })?;
        Ok(Running { door, thread })
    }
}

/// In the child of a `fork`, before anything else: lets go of what the parent's thread has open. May be called where
/// only a signal handler's functions may be.
pub fn after_fork() {
    OPEN.close();
}
