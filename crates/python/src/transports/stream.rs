//! `_SelectorSocketTransport`: a TCP or Unix connection.
//!
//! Owns what such a connection has beside a [`Life`]: its server, its end, and whether its protocol is a
//! `BufferedProtocol`. What comes in is the business of `reading.rs`, what goes out that of `writing.rs`.

use super::flow::{self, Buffered, Flow};
use super::life::{self, Life, Transport};
use super::socket::Socket;
use super::{Source, outbox, reading, writing};
use crate::event_loop::core::{self, LoopCore};
use crate::ffi::errors::{R, finally, runtime_error};
use crate::ffi::{Class, ClassCell, Inner, Obj, Own, OwnSlot, Slot, Slots, Visitor};
use crate::futures::Future;
use crate::imports;
use crate::servers::server::{self, ServerCore};
use aioxide_core::socket::{self as kernel, Address};
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::offset_of;
use std::ops::Deref;

pub(super) use life::{call_connection_lost, close, debug, fatal_error};

/// The object.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Stream {
    life: Life,
    // (in the order of use, as in a `Life`)
    pub(super) eof: Cell<bool>,
    /// The protocol is a `BufferedProtocol`.
    pub(super) buffered: Cell<bool>,
    /// How much came at the last read.
    pub(super) last_read: Cell<u32>,
    pub(super) turns: outbox::Turns,
    /// `loop.sendfile` waits for the queue to run empty; meanwhile nobody may write.
    pub(super) empty_waiter: Slot,
    pub(super) queue: Inner<writing::Queue>,
    pub(super) flow: Flow,
    server: OwnSlot<ServerCore>,
    /// Its place among the server's clients.
    seat: Cell<u32>,
}

impl Deref for Stream {
    type Target = Life;
    #[inline(always)]
    fn deref(&self) -> &Life {
        &self.life
    }
}

/// What a transport is made of.
pub(crate) struct Opening<'a> {
    pub(crate) loop_: &'a Obj,
    pub(crate) socket: Socket,
    pub(crate) protocol: &'a Obj,
    /// Ended when the connection is made.
    pub(crate) waiter: Option<Own<Future>>,
    /// A dict for `get_extra_info`.
    pub(crate) extra: Option<Obj>,
    /// To which it belongs.
    pub(crate) server: Option<Own<ServerCore>>,
    /// For all callbacks (3.15).
    pub(crate) context: Option<Obj>,
    /// Who is at the other end, if that is known.
    pub(crate) peer: Option<Address>,
}

/// Makes a transport, whose protocol will be told in a later turn.
pub(crate) fn open(opening: Opening<'_>) -> R<Own<Stream>> {
    let (fd, accepted) = (opening.socket.number(), opening.socket.made_object().is_none());
    let core = core::of(opening.loop_).ok_or_else(|| runtime_error("an EventLoop is required"))?;
    core.check_closed()?;
    let local = kernel::local_address(fd).unwrap_or_default();
    let is_peer_known = opening.peer.is_some();
    let peer = match opening.peer {
        Some(peer) => peer,
        None => kernel::peer_address(fd).unwrap_or_default(),
    };
    // (an accepted connection has it from its listening socket)
    if !accepted
        && matches!(local, Address::Ip(_))
        && kernel::kind(fd)
            .is_ok_and(|(_, kind, protocol)| kind == libc::SOCK_STREAM && protocol == libc::IPPROTO_TCP)
    {
        // as in asyncio: it is no reason to fail
        let _ = kernel::set_no_delay(fd);
    }
    let mut life = Life::new(
        opening.loop_,
        opening.socket,
        opening.waiter,
        opening.extra,
        opening.context,
    )?;
    (life.local, life.peer) = (local, peer);
    if life.socket.foreign().is_some() {
        // it has a word in what these are
        life.local = Address::Other;
        if !is_peer_known {
            life.peer = Address::Other;
        }
    }
    let this = Stream::class().alloc(Stream {
        life,
        ..Stream::default()
    })?;
    life::ask_for_odd_addresses(&this)?;
    Stream::set_protocol(&this, opening.protocol)?;
    if let Some(server) = opening.server {
        this.seat.set(server::attach(&server, this.obj())?);
        this.server.put(Some(server));
    }
    life::begin(&this, core);
    Ok(this)
}

