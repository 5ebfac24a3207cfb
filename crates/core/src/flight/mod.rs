//! The flight recorder: what a loop has done last, kept in memory until somebody wants to know.
//!
//! Owns a bounded ring of events and the names of the tasks in it. The loop writes; any thread may read meanwhile, and
//! make a [trace](trace::write) of it.
//! Must never make the loop wait for a reader for longer than it takes to copy the names, and never grow.

pub mod file;
mod recording;
mod ring;
pub mod trace;

pub use recording::{Label, Name, Recorder, Recording, Snapshot};
pub use ring::{Record, Ring};

/// What a record says. The time of each is when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// A step of a task begins. The subject is the task.
    Step = 1,
    /// A callback begins. The subject is its [`Name`].
    Callback = 2,
    /// The loop asks the kernel what has happened. The subject is 1 if it may sleep, else 0.
    Poll = 3,
    /// … and has its answer.
    Awake = 4,
    /// A task has become ready, by what runs just then. The subject is the task.
    Ready = 5,
    /// A task has been made, by what runs just then, and is ready. The subject is the task.
    Spawn = 6,
    /// A task has returned. The subject is the task.
    Returned = 7,
    /// A task has ended with an exception. The subject is the task.
    Raised = 8,
    /// A task has been cancelled. The subject is the task.
    Cancelled = 9,
}

impl Event {
    /// From a record.
    fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [Event; 9] = [
            Event::Step,
            Event::Callback,
            Event::Poll,
            Event::Awake,
            Event::Ready,
            Event::Spawn,
            Event::Returned,
            Event::Raised,
            Event::Cancelled,
        ];
        ALL.into_iter().find(|&event| event as u8 == byte)
    }

    /// Does something else end when this begins?
    fn begins(self) -> bool {
        matches!(self, Self::Step | Self::Callback | Self::Poll | Self::Awake)
    }
}
