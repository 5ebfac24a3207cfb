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
use crate::ffi::errors::{exc, raise, type_error, value_error};
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Class, Co, Coroutine, Obj, Own, R, Raised, Step};
use crate::futures::{Future, iter, methods};
use crate::imports::{self, names};

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
trait Operation: 'static {
    /// Its qualified name.
    const NAME: &'static str;
    /// What it waits for.
    const SIDE: Side;
    /// Does it, or as much of it as is possible now. `None`: the rest would block.
    fn attempt(call: &Call) -> R<Option<Obj>>;
}

/// An operation under way.
struct Call<'a> {
    coroutine: &'a Own<Coroutine>,
    sock: Obj,
    argument: Obj,
}

impl Call<'_> {
    /// Has it not waited yet?
    fn is_first(&self) -> bool {
        self.coroutine.stage.get() == START
    }
}

/// An operation whose only argument is its second.
fn one<O: Operation>(args: &Args) -> R<Obj> {
    operation::<O>(args, args.req(2)?.clone())
}

fn operation<O: Operation>(args: &Args, argument: Obj) -> R<Obj> {
    make::<O>(this(args)?.0, args.req(1)?, argument)
}

fn make<O: Operation>(loop_: &Obj, sock: &Obj, argument: Obj) -> R<Obj> {
    let coroutine = Coroutine::stepping(O::NAME, step::<O>);
    coroutine.locals[LOOP].set(loop_.clone());
    coroutine.locals[SOCK].set(sock.clone());
    coroutine.locals[ARGUMENT].set(argument);
    coroutine.alloc()
}

fn step<O: Operation>(this: &Own<Coroutine>, input: R<Obj>) -> Step {
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
    let core = loop_core(loop_)?;
    readers::ensure_no_transport(core, fd)?;
    // readiness ends futures of ours: what else an overridden `create_future` makes cannot stand there
    let future = match Future::class().take_exact(methods::create(loop_)?) {
        Ok(future) => future,
        Err(_) => methods::create_native(loop_, core)?,
    };
    readers::wait(core, fd, side, sock, &future)?;
    Ok(future)
}

/// `except (BlockingIOError, InterruptedError)`: `None`.
pub(super) fn unless_it_blocks(result: R<Obj>) -> R<Option<Obj>> {
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

// --- the operations -------------------------------------------------------------------------------

struct Recv;

impl Operation for Recv {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_recv";
    const SIDE: Side = Side::Reader;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        unless_it_blocks(call.sock.call_method(&names::RECV, &[&call.argument]))
    }
}

struct RecvInto;

impl Operation for RecvInto {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_recv_into";
    const SIDE: Side = Side::Reader;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        unless_it_blocks(call.sock.call_method(&names::RECV_INTO, &[&call.argument]))
    }
}

struct RecvFrom;

impl Operation for RecvFrom {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_recvfrom";
    const SIDE: Side = Side::Reader;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        unless_it_blocks(call.sock.call_method(&names::RECVFROM, &[&call.argument]))
    }
}

/// The argument: `(buf, nbytes)`.
struct RecvFromInto;

impl Operation for RecvFromInto {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_recvfrom_into";
    const SIDE: Side = Side::Reader;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        let [buf, nbytes] = call.argument.tuple_items() else {
            return Err(type_error("two arguments are required"));
        };
        let nbytes = if nbytes.truth()? {
            nbytes.clone()
        } else {
            Obj::int(buf.len()? as i64)?
        };
        unless_it_blocks(call.sock.call_method(&names::RECVFROM_INTO, &[buf, &nbytes]))
    }
}

/// The argument: what is still to be sent.
struct SendAll;

impl Operation for SendAll {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_sendall";
    const SIDE: Side = Side::Writer;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        let sent = match unless_it_blocks(call.sock.call_method(&names::SEND, &[&call.argument]))? {
            Some(sent) => sent.to_i64()? as usize,
            None => 0,
        };
        let length = call.argument.len()?;
        if sent == length {
            return Ok(Some(Obj::none()));
        }
        // The view keeps a bytearray from changing its size as long as it is being sent.
        let rest = if call.is_first() {
            call.argument.memoryview()?
        } else {
            call.argument.clone()
        };
        let rest = if sent == 0 {
            rest
        } else {
            rest.slice(sent, length)?
        };
        call.coroutine.locals[ARGUMENT].set(rest);
        Ok(None)
    }
}

/// The argument: `(data, address)`.
struct SendTo;

impl Operation for SendTo {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_sendto";
    const SIDE: Side = Side::Writer;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        let [data, address] = call.argument.tuple_items() else {
            return Err(type_error("two arguments are required"));
        };
        unless_it_blocks(call.sock.call_method(&names::SENDTO, &[data, address]))
    }
}

struct Accept;

impl Operation for Accept {
    const NAME: &'static str = "BaseSelectorEventLoop.sock_accept";
    const SIDE: Side = Side::Reader;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        let Some(pair) = unless_it_blocks(call.sock.call_method(&names::ACCEPT, &[]))? else {
            return Ok(None);
        };
        let connection = pair.to_vec()?;
        let Some(connection) = connection.first() else {
            return Err(type_error("accept() must return a pair"));
        };
        unless_it_blocks(connection.call_method(&names::SETBLOCKING, &[&Obj::bool(false)]))?;
        Ok(Some(pair))
    }
}

/// The argument: an address that needs no looking up.
struct Connect;

impl Operation for Connect {
    const NAME: &'static str = "BaseSelectorEventLoop._sock_connect";
    const SIDE: Side = Side::Writer;
    fn attempt(call: &Call) -> R<Option<Obj>> {
        if call.is_first() {
            // Also after EINTR it goes on in the background.
            let connected = unless_it_blocks(call.sock.call_method(&names::CONNECT, &[&call.argument]))?;
            return Ok(connected.map(|_| Obj::none()));
        }
        let (level, option) = (
            Obj::int(libc::SOL_SOCKET.into())?,
            Obj::int(libc::SO_ERROR.into())?,
        );
        let code = call.sock.call_method(&names::GETSOCKOPT, &[&level, &option])?;
        if code.eq(&Obj::int(0)?)? {
            return Ok(Some(Obj::none()));
        }
        let text = format!("Connect call failed {}", call.argument.to_str()?.to_string()?);
        let error = exc::os_error().call(&[&code, &Obj::str(&text)?])?;
        unless_it_blocks(Err(raise(&error)))
    }
}

/// `await loop.sock_connect(sock, address)`
fn sock_connect(args: &Args) -> R<Obj> {
    let (loop_, _) = this(args)?;
    Coroutine::boxed(
        "BaseSelectorEventLoop.sock_connect",
        &[loop_, args.req(1)?, args.req(2)?],
        |co: Co| async move {
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
            let connecting = make::<Connect>(&co.local(LOOP), &co.local(SOCK), address)?;
            co.wait(connecting).await
        },
    )
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
