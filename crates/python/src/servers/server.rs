//! `asyncio.Server`: what `create_server()` gives.
//!
//! The class derives from asyncio's own, for those who ask; everything in it is ours. The state is an object of
//! its own ([`ServerCore`]), because connections hold on to it and not to the server.
//!
//! Rules
//! 1. `wait_closed()` ends when the server is closed *and* its last connection is gone (before 3.12: at once, if
//!    the server is closed).
//! 2. A server that is closed accepts nothing, and its listening sockets are closed.

use super::clients::Clients;
use super::listener::{self, Listener};
use crate::ffi::errors::{R, assertion_error, raise, runtime_error, type_error};
use crate::ffi::pyclass::{Body, Field, PyClass};
use crate::ffi::{Args, Class, ClassCell, Co, Coroutine, Inner, Obj, Own, Slot, Slots, Visitor, context};
use crate::futures::methods;
use crate::imports::{self, names};
use crate::transports::trsock;
use crate::version;
use std::cell::Cell;
use std::ffi::CStr;

static SERVER: PyClass = PyClass::new();
static CORE: Field = Field::new();

/// The state of a server.
#[derive(Default)]
pub(crate) struct ServerCore {
    pub(super) loop_: Slot,
    pub(super) factory: Slot,
    pub(super) backlog: Cell<i64>,
    /// What `ssl=` was, and the timeouts.
    pub(super) tls: Slot,
    pub(super) handshake_timeout: Slot,
    pub(super) shutdown_timeout: Slot,
    /// The context of its connections (3.15).
    pub(super) context: Slot,
    /// A list; `None`: it is closed.
    sockets: Slot,
    listeners: Inner<Vec<Own<Listener>>>,
    serving: Cell<bool>,
    /// What `serve_forever()` waits for.
    forever: Slot,
    /// A list of futures; `None`: rule 1 has come true.
    waiters: Slot,
    clients: Inner<Clients>,
}

/// The class.
pub(crate) fn class() -> &'static Obj {
    SERVER.get()
}

