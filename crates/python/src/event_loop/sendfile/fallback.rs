//! Reading in the default executor and sending, for files and transports that `sendfile(2)` does not take.
//!
//! To a socket it goes by `sock_sendall`. To a transport it goes by `write`, and in the meantime the transport has a
//! protocol of ours (`_SendfileFallbackProtocol`), which knows when there may be more.

use super::{LOOP, OTHER, TARGET, WORK, parts};
use crate::ffi::errors::{connection_error, raise, runtime_error, type_error};
use crate::ffi::{Args, Class, ClassCell, Co, Obj, Own, R, Slot, Slots, Visitor, class};
use crate::futures::methods;
use crate::imports::{self, names};
use crate::version;
use std::cell::Cell;
use std::ffi::CStr;

/// What is read at once for a transport.
const BLOCK: i64 = 16384;

/// `_sock_sendfile_fallback(sock, file, offset, count)`
pub(super) async fn to_socket(co: Co) -> R<Obj> {
    let limit = {
        let block = imports::CONSTANTS.getattr_str("SENDFILE_FALLBACK_READBUFFER_SIZE")?;
        begin(&co, block.to_i64()?)?
    };
    let (sent, failure) = all_blocks(&co, limit).await;
    go_to_end(&co, sent)?;
    finish(sent, failure)
}

/// `_sendfile_fallback(transp, file, offset, count)`
pub(super) async fn to_transport(co: Co) -> R<Obj> {
    let limit = begin(&co, BLOCK)?;
    // from now on the target is the protocol, which has the transport
    co.set(TARGET, FallbackProtocol::take(&co.local(TARGET))?.into_obj());
    let (sent, mut failure) = all_blocks(&co, limit).await;
    if let Err(raised) = go_to_end(&co, sent) {
        failure = Some(raised.take());
    }
    if let Some(protocol) = FallbackProtocol::class().exact(&co.local(TARGET)) {
        protocol.restore()?;
    }
    finish(sent, failure)
}

/// Goes to the offset, makes the buffer, and says how much is to be sent.
fn begin(co: &Co, block: i64) -> R<Option<i64>> {
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
    let size = limit.map_or(block, |limit| limit.min(block));
    let buffer = Obj::import("builtins")?.call_method_str("bytearray", &[&Obj::int(size)?])?;
    co.set(OTHER, buffer.memoryview()?);
    Ok(limit)
}

/// How much was sent, and what has ended it before its time.
async fn all_blocks(co: &Co, limit: Option<i64>) -> (i64, Option<Obj>) {
    let mut sent = 0;
    loop {
        match one_block(co, limit, sent).await {
            Ok(0) => return (sent, None),
            Ok(read) => sent += read,
            Err(raised) => return (sent, Some(raised.take())),
        }
    }
}

