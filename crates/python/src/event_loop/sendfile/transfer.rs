//! `sendfile(2)`, block by block: `_sock_sendfile_native`, to a socket or straight to a transport of ours.
//!
//! A block that is small enough goes without giving up the GIL: most files that are sent again and again are in
//! memory, and winning the GIL back beside a busy thread takes longer than the disk. A larger one may wait for the
//! disk, and then other threads run. No block is so large that the loop is kept from its other work for long.

use super::super::readers::{self, Side};
use super::super::sockets::{loop_core, wait_as_owner, wait_for};
use super::{LOOP, OTHER, TARGET, WORK, not_available, parts};
use crate::ffi::errors::{connection_error, exc, os_error, raise};
use crate::ffi::{Class, Co, Obj, R, Raised, exceptions, pysocket, threads};
use crate::futures::Future;
use crate::imports::names;
use crate::transports::stream::Stream;
use crate::version;
use aioxide_core::file;
use std::io;

/// What is sent in one go.
const LARGEST: i64 = 512 * 1024;
/// What is sent without giving up the GIL.
const SMALL: i64 = 64 * 1024;

/// What is left to do: plain numbers, which may live across a wait.
struct Transfer {
    /// Where it reads from.
    file: i32,
    offset: u64,
    /// How much is to be sent; `None`: up to the end of the file.
    count: Option<i64>,
    /// How long the file was when we began.
    size: i64,
    sent: i64,
}

/// What a block came to.
enum Outcome {
    /// That was all.
    Done,
    /// There is more, and may be room for it.
    More,
    /// There is no room.
    Full,
}

/// `_sock_sendfile_native(sock, file, offset, count)`
pub(super) async fn run(co: Co) -> R<Obj> {
    let Some(mut transfer) = Transfer::new(&co.local(WORK))? else {
        return Obj::int(0);
    };
    loop {
        let rested = match transfer.block(&co.local(TARGET)) {
            Ok(Outcome::Done) => {
                transfer.update_position()?;
                return Obj::int(transfer.sent);
            }
            // others want to run, too
            Ok(Outcome::More) => co.suspend(Obj::none()).await.map(drop),
            Ok(Outcome::Full) => room(&co).await,
            Err(raised) => Err(raised),
        };
        if let Err(raised) = rested {
            return Err(transfer.fail(raised)?);
        }
    }
}

/// The descriptor to send to.
fn destination(target: &Obj) -> R<i32> {
    if let Some(stream) = Stream::class().exact(target) {
        return match stream.descriptor() {
            Some(fd) => Ok(fd),
            None => Err(connection_error("Connection is closed by peer")),
        };
    }
    match pysocket::fd(target) {
        Some(fd) => Ok(fd),
        None => Ok(target.call_method(&names::FILENO, &[])?.to_i64()? as i32),
    }
}

/// Waits until the descriptor has room.
async fn room(co: &Co) -> R<()> {
    let fd = {
        let (loop_, target) = (co.local(LOOP), co.local(TARGET));
        let fd = readers::fileno(&Obj::int(destination(&target)?.into())?)?;
        let future = match Stream::class().exact(&target) {
            Some(_) => wait_as_owner(&loop_, fd, Side::Writer, &target)?,
            None => wait_for(&loop_, fd, Side::Writer, &target)?,
        };
        co.set(OTHER, future.into_obj());
        fd
    };
    let outcome = co.wait(co.local(OTHER)).await;
    // however the wait ended, the future leaves the descriptor
    let failure = outcome.err().map(Raised::take);
    let (loop_, future) = (co.local(LOOP), co.local(OTHER));
    if let Some(future) = Future::class().exact(&future) {
        readers::leave(loop_core(&loop_)?, fd, Side::Writer, future);
    }
    match failure {
        Some(exception) => Err(raise(&exception)),
        None => Ok(()),
    }
}