/// Makes the class.
pub(super) fn init() -> R<()> {
    let mut body = Body::new("asyncio.base_events", "Server", &["_core"])?;
    body.method(
        "__init__(self, loop, sockets, protocol_factory, ssl_context, backlog, ssl_handshake_timeout, \
         ssl_shutdown_timeout=None)",
        |args| {
            let core = ServerCore::default();
            core.loop_.set(args.req(1)?.clone());
            core.sockets.set(args.req(2)?.clone());
            core.factory.set(args.req(3)?.clone());
            core.tls.put(args.opt(4).cloned());
            core.handshake_timeout.put(args.opt(6).cloned());
            core.shutdown_timeout.put(args.opt(7).cloned());
            core.backlog.set(args.req(5)?.to_i64()?);
            core.waiters.set(Obj::list(&[])?);
            core.context.set(context::copy()?);
            CORE.set(args.req(0)?, ServerCore::class().alloc(core)?.into_obj());
            Ok(Obj::none())
        },
    )?;
    body.method("__repr__(self)", |args| {
        let (this, core) = this(args)?;
        Obj::str(&format!(
            "<{} sockets={}>",
            this.class().getattr_str("__name__")?.to_string()?,
            shown_sockets(core)?.repr()?
        ))
    })?;
    body.method("get_loop(self)", |args| Ok(this(args)?.1.loop_.get_or_none()))?;
    body.method("is_serving(self)", |args| {
        Ok(Obj::bool(this(args)?.1.serving.get()))
    })?;
    body.property("sockets", |args| sockets(this(args)?.1), None)?;
    body.method("close(self)", |args| {
        close(this(args)?.1)?;
        Ok(Obj::none())
    })?;
    body.method("close_clients(self)", |args| on_clients(args, "close"))?;
    body.method("abort_clients(self)", |args| on_clients(args, "abort"))?;
    body.async_method("start_serving(self)", start_serving)?;
    body.async_method("serve_forever(self)", serve_forever)?;
    body.async_method("wait_closed(self)", wait_closed)?;
    body.method("_start_serving(self)", |args| {
        start(this(args)?.0)?;
        Ok(Obj::none())
    })?;
    // up to 3.12 asyncio only counts its connections, and who attaches one does not say which: the server's own
    // state sits in its place
    let (attaching, detaching) = if version::SINCE_313.get() {
        ("_attach(self, transport)", "_detach(self, transport)")
    } else {
        ("_attach(self, transport=None)", "_detach(self, transport=None)")
    };
    body.method(attaching, |args| {
        let core = this(args)?.1;
        attach(core, args.opt(1).unwrap_or(core.obj()))?;
        Ok(Obj::none())
    })?;
    body.method(detaching, |args| {
        let core = this(args)?.1;
        let transport = args.opt(1).unwrap_or(core.obj());
        let seat = core.clients.with(|clients| clients.seat_of(transport));
        match seat {
            Some(seat) => detach(core, seat)?,
            None => wake_up_if_over(core)?,
        }
        Ok(Obj::none())
    })?;
    let read: [(&'static str, crate::ffi::function::Imp); 10] = [
        ("_loop", |args| Ok(this(args)?.1.loop_.get_or_none())),
        ("_sockets", |args| Ok(this(args)?.1.sockets.get_or_none())),
        ("_waiters", |args| Ok(this(args)?.1.waiters.get_or_none())),
        ("_serving", |args| Ok(Obj::bool(this(args)?.1.serving.get()))),
        ("_serving_forever_fut", |args| {
            Ok(this(args)?.1.forever.get_or_none())
        }),
        ("_clients", |args| {
            let all = this(args)?.1.clients.with(|clients| clients.all());
            imports::WEAK_SET.call(&[&Obj::list(&all)?])
        }),
        ("_ssl_context", |args| Ok(this(args)?.1.tls.get_or_none())),
        ("_ssl_handshake_timeout", |args| {
            Ok(this(args)?.1.handshake_timeout.get_or_none())
        }),
        ("_ssl_shutdown_timeout", |args| {
            Ok(this(args)?.1.shutdown_timeout.get_or_none())
        }),
        ("_active_count", |args| {
            Obj::int(this(args)?.1.clients.with(|clients| clients.len()) as i64)
        }),
    ];
    for (name, get) in read {
        body.property(name, get, None)?;
    }
    let class = body.build(&[&imports::ASYNCIO_SERVER])?;
    CORE.find(&class, "_core")?;
    SERVER.fill(class);
    Ok(())
}

fn this<'a>(args: &'a Args) -> R<(&'a Obj, &'a Own<ServerCore>)> {
    let this = args.req(0)?;
    if SERVER.is_instance(this)
        && let Some(core) = CORE.view::<ServerCore>(this)
    {
        return Ok((this, core));
    }
    Err(type_error("a Server is required"))
}

/// A server over these sockets. `tls`: context, timeout of the handshake, timeout of the shutdown.
pub(crate) fn make(
    loop_: &Obj,
    sockets: &[Obj],
    factory: &Obj,
    backlog: &Obj,
    tls: [Option<Obj>; 3],
) -> R<Obj> {
    let [context, handshake, shutdown] = tls.map(|argument| argument.unwrap_or_else(Obj::none));
    let sockets = Obj::list(sockets)?;
    SERVER
        .get()
        .call(&[loop_, &sockets, factory, &context, backlog, &handshake, &shutdown])
}

/// `server.sockets`
fn sockets(core: &ServerCore) -> R<Obj> {
    let Some(sockets) = core.sockets.get() else {
        return Ok(Obj::empty_tuple());
    };
    let shown = sockets
        .to_vec()?
        .iter()
        .map(trsock::shown)
        .collect::<R<Vec<_>>>()?;
    Obj::tuple_of(&shown)
}

fn shown_sockets(core: &ServerCore) -> R<Obj> {
    sockets(core)
}

