//! Which task a loop is running, and its name, read without the GIL.
//!
//! Must never: believe that a name is what a program has set it to: it is shown as far as it is a plain text.

use super::super::class::{Class, body_offset};
use super::site::Site;
use super::{Frame, Reader, word_in};
use crate::tasks::Task;
use crate::tasks::task::{NAMED, layout};
use aioxide_core::memory;

/// In a class: the one that it derives from. The same in all versions.
const CLASS_BASE: usize = 256;
/// How many steps a class of the program's may be away from ours.
const MOST_BASES: usize = 8;

impl Reader {
    /// The address of the task that the pointer at `place` leads to, if it does lead to one of ours.
    pub(crate) fn task_at(&self, place: usize) -> Option<usize> {
        let task = memory::word(place).filter(|task| *task != 0)?;
        let mut class = memory::word(task.wrapping_add(8))?;
        for _ in 0..MOST_BASES {
            if class == Task::class().get().as_ptr().addr() {
                return Some(task);
            }
            class = memory::word(class.wrapping_add(CLASS_BASE)).filter(|class| *class != 0)?;
        }
        None
    }

    /// The line that made the task at this address, if that is still there to be read.
    pub(crate) fn task_site(&self, task: usize) -> Option<Frame> {
        Site::from_bytes(memory::array(task.wrapping_add(body_offset() + layout::SITE))?).resolve()
    }

    /// What `get_name()` of the task at this address would say, if that is a plain text.
    pub(crate) fn task_name(&self, task: usize) -> Option<String> {
        let name = memory::word(task.wrapping_add(body_offset() + layout::NAME))?;
        if name != 0
            && let Some(text) = self.text(name)
        {
            return Some(text);
        }
        let number: [u8; 8] = memory::array(task.wrapping_add(body_offset() + layout::NUMBER))?;
        let number = word_in(&number, 0) as u64;
        (number != 0 && number & NAMED == 0).then(|| format!("Task-{number}"))
    }

    /// `Task::identity` of the task at this address.
    pub(crate) fn task_identity(&self, task: usize) -> Option<(usize, u64)> {
        let body = task + body_offset();
        let number = memory::word(body + layout::NUMBER)?;
        let told_by = if number == 0 {
            memory::word(body + layout::NAME)?
        } else {
            number
        };
        Some((body, told_by as u64))
    }
}