impl Transfer {
    /// `None`: there is nothing to send.
    fn new(work: &Obj) -> R<Option<Transfer>> {
        let [file, offset, count] = parts(work)?;
        let number = match file.call_method(&names::FILENO, &[]) {
            Ok(number) => number,
            Err(raised) => return Err(without_number(raised)?),
        };
        let file = i32::try_from(number.to_i64()?).unwrap_or(-1);
        let size = match file::size(file) {
            Ok(size) => size,
            Err(error) => return Err(instead(os_error(&error), "not a regular file")),
        };
        let count = if count.truth()? {
            Some(count.to_i64()?)
        } else {
            None
        };
        let transfer = Transfer {
            file,
            offset: offset.to_i64()?.unsigned_abs(),
            count,
            size,
            sent: 0,
        };
        Ok((count.unwrap_or(size) != 0).then_some(transfer))
    }

    /// How much there is to send now, as far as we know.
    fn left(&self) -> i64 {
        match self.count {
            Some(count) => count - self.sent,
            // a file may grow while it is sent
            None => (self.size - self.offset as i64).max(SMALL),
        }
    }

    /// Sends a block.
    fn block(&mut self, target: &Obj) -> R<Outcome> {
        let to = destination(target)?;
        loop {
            let wanted = self.left().min(LARGEST);
            if wanted <= 0 {
                return Ok(Outcome::Done);
            }
            let (from, offset, count) = (self.file, self.offset, wanted as usize);
            let result = if wanted <= SMALL {
                file::send(to, from, offset, count)
            } else {
                threads::without_gil(move || file::send(to, from, offset, count))
            };
            let sent = match result {
                Ok(0) => return Ok(Outcome::Done),
                Ok(sent) => sent as i64,
                Err(error) => return self.failed(&error),
            };
            self.offset += sent as u64;
            self.sent += sent;
            if sent == LARGEST {
                return Ok(Outcome::More);
            }
            // A short one: either that was the file, and the next call says so, or there is no more room.
            if sent < wanted && (self.offset as i64) < self.size {
                return Ok(Outcome::Full);
            }
        }
    }

    #[cold]
    fn failed(&self, error: &io::Error) -> R<Outcome> {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Outcome::Full),
            // not a file that can be mapped, most often: the caller reads and sends it
            _ if self.sent == 0 => Err(instead(os_error(error), "os.sendfile call failed")),
            io::ErrorKind::NotConnected => {
                let cause = os_error(error).take();
                let text = Obj::str("socket is not connected")?;
                let code = Obj::int(libc::ENOTCONN.into())?;
                let lost = exc::connection_error().call(&[&text, &code])?;
                exceptions::set_cause(&lost, Some(cause));
                Err(raise(&lost))
            }
            _ => Err(os_error(error)),
        }
    }

    /// It ends with an exception.
    fn fail(&self, raised: Raised) -> R<Raised> {
        let exception = raised.take();
        self.update_position()?;
        Ok(raise(&exception))
    }

    /// The position of the file says how much was sent.
    fn update_position(&self) -> R<()> {
        if self.sent > 0 || version::SINCE_314.get() {
            file::go_to(self.file, self.offset).map_err(|error| os_error(&error))?;
        }
        Ok(())
    }
}

/// `file.fileno()` has failed: such a file has to be read.
#[cold]
fn without_number(raised: Raised) -> R<Raised> {
    let exception = raised.take();
    let unsupported = Obj::import("io")?.getattr_str("UnsupportedOperation")?;
    if exception.isinstance(exc::attribute_error())? || exception.isinstance(&unsupported)? {
        return Ok(instead(raise(&exception), "not a regular file"));
    }
    Ok(raise(&exception))
}

/// SendfileNotAvailableError while another exception is handled.
fn instead(raised: Raised, text: &str) -> Raised {
    let exception = raised.take();
    let error = not_available(text).take();
    exceptions::set_context(&error, Some(exception));
    raise(&error)
}
