//! Which task a loop is running, and its name, read without the GIL.
//!
//! Must never: believe that a name is what a program has set it to: it is shown as far as it is a plain text.

use super::super::class::{Class, body_offset};
use super::site::Site;
use super::{Frame, Reader, word_in};
use crate::tasks::Task;
use crate::tasks::task::{NAMED, layout};
use aioxide_core::memory::{self, Piece};

/// In an object: its class. The same in all versions, as is the next.
const CLASS: usize = 8;
/// In a class: the one that it derives from.
const CLASS_BASE: usize = 256;
/// How many steps a class of the program's may be away from ours.
const MOST_BASES: usize = 8;

impl Reader {
    /// The address of the task that the pointer at `place` leads to, if it does lead to one of ours.
    pub(crate) fn task_at(&self, place: usize) -> Option<usize> {
        let task = memory::word(place).filter(|task| *task != 0)?;
        let class = memory::word(task.wrapping_add(CLASS))?;
        derives_from_ours(class).then_some(task)
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

    /// `Task::identity` of the task that the pointer at `place` leads to, if it is one of ours. In two system calls, for it is
    /// asked for at each look.
    pub(crate) fn identity_at(&self, place: usize) -> Option<(usize, u64)> {
        let task = memory::word(place).filter(|task| *task != 0)?;
        let body = task.wrapping_add(body_offset());
        let (mut class, mut number, mut name) = ([0; 8], [0; 8], [0; 8]);
        let mut pieces = [
            Piece::new(task.wrapping_add(CLASS), &mut class),
            Piece::new(body.wrapping_add(layout::NUMBER), &mut number),
            Piece::new(body.wrapping_add(layout::NAME), &mut name),
        ];
        memory::read_all(&mut pieces);
        if !pieces.iter().all(|piece| piece.whole) || !derives_from_ours(usize::from_ne_bytes(class)) {
            return None;
        }
        let number = u64::from_ne_bytes(number);
        let told_by = if number == 0 {
            u64::from_ne_bytes(name)
        } else {
            number
        };
        Some((body, told_by))
    }
}

/// Does the class at this address, or is it ours?
fn derives_from_ours(class: usize) -> bool {
    let ours = Task::class().get().as_ptr().addr();
    let base = |class: &usize| memory::word(class.wrapping_add(CLASS_BASE)).filter(|base| *base != 0);
    std::iter::successors(Some(class), base)
        .take(MOST_BASES)
        .any(|class| class == ours)
}
