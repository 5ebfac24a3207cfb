//! Looks up names, in threads: the part of asyncio's default executor that `getaddrinfo` needs.
//!
//! Owns the threads, what they are asked and what they have answered. They are the only threads that this crate starts:
//! the C library offers no other way to ask without waiting.
//! Must never wait for a look-up: one that hangs is left to its thread, which the process does not wait for either.
//!
//! Rules
//! 1. A thread is started if a question finds none that is idle, up to [`MOST_THREADS`]. It ends when nobody has asked it
//!    anything for [`PATIENCE`], or when the resolver is dropped and it has nothing under way.
//! 2. An answer is put down first, then the waker is woken: that is the protocol of `sys/wakeup.rs`, in which the
//!    loop looks at [`Resolver::has_answers`] as at its queue.
//! 3. The lock is held for the moment that it takes to move a question or an answer.
//! 4. After a `fork` the threads are in the parent, and one of them may have had the lock: the child must
//!    [forget](std::mem::forget) its resolver.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::sys::names::{self, Failure, Found, Question};
use crate::sys::threads;
use crate::sys::wakeup::Waker;

/// How many look-ups are under way at a time.
pub const MOST_THREADS: usize = 8;
/// How long a thread waits for the next question.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What has become of a question.
pub type Answer = Result<Vec<Found>, Failure>;

/// The resolver of a loop.
#[derive(Debug)]
pub struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is a question, or an end.
    news: Condvar,
    waker: Arc<Waker>,
    /// `state.answers` is not empty.
    answered: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    questions: VecDeque<(u64, Question)>,
    answers: Vec<(u64, Answer)>,
    last: u64,
    threads: usize,
    /// Threads that wait for a question. Each question that is in the queue has woken one of them.
    idle: usize,
    closed: bool,
}

impl Resolver {
    /// A resolver without threads, which wakes `waker` for every answer.
    #[must_use]
    pub fn new(waker: Arc<Waker>) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                news: Condvar::new(),
                waker,
                answered: AtomicBool::new(false),
            }),
        }
    }

    /// Asks. The number will come with the answer.
    ///
    /// # Errors
    /// There is no thread, and none can be started.
    pub fn ask(&self, question: Question) -> io::Result<u64> {
        let mut state = self.shared.lock();
        if state.idle <= state.questions.len() && state.threads < MOST_THREADS {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new()
                .name(threads::names::DNS.into())
                .spawn(move || shared.work());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(error),
                // those that are there will come to it
                Err(_) => {}
            }
        }
        state.last += 1;
        let number = state.last;
        state.questions.push_back((number, question));
        drop(state);
        self.shared.news.notify_one();
        Ok(number)
    }

    /// Nobody wants to know any more. A look-up that is under way goes on, and its answer comes.
    pub fn forget(&self, number: u64) {
        self.shared.lock().questions.retain(|(other, _)| *other != number);
    }

    /// Has something been answered? Costs a load.
    #[inline]
    #[must_use]
    pub fn has_answers(&self) -> bool {
        self.shared.answered.load(Ordering::Acquire)
    }

    /// What has been answered.
    #[must_use]
    pub fn answers(&self) -> Vec<(u64, Answer)> {
        let mut state = self.shared.lock();
        self.shared.answered.store(false, Ordering::Relaxed);
        std::mem::take(&mut state.answers)
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.shared.lock().threads
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.questions.clear();
        drop(state);
        self.shared.news.notify_all();
    }
}

impl Shared {
    /// What a thread does.
    fn work(&self) {
        names::block_signals();
        let mut state = self.lock();
        state.idle += 1;
        loop {
            let (again, next) = self.next(state);
            state = again;
            state.idle -= 1;
            let Some((number, question)) = next else {
                state.threads -= 1;
                return;
            };
            drop(state);
            let answer = names::look_up(&question);
            state = self.lock();
            // whoever hears of the answer and asks again finds this thread idle
            state.idle += 1;
            state.answers.push((number, answer));
            self.answered.store(true, Ordering::Release);
            drop(state);
            self.waker.wake();
            state = self.lock();
        }
    }

    /// The next question. `None`: rule 1, the thread ends.
    fn next<'a>(&self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, Option<(u64, Question)>) {
        loop {
            if let Some(next) = state.questions.pop_front() {
                return (state, Some(next));
            }
            if state.closed {
                return (state, None);
            }
            let (again, waited) = self
                .news
                .wait_timeout(state, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner);
            state = again;
            if waited.timed_out() && state.questions.is_empty() {
                return (state, None);
            }
        }
    }

    /// Nothing that holds the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
