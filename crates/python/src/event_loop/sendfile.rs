//! `loop.sendfile(transport, file, offset=0, count=None, *, fallback=True)` and
//! `loop.sock_sendfile(sock, file, offset=0, count=None, *, fallback=True)`.
//!
//! | file | owns |
//! |---|---|
//! | `transfer.rs` | `sendfile(2)`, block by block |
//! | `fallback.rs` | reading in the default executor and sending, where that is not possible |
//!
//! Rules
//! 1. However it ends, the position of the file says how much was sent.
//! 2. While a transport sends a file, nobody else writes to it and it does not read; afterwards it is as before.
//! 3. Our own transport on our own loop is sent to directly. Where the program has a hand in it (a class derived from
//!    the loop, a method replaced, a transport of its own), each of asyncio's steps is a call of the method.

mod fallback;
mod transfer;

use super::class::{EVENT_LOOP, this};
use super::core::LoopCore;
use super::readers;
use super::sockets::{check_no_ssl, check_non_blocking, loop_core};
use crate::ffi::errors::{raise, raise_new, runtime_error, type_error, value_error};
use crate::ffi::object::is_int;
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Class, Co, Coroutine, Obj, R, Raised};
use crate::imports::{self, names};
use crate::transports::stream::Stream;

/// Makes the class of the fallback's protocol.
pub(super) fn init() -> R<()> {
    fallback::init()
}

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method(
        "sendfile(self, transport, file, offset=0, count=None, *, fallback=True)",
        |args| begin_whole(args, "BaseEventLoop.sendfile", sendfile),
    )?;
    body.async_method("_sendfile_native(self, transp, file, offset, count)", |args| {
        begin_part(args, "BaseSelectorEventLoop._sendfile_native", to_transport)
    })?;
    body.async_method("_sendfile_fallback(self, transp, file, offset, count)", |args| {
        begin_part(args, "BaseEventLoop._sendfile_fallback", fallback::to_transport)
    })?;
    body.async_method(
        "sock_sendfile(self, sock, file, offset=0, count=None, *, fallback=True)",
        |args| begin_whole(args, "BaseEventLoop.sock_sendfile", sock_sendfile),
    )?;
    body.async_method("_sock_sendfile_native(self, sock, file, offset, count)", |args| {
        begin_part(
            args,
            "_UnixSelectorEventLoop._sock_sendfile_native",
            transfer::run,
        )
    })?;
    body.async_method(
        "_sock_sendfile_fallback(self, sock, file, offset, count)",
        |args| begin_part(args, "BaseEventLoop._sock_sendfile_fallback", fallback::to_socket),
    )
}

/// Locals of all these coroutines.
const LOOP: usize = 0;
/// Where it goes: a socket or a transport.
const TARGET: usize = 1;
/// A tuple: `(file, offset, count)`.
const WORK: usize = 2;
/// What is awaited, or the buffer of the fallback; at first whether falling back is allowed.
const OTHER: usize = 3;

