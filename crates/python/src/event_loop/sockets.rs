//! "Working with socket objects directly": sock_recv and its family, sock_sendall, sock_connect, sock_accept.
//!
//! An operation is tried at once. Only if it would block does it wait, for a future that the next readiness
//! of the descriptor ends (`readers::wait`), and then it is tried again, by whoever awaits it.
//!
//! Rules
//! 1. Nothing is taken from a socket but by the coroutine that returns it: what a cancelled operation has
//!    not returned is still in the socket. (asyncio reads in a callback, and loses it.)
//! 2. However an operation ends, its future has left the descriptor by then.
//! 3. The socket module's exceptions pass unchanged.

use super::class::this;
use super::core::{self, LoopCore};
use super::dns::{self, Resolved};
use super::readers::{self, Side};
use super::socket_calls::{Accept, Connect, Recv, RecvFrom, RecvFromInto, RecvInto, SendAll, SendTo};
use crate::ffi::errors::{exc, raise, type_error, value_error};
use crate::ffi::pyclass::Body;
use crate::ffi::pysocket::{self, Plain};
use crate::ffi::spare::Spares;
use crate::ffi::{Args, Class, Co, Coroutine, Obj, Own, R, Raised, Step};
use crate::futures::{Future, iter, methods};
use crate::imports::{self, names};
use crate::transports::socket::written_out;

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method("sock_recv(self, sock, n)", one::<Recv>)?;
    body.async_method("sock_recv_into(self, sock, buf)", one::<RecvInto>)?;
    body.async_method("sock_recvfrom(self, sock, bufsize)", one::<RecvFrom>)?;
    body.async_method("sock_recvfrom_into(self, sock, buf, nbytes=0)", |args| {
        let none = Obj::none();
        operation::<RecvFromInto>(args, Obj::tuple(&[args.req(2)?, args.get(3).unwrap_or(&none)])?)
    })?;
    body.async_method("sock_sendall(self, sock, data)", one::<SendAll>)?;
    body.async_method("sock_sendto(self, sock, data, address)", |args| {
        operation::<SendTo>(args, Obj::tuple(&[args.req(2)?, args.req(3)?])?)
    })?;
    body.async_method("sock_connect(self, sock, address)", sock_connect)?;
    body.async_method("sock_accept(self, sock)", |args| {
        operation::<Accept>(args, Obj::none())
    })
}

/// Locals of every operation. The future is where a coroutine has what it awaits.
const LOOP: usize = 0;
const SOCK: usize = 1;
const ARGUMENT: usize = 2;
const FUTURE: usize = 3;
/// Stages. While it waits, `number` is the descriptor.
const START: u8 = 0;
const WAITING: u8 = 1;

/// One of the `sock_*` methods.
pub(super) trait Operation: 'static {
    /// Its qualified name.
    const NAME: &'static str;
    /// What it waits for.
    const SIDE: Side;
    /// Does it, or as much of it as is possible now. `None`: the rest would block.
    fn attempt(call: &Call) -> R<Option<Obj>>;
}

/// An operation under way.
pub(super) struct Call<'a> {
    coroutine: &'a Own<Coroutine>,
    pub(super) sock: Obj,
    pub(super) argument: Obj,
}

impl Call<'_> {
    /// Has it not waited yet?
    pub(super) fn is_first(&self) -> bool {
        self.coroutine.stage.get() == START
    }

    /// What the next attempt is about.
    pub(super) fn set_argument(&self, argument: Obj) {
        self.coroutine.locals[ARGUMENT].set(argument);
    }

    /// Uses the buffer that everything is read into, and what objects are made of it with.
    pub(super) fn with_scratch<T>(&self, f: impl FnOnce(&mut [u8], &Spares) -> T) -> R<T> {
        let loop_ = self.coroutine.locals[LOOP].get_or_none();
        let core = loop_core(&loop_)?;
        Ok(core.with_scratch(|scratch| f(scratch, &core.spares)))
    }
}

/// An operation whose only argument is its second.
fn one<O: Operation>(args: &Args) -> R<Obj> {
    operation::<O>(args, args.req(2)?.clone())
}

fn operation<O: Operation>(args: &Args, argument: Obj) -> R<Obj> {
    make::<O>(O::NAME, this(args)?.0, args.req(1)?, argument)
}

fn make<O: Operation>(name: &'static str, loop_: &Obj, sock: &Obj, argument: Obj) -> R<Obj> {
    let coroutine = Coroutine::stepping(name, step::<O>);
    coroutine.locals[LOOP].set(loop_.clone());
    coroutine.locals[SOCK].set(sock.clone());
    coroutine.locals[ARGUMENT].set(argument);
    coroutine.alloc()
}

