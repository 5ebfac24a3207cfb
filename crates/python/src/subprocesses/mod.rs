//! Child processes: `asyncio.base_subprocess`, `asyncio.subprocess` and the subprocess part of `asyncio.unix_events`.
//!
//! | file | owns |
//! |---|---|
//! | `transport.rs` | `_UnixSubprocessTransport`: a child, from its spawning to `connection_lost` |
//! | `spawning.rs` | how the child is made: `subprocess.Popen`, of which the plain case goes without its Python code |
//! | `ending.rs` | how the loop hears that a child has ended, and who takes its status |
//! | `pipe_protocol.rs` | what stands between a pipe of a child and the child's protocol |
//! | `stream_protocol.rs` | `SubprocessStreamProtocol`: that protocol, for streams |
//! | `process.rs` | `Process`, `create_subprocess_exec()`, `create_subprocess_shell()` |
//!
//! The child is a `subprocess.Popen`: all of its arguments and audit events are the program's to use, and it
//! knows every way of spawning that is legal at the moment. The loop's part begins with the pid.

pub(crate) mod ending;
mod pipe_protocol;
mod process;
mod spawning;
mod stream_protocol;
pub(crate) mod transport;

use crate::ffi::{Class, Obj, R, class};
use crate::imports;
use crate::streams::flow::FlowControl;
use crate::transports;
use pipe_protocol::{PipeProtocol, ReadPipeProtocol};
use process::Process;
use stream_protocol::SubprocessStreamProtocol;
use transport::Subprocess;

/// Makes the classes.
pub(crate) fn init() -> R<()> {
    let base: &Obj = &imports::SUBPROCESS_TRANSPORT;
    spawning::init()?;
    transports::check_layout(base)?;
    class::create::<Subprocess>(Some(base))?;
    class::create::<PipeProtocol>(Some(&imports::BASE_PROTOCOL))?;
    let both = Obj::tuple(&[PipeProtocol::class().get(), &imports::PROTOCOL])?;
    class::create::<ReadPipeProtocol>(Some(&both))?;
    let both = Obj::tuple(&[FlowControl::class().get(), &imports::SUBPROCESS_PROTOCOL])?;
    class::create::<SubprocessStreamProtocol>(Some(&both))?;
    class::create::<Process>(None)
}

pub(crate) use process::register;
