//! `open_connection()`, `start_server()`, and their Unix twins: a method of the running loop, with a factory of ours.

use super::{protocol, reader, writer};
use crate::ffi::errors::R;
use crate::ffi::function::Kind::Async;
use crate::ffi::{Args, Class, ClassCell, Co, Coroutine, Obj, Slot, Slots, Visitor, running};
use crate::module::export;
use std::ffi::CStr;

/// What makes the protocols: of a server one for each connection, of a client the one that there is.
#[derive(Default)]
pub(crate) struct Factory {
    loop_: Slot,
    limit: Slot,
    callback: Slot,
    /// That of a client.
    protocol: Slot,
}

/// The protocol of a new connection. `factory` is any callable.
#[inline]
pub(crate) fn connect(factory: &Obj) -> R<Obj> {
    match CLASS.exact(factory) {
        Some(ours) => ours.make(),
        None => factory.call0(),
    }
}

impl Factory {
    fn make(&self) -> R<Obj> {
        if let Some(protocol) = self.protocol.get() {
            return Ok(protocol);
        }
        let (loop_, limit) = (self.loop_.get_or_none(), self.limit.get());
        let reader = reader::create(limit.as_ref(), &loop_)?;
        Ok(protocol::create(&reader, self.callback.get().as_ref(), &loop_)?.into_obj())
    }

    fn slots_held(&self) -> [&Slot; 4] {
        [&self.loop_, &self.limit, &self.callback, &self.protocol]
    }
}

static CLASS: ClassCell<Factory> = ClassCell::new();

impl Class for Factory {
    const NAME: &'static CStr = c"aioxide._core.StreamFactory";
    const SUBCLASSABLE: bool = false;

    fn class() -> &'static ClassCell<Factory> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Factory>) -> R<()> {
        slots.no_new();
        slots.call("(self)", |args| args.this::<Factory>()?.make())
    }
    fn visit(&self, visitor: &mut Visitor) {
        for slot in self.slots_held() {
            slot.visit(visitor);
        }
    }
    fn clear(&self) {
        for slot in self.slots_held() {
            slot.put(None);
        }
    }
}

// locals of the bodies
const ARGUMENTS: usize = 0;
const LIMIT: usize = 1;
const KEYWORDS: usize = 2;

/// `args`: `count` that are handed on, then `limit`, then keywords.
fn locals(args: &Args, first: usize, count: usize) -> R<[Obj; 3]> {
    let none = Obj::none();
    let mut all = Vec::new();
    for index in 0..first + count {
        all.push(args.get(index).unwrap_or(&none));
    }
    let limit = args
        .get(first + count)
        .cloned()
        .map_or_else(|| Obj::int(65536), Ok)?;
    let keywords = args.kwargs().cloned().map_or_else(Obj::dict, Ok)?;
    Ok([Obj::tuple(&all)?, limit, keywords])
}

/// `loop.method(factory, *arguments, **keywords)`
fn ask_loop(co: &Co, loop_: &Obj, method: &str, factory: &Obj, first: usize) -> R<Obj> {
    let arguments = co.local(ARGUMENTS);
    let mut all = vec![factory];
    all.extend(&arguments.tuple_items()[first..]);
    loop_
        .getattr_str(method)?
        .call_with(&Obj::tuple(&all)?, Some(&co.local(KEYWORDS)))
}

/// A client: `loop.method(lambda: protocol, …)`
fn open(args: &Args, name: &'static str, method: &'static str, count: usize) -> R<Obj> {
    let [arguments, limit, keywords] = locals(args, 0, count)?;
    Coroutine::boxed(name, &[&arguments, &limit, &keywords], move |co: Co| async move {
        const PROTOCOL: usize = 0;
        const READER: usize = 1;
        const LOOP: usize = 2;
        let opening = {
            let loop_ = running::require()?;
            let reader = reader::create(Some(&co.local(LIMIT)), &loop_)?;
            let protocol = protocol::create(&reader, None, &loop_)?.into_obj();
            let factory = Factory::default();
            factory.protocol.set(protocol.clone());
            let factory = CLASS.alloc(factory)?.into_obj();
            let opening = ask_loop(&co, &loop_, method, &factory, 0)?;
            co.set(PROTOCOL, protocol);
            co.set(READER, reader.into_obj());
            co.set(LOOP, loop_);
            opening
        };
        let opened = co.wait(opening).await?.to_vec()?;
        let [transport, _] = opened.as_slice() else {
            return Err(wrong_pair(opened.len()));
        };
        let reader = co.local(READER);
        let writer = writer::create(transport, &co.local(PROTOCOL), &reader, &co.local(LOOP))?;
        Obj::tuple(&[&reader, &writer])
    })
}

#[cold]
fn wrong_pair(count: usize) -> crate::ffi::Raised {
    crate::ffi::errors::value_error(&if count < 2 {
        format!("not enough values to unpack (expected 2, got {count})")
    } else {
        "too many values to unpack (expected 2)".to_owned()
    })
}

/// A server: `loop.method(factory, …)`
fn serve(args: &Args, name: &'static str, method: &'static str, count: usize) -> R<Obj> {
    let [arguments, limit, keywords] = locals(args, 1, count)?;
    Coroutine::boxed(name, &[&arguments, &limit, &keywords], move |co: Co| async move {
        let serving = {
            let loop_ = running::require()?;
            let factory = Factory::default();
            factory.loop_.set(loop_.clone());
            factory.limit.set(co.local(LIMIT));
            let arguments = co.local(ARGUMENTS);
            let callback = arguments.tuple_items().first().and_then(Obj::non_none);
            factory.callback.put(callback.cloned());
            let factory = CLASS.alloc(factory)?.into_obj();
            ask_loop(&co, &loop_, method, &factory, 1)?
        };
        co.wait(serving).await
    })
}

/// Exports the functions.
pub(super) fn register(module: &Obj) -> R<()> {
    const HOME: &str = "asyncio.streams";
    export(
        module,
        &[
            (
                HOME,
                "open_connection(host=None, port=None, *, limit=65536, **kwds)",
                |args| open(args, "open_connection", "create_connection", 2),
                Async,
            ),
            (
                HOME,
                "start_server(client_connected_cb, host=None, port=None, *, limit=65536, **kwds)",
                |args| serve(args, "start_server", "create_server", 2),
                Async,
            ),
            (
                HOME,
                "open_unix_connection(path=None, *, limit=65536, **kwds)",
                |args| open(args, "open_unix_connection", "create_unix_connection", 1),
                Async,
            ),
            (
                HOME,
                "start_unix_server(client_connected_cb, path=None, *, limit=65536, **kwds)",
                |args| serve(args, "start_unix_server", "create_unix_server", 1),
                Async,
            ),
        ],
    )
}