fn step<O: Operation>(this: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let result = match (input, this.stage.get()) {
        (Ok(_), START) => begin::<O>(this),
        (Ok(_), _) => resume::<O>(this),
        // it is cancelled or closed
        (Err(raised), _) => return Step::Raise(leave::<O>(this, raised)),
    };
    match result {
        Ok(step) => step,
        Err(raised) => Step::Raise(raised),
    }
}

fn begin<O: Operation>(this: &Own<Coroutine>) -> R<Step> {
    let (loop_, sock) = (this.locals[LOOP].get_or_none(), this.locals[SOCK].get_or_none());
    check(loop_core(&loop_)?, &sock)?;
    attempt::<O>(this)
}

/// Tries; waits if it would block.
fn attempt<O: Operation>(this: &Own<Coroutine>) -> R<Step> {
    let (sock, argument) = (
        this.locals[SOCK].get_or_none(),
        this.locals[ARGUMENT].get_or_none(),
    );
    let call = Call {
        coroutine: this,
        sock,
        argument,
    };
    if let Some(value) = O::attempt(&call)? {
        return Ok(Step::Return(value));
    }
    let loop_ = this.locals[LOOP].get_or_none();
    let fd = descriptor(&call.sock)?;
    let future = wait_for(&loop_, fd, O::SIDE, &call.sock)?;
    this.stage.set(WAITING);
    this.number.set(fd.into());
    this.locals[FUTURE].set(future.obj().clone());
    Ok(iter::resume_future(&future))
}

fn resume<O: Operation>(this: &Own<Coroutine>) -> R<Step> {
    let future = this.locals[FUTURE].get_or_none();
    let Some(future) = Future::class().exact(&future) else {
        return attempt::<O>(this);
    };
    let step = match iter::resume_future(future) {
        Step::Return(_) => match attempt::<O>(this) {
            Ok(Step::Yield(next)) => return Ok(Step::Yield(next)),
            Ok(step) => step,
            Err(raised) => Step::Raise(raised),
        },
        Step::Yield(value) => return Ok(Step::Yield(value)),
        Step::Raise(raised) => Step::Raise(raised),
    };
    Ok(match step {
        Step::Raise(raised) => Step::Raise(leave::<O>(this, raised)),
        step => {
            leave_descriptor(this, O::SIDE);
            step
        }
    })
}

/// Rule 2, with an exception on its way.
fn leave<O: Operation>(this: &Own<Coroutine>, raised: Raised) -> Raised {
    let exception = raised.take();
    leave_descriptor(this, O::SIDE);
    raise(&exception)
}

fn leave_descriptor(this: &Own<Coroutine>, side: Side) {
    let (loop_, future) = (
        this.locals[LOOP].get_or_none(),
        this.locals[FUTURE].take().unwrap_or_else(Obj::none),
    );
    if let (Some(core), Some(future)) = (core::of(&loop_), Future::class().exact(&future)) {
        readers::leave(core, this.number.get() as i32, side, future);
    }
}

// --- what the operations share with sendfile ------------------------------------------------------

pub(super) fn loop_core(loop_: &Obj) -> R<&Own<LoopCore>> {
    core::of(loop_).ok_or_else(|| type_error("an EventLoop is required"))
}

/// What every operation asks of its socket first.
#[inline]
fn check(core: &LoopCore, sock: &Obj) -> R<()> {
    check_no_ssl(sock)?;
    check_non_blocking(core, sock)
}

/// `_check_ssl_socket(sock)`
#[inline]
pub(super) fn check_no_ssl(sock: &Obj) -> R<()> {
    if sock.is_exactly(&imports::SOCKET) {
        return Ok(());
    }
    // who has an SSLSocket has imported ssl
    let modules = Obj::import("sys")?.getattr_str("modules")?;
    let ssl = modules.call_method_str("get", &[&Obj::str("ssl")?])?;
    if !ssl.is_none() && sock.isinstance(&ssl.getattr_str("SSLSocket")?)? {
        return Err(type_error("Socket cannot be of type SSLSocket"));
    }
    Ok(())
}

/// Debug mode: the socket must be non-blocking.
#[inline]
pub(super) fn check_non_blocking(core: &LoopCore, sock: &Obj) -> R<()> {
    if core.debug.get() && !sock.call_method(&names::GETTIMEOUT, &[])?.eq(&Obj::int(0)?)? {
        return Err(value_error("the socket must be non-blocking"));
    }
    Ok(())
}

