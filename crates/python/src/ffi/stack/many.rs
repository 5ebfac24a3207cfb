//! Where thousands of coroutines stand: breadth first, so that one system call reads a thousand of them.
//!
//! What it finds is what [`Reader::coroutine`] finds of each.

use super::{
    Chain, FIRST_FIELD, FRAME_SIZE, Frame, MOST_FRAMES, MOST_OBJECTS, NATIVE_NAME, Raw, Reader, Stage,
    TEXT_SIZE, is_awaiting, native_frame, stage, untagged,
};
use crate::ffi::peek::{self, CLASS, word_in};
use std::collections::HashMap;

/// What is read of an object at once: a coroutine with its frame and a few locals, or any of ours.
const SPAN: usize = 320;

/// How many are followed at once: what is read of them stays in the cache.
const AT_ONCE: usize = 1024;
/// A text up to here comes with its head.
const SHORT_TEXT: usize = 64;

/// One that is followed.
struct Followed {
    /// Whose chain it is.
    index: usize,
    /// What it has come to.
    next: usize,
}

/// A frame that has been passed.
struct Passed {
    index: usize,
    address: usize,
    state: i8,
    frame: Raw,
}

/// What many coroutines have in common: they stand at the same few lines.
#[derive(Default)]
struct Common {
    lines: HashMap<(usize, usize), Option<Frame>>,
    awaiting: HashMap<usize, bool>,
    natives: HashMap<usize, Option<Frame>>,
}

impl Reader {
    /// Where the coroutines (or generators) at these addresses stand, and those that they await.
    pub(crate) fn coroutines(&mut self, addresses: &[usize]) -> Vec<Chain> {
        let mut common = Common::default();
        let some = addresses.chunks(AT_ONCE);
        some.flat_map(|addresses| self.some(addresses, &mut common))
            .collect()
    }

    fn some(&mut self, addresses: &[usize], common: &mut Common) -> Vec<Chain> {
        let mut chains: Vec<Chain> = addresses
            .iter()
            .map(|_| Chain {
                consistent: true,
                ..Chain::default()
            })
            .collect();
        let mut passed = Vec::new();
        let mut followed: Vec<Followed> = addresses
            .iter()
            .enumerate()
            .filter(|(_, address)| **address != 0)
            .map(|(index, &next)| Followed { index, next })
            .collect();
        let least = self.known.layout.generator_frame + self.known.layout.frame_locals;
        // (see MOST_OBJECTS)
        for _ in 0..MOST_OBJECTS {
            if followed.is_empty() {
                break;
            }
            let nexts: Vec<usize> = followed.iter().map(|one| one.next).collect();
            let blocks = peek::many(&nexts, SPAN, least);
            let mut further = Vec::with_capacity(followed.len());
            for (at, one) in followed.iter().enumerate() {
                let Some(chain) = chains.get_mut(one.index) else {
                    continue;
                };
                let next = match blocks.get(at) {
                    Some(bytes) => self.follow(one, bytes, chain, common, &mut passed),
                    None => {
                        chain.consistent = false;
                        0
                    }
                };
                if next != 0 && chain.frames.len() < MOST_FRAMES {
                    further.push(Followed {
                        index: one.index,
                        next,
                    });
                }
            }
            followed = further;
        }
        self.check(&passed, &mut chains);
        chains
    }

    /// The texts at many addresses. Of an int its digits: so tasks are called whose name nobody has asked for (3.14+).
    pub(crate) fn texts(&self, addresses: &[usize]) -> Vec<Option<String>> {
        let layout = &self.known.layout;
        let blocks = peek::many(addresses, TEXT_SIZE + SHORT_TEXT, TEXT_SIZE);
        let one = |(index, &address): (usize, &usize)| {
            let bytes = blocks.get(index)?;
            let class = word_in(bytes, CLASS);
            if class == peek::int_class() {
                return peek::small_int(address).map(|number| format!("Task-{number}"));
            }
            if class != self.known.classes.text {
                return None;
            }
            let length = word_in(bytes, layout.text_length);
            let short = bytes.get(layout.text_ascii..layout.text_ascii + length.min(SHORT_TEXT));
            match short.filter(|_| length <= SHORT_TEXT && self.is_plain(bytes)) {
                Some(text) if text.is_ascii() && !text.contains(&0) => String::from_utf8(text.to_vec()).ok(),
                _ => self.text(address),
            }
        };
        addresses.iter().enumerate().map(one).collect()
    }

