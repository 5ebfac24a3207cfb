//! `loop.sock_sendfile(sock, file, offset=0, count=None, *, fallback=True)`.
//!
//! `os.sendfile` block by block, or reading in the default executor and sending, where that is not
//! possible. However it ends, the position of the file says how much was sent.

use super::class::this;
use super::readers::{self, Side};
use super::sockets::{check_no_ssl, check_non_blocking, descriptor, loop_core, unless_it_blocks, wait_for};
use crate::ffi::errors::{exc, raise, raise_new, type_error, value_error};
use crate::ffi::object::is_int;
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Class, Co, Coroutine, Obj, R, Raised, exceptions};
use crate::futures::Future;
use crate::imports::{self, names};
use crate::version;

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method(
        "sock_sendfile(self, sock, file, offset=0, count=None, *, fallback=True)",
        sock_sendfile,
    )?;
    body.async_method("_sock_sendfile_native(self, sock, file, offset, count)", native)?;
    body.async_method(
        "_sock_sendfile_fallback(self, sock, file, offset, count)",
        fallback,
    )
}

/// Locals of all three coroutines. The work is a tuple: `(file, offset, count)`.
const LOOP: usize = 0;
const SOCK: usize = 1;
const WORK: usize = 2;
const BUFFER: usize = 3;

fn sock_sendfile(args: &Args) -> R<Obj> {
    let (loop_, _) = this(args)?;
    let (offset, count, fallback) = (args.get(3), args.get(4), args.get(5));
    let (zero, none, yes) = (Obj::int(0)?, Obj::none(), Obj::bool(true));
    let work = Obj::tuple(&[args.req(2)?, offset.unwrap_or(&zero), count.unwrap_or(&none)])?;
    let locals = [loop_, args.req(1)?, &work, fallback.unwrap_or(&yes)];
    Coroutine::boxed("BaseEventLoop.sock_sendfile", &locals, |co: Co| async move {
        {
            let (loop_, sock) = (co.local(LOOP), co.local(SOCK));
            check_non_blocking(loop_core(&loop_)?, &sock)?;
            check_no_ssl(&sock)?;
            check_parameters(&sock, &co.local(WORK))?;
        }
        let sending = method(&co, "_sock_sendfile_native")?;
        match co.wait(sending).await {
            Err(raised) if raised.matches(&imports::SENDFILE_NOT_AVAILABLE) => {
                let exception = raised.take();
                if !co.local(BUFFER).truth()? {
                    return Err(raise(&exception));
                }
            }
            result => return result,
        }
        let sending = method(&co, "_sock_sendfile_fallback")?;
        co.wait(sending).await
    })
}

/// `self.name(sock, file, offset, count)`
fn method(co: &Co, name: &str) -> R<Obj> {
    let (sock, work) = (co.local(SOCK), co.local(WORK));
    let [file, offset, count] = parts(&work)?;
    co.local(LOOP)
        .call_method_str(name, &[&sock, file, offset, count])
}

fn parts(work: &Obj) -> R<&[Obj; 3]> {
    work.tuple_items()
        .try_into()
        .map_err(|_| type_error("a file, an offset and a count are required"))
}

/// `_check_sendfile_params(sock, file, offset, count)`
fn check_parameters(sock: &Obj, work: &Obj) -> R<()> {
    let [file, offset, count] = parts(work)?;
    if let Some(mode) = file.getattr_opt(&Obj::interned("mode")?)?
        && !mode.contains(&Obj::str("b")?)?
    {
        return Err(value_error("file should be opened in binary mode"));
    }
    if !sock
        .getattr(&names::TYPE)?
        .eq(&Obj::int(libc::SOCK_STREAM.into())?)?
    {
        return Err(value_error("only SOCK_STREAM type sockets are supported"));
    }
    let zero = Obj::int(0)?;
    if !count.is_none() {
        let text = || -> R<String> {
            Ok(format!(
                "count must be a positive integer (got {})",
                count.repr()?
            ))
        };
        if !is_int(count) {
            return Err(type_error(&text()?));
        }
        if !zero.lt(count)? {
            return Err(value_error(&text()?));
        }
    }
    let text = || -> R<String> {
        Ok(format!(
            "offset must be a non-negative integer (got {})",
            offset.repr()?
        ))
    };
    if !is_int(offset) {
        return Err(type_error(&text()?));
    }
    if offset.lt(&zero)? {
        return Err(value_error(&text()?));
    }
    Ok(())
}