/// The end of what the peer sends, and `eof_received()` wants to go on writing.
pub(super) fn stop_reading_for_good(this: &Own<Stream>) {
    life::stop_reading(this, false);
}

impl Transport for Stream {
    const ONE_CONTEXT: bool = true;

    fn source(this: &Own<Stream>) -> Source {
        Source::Stream(this.clone())
    }
    #[inline]
    fn read_ready(this: &Own<Stream>, loop_: &Obj, core: &Own<LoopCore>) -> R<()> {
        reading::received(this, loop_, core)
    }
    #[inline]
    fn write_ready(this: &Own<Stream>) -> R<()> {
        writing::room(this)
    }
    #[inline]
    fn waiting(&self) -> usize {
        self.queue.with(|queue| queue.size())
    }
    fn settle(this: &Own<Stream>) -> R<()> {
        writing::flush_now(this)
    }
    fn forget(this: &Own<Stream>) {
        writing::forget(this);
    }
    fn set_protocol(this: &Own<Stream>, protocol: &Obj) -> R<()> {
        this.buffered
            .set(protocol.isinstance(&imports::BUFFERED_PROTOCOL)?);
        this.protocol.set(protocol.clone());
        Ok(())
    }
    fn ended(this: &Own<Stream>) -> R<()> {
        let detached = match this.server.take() {
            Some(server) => server::detach(&server, this.seat.get()),
            None => Ok(()),
        };
        finally(detached, || writing::nobody_empties_it(this))
    }
}

/// The server forgets it, and nobody is told.
fn leave_server(this: &Stream) {
    if let Some(server) = this.server.take() {
        server::leave(&server, this.seat.get());
    }
}

impl Buffered for Stream {
    fn flow(&self) -> &Flow {
        &self.flow
    }
}

static CLASS: ClassCell<Stream> = ClassCell::new();

const _: () = assert!(offset_of!(Stream, life) == 0);

impl Class for Stream {
    const NAME: &'static CStr = c"asyncio.selector_events._SelectorSocketTransport";
    const SUBCLASSABLE: bool = false;
    const DICT: Option<usize> = life::DICT;
    const WEAKREFS: Option<usize> = life::WEAKREFS;
    const FINALIZE: bool = true;

    fn class() -> &'static ClassCell<Stream> {
        &CLASS
    }
    fn slots(slots: &mut Slots<Stream>) -> R<()> {
        slots.no_new();
        life::slots(slots)?;
        life::reading_slots(slots)?;
        life::socket_slots(slots)?;
        flow::slots(slots)?;
        slots.attribute("_start_tls_compatible", Obj::bool(true));
        slots.attribute(
            "_sendfile_compatible",
            imports::SENDFILE_MODE.getattr_str("TRY_NATIVE")?,
        );
        slots.get(c"_eof", |this| Ok(Obj::bool(this.eof.get())));
        writing::slots(slots)
    }
    fn visit(&self, visitor: &mut Visitor) {
        self.life.visit(visitor);
        self.empty_waiter.visit(visitor);
        self.server.visit(visitor);
    }
    fn clear(&self) {
        self.life.clear();
        self.empty_waiter.put(None);
        leave_server(self);
    }
    fn leave(&self) {
        life::leave_loop(self);
        leave_server(self);
    }
    fn wants_finalize(&self) -> bool {
        !self.socket.is_gone()
    }
    fn finalize(this: &Own<Stream>) {
        life::finalize(this);
    }
}
