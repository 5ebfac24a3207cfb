//! The state of one TLS connection: `SSLProtocolState` and `AppProtocolState`.
//!
//! ```text
//! UNWRAPPED ─start→ DO_HANDSHAKE ─handshaken→ WRAPPED ─close, end→ FLUSHING ─flushed→ SHUTDOWN
//!     ↑ from everywhere: abort, lost, a handshake that failed
//! ```
//!
//! Rules
//! 1. The protocol above is told in this order, each at most once: made, end, lost. It hears of nothing before
//!    it has been made.
//! 2. Between two calls of the machine the caller may run the program's code, which may call the machine in turn:
//!    so a transition says what to do next, and whether it still applies is asked again.
//! 3. After a close nothing is written any more; what the peer has sent before is still delivered.

use super::valve::Valve;

/// asyncio's water marks, in bytes.
const INCOMING: i64 = 256 * 1024;
const OUTGOING: i64 = 512 * 1024;

/// `SSLProtocolState`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// No TLS: before the handshake, and after the end.
    #[default]
    Unwrapped,
    /// The handshake is on.
    Handshake,
    /// Data goes in both directions.
    Wrapped,
    /// Closed: what has come is delivered, what was written is sent.
    Flushing,
    /// Close-notify is on its way.
    Shutdown,
}

impl State {
    /// asyncio's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unwrapped => "UNWRAPPED",
            Self::Handshake => "DO_HANDSHAKE",
            Self::Wrapped => "WRAPPED",
            Self::Flushing => "FLUSHING",
            Self::Shutdown => "SHUTDOWN",
        }
    }
}

/// `AppProtocolState`: what the protocol above has been told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum App {
    /// Nothing.
    #[default]
    Init,
    /// `connection_made`
    Made,
    /// `eof_received`
    Eof,
    /// `connection_lost`
    Lost,
}

impl App {
    /// asyncio's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "STATE_INIT",
            Self::Made => "STATE_CON_MADE",
            Self::Eof => "STATE_EOF",
            Self::Lost => "STATE_CON_LOST",
        }
    }
}

/// There is no such way from one state to the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Refused {
    /// Where it is.
    pub from: State,
    /// Where it was to go.
    pub to: State,
}

/// What bytes from below are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Feed {
    /// Nobody.
    Nothing,
    /// The handshake goes on.
    Handshake,
    /// There may be data.
    Read,
    /// There may be data before the end.
    Flush,
    /// The peer's close-notify may be there.
    Shutdown,
}

/// What the end from below means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum End {
    /// Nothing.
    Nothing,
    /// The handshake has failed.
    HandshakeFailed,
    /// The protocol above does not read now: the transport below is to stay open until it does.
    Wait,
    /// What has come is delivered, then the connection is closed.
    Flush,
    /// What was written is sent, then the connection is closed.
    WriteAndShutdown,
    /// The connection is closed.
    Shutdown,
}

/// How to close.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Close {
    /// It is closed already.
    Already,
    /// At once: there is no TLS yet.
    Abort,
    /// Flush, then shut down, and have an eye on the clock.
    Flush,
}

/// What becomes of something to write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Write {
    /// It is lost; so many were before.
    Refused(u32),
    /// It waits for the handshake.
    Keep,
    /// It is encrypted now.
    Now,
}

/// The state.
#[derive(Debug)]
pub struct Machine {
    state: State,
    app: App,
    /// The transport below has said that nothing more comes.
    ended: bool,
    /// The protocol above does not want to read.
    pub reading_paused: bool,
    /// The transport below does not want more to write.
    pub writing_paused: bool,
    /// How many bytes from below may wait to be decrypted.
    pub incoming: Valve,
    /// How many bytes may wait for the transport below.
    pub outgoing: Valve,
    /// Counts writes after the connection was lost.
    lost: u32,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new(true)
    }
}

impl Machine {
    /// `tell_made`: the protocol above has not had its `connection_made` yet.
    #[must_use]
    pub const fn new(tell_made: bool) -> Self {
        Self {
            state: State::Unwrapped,
            app: if tell_made { App::Init } else { App::Made },
            ended: false,
            reading_paused: false,
            writing_paused: false,
            incoming: Valve::new(INCOMING, INCOMING / 4),
            outgoing: Valve::new(OUTGOING, OUTGOING / 4),
            lost: 0,
        }
    }

