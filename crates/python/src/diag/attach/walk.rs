//! The lists of tasks, and each task's own fields.
//!
//! Rules
//! 1. A task is one only if its class says so. Its neighbours in the list must point back to it: a list that has changed
//!    under the reader is walked again, and after [`ATTEMPTS`] from where it still holds, which is not consistent.
//! 2. A task is read whole, by one read, with its links.

use super::layout::{Kind, Kinds, at};
use crate::diag::Vitals;
use crate::ffi::links::{self, Linked};
use crate::ffi::peek::{CLASS, word_in};
use crate::ffi::{outside, stack};
use crate::tasks::Task;
use crate::tasks::task::layout;
use aioxide_core::memory;
use std::collections::HashSet;

/// What of a task is read.
pub(super) const SIZE: usize = at(layout::SIZE);
/// What of a task of asyncio's is there to be read, if not more.
const THEIR_SIZE: usize = at(layout::LINKS) + 16;
/// How often a list is walked from the beginning.
const ATTEMPTS: usize = 3;
/// How many tasks are listed.
const MOST_TASKS: usize = 1_000_000;

/// A task as it lies in memory.
pub(super) struct Raw {
    pub(super) address: usize,
    pub(super) kind: Kind,
    bytes: [u8; SIZE],
}

impl Raw {
    /// A word of the body.
    pub(super) fn word(&self, offset: usize) -> usize {
        word_in(&self.bytes, at(offset))
    }

    /// The task at this address, if there is one.
    pub(super) fn read(address: usize, kinds: &mut Kinds) -> Option<Raw> {
        Raw::from(&mut Page::default(), address, kinds)
    }

    fn from(page: &mut Page, address: usize, kinds: &mut Kinds) -> Option<Raw> {
        let mut bytes = [0; SIZE];
        if !page.read(address, &mut bytes)
            && !memory::read(address, &mut bytes)
            && !memory::read(address, &mut bytes[..THEIR_SIZE])
        {
            return None;
        }
        let kind = kinds.of_class(word_in(&bytes, CLASS));
        matches!(kind, Kind::Task | Kind::TheirTask).then_some(Raw { address, kind, bytes })
    }
}

/// The page that was read last: tasks that were made one after the other lie side by side.
#[derive(Default)]
struct Page {
    /// Where it begins; no page does at 0.
    begin: usize,
    bytes: Vec<u8>,
}

impl Page {
    const SIZE: usize = 4096;

    /// Reads what lies in one page whole. `false`: this does not, or there is no such page.
    fn read(&mut self, address: usize, into: &mut [u8]) -> bool {
        let begin = address & !(Page::SIZE - 1);
        if begin == 0 || address.wrapping_add(into.len()) > begin.wrapping_add(Page::SIZE) {
            return false;
        }
        if begin != self.begin {
            self.bytes.resize(Page::SIZE, 0);
            self.begin = if memory::read(begin, &mut self.bytes) {
                begin
            } else {
                0
            };
            if self.begin == 0 {
                return false;
            }
        }
        let at = address - begin;
        into.copy_from_slice(&self.bytes[at..at + into.len()]);
        true
    }
}

/// The tasks of all lists. `false`: not all of them were there at one moment.
pub(super) fn all(kinds: &mut Kinds) -> (Vec<Raw>, bool) {
    let mut tasks = Vec::new();
    let mut consistent = true;
    for head in heads() {
        let begin = tasks.len();
        let whole = (0..ATTEMPTS).any(|_| {
            tasks.truncate(begin);
            walk(head, &mut tasks, kinds)
        });
        if !whole {
            consistent = false;
            tasks.truncate(begin);
            walk_anyhow(head, &mut tasks, kinds);
        }
    }
    (tasks, consistent)
}

/// Where the lists begin.
fn heads() -> Vec<usize> {
    let mut heads = vec![Task::list().address()];
    if outside::linked()
        && let Some(reader) = stack::Reader::new()
    {
        // any loop's thread knows all threads
        let running = super::super::running();
        let state = running.first().map_or(0, |running| running.vitals.thread());
        if state != 0 {
            heads.extend(
                reader
                    .threads(state)
                    .iter()
                    .filter_map(|thread| outside::tasks_of(thread.state)),
            );
        }
    }
    heads
}

/// The node that follows, and the one before.
fn neighbours(node: usize) -> Option<(usize, usize)> {
    let bytes: [u8; 16] = memory::array(node)?;
    Some((word_in(&bytes, links::NEXT), word_in(&bytes, links::PREV)))
}

fn task_of(node: usize) -> usize {
    node.wrapping_sub(at(layout::LINKS))
}

fn node_of(task: &Raw) -> usize {
    task.address + at(layout::LINKS)
}

/// Adds all tasks of a list. `false`: it has changed meanwhile.
fn walk(head: usize, tasks: &mut Vec<Raw>, kinds: &mut Kinds) -> bool {
    let Some((first, last)) = neighbours(head) else {
        return false;
    };
    let mut page = Page::default();
    let (mut node, mut before) = (first, head);
    while node != head && tasks.len() < MOST_TASKS {
        if node == 0 {
            // our own list is not made before its first task
            return before == head;
        }
        let Some(raw) = Raw::from(&mut page, task_of(node), kinds) else {
            return false;
        };
        if raw.word(layout::LINKS + links::PREV) != before {
            return false;
        }
        (node, before) = (raw.word(layout::LINKS + links::NEXT), node);
        tasks.push(raw);
    }
    before == last || first == head
}

/// As [`walk`], of a list that does not hold still: goes back to where it still holds, and meets each task once.
fn walk_anyhow(head: usize, tasks: &mut Vec<Raw>, kinds: &mut Kinds) {
    let begin = tasks.len();
    let mut met = HashSet::new();
    let mut back = begin;
    let mut node = neighbours(head).map_or(0, |(next, _)| next);
    while node != head && tasks.len() < MOST_TASKS {
        let raw = (node != 0).then(|| Raw::read(task_of(node), kinds)).flatten();
        match raw {
            Some(raw) if raw.word(layout::LINKS + links::NEXT) != 0 && met.insert(raw.address) => {
                node = raw.word(layout::LINKS + links::NEXT);
                tasks.push(raw);
                back = tasks.len();
            }
            // it has left the list, or been met: on from the last one that is still in it
            _ => loop {
                if back == begin {
                    return;
                }
                back -= 1;
                let next = tasks
                    .get(back)
                    .and_then(|task| neighbours(node_of(task)))
                    .map_or(0, |(next, _)| next);
                if next != 0 && next != node && (next == head || !met.contains(&task_of(next))) {
                    node = next;
                    break;
                }
            },
        }
    }
}

/// The address of a loop's current task; 0: none.
pub(super) fn current(vitals: &Vitals) -> usize {
    match vitals.current() {
        0 => 0,
        place => memory::word(place).unwrap_or(0),
    }
}