/// `_start_serving()`. A loop of ours has no method of this name; if it has one all the same, a program has put it
/// there, and is told of each socket as by asyncio.
pub(crate) fn start(server: &Obj) -> R<()> {
    let core = core_of(server)?;
    if core.serving.replace(true) {
        return Ok(());
    }
    let Some(sockets) = core.sockets.get() else {
        return Ok(());
    };
    let replaced = core.loop_.get_or_none().getattr_opt(&names::START_SERVING_)?;
    for socket in sockets.to_vec()? {
        socket.call_method_str("listen", &[&Obj::int(core.backlog.get())?])?;
        if let Some(start_serving) = &replaced {
            tell(start_serving, server, &socket)?;
            continue;
        }
        let listener = listener::start(core, &socket)?;
        core.listeners.with(|listeners| listeners.push(listener));
    }
    Ok(())
}

/// `loop._start_serving(protocol_factory, sock, ssl, server, backlog, ssl_handshake_timeout, ssl_shutdown_timeout)`
#[cold]
fn tell(start_serving: &Obj, server: &Obj, socket: &Obj) -> R<()> {
    let core = core_of(server)?;
    let mut arguments = vec![
        core.factory.get_or_none(),
        socket.clone(),
        core.tls.get_or_none(),
        server.clone(),
        Obj::int(core.backlog.get())?,
        core.handshake_timeout.get_or_none(),
        core.shutdown_timeout.get_or_none(),
    ];
    let context = Obj::tuple(&[&names::CONTEXT])?;
    let kwnames = version::CONNECTION_CONTEXT.get().then(|| {
        arguments.push(core.context.get_or_none());
        &context
    });
    let arguments: Vec<&Obj> = arguments.iter().collect();
    start_serving.call_kw(&arguments, kwnames).map(drop)
}

/// The state of a server that [`make`] has made.
pub(crate) fn core_of(server: &Obj) -> R<&Own<ServerCore>> {
    CORE.view::<ServerCore>(server)
        .ok_or_else(|| type_error("a Server is required"))
}

/// A connection has been made.
pub(crate) fn attach(core: &Own<ServerCore>, transport: &Obj) -> R<u32> {
    if core.sockets.is_empty() {
        return Err(assertion_error(""));
    }
    Ok(core.clients.with(|clients| clients.sit(transport)))
}

/// The transport dies, and nobody is to be told.
pub(crate) fn leave(core: &ServerCore, seat: u32) {
    core.clients.with(|clients| clients.leave(seat));
}

/// A connection is gone.
pub(crate) fn detach(core: &ServerCore, seat: u32) -> R<()> {
    leave(core, seat);
    wake_up_if_over(core)
}

/// Rule 1.
fn wake_up_if_over(core: &ServerCore) -> R<()> {
    if !core.sockets.is_empty() || core.clients.with(|clients| clients.len()) > 0 {
        return Ok(());
    }
    let Some(waiters) = core.waiters.take() else {
        return Ok(());
    };
    for waiter in waiters.to_vec()? {
        if !waiter.call_method(&names::DONE, &[])?.truth()? {
            waiter.call_method(&names::SET_RESULT, &[&Obj::none()])?;
        }
    }
    Ok(())
}

/// `close()`
fn close(core: &Own<ServerCore>) -> R<()> {
    let Some(sockets) = core.sockets.take() else {
        return Ok(());
    };
    let listeners = core.listeners.with(std::mem::take);
    for listener in &listeners {
        listener::stop(listener);
    }
    let loop_ = core.loop_.get_or_none();
    for socket in sockets.to_vec()? {
        loop_.call_method(&names::STOP_SERVING, &[&socket])?;
    }
    core.serving.set(false);
    if let Some(forever) = core.forever.get()
        && !forever.call_method(&names::DONE, &[])?.truth()?
    {
        forever.call_method(&names::CANCEL, &[])?;
        core.forever.put(None);
    }
    wake_up_if_over(core)
}

/// `close_clients()` and `abort_clients()`
fn on_clients(args: &Args, method: &str) -> R<Obj> {
    all_clients(this(args)?.1, method)?;
    Ok(Obj::none())
}

