//! "Working with pipes": connect_read_pipe, connect_write_pipe.

use super::class::{EVENT_LOOP, this};
use super::servers::{FACTORY, LOOP, begin, given};
use super::sockets::loop_core;
use crate::ffi::errors::raise;
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Class, Co, Obj, Own, R};
use crate::futures::{Future, methods};
use crate::imports::names;
use crate::transports::{log_debug, read_pipe, write_pipe};

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method("connect_read_pipe(self, protocol_factory, pipe)", |args| {
        begin(args, 3, "BaseEventLoop.connect_read_pipe", |co| connect(co, READ))
    })?;
    body.async_method("connect_write_pipe(self, protocol_factory, pipe)", |args| {
        begin(args, 3, "BaseEventLoop.connect_write_pipe", |co| {
            connect(co, WRITE)
        })
    })?;
    body.method(
        "_make_read_pipe_transport(self, pipe, protocol, waiter=None, extra=None)",
        |args| make(args, READ),
    )?;
    body.method(
        "_make_write_pipe_transport(self, pipe, protocol, waiter=None, extra=None)",
        |args| make(args, WRITE),
    )
}

/// Makes a transport: the loop, the pipe, the protocol, who waits, and a dict for `get_extra_info`.
type Open = fn(&Obj, &Obj, &Obj, Option<Own<Future>>, Option<Obj>) -> R<Obj>;

/// One of the two directions.
#[derive(Clone, Copy)]
pub(super) struct Direction {
    open: Open,
    /// The method that a program may have replaced.
    method: &'static str,
    text: &'static str,
}

/// From the pipe.
const READ: Direction = Direction {
    open: |loop_, pipe, protocol, waiter, extra| {
        Ok(read_pipe::open(loop_, pipe, protocol, waiter, extra)?.into_obj())
    },
    method: "_make_read_pipe_transport",
    text: "Read pipe %r connected: (%r, %r)",
};

/// To the pipe.
const WRITE: Direction = Direction {
    open: |loop_, pipe, protocol, waiter, extra| {
        Ok(write_pipe::open(loop_, pipe, protocol, waiter, extra)?.into_obj())
    },
    method: "_make_write_pipe_transport",
    text: "Write pipe %r connected: (%r, %r)",
};

fn make(args: &Args, direction: Direction) -> R<Obj> {
    (direction.open)(
        this(args)?.0,
        args.req(1)?,
        args.req(2)?,
        methods::waiter_argument(args, 3)?,
        args.opt(4).cloned(),
    )
}

/// Locals of both, after those of [`begin`].
const PROTOCOL: usize = 2;
const TRANSPORT: usize = 3;

async fn connect(co: Co, direction: Direction) -> R<Obj> {
    let waiter = {
        let (loop_, pipe) = (co.local(LOOP), given(&co, 2).unwrap_or_else(Obj::none));
        let protocol = given(&co, FACTORY).unwrap_or_else(Obj::none).call0()?;
        co.set(PROTOCOL, protocol.clone());
        let waiter = Future::class().alloc(Future::pending(loop_.clone()))?;
        let transport = if EVENT_LOOP.is_exact(&loop_) && !loop_core(&loop_)?.patched.get() {
            (direction.open)(&loop_, &pipe, &protocol, Some(waiter.clone()), None)?
        } else {
            loop_.call_method_str(direction.method, &[&pipe, &protocol, waiter.obj()])?
        };
        co.set(TRANSPORT, transport);
        waiter
    };
    if let Err(raised) = co.wait(waiter.into_obj()).await {
        let exception = raised.take();
        co.local(TRANSPORT).call_method(&names::CLOSE, &[])?;
        return Err(raise(&exception));
    }
    let (transport, protocol) = (co.local(TRANSPORT), co.local(PROTOCOL));
    if loop_core(&co.local(LOOP))?.debug.get() {
        let pipe = given(&co, 2).unwrap_or_else(Obj::none);
        let number = pipe.call_method(&names::FILENO, &[])?;
        log_debug(direction.text, &[&number, &transport, &protocol], None)?;
    }
    Obj::tuple(&[&transport, &protocol])
}
