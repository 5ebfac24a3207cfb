//! Two water marks, and whether the traffic is stopped.

/// Stops the traffic when a buffer has grown to `high` bytes, and lets it go on when no more than `low` are left.
///
/// Unlike a transport's own marks, where the protocol pauses *above* `high`, the high mark itself stops it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Valve {
    high: i64,
    low: i64,
    shut: bool,
}

/// What is to be done about a buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Pressure {
    /// Nothing.
    Fine,
    /// Whoever fills it is to pause.
    Stop,
    /// They may go on.
    Resume,
}

impl Valve {
    /// Open.
    #[must_use]
    pub const fn new(high: i64, low: i64) -> Self {
        Self {
            high,
            low,
            shut: false,
        }
    }

    /// Other marks: `low` is not above `high`.
    pub fn set(&mut self, high: i64, low: i64) {
        self.high = high;
        self.low = low;
    }

    /// The marks: `(high, low)`.
    #[must_use]
    pub const fn marks(&self) -> (i64, i64) {
        (self.high, self.low)
    }

    /// Is it stopped?
    #[must_use]
    pub const fn is_shut(&self) -> bool {
        self.shut
    }

    /// There are so many bytes in the buffer.
    #[inline]
    pub fn measure(&mut self, size: usize) -> Pressure {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        if !self.shut && size >= self.high {
            self.shut = true;
            Pressure::Stop
        } else if self.shut && size <= self.low {
            self.shut = false;
            Pressure::Resume
        } else {
            Pressure::Fine
        }
    }
}