/// `sock.fileno()`
pub(super) fn descriptor(sock: &Obj) -> R<i32> {
    readers::fileno(&sock.call_method(&names::FILENO, &[])?)
}

/// A future that the next readiness of the socket ends.
pub(super) fn wait_for(loop_: &Obj, fd: i32, side: Side, sock: &Obj) -> R<Own<Future>> {
    readers::ensure_no_transport(loop_core(loop_)?, fd, None)?;
    wait_as_owner(loop_, fd, side, sock)
}

/// The same for whoever owns the descriptor: a socket, or a transport.
pub(super) fn wait_as_owner(loop_: &Obj, fd: i32, side: Side, owner: &Obj) -> R<Own<Future>> {
    let core = loop_core(loop_)?;
    let future = methods::create_ours(loop_, core)?;
    readers::wait(core, fd, side, Some(owner), &future)?;
    Ok(future)
}

/// `except (BlockingIOError, InterruptedError)`: `None`.
pub(crate) fn unless_it_blocks(result: R<Obj>) -> R<Option<Obj>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(raised)
            if raised.matches(exc::blocking_io_error()) || raised.matches(exc::interrupted_error()) =>
        {
            raised.ignore();
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

// --- sock_connect ---------------------------------------------------------------------------------

/// `await loop.sock_connect(sock, address)`
fn sock_connect(args: &Args) -> R<Obj> {
    const NAME: &str = "BaseSelectorEventLoop.sock_connect";
    let (loop_, sock, address) = (this(args)?.0, args.req(1)?, args.req(2)?);
    if let Some(address) = resolved(sock, address)? {
        return make::<Connect>(NAME, loop_, sock, address);
    }
    Coroutine::boxed(NAME, &[loop_, sock, address], |co: Co| async move {
        let looking_up = {
            let (loop_, sock, address) = (co.local(LOOP), co.local(SOCK), co.local(ARGUMENT));
            check(loop_core(&loop_)?, &sock)?;
            look_up(&loop_, &sock, &address)?
        };
        let address = match looking_up {
            None => co.local(ARGUMENT),
            Some(Resolved::Already(info)) => sockaddr(&info)?,
            Some(Resolved::Later(coroutine)) => {
                let infos = co.wait(coroutine).await?.to_vec()?;
                let Some(info) = infos.first() else {
                    return Err(crate::ffi::errors::raise_new(
                        exc::index_error(),
                        "list index out of range",
                    ));
                };
                sockaddr(info)?
            }
        };
        let connecting = make::<Connect>(Connect::NAME, &co.local(LOOP), &co.local(SOCK), address)?;
        co.wait(connecting).await
    })
}

/// The address as looking it up would give it, if there is nothing to look up.
fn resolved(sock: &Obj, address: &Obj) -> R<Option<Obj>> {
    let Some(socket) = Plain::with(sock, &pysocket::CONNECT) else {
        return Ok(None);
    };
    if !matches!(socket.kind, libc::SOCK_STREAM | libc::SOCK_DGRAM)
        || !matches!(socket.proto, 0 | libc::IPPROTO_TCP | libc::IPPROTO_UDP)
    {
        return Ok(None);
    }
    Ok(match (socket.family, written_out(socket.family, address)?) {
        (_, None) => None,
        (libc::AF_INET6, Some(_)) if address.tuple_len() < 4 => {
            let (items, zero) = (address.tuple_items(), Obj::int(0)?);
            let flow = items.get(2).unwrap_or(&zero);
            Some(Obj::tuple(&[&items[0], &items[1], flow, &zero])?)
        }
        (_, Some(_)) => Some(address.clone()),
    })
}

/// What is to be known of an address before one can connect to it: `None` for families without names.
fn look_up(loop_: &Obj, sock: &Obj, address: &Obj) -> R<Option<Resolved>> {
    let family = sock.getattr(&names::FAMILY)?;
    if !matches!(family.to_i64()? as i32, libc::AF_INET | libc::AF_INET6) {
        return Ok(None);
    }
    let hints = [
        family,
        sock.getattr(&names::TYPE)?,
        sock.getattr(&names::PROTO)?,
        Obj::int(0)?,
    ];
    dns::resolve(loop_, address, &hints).map(Some)
}

/// The last of `(family, type, proto, canonname, sockaddr)`.
fn sockaddr(info: &Obj) -> R<Obj> {
    match info.to_vec()?.pop() {
        Some(address) => Ok(address),
        None => Err(value_error("not enough values to unpack (expected 5, got 0)")),
    }
}
