//! Transports: what connects a descriptor to a protocol. `asyncio.transports` has the interfaces,
//! `asyncio.selector_events` and `asyncio.unix_events` the classes that these take the place of.
//!
//! | file | owns |
//! |---|---|
//! | `life.rs` | what all of them share: from `connection_made` to `connection_lost` |
//! | `stream.rs` | `_SelectorSocketTransport`: a TCP or Unix connection |
//! | `reading.rs` | what comes in, to `data_received` or into the buffer of a `BufferedProtocol` |
//! | `writing.rs` | what goes out: `write`, `writelines`, the queue, `write_eof` |
//! | `outbox.rs` | how long what is written waits for more of it |
//! | `foreign.rs` | both, over a socket of a class that may have methods of its own |
//! | `datagram.rs` | `_SelectorDatagramTransport`: a socket for datagrams |
//! | `receiving.rs` | datagrams that come in |
//! | `sending.rs` | datagrams that go out: `sendto`, the queue |
//! | `peers.rs` | the addresses that they came from |
//! | `read_pipe.rs` | `_UnixReadPipeTransport`: the end of a pipe to read from |
//! | `write_pipe.rs` | `_UnixWritePipeTransport`: the one to write to |
//! | `flow.rs` | the water marks, pause_writing and resume_writing |
//! | `telling.rs` | telling a protocol: one of ours is told without a call |
//! | `socket.rs` | the descriptor, and the `socket.socket` over it |
//! | `trsock.rs` | `TransportSocket`: what programs see of that |
//!
//! A transport is called by the loop without a handle: a [`Source`] in the ready queue says who, a
//! [`Happening`] says what.

pub(crate) mod datagram;
pub(crate) mod flow;
mod foreign;
pub(crate) mod life;
pub(crate) mod outbox;
pub(crate) mod peers;
pub(crate) mod read_pipe;
mod reading;
mod receiving;
mod sending;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod telling;
pub(crate) mod trsock;
pub(crate) mod write_pipe;
pub(crate) mod writing;

use crate::event_loop::core::LoopCore;
use crate::ffi::errors::R;
use crate::ffi::{Obj, Own, Visitor};
use crate::imports::{self, names};
use crate::servers::listener::{self, Listener};
use crate::subprocesses::ending;
use crate::subprocesses::transport::Subprocess;
use datagram::Datagram;
use life::Transport;
use read_pipe::ReadPipe;
use stream::Stream;
use write_pipe::WritePipe;

pub(crate) use life::{check_layout, close, pause_reading, resume_reading, warn_unclosed};
pub(crate) use writing::write;

/// Something that the reactor tells that its descriptor is ready.
#[derive(Clone)]
pub(crate) enum Source {
    /// A connection.
    Stream(Own<Stream>),
    /// A socket for datagrams.
    Datagram(Own<Datagram>),
    /// A listening socket.
    Listener(Own<Listener>),
    /// A pipe to read from.
    ReadPipe(Own<ReadPipe>),
    /// A pipe to write to.
    WritePipe(Own<WritePipe>),
    /// A child process.
    Subprocess(Own<Subprocess>),
}

/// What a source is called for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Happening {
    /// Its protocol is to be told that the connection is made; then it begins to read.
    Made,
    /// There is something to read.
    Readable,
    /// There may be more to read: `LoopCore::eager`.
    Again,
    /// There is room to write.
    Writable,
    /// The connection is gone: its protocol is to be told.
    Lost,
}

impl Source {
    /// Does it. `Err`: KeyboardInterrupt or SystemExit; all else has been dealt with.
    #[inline]
    pub(crate) fn run(&self, loop_: &Obj, core: &Own<LoopCore>, happening: Happening) -> R<()> {
        match self {
            Source::Stream(stream) => life::run(stream, loop_, core, happening),
            Source::Datagram(datagram) => datagram::run(datagram, loop_, core, happening),
            Source::Listener(listener) => listener::run(listener, loop_, core, happening),
            Source::ReadPipe(pipe) => life::run(pipe, loop_, core, happening),
            Source::WritePipe(pipe) => life::run(pipe, loop_, core, happening),
            Source::Subprocess(process) => ending::run(process, loop_, core, happening),
        }
    }

    /// The transport.
    pub(crate) fn obj(&self) -> &Obj {
        match self {
            Source::Stream(stream) => stream.obj(),
            Source::Datagram(datagram) => datagram.obj(),
            Source::Listener(listener) => listener.obj(),
            Source::ReadPipe(pipe) => pipe.obj(),
            Source::WritePipe(pipe) => pipe.obj(),
            Source::Subprocess(process) => process.obj(),
        }
    }

    /// For the garbage collector.
    pub(crate) fn visit(&self, visitor: &mut Visitor) {
        visitor.obj(self.obj());
    }
}

/// `{'message', 'exception', 'transport', 'protocol'}` to the exception handler.
#[cold]
pub(crate) fn report(loop_: &Obj, message: &str, exception: &Obj, transport: &Obj, protocol: &Obj) -> R<()> {
    let context = Obj::dict()?;
    context.dict_set(&names::MESSAGE, &Obj::str(message)?)?;
    context.dict_set(&names::EXCEPTION, exception)?;
    context.dict_set(&names::TRANSPORT, transport)?;
    context.dict_set(&names::PROTOCOL, protocol)?;
    loop_
        .call_method(&names::CALL_EXCEPTION_HANDLER, &[&context])
        .map(drop)
}

/// `logger.debug(text, *args)`
#[cold]
pub(crate) fn log_debug(text: &str, args: &[&Obj], exc_info: Option<&Obj>) -> R<()> {
    log("debug", text, args, exc_info)
}

/// `logger.level(text, *args, exc_info=…)`
#[cold]
pub(crate) fn log(level: &str, text: &str, args: &[&Obj], exc_info: Option<&Obj>) -> R<()> {
    let text = Obj::str(text)?;
    let mut all = vec![&text];
    all.extend(args);
    let kwnames = Obj::tuple(&[&Obj::interned("exc_info")?])?;
    let kwnames = exc_info.map(|exception| {
        all.push(exception);
        &kwnames
    });
    imports::LOGGER
        .call_method_kw(&Obj::interned(level)?, &all, kwnames)
        .map(drop)
}

/// Makes the classes.
pub(crate) fn init() -> R<()> {
    crate::ffi::pysocket::init()?;
    trsock::init()?;
    let (transport, datagram_transport) = (&imports::TRANSPORT, &imports::DATAGRAM_TRANSPORT);
    life::check_layout(transport)?;
    life::check_layout(datagram_transport)?;
    // as asyncio's, it is both
    let both = Obj::tuple(&[transport, datagram_transport])?;
    crate::ffi::class::create::<Datagram>(Some(&both))?;
    create::<Stream>(transport)?;
    create::<ReadPipe>(&imports::READ_TRANSPORT)?;
    create::<WritePipe>(&imports::WRITE_TRANSPORT)
}

fn create<T: Transport>(base: &Obj) -> R<()> {
    life::check_layout(base)?;
    crate::ffi::class::create::<T>(Some(base))?;
    debug_assert!(T::class().get().issubclass(base)?);
    Ok(())
}
