//! `aioxide trace PID`: the flight recorder, on for as long as somebody wants it.
//!
//! Who begins gets a number, and for it later a file's contents. The recorder is off again when the last one has had his, or
//! when nobody is connected any more: whoever asked may have been killed meanwhile.
//!
//! Must never touch a recording that the program itself has wanted, nor keep one alive.

use crate::diag::flight::{self, Who};
use aioxide_core::flight::Recording;
use aioxide_core::flight::trace::{About, write};
use std::sync::{Arc, Weak};

/// The ring of a loop: a quarter of a million events, of which some 50 MB of JSON are made for a moment.
const BYTES: usize = 4 << 20;
/// How many may trace at a time.
const MOST: usize = 4;

/// Those that trace.
#[derive(Default)]
pub(super) struct Traces {
    last: u64,
    begun: Vec<Begun>,
}

/// Somebody who has begun.
struct Begun {
    number: u64,
    /// What there was then, and how many events it had.
    before: Vec<(Weak<Recording>, u64)>,
}

impl Traces {
    /// From now on. The number is for [`Traces::end`].
    pub(super) fn begin(&mut self) -> Result<u64, String> {
        if self.begun.len() >= MOST {
            return Err("too many trace it already".to_owned());
        }
        let before = flight::recordings();
        let before = before
            .iter()
            .map(|(_, recording)| (Arc::downgrade(recording), recording.written()));
        self.last += 1;
        self.begun.push(Begun {
            number: self.last,
            before: before.collect(),
        });
        flight::want(Who::Tracer, BYTES);
        Ok(self.last)
    }

    /// What has happened since, as a file; of each loop the last part, if the ring was too small for all.
    pub(super) fn end(&mut self, number: u64, out: &mut Vec<u8>) -> Result<(), String> {
        let at = self.begun.iter().position(|begun| begun.number == number);
        let begun = self.begun.swap_remove(at.ok_or("nobody has begun this trace")?);
        let about = |number: u32| About {
            pid: std::process::id(),
            number: number.into(),
            reason: "trace",
        };
        let loops: Vec<_> = flight::recordings()
            .into_iter()
            .filter_map(|(number, recording)| {
                let mut known = begun.before.iter();
                let after = known
                    .find(|(known, _)| std::ptr::eq(known.as_ptr(), &raw const *recording))
                    .map_or(0, |(_, written)| *written);
                (recording.written() > after).then(|| (about(number), recording.snapshot().after(after)))
            })
            .collect();
        if self.begun.is_empty() {
            self.stop();
        }
        write(out, &loops).map_err(|error| error.to_string())
    }

    /// Nobody traces any more.
    pub(super) fn stop(&mut self) {
        self.begun.clear();
        flight::want(Who::Tracer, 0);
    }

    /// Does anybody?
    pub(super) fn are_begun(&self) -> bool {
        !self.begun.is_empty()
    }
}