// --- os.sendfile ----------------------------------------------------------------------------------

/// What is left to do of a native transfer: plain numbers, which may live across a wait.
struct Transfer {
    /// Where it reads from.
    file: i64,
    offset: i64,
    /// How much is to be sent; `None`: up to the end of the file.
    count: Option<i64>,
    block: i64,
    sent: i64,
}

fn native(args: &Args) -> R<Obj> {
    let (loop_, _) = this(args)?;
    let work = Obj::tuple(&[args.req(2)?, args.req(3)?, args.req(4)?])?;
    Coroutine::boxed(
        "_UnixSelectorEventLoop._sock_sendfile_native",
        &[loop_, args.req(1)?, &work],
        |co: Co| async move {
            let Some(mut transfer) = Transfer::new(&co.local(WORK))? else {
                return Obj::int(0);
            };
            loop {
                match transfer.attempt(&co.local(SOCK)) {
                    Ok(true) => {
                        transfer.update_position()?;
                        return Obj::int(transfer.sent);
                    }
                    Ok(false) => {}
                    Err(raised) => return Err(transfer.fail(raised)?),
                }
                // Also after a block was taken: others want to run, too.
                let fd = descriptor(&co.local(SOCK))?;
                let future = wait_for(&co.local(LOOP), fd, Side::Writer, &co.local(SOCK))?.into_obj();
                co.set(BUFFER, future.clone());
                let outcome = co.wait(future).await;
                if let Err(raised) = stop_waiting(&co, fd, outcome) {
                    return Err(transfer.fail(raised)?);
                }
            }
        },
    )
}

/// The future leaves the descriptor, however the wait ended.
fn stop_waiting(co: &Co, fd: i32, outcome: R<Obj>) -> R<()> {
    let failure = outcome.err().map(Raised::take);
    let (loop_, future) = (co.local(LOOP), co.local(BUFFER));
    if let Some(future) = Future::class().exact(&future) {
        readers::leave(loop_core(&loop_)?, fd, Side::Writer, future);
    }
    match failure {
        Some(exception) => Err(raise(&exception)),
        None => Ok(()),
    }
}

fn not_available(text: &str) -> Raised {
    raise_new(&imports::SENDFILE_NOT_AVAILABLE, text)
}

impl Transfer {
    /// `None`: the file is empty.
    fn new(work: &Obj) -> R<Option<Transfer>> {
        let [file, offset, count] = parts(work)?;
        let os = Obj::import("os")?;
        if !os.hasattr("sendfile")? {
            return Err(not_available("os.sendfile() is not available"));
        }
        let unsupported = Obj::import("io")?.getattr_str("UnsupportedOperation")?;
        let number = match file.call_method(&names::FILENO, &[]) {
            Ok(number) => number,
            Err(raised) if raised.matches(exc::attribute_error()) || raised.matches(&unsupported) => {
                return Err(instead(raised, "not a regular file"));
            }
            Err(raised) => return Err(raised),
        };
        let size = match os.call_method_str("fstat", &[&number]) {
            Ok(status) => status.getattr_str("st_size")?.to_i64()?,
            Err(raised) if raised.matches(exc::os_error()) => {
                return Err(instead(raised, "not a regular file"));
            }
            Err(raised) => return Err(raised),
        };
        let count = if count.truth()? {
            Some(count.to_i64()?)
        } else {
            None
        };
        let block = count.unwrap_or(size);
        let transfer = Transfer {
            file: number.to_i64()?,
            offset: offset.to_i64()?,
            count,
            block,
            sent: 0,
        };
        Ok((block != 0).then_some(transfer))
    }