fn begin_whole<F>(args: &Args, name: &'static str, body: fn(Co) -> F) -> R<Obj>
where
    F: Future<Output = R<Obj>> + 'static,
{
    let (zero, none, yes) = (Obj::int(0)?, Obj::none(), Obj::bool(true));
    let (offset, count, fallback) = (
        args.get(3).unwrap_or(&zero),
        args.get(4).unwrap_or(&none),
        args.get(5).unwrap_or(&yes),
    );
    let work = Obj::tuple(&[args.req(2)?, offset, count])?;
    Coroutine::boxed(name, &[this(args)?.0, args.req(1)?, &work, fallback], body)
}

fn begin_part<F>(args: &Args, name: &'static str, body: fn(Co) -> F) -> R<Obj>
where
    F: Future<Output = R<Obj>> + 'static,
{
    let work = Obj::tuple(&[args.req(2)?, args.req(3)?, args.req(4)?])?;
    Coroutine::boxed(name, &[this(args)?.0, args.req(1)?, &work], body)
}

fn parts(work: &Obj) -> R<&[Obj; 3]> {
    work.tuple_items()
        .try_into()
        .map_err(|_| type_error("a file, an offset and a count are required"))
}

/// `self.name(target, file, offset, count)`
fn method(co: &Co, name: &str) -> R<Obj> {
    let (target, work) = (co.local(TARGET), co.local(WORK));
    let [file, offset, count] = parts(&work)?;
    co.local(LOOP)
        .call_method_str(name, &[&target, file, offset, count])
}

fn not_available(text: &str) -> Raised {
    raise_new(&imports::SENDFILE_NOT_AVAILABLE, text)
}

// --- sock_sendfile --------------------------------------------------------------------------------

async fn sock_sendfile(co: Co) -> R<Obj> {
    {
        let (loop_, sock) = (co.local(LOOP), co.local(TARGET));
        check_non_blocking(loop_core(&loop_)?, &sock)?;
        check_no_ssl(&sock)?;
        check_parameters(Some(&sock), &co.local(WORK))?;
    }
    let sending = method(&co, "_sock_sendfile_native")?;
    match co.wait(sending).await {
        Err(raised) if raised.matches(&imports::SENDFILE_NOT_AVAILABLE) => {
            let exception = raised.take();
            if !co.local(OTHER).truth()? {
                return Err(raise(&exception));
            }
        }
        result => return result,
    }
    let sending = method(&co, "_sock_sendfile_fallback")?;
    co.wait(sending).await
}

/// `_check_sendfile_params(sock, file, offset, count)`; a transport of ours needs no check of its socket.
fn check_parameters(sock: Option<&Obj>, work: &Obj) -> R<()> {
    let [file, offset, count] = parts(work)?;
    if let Some(mode) = file.getattr_opt(&Obj::interned("mode")?)?
        && !mode.contains(&Obj::str("b")?)?
    {
        return Err(value_error("file should be opened in binary mode"));
    }
    if let Some(sock) = sock
        && !sock
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

// --- sendfile -------------------------------------------------------------------------------------

async fn sendfile(co: Co) -> R<Obj> {
    let fallback = co.local(OTHER).truth()?;
    let (native, direct) = {
        let (loop_, transport) = (co.local(LOOP), co.local(TARGET));
        if transport.call_method_str("is_closing", &[])?.truth()? {
            return Err(runtime_error("Transport is closing"));
        }
        let modes: &Obj = &imports::SENDFILE_MODE;
        let unsupported = modes.getattr_str("UNSUPPORTED")?;
        let mode = transport
            .getattr_opt(&Obj::interned("_sendfile_compatible")?)?
            .unwrap_or_else(|| unsupported.clone());
        if mode.is(&unsupported) {
            return Err(runtime_error(&format!(
                "sendfile is not supported for transport {}",
                transport.repr()?
            )));
        }
        let native = mode.is(&modes.getattr_str("TRY_NATIVE")?);
        (native, is_direct(loop_core(&loop_)?, &loop_, &transport))
    };
    if native {
        let sent = if direct {
            to_transport(co).await
        } else {
            let sending = method(&co, "_sendfile_native")?;
            co.wait(sending).await
        };
        match sent {
            Err(raised) if raised.matches(&imports::SENDFILE_NOT_AVAILABLE) => {
                let exception = raised.take();
                if !fallback {
                    return Err(raise(&exception));
                }
            }
            result => return result,
        }
    }
    if !fallback {
        return Err(runtime_error(&format!(
            "fallback is disabled and native sendfile is not supported for transport {}",
            co.local(TARGET).repr()?
        )));
    }
    let sending = method(&co, "_sendfile_fallback")?;
    co.wait(sending).await
}

/// Rule 3.
fn is_direct(core: &LoopCore, loop_: &Obj, transport: &Obj) -> bool {
    EVENT_LOOP.is_exact(loop_) && !core.patched.get() && Stream::class().is_exact(transport)
}

/// `_sendfile_native(transp, file, offset, count)`; rule 2.
async fn to_transport(co: Co) -> R<Obj> {
    let direct = {
        let (loop_, transport) = (co.local(LOOP), co.local(TARGET));
        is_direct(loop_core(&loop_)?, &loop_, &transport)
    };
    let emptied = co.local(TARGET).call_method_str("_make_empty_waiter", &[])?;
    let resume = match hold(&co, direct) {
        Ok(resume) => resume,
        Err(raised) => {
            let exception = raised.take();
            release(&co, direct, false)?;
            return Err(raise(&exception));
        }
    };
    let mut sent = co.wait(emptied).await;
    if sent.is_ok() {
        sent = if direct {
            match check_parameters(None, &co.local(WORK)) {
                Ok(()) => transfer::run(co).await,
                Err(raised) => Err(raised),
            }
        } else {
            match to_socket(&co) {
                Ok(sending) => co.wait(sending).await,
                Err(raised) => Err(raised),
            }
        };
    }
    match sent {
        Ok(sent) => {
            release(&co, direct, resume)?;
            Ok(sent)
        }
        Err(raised) => {
            let exception = raised.take();
            release(&co, direct, resume)?;
            Err(raise(&exception))
        }
    }
}

/// The transport reads no longer; and the loop lets others use its descriptor, unless we do it ourselves. Was it
/// reading?
fn hold(co: &Co, direct: bool) -> R<bool> {
    let transport = co.local(TARGET);
    let reading = transport.call_method_str("is_reading", &[])?.truth()?;
    transport.call_method_str("pause_reading", &[])?;
    if !direct && let Some(stream) = Stream::class().exact(&transport) {
        let fd = readers::fileno(&transport.getattr_str("_sock_fd")?)?;
        readers::vacate(loop_core(&co.local(LOOP))?, fd, stream);
    }
    Ok(reading)
}

/// The transport is its own master again.
fn release(co: &Co, direct: bool, resume: bool) -> R<()> {
    let transport = co.local(TARGET);
    transport.call_method_str("_reset_empty_waiter", &[])?;
    if resume {
        transport.call_method_str("resume_reading", &[])?;
    }
    if !direct && let Some(stream) = Stream::class().exact(&transport) {
        // (unless it has been closed meanwhile)
        if let Some(fd) = stream.descriptor() {
            readers::occupy(loop_core(&co.local(LOOP))?, fd, stream.obj());
        }
    }
    Ok(())
}

/// `sock_sendfile(transp._sock, file, offset, count, fallback=False)`
fn to_socket(co: &Co) -> R<Obj> {
    let (sock, work) = (co.local(TARGET).getattr_str("_sock")?, co.local(WORK));
    let [file, offset, count] = parts(&work)?;
    let kwnames = Obj::tuple(&[&Obj::interned("fallback")?])?;
    co.local(LOOP).call_method_kw(
        &Obj::interned("sock_sendfile")?,
        &[&sock, file, offset, count, &Obj::bool(false)],
        Some(&kwnames),
    )
}