    /// Where the connection is.
    #[inline]
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// What the protocol above knows.
    #[must_use]
    pub const fn app(&self) -> App {
        self.app
    }

    /// Has the transport below said that nothing more comes?
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended
    }

    /// How many writes were lost, and one for the connection.
    #[must_use]
    pub const fn lost_count(&self) -> u32 {
        self.lost
    }

    const fn go(&mut self, from: State, to: State) -> Result<(), Refused> {
        if self.state as u8 == from as u8 {
            self.state = to;
            return Ok(());
        }
        Err(Refused { from: self.state, to })
    }

    /// The transport below is there.
    ///
    /// # Errors
    /// It was there before.
    pub const fn start(&mut self) -> Result<(), Refused> {
        self.go(State::Unwrapped, State::Handshake)
    }

    /// The handshake has been successful.
    ///
    /// # Errors
    /// The connection has been aborted meanwhile.
    pub const fn handshaken(&mut self) -> Result<(), Refused> {
        self.go(State::Handshake, State::Wrapped)
    }

    /// There is no TLS any more.
    pub const fn unwrap(&mut self) {
        self.state = State::Unwrapped;
    }

    /// Is the protocol above to be told that it is made?
    #[must_use]
    pub const fn tell_made(&mut self) -> bool {
        let tell = matches!(self.app, App::Init);
        if tell {
            self.app = App::Made;
        }
        tell
    }

    /// Is the protocol above to be told of the end?
    #[must_use]
    pub const fn tell_end(&mut self) -> bool {
        let tell = matches!(self.app, App::Made);
        if tell {
            self.app = App::Eof;
        }
        tell
    }

    /// Bytes have come from below.
    #[inline]
    pub const fn received(&self) -> Feed {
        match self.state {
            State::Unwrapped => Feed::Nothing,
            State::Handshake => Feed::Handshake,
            State::Wrapped => Feed::Read,
            State::Flushing => Feed::Flush,
            State::Shutdown => Feed::Shutdown,
        }
    }

    /// The transport below has nothing more.
    pub const fn received_end(&mut self) -> End {
        self.ended = true;
        match self.state {
            State::Unwrapped => End::Nothing,
            State::Handshake => End::HandshakeFailed,
            State::Wrapped => {
                self.state = State::Flushing;
                if self.reading_paused {
                    End::Wait
                } else {
                    End::Flush
                }
            }
            State::Flushing => End::WriteAndShutdown,
            State::Shutdown => End::Shutdown,
        }
    }

    /// Is data to be looked for?
    #[inline]
    #[must_use]
    pub const fn may_read(&self) -> bool {
        matches!(self.state, State::Wrapped | State::Flushing)
    }

    /// Something is to be written.
    #[inline]
    pub const fn write(&mut self) -> Write {
        match self.state {
            State::Wrapped => Write::Now,
            State::Handshake => Write::Keep,
            State::Unwrapped | State::Flushing | State::Shutdown => {
                let before = self.lost;
                self.lost = before.saturating_add(1);
                Write::Refused(before)
            }
        }
    }

    /// The connection is to be closed, by the program or by the peer's close-notify.
    pub const fn close(&mut self) -> Close {
        match self.state {
            State::Unwrapped | State::Flushing | State::Shutdown => Close::Already,
            State::Handshake => Close::Abort,
            State::Wrapped => {
                self.state = State::Flushing;
                Close::Flush
            }
        }
    }

    /// What had come is delivered. `false`: the program has aborted the connection meanwhile, or finished it.
    #[must_use]
    pub const fn flushed(&mut self) -> bool {
        self.go(State::Flushing, State::Shutdown).is_ok()
    }

    /// Is it time to give up waiting for the handshake?
    #[must_use]
    pub const fn handshake_is_late(&self) -> bool {
        matches!(self.state, State::Handshake)
    }

    /// Is it time to give up waiting for the peer's close-notify?
    #[must_use]
    pub const fn shutdown_is_late(&self) -> bool {
        matches!(self.state, State::Flushing | State::Shutdown)
    }

    /// The transport below is gone. `true`: the protocol above is to be told.
    #[must_use]
    pub const fn lose(&mut self) -> bool {
        self.lost = self.lost.saturating_add(1);
        let tell = !matches!(self.state, State::Handshake) && matches!(self.app, App::Made | App::Eof);
        if tell {
            self.app = App::Lost;
        }
        self.state = State::Unwrapped;
        tell
    }
}
