//! `_SelectorDatagramTransport`: a socket that sends and receives datagrams.
//!
//! Owns what it has beside a [`Life`]: whom it talks to, and its queue. What comes in is the business of
//! `receiving.rs`, what goes out that of `sending.rs`.

use super::flow::{self, Buffered, Flow};
use super::life::{self, Life, Transport};
use super::socket::Socket;
use super::{Happening, Source, receiving, sending};
use crate::event_loop::core::{self, LoopCore};
use crate::ffi::errors::{R, runtime_error};
use crate::ffi::{Class, ClassCell, Obj, Own, Slot, Slots, Visitor};
use crate::futures::Future;
use crate::version;
use aioxide_core::socket::{self as kernel, Address};
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;
use std::ops::Deref;

/// The object.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Datagram {
    life: Life,
    /// The only one to whom it sends, if there is such a one: `remote_addr`, looked up.
    pub(super) address: Slot,
    pub(super) queue: sending::Queue,
    pub(super) flow: Flow,
    /// The kernel knows whom it sends to.
    pub(super) connected: Cell<bool>,
    pub(super) appetite: receiving::Appetite,
}

impl Deref for Datagram {
    type Target = Life;
    #[inline(always)]
    fn deref(&self) -> &Life {
        &self.life
    }
}

/// What a transport is made of.
pub(crate) struct Opening<'a> {
    pub(crate) loop_: &'a Obj,
    /// A `socket.socket`, or something like it.
    pub(crate) sock: &'a Obj,
    pub(crate) protocol: &'a Obj,
    /// To whom it sends, if only to one.
    pub(crate) address: Option<Obj>,
    /// Ended when the connection is made.
    pub(crate) waiter: Option<Own<Future>>,
    /// A dict for `get_extra_info`.
    pub(crate) extra: Option<Obj>,
}

/// Makes a transport, whose protocol will be told in a later turn.
pub(crate) fn open(opening: Opening<'_>) -> R<Own<Datagram>> {
    let core = core::of(opening.loop_).ok_or_else(|| runtime_error("an EventLoop is required"))?;
    core.check_closed()?;
    let socket = Socket::of(opening.sock)?;
    let fd = socket.number();
    let mut life = Life::new(opening.loop_, socket, opening.waiter, opening.extra, None)?;
    life.local = kernel::local_address(fd).unwrap_or_default();
    life.peer = kernel::peer_address(fd).unwrap_or_default();
    let this = Datagram::class().alloc(Datagram {
        life,
        ..Datagram::default()
    })?;
    this.address.put(opening.address);
    life::ask_for_odd_addresses(&this)?;
    let peer = life::extra(&this)?.dict_get(&Obj::interned("peername")?)?;
    this.connected.set(match (peer, &this.peer) {
        (Some(peer), _) => peer.truth()?,
        (None, Address::Ip(_)) => true,
        (None, Address::Unix(name)) => !name.is_empty(),
        (None, Address::Other) => false,
    });
    Datagram::set_protocol(&this, opening.protocol)?;
    life::begin(&this, core);
    Ok(this)
}

/// What the loop calls it for.
#[inline]
pub(super) fn run(this: &Own<Datagram>, loop_: &Obj, core: &Own<LoopCore>, happening: Happening) -> R<()> {
    if !this.appetite.is_to_be_asked(happening) {
        return Ok(());
    }
    life::run(this, loop_, core, happening)
}

impl Transport for Datagram {
    const WRITE_READY: &'static str = "_sendto_ready";

    fn source(this: &Own<Datagram>) -> Source {
        Source::Datagram(this.clone())
    }
    #[inline]
    fn read_ready(this: &Own<Datagram>, _: &Obj, core: &Own<LoopCore>) -> R<()> {
        receiving::receive(this, core)
    }
    fn write_ready(this: &Own<Datagram>) -> R<()> {
        sending::room(this)
    }
    fn waiting(&self) -> usize {
        self.queue.size()
    }
    fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }
    fn forget(this: &Own<Datagram>) {
        life::stop_writing(this);
        this.queue.forget();
    }
}

impl Buffered for Datagram {
    fn flow(&self) -> &Flow {
        &self.flow
    }
}

static CLASS: ClassCell<Datagram> = ClassCell::new();

const _: () = assert!(offset_of!(Datagram, life) == 0);

impl Class for Datagram {
    const NAME: &'static CStr = c"asyncio.selector_events._SelectorDatagramTransport";
    const SUBCLASSABLE: bool = false;
    const DICT: Option<usize> = life::DICT;
    const WEAKREFS: Option<usize> = life::WEAKREFS;
    const FINALIZE: bool = true;

    fn class() -> &'static ClassCell<Datagram> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Datagram>) -> R<()> {
        slots.no_new();
        life::slots(slots)?;
        life::reading_slots(slots)?;
        life::socket_slots(slots)?;
        flow::slots(slots)?;
        sending::slots(slots)?;
        slots.get(c"_address", |this| Ok(this.address.get_or_none()));
        if version::SINCE_314.get() {
            slots.attribute("_header_size", Obj::int(sending::HEADER as i64)?);
        }
        Ok(())
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.life.visit(visitor);
        self.address.visit(visitor);
        self.queue.visit(visitor);
    }
    fn clear(&self) {
        self.life.clear();
        self.address.put(None);
        self.queue.forget();
    }
    fn leave(&self) {
        life::leave_loop(self);
    }
    fn wants_finalize(&self) -> bool {
        !self.socket.is_gone()
    }
    fn finalize(this: &Own<Datagram>) {
        life::finalize(this);
    }
}