    /// One object on the way; what it awaits in turn, or 0.
    fn follow(
        &mut self,
        one: &Followed,
        bytes: &[u8],
        chain: &mut Chain,
        common: &mut Common,
        passed: &mut Vec<Passed>,
    ) -> usize {
        let (classes, layout) = (self.known.classes, self.known.layout);
        let class = word_in(bytes, CLASS);
        if classes.generator_steps.contains(&class) {
            return word_in(bytes, FIRST_FIELD);
        }
        if class == classes.native {
            let text = word_in(bytes, NATIVE_NAME);
            let frame = common
                .natives
                .entry(text)
                .or_insert_with(|| native_frame(one.next));
            chain.frames.extend(frame.clone());
        }
        if ![classes.coroutine, classes.generator, classes.async_generator].contains(&class) {
            chain.awaits = one.next;
            return 0;
        }
        let (Some(state), Some(frame)) = (
            bytes.get(layout.generator_state),
            bytes.get(layout.generator_frame..layout.generator_frame + layout.frame_locals),
        ) else {
            chain.consistent = false;
            return 0;
        };
        let state = *state as i8;
        let raw = self.parse(one.next.wrapping_add(layout.generator_frame), frame);
        let stage = stage(state);
        if stage == Stage::Ended {
            return 0;
        }
        let line = common
            .lines
            .entry((raw.code, raw.instruction))
            .or_insert_with(|| self.frame(&raw));
        let Some(line) = line.clone() else {
            chain.consistent = false;
            return 0;
        };
        chain.frames.push(line);
        if stage == Stage::Running {
            chain.consistent = false;
            return 0;
        }
        passed.push(Passed {
            index: one.index,
            address: one.next,
            state,
            frame: raw,
        });
        if stage == Stage::Awaits {
            self.awaited_in(one.next, bytes, &raw, common)
        } else {
            0
        }
    }

    /// As [`Reader::awaited`], from what has been read of the coroutine already, if that is in there.
    fn awaited_in(&mut self, address: usize, bytes: &[u8], raw: &Raw, common: &mut Common) -> usize {
        if cfg!(not(Py_3_13)) {
            let known = common.awaiting.entry(raw.instruction);
            if !*known.or_insert_with(|| is_awaiting(raw.instruction)) {
                return 0;
            }
        }
        let Some(top) = self.stack_top(raw) else {
            return 0;
        };
        let at = top.wrapping_sub(address);
        if at.checked_add(8).is_some_and(|end| end <= bytes.len()) {
            untagged(word_in(bytes, at))
        } else {
            aioxide_core::memory::word(top).map_or(0, untagged)
        }
    }

    /// Those that have gone on meanwhile are not consistent.
    fn check(&self, passed: &[Passed], chains: &mut [Chain]) {
        let layout = &self.known.layout;
        let addresses: Vec<usize> = passed.iter().map(|one| one.address).collect();
        let size = layout.generator_frame + layout.frame_locals;
        debug_assert!(layout.frame_locals <= FRAME_SIZE);
        let blocks = peek::many(&addresses, size, size);
        for (at, one) in passed.iter().enumerate() {
            let still = blocks.get(at).is_some_and(|bytes| {
                let frame = &bytes[layout.generator_frame..];
                bytes[layout.generator_state] as i8 == one.state
                    && self.parse(one.address.wrapping_add(layout.generator_frame), frame) == one.frame
            });
            if !still && let Some(chain) = chains.get_mut(one.index) {
                chain.consistent = false;
            }
        }
    }
}