    /// One block. `true`: that was all.
    fn attempt(&mut self, sock: &Obj) -> R<bool> {
        const LARGEST: i64 = isize::MAX as i64 / 2 + 1;
        let fd = sock.call_method(&names::FILENO, &[])?;
        if let Some(count) = self.count {
            self.block = count - self.sent;
            if self.block <= 0 {
                return Ok(true);
            }
        }
        self.block = self.block.min(LARGEST);
        let (file, offset, block) = (
            Obj::int(self.file)?,
            Obj::int(self.offset)?,
            Obj::int(self.block)?,
        );
        let result = Obj::import("os")?.call_method_str("sendfile", &[&fd, &file, &offset, &block]);
        match unless_it_blocks(result) {
            Ok(Some(sent)) => {
                let sent = sent.to_i64()?;
                self.offset += sent;
                self.sent += sent;
                Ok(sent == 0)
            }
            Ok(None) => Ok(false),
            // not a file that can be mapped, most often: the caller reads and sends it
            Err(raised) if self.sent == 0 && raised.matches(exc::os_error()) => {
                Err(instead(raised, "os.sendfile call failed"))
            }
            Err(raised) => Err(raised),
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
            let arguments = [
                Obj::int(self.file)?,
                Obj::int(self.offset)?,
                Obj::int(libc::SEEK_SET.into())?,
            ];
            Obj::import("os")?.call_method_str("lseek", &[&arguments[0], &arguments[1], &arguments[2]])?;
        }
        Ok(())
    }
}

/// SendfileNotAvailableError while another exception is handled.
fn instead(raised: Raised, text: &str) -> Raised {
    let exception = raised.take();
    let error = not_available(text).take();
    exceptions::set_context(&error, Some(exception));
    raise(&error)
}

// --- reading and sending --------------------------------------------------------------------------

fn fallback(args: &Args) -> R<Obj> {
    let (loop_, _) = this(args)?;
    let work = Obj::tuple(&[args.req(2)?, args.req(3)?, args.req(4)?])?;
    Coroutine::boxed(
        "BaseEventLoop._sock_sendfile_fallback",
        &[loop_, args.req(1)?, &work],
        |co: Co| async move {
            let limit = begin_fallback(&co)?;
            let mut sent = 0;
            let failure = loop {
                match one_block(&co, limit, sent).await {
                    Ok(0) => break None,
                    Ok(read) => sent += read,
                    Err(raised) => break Some(raised),
                }
            };
            let failure = failure.map(Raised::take);
            if sent > 0 {
                let work = co.local(WORK);
                let [file, offset, _] = parts(&work)?;
                if file.hasattr("seek")? {
                    file.call_method(&names::SEEK, &[&Obj::int(offset.to_i64()? + sent)?])?;
                }
            }
            match failure {
                Some(exception) => Err(raise(&exception)),
                None => Obj::int(sent),
            }
        },
    )
}

/// Goes to the offset, makes the buffer, and says how much is to be sent.
fn begin_fallback(co: &Co) -> R<Option<i64>> {
    let work = co.local(WORK);
    let [file, offset, count] = parts(&work)?;
    let seek = if version::SINCE_314.get() {
        file.hasattr("seek")?
    } else {
        offset.truth()?
    };
    if seek {
        file.call_method(&names::SEEK, &[offset])?;
    }
    let limit = if count.truth()? {
        Some(count.to_i64()?)
    } else {
        None
    };
    let largest = Obj::import("asyncio.constants")?
        .getattr_str("SENDFILE_FALLBACK_READBUFFER_SIZE")?
        .to_i64()?;
    let size = limit.map_or(largest, |limit| limit.min(largest));
    let buffer = Obj::import("builtins")?.call_method_str("bytearray", &[&Obj::int(size)?])?;
    co.set(BUFFER, buffer.memoryview()?);
    Ok(limit)
}

/// Reads a block in the default executor, and sends it. 0: that was all.
async fn one_block(co: &Co, limit: Option<i64>, sent: i64) -> R<i64> {
    let reading = {
        let buffer = co.local(BUFFER);
        let room = limit
            .map_or(i64::MAX, |limit| limit - sent)
            .min(buffer.len()? as i64);
        if room <= 0 {
            return Ok(0);
        }
        let work = co.local(WORK);
        let [file, ..] = parts(&work)?;
        let (readinto, view) = (file.getattr_str("readinto")?, buffer.slice(0, room as usize)?);
        co.local(LOOP)
            .call_method(&names::RUN_IN_EXECUTOR, &[&Obj::none(), &readinto, &view])?
    };
    let read = co.wait(reading).await?;
    if !read.truth()? {
        return Ok(0);
    }
    let read = read.to_i64()?;
    let sending = {
        let block = co.local(BUFFER).slice(0, read as usize)?;
        co.local(LOOP)
            .call_method_str("sock_sendall", &[&co.local(SOCK), &block])?
    };
    co.wait(sending).await?;
    Ok(read)
}