/// Reads a block in the default executor, and sends it. 0: that was all.
async fn one_block(co: &Co, limit: Option<i64>, sent: i64) -> R<i64> {
    let reading = {
        let buffer = co.local(OTHER);
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
    send(co, read as usize).await?;
    Ok(read)
}

/// Sends the first so many bytes of the buffer.
async fn send(co: &Co, count: usize) -> R<()> {
    let block = || co.local(OTHER).slice(0, count);
    if !FallbackProtocol::class().is_exact(&co.local(TARGET)) {
        let sending = co
            .local(LOOP)
            .call_method_str("sock_sendall", &[&co.local(TARGET), &block()?])?;
        return co.wait(sending).await.map(drop);
    }
    let write = || -> R<()> {
        let target = co.local(TARGET);
        let Some(protocol) = FallbackProtocol::class().exact(&target) else {
            return Ok(());
        };
        let transport = protocol.transport.get_or_none();
        transport.call_method(&names::WRITE, &[&block()?]).map(drop)
    };
    if version::SINCE_314.get() {
        write()?;
        drain(co).await
    } else {
        drain(co).await?;
        write()
    }
}

/// `drain()`: waits until the transport wants more.
async fn drain(co: &Co) -> R<()> {
    let waiting = {
        let target = co.local(TARGET);
        let Some(protocol) = FallbackProtocol::class().exact(&target) else {
            return Ok(());
        };
        let transport = protocol.transport.get_or_none();
        if transport.call_method_str("is_closing", &[])?.truth()? {
            return Err(connection_error("Connection closed by peer"));
        }
        protocol.write_ready.get()
    };
    match waiting {
        Some(future) => co.wait(future).await.map(drop),
        None => Ok(()),
    }
}

/// The position of the file says how much was sent.
fn go_to_end(co: &Co, sent: i64) -> R<()> {
    let work = co.local(WORK);
    let [file, offset, _] = parts(&work)?;
    if sent > 0 && file.hasattr("seek")? {
        file.call_method(&names::SEEK, &[&Obj::int(offset.to_i64()? + sent)?])?;
    }
    Ok(())
}

/// What a transport has for its protocol while it sends a file.
#[derive(Default)]
struct FallbackProtocol {
    transport: Slot,
    /// The protocol that it had.
    protocol: Slot,
    /// Ended when there may be more; there is none while there may be.
    write_ready: Slot,
    resume_reading: Cell<bool>,
    resume_writing: Cell<bool>,
}

impl FallbackProtocol {
    /// Takes the place of the transport's protocol.
    fn take(transport: &Obj) -> R<Own<FallbackProtocol>> {
        // (ours have what counts in it)
        if !transport.hasattr("_protocol_paused")? && !transport.isinstance(&imports::FLOW_CONTROL_MIXIN)? {
            return Err(type_error("transport should be _FlowControlMixin instance"));
        }
        let truth = |value: R<Obj>| value.and_then(|value| value.truth());
        let this = CLASS.alloc(FallbackProtocol::default())?;
        this.transport.set(transport.clone());
        this.protocol.set(transport.call_method_str("get_protocol", &[])?);
        this.resume_reading
            .set(truth(transport.call_method_str("is_reading", &[]))?);
        this.resume_writing
            .set(truth(transport.getattr_str("_protocol_paused"))?);
        transport.call_method_str("pause_reading", &[])?;
        transport.call_method_str("set_protocol", &[this.obj()])?;
        if this.resume_writing.get() {
            this.write_ready.set(this.create_future()?);
        }
        Ok(this)
    }

    fn create_future(&self) -> R<Obj> {
        methods::create(&self.transport.get_or_none().getattr(&names::LOOP_)?)
    }
}

impl Own<FallbackProtocol> {
    /// Gives it back.
    fn restore(&self) -> R<()> {
        let (transport, protocol) = (self.transport.get_or_none(), self.protocol.get_or_none());
        transport.call_method_str("set_protocol", &[&protocol])?;
        if self.resume_reading.get() {
            transport.call_method_str("resume_reading", &[])?;
        }
        // nobody waits for it any more
        if let Some(future) = self.write_ready.get() {
            future.call_method(&names::CANCEL, &[])?;
        }
        if self.resume_writing.get() {
            protocol.call_method(&names::RESUME_WRITING, &[])?;
        }
        Ok(())
    }
}

fn connection_lost(args: &Args) -> R<Obj> {
    let (this, exception) = (args.this::<FallbackProtocol>()?, args.req(1)?);
    if let Some(future) = this.write_ready.get()
        && !future.call_method(&names::DONE, &[])?.truth()?
    {
        // A connection that is lost in the middle of a file is an error, even if it was closed in order.
        let exception = if exception.is_none() {
            connection_error("Connection is closed by peer").take()
        } else {
            exception.clone()
        };
        future.call_method(&names::SET_EXCEPTION, &[&exception])?;
    }
    this.protocol
        .get_or_none()
        .call_method(&names::CONNECTION_LOST, &[exception])
}

fn pause_writing(args: &Args) -> R<Obj> {
    let this = args.this::<FallbackProtocol>()?;
    if this.write_ready.is_empty() {
        this.write_ready.set(this.create_future()?);
    }
    Ok(Obj::none())
}

fn resume_writing(args: &Args) -> R<Obj> {
    let this = args.this::<FallbackProtocol>()?;
    if let Some(future) = this.write_ready.take()
        && !future.call_method(&names::DONE, &[])?.truth()?
    {
        future.call_method(&names::SET_RESULT, &[&Obj::bool(false)])?;
    }
    Ok(Obj::none())
}

fn paused(_: &Args) -> R<Obj> {
    Err(runtime_error("Invalid state: reading should be paused"))
}

static CLASS: ClassCell<FallbackProtocol> = ClassCell::new();

impl Class for FallbackProtocol {
    const NAME: &'static CStr = c"asyncio.base_events._SendfileFallbackProtocol";
    const SUBCLASSABLE: bool = false;
    fn class() -> &'static ClassCell<FallbackProtocol> {
        &CLASS
    }
    fn slots(slots: &mut Slots<FallbackProtocol>) -> R<()> {
        slots.no_new();
        slots.method("connection_made(self, transport)", |_| {
            Err(runtime_error(
                "Invalid state: connection should have been established already.",
            ))
        })?;
        slots.method("connection_lost(self, exc)", connection_lost)?;
        slots.method("pause_writing(self)", pause_writing)?;
        slots.method("resume_writing(self)", resume_writing)?;
        slots.method("data_received(self, data)", paused)?;
        slots.method("eof_received(self)", paused)
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in [&self.transport, &self.protocol, &self.write_ready] {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        for slot in [&self.transport, &self.protocol, &self.write_ready] {
            slot.put(None);
        }
    }
}

/// Makes the class.
pub(super) fn init() -> R<()> {
    class::create::<FallbackProtocol>(Some(&imports::PROTOCOL))
}

fn finish(sent: i64, failure: Option<Obj>) -> R<Obj> {
    match failure {
        Some(exception) => Err(raise(&exception)),
        None => Obj::int(sent),
    }
}