fn all_clients(core: &Own<ServerCore>, method: &str) -> R<()> {
    let clients = core.clients.with(|clients| clients.all());
    for transport in clients.iter().filter(|client| !client.is(core.obj())) {
        transport.call_method_str(method, &[])?;
    }
    Ok(())
}

/// `sleep(0)`
fn next_turn() -> R<Obj> {
    crate::tasks::sleep::now()
}

fn start_serving(args: &Args) -> R<Obj> {
    Coroutine::boxed("Server.start_serving", &[this(args)?.0], |co: Co| async move {
        start(&co.local(0))?;
        co.wait(next_turn()?).await?;
        Ok(Obj::none())
    })
}

/// `await server.serve_forever()`: until it is cancelled, or the server is closed.
fn serve_forever(args: &Args) -> R<Obj> {
    Coroutine::boxed("Server.serve_forever", &[this(args)?.0], |co: Co| async move {
        let forever = {
            let server = co.local(0);
            let core = core_of(&server)?;
            if !core.forever.is_empty() {
                return Err(runtime_error(&format!(
                    "server {} is already being awaited on serve_forever()",
                    server.repr()?
                )));
            }
            if core.sockets.is_empty() {
                return Err(runtime_error(&format!("server {} is closed", server.repr()?)));
            }
            start(&server)?;
            let forever = methods::create(&core.loop_.get_or_none())?;
            core.forever.set(forever.clone());
            forever
        };
        let Err(raised) = co.wait(forever).await else {
            core_of(&co.local(0))?.forever.put(None);
            return Ok(Obj::none());
        };
        let exception = raised.take();
        if exception.isinstance(&imports::CANCELLED_ERROR)? {
            let closing = close_all(&co.local(0));
            let closing = match closing {
                Ok(waiting) => co.wait(waiting).await.map(drop),
                Err(raised) => Err(raised),
            };
            if let Err(raised) = closing {
                // `finally: raise` lets the cancellation win
                raised.ignore();
            }
        }
        core_of(&co.local(0))?.forever.put(None);
        Err(raise(&exception))
    })
}

/// `self.close()`, and since 3.14 `self.close_clients()`; then `self.wait_closed()`, to be awaited.
fn close_all(server: &Obj) -> R<Obj> {
    server.call_method(&names::CLOSE, &[])?;
    if version::SINCE_314.get() {
        server.call_method_str("close_clients", &[])?;
    }
    server.call_method_str("wait_closed", &[])
}

fn wait_closed(args: &Args) -> R<Obj> {
    Coroutine::boxed("Server.wait_closed", &[this(args)?.0], |co: Co| async move {
        let waiter = {
            let server = co.local(0);
            let core = core_of(&server)?;
            let Some(waiters) = core.waiters.get() else {
                return Ok(Obj::none());
            };
            if core.sockets.is_empty() && !version::WAIT_CLOSED_WAITS.get() {
                return Ok(Obj::none());
            }
            let waiter = methods::create(&core.loop_.get_or_none())?;
            waiters.call_method_str("append", &[&waiter])?;
            waiter
        };
        co.wait(waiter).await?;
        Ok(Obj::none())
    })
}

static CLASS: ClassCell<ServerCore> = ClassCell::new();

impl Class for ServerCore {
    const NAME: &'static CStr = c"aioxide._core.ServerCore";
    const SUBCLASSABLE: bool = false;

    fn class() -> &'static ClassCell<ServerCore> {
        &CLASS
    }
    fn slots(slots: &mut Slots<ServerCore>) -> R<()> {
        slots.no_new();
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
        self.listeners.with(|listeners| {
            for listener in listeners.iter() {
                visitor.own(listener);
            }
        });
    }
    fn clear(&self) {
        for slot in self.slots_held() {
            slot.put(None);
        }
        drop(self.listeners.with(std::mem::take));
    }
}

impl ServerCore {
    fn slots_held(&self) -> [&Slot; 9] {
        [
            &self.loop_,
            &self.factory,
            &self.tls,
            &self.handshake_timeout,
            &self.shutdown_timeout,
            &self.context,
            &self.sockets,
            &self.forever,
            &self.waiters,
        ]
    }
}
