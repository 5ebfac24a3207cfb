//! Lines on their way to a file or to the descriptor 2, which may not take them just now: a pipe that nobody reads.
//!
//! Owns the lines that have to wait, and the thread that comes back to them. While there are none there is no thread: a
//! line is written at once by whoever has it, so that none is lost when the process ends, however it does.
//!
//! Rules
//! 1. Nobody waits for a reader: neither the program nor a thread that watches it. Lines wait in their order, at most
//!    [`MOST`] of them; when there is room again a record says how many did not get in.
//! 2. The thread takes neither the GIL nor a lock that somebody holds who waits for anything.
//! 3. It ends before an `os.fork()` ([`pause`]), as our others do (`forks.rs`). The lines stay the parent's.
//! 4. When the interpreter ends, lines that wait get [`LAST_CHANCE`] ([`finish`]).

use super::records::Record;
use aioxide_core::lines::{Place, write_now};
use aioxide_core::sys::threads::names as thread_names;
use aioxide_core::{Clock, Monotonic, PerProcess, apart, local, names};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Rule 1.
const MOST: usize = 1000;
/// Rule 4, in seconds.
const LAST_CHANCE: f64 = 1.0;
/// How long the thread sleeps between two attempts, in seconds: at first, and at most.
const SHORTEST: f64 = 0.002;
const LONGEST: f64 = 0.2;

/// A place, and what waits for it.
struct Outlet {
    place: Place,
    waiting: VecDeque<Vec<u8>>,
    /// How much of the first of these is written.
    written: usize,
    /// How many did not get in since then.
    refused: u64,
}

#[derive(Default)]
struct Outlets {
    /// Those where something waits. (`configure()` may have named another place since.)
    stuck: Vec<Outlet>,
    /// The last thread, which gives back where the kernel shows it.
    thread: Option<JoinHandle<Option<PathBuf>>>,
    /// It comes back to what waits.
    is_running: bool,
    /// Rule 3: the thread is to end, and none is to be started.
    paused: bool,
    /// Rule 4: until when lines are waited for; 0: the interpreter does not end yet.
    end: f64,
    lost: u64,
}

static OUTLETS: PerProcess<Mutex<Outlets>> = PerProcess::new();

/// Writes a line, now or as soon as it can be. Any thread.
///
/// # Errors
/// The kernel's: it will not be written.
pub(super) fn write(place: &Place, line: &str) -> io::Result<()> {
    let mut outlets = OUTLETS.lock();
    outlets.drain();
    if let Some(outlet) = outlets.stuck.iter_mut().find(|outlet| outlet.place == *place) {
        outlet.push(line);
    } else {
        let written = write_now(place, line.as_bytes())?;
        if written == line.len() {
            return Ok(());
        }
        outlets.stuck.push(Outlet {
            place: place.clone(),
            waiting: VecDeque::from([line.as_bytes().to_vec()]),
            written,
            refused: 0,
        });
    }
    if outlets.end > 0.0 {
        drop(outlets);
        wait_for_readers();
    } else {
        outlets.start();
    }
    Ok(())
}

/// How many lines will not be written.
pub(super) fn lost() -> u64 {
    let outlets = OUTLETS.lock();
    outlets.lost + outlets.stuck.iter().map(|outlet| outlet.refused).sum::<u64>()
}

/// Rule 3. By a thread that is about to fork.
pub(super) fn pause() {
    let Some(thread) = ({
        let mut outlets = OUTLETS.lock();
        outlets.paused = true;
        outlets.thread.take()
    }) else {
        return;
    };
    thread.thread().unpark();
    // (a thread that has panicked has told so itself)
    if let Ok(Some(thread)) = thread.join() {
        local::until_gone(&thread);
    }
}

/// It is over. (But Python has not counted the threads yet.)
pub(super) fn fork_is_over() {
    OUTLETS.lock().paused = false;
}

/// A loop has come to it since.
pub(super) fn go_on() {
    let mut outlets = OUTLETS.lock();
    if !outlets.stuck.is_empty() {
        outlets.start();
    }
}

/// Rule 4. What is found from now on has what is left of the time. Without the GIL.
pub(super) fn finish() {
    pause();
    OUTLETS.lock().end = Monotonic.now() + LAST_CHANCE;
    wait_for_readers();
}

fn wait_for_readers() {
    while OUTLETS.lock().is_waiting_for_readers() {
        local::pause(SHORTEST);
    }
}

impl Outlet {
    fn push(&mut self, line: &str) {
        if self.waiting.len() < MOST {
            self.waiting.push_back(line.as_bytes().to_vec());
        } else {
            self.refused += 1;
        }
    }

    /// Writes what can be written. `true`: nothing waits any more.
    fn drain(&mut self, lost: &mut u64) -> bool {
        while let Some(line) = self.waiting.front() {
            match write_now(&self.place, &line[self.written..]) {
                Ok(count) if self.written + count < line.len() => {
                    self.written += count;
                    return false;
                }
                Ok(_) => {}
                Err(_) => *lost += 1,
            }
            self.written = 0;
            self.waiting.pop_front();
            if self.waiting.is_empty() && self.refused > 0 {
                *lost += self.refused;
                let record = Record::new("lost").integer("count", std::mem::take(&mut self.refused) as i64);
                self.push(&record.line());
            }
        }
        true
    }

    /// How many lines it has not written.
    fn len(self) -> u64 {
        self.waiting.len() as u64 + self.refused
    }
}

impl Outlets {
    fn drain(&mut self) {
        let lost = &mut self.lost;
        self.stuck.retain_mut(|outlet| !outlet.drain(lost));
    }

    /// Starts the thread, unless it is there.
    fn start(&mut self) {
        if self.is_running || self.paused {
            return;
        }
        // (without a thread the next line brings these with it)
        self.thread = apart::spawn(thread_names::RECORDS, come_back).ok();
        self.is_running = self.thread.is_some();
    }

    /// Tries again. `false`: nothing waits, or its time is over.
    fn is_waiting_for_readers(&mut self) -> bool {
        self.drain();
        if !self.stuck.is_empty() && Monotonic.now() >= self.end {
            self.lost += self.stuck.drain(..).map(Outlet::len).sum::<u64>();
        }
        !self.stuck.is_empty()
    }
}

/// What the thread does. Answers where the kernel shows it.
fn come_back() -> Option<PathBuf> {
    names::block_signals();
    let mut pause = SHORTEST;
    loop {
        thread::park_timeout(Duration::from_secs_f64(pause));
        pause = (pause * 2.0).min(LONGEST);
        let mut outlets: MutexGuard<'static, Outlets> = OUTLETS.lock();
        if !outlets.paused {
            outlets.drain();
        }
        if outlets.paused || outlets.stuck.is_empty() {
            outlets.is_running = false;
            break;
        }
    }
    local::this_thread()
}
