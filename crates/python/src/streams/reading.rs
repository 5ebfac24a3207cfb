//! `read`, `readline`, `readexactly`, `readuntil` and `async for`: waiting, then taking.
//!
//! Each is an [attempt](Reading::attempt) that is made again whenever something has come. What is there already is
//! given without waiting, and without a future.
//!
//! Rules
//! 1. One waits at a time: a second one is an error, as in asyncio.
//! 2. `read()` that was woken takes what there is, even if somebody was faster and that is nothing.
//! 3. Arguments are looked at when the call is awaited, as in an `async def`.

use super::reader::{NO_SIZE, StreamReader};
use crate::ffi::bytes::{self, Buffer as View, Bytes};
use crate::ffi::coroutine::StepFn;
use crate::ffi::errors::{
    R, assertion_error, exc, raise_with_context, runtime_error, type_error, value_error,
};
use crate::ffi::{Args, Co, Coroutine, Obj, Own, Raised, Slots, Step, exceptions};
use crate::futures::methods;
use crate::imports::{self, names};
use crate::locks::waiters::{self, ARGUMENT, SELF, START, WAITING};
use aioxide_core::{Search, Verdict};

/// Stage of a body that waits by `self._wait_for_data()`.
const WAITING_BY_METHOD: u8 = 2;

/// One way to read. What the body keeps between attempts is in the coroutine: its argument, its number.
trait Reading {
    /// What calls it in error texts.
    const NAME: &'static str;
    /// Looks at the arguments, then makes the first attempt.
    fn begin(reader: &Own<StreamReader>, co: &Own<Coroutine>) -> R<Option<Obj>>;
    /// What is asked for, if it is there. `None`: it has to wait. `waited`: something has come, or somebody says so.
    fn attempt(reader: &Own<StreamReader>, co: &Own<Coroutine>, waited: bool) -> R<Option<Obj>>;
    /// Who calls: `NAME`, but for `_wait_for_data`, which is told.
    fn caller(_: &Own<Coroutine>) -> R<String> {
        Ok(Self::NAME.to_owned())
    }
}

/// The body of all of them.
fn body<K: Reading>(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let reader = match co.this::<StreamReader>() {
        Ok(reader) => reader,
        Err(raised) => return Step::Raise(raised),
    };
    let mut outcome = if co.stage.get() == START {
        K::begin(reader, co)
    } else {
        match waited(reader, co, waiters::resume(co, input)) {
            Ok(()) => K::attempt(reader, co, true),
            Err(step) => return step,
        }
    };
    loop {
        match outcome {
            Ok(Some(value)) => return Step::Return(value),
            Err(raised) => return Step::Raise(raised),
            Ok(None) => {}
        }
        let step = match wait::<K>(reader, co) {
            Ok(step) => step,
            Err(raised) => return Step::Raise(raised),
        };
        // a wait can be over at once only on a loop whose futures are made done
        match waited(reader, co, step) {
            Ok(()) => outcome = K::attempt(reader, co, true),
            Err(step) => return step,
        }
    }
}

/// `await self._wait_for_data(name)` begins.
#[inline]
fn wait<K: Reading>(reader: &Own<StreamReader>, co: &Own<Coroutine>) -> R<Step> {
    if reader.is_plain() {
        return wait_for_data::<K>(reader, co);
    }
    let awaitable = reader
        .obj()
        .call_method(&names::WAIT_FOR_DATA_, &[&Obj::str(&K::caller(co)?)?])?;
    let step = waiters::park(co, awaitable);
    co.stage.set(WAITING_BY_METHOD);
    Ok(step)
}

/// `_wait_for_data(name)` begins.
#[inline]
fn wait_for_data<K: Reading>(reader: &Own<StreamReader>, co: &Own<Coroutine>) -> R<Step> {
    if !reader.waiter.is_empty() {
        return Err(busy(&K::caller(co)?));
    }
    if reader.eof.get() {
        return Err(assertion_error("_wait_for_data after EOF"));
    }
    // Waiting for data while paused would be a deadlock: `readexactly(n)` with `n` above the limit.
    if reader.paused.get() {
        reader.unpause()?;
    }
    let future = methods::create(&reader.loop_.get_or_none())?;
    reader.waiter.set(future.clone());
    let step = waiters::park(co, future);
    co.stage.set(WAITING);
    Ok(step)
}

#[cold]
fn busy(name: &str) -> Raised {
    runtime_error(&format!(
        "{name}() called while another coroutine is already waiting for incoming data"
    ))
}

/// The wait goes on (`Err`), is over, or has failed (`Err`).
#[inline]
fn waited(reader: &Own<StreamReader>, co: &Own<Coroutine>, step: Step) -> Result<(), Step> {
    match step {
        Step::Yield(future) => Err(Step::Yield(future)),
        Step::Return(_) => {
            drop(waiters::unpark(co));
            if co.stage.get() == WAITING {
                reader.waiter.put(None);
            }
            Ok(())
        }
        Step::Raise(raised) => Err(waiters::cleaning_up(raised, |_| {
            drop(waiters::unpark(co));
            if co.stage.get() == WAITING {
                reader.waiter.put(None);
            }
            Ok(())
        })),
    }
}

/// `if self._exception is not None: raise self._exception`
#[inline]
fn check(reader: &Own<StreamReader>) -> R<()> {
    match reader.exception.get() {
        None => Ok(()),
        Some(exception) => Err(raise_stored(&exception)),
    }
}

/// `raise exception`, which may be a class.
#[cold]
pub(super) fn raise_stored(exception: &Obj) -> Raised {
    let instance = if exceptions::is_class(exception) {
        exception.call0()
    } else {
        Ok(exception.clone())
    };
    match instance {
        Ok(instance) if exceptions::is_instance(&instance) => raise_with_context(&instance),
        Ok(_) => type_error("exceptions must derive from BaseException"),
        Err(raised) => raised,
    }
}

fn coroutine(name: &'static str, reader: &Own<StreamReader>, step: StepFn) -> Coroutine {
    Coroutine::of_method(name, step, reader.obj().clone())
}

// --- read -----------------------------------------------------------------------------------------

/// How many bytes are asked for: rule 3. An exact int is known already.
#[inline]
fn keep_size(coroutine: &Coroutine, size: Option<&Obj>) {
    match size {
        None => coroutine.number.set(-1.0),
        Some(size) => match exact_int(size) {
            Some(size) => coroutine.number.set(size),
            None => coroutine.locals[ARGUMENT].set(size.clone()),
        },
    }
}

fn exact_int(size: &Obj) -> Option<f64> {
    crate::ffi::object::exact_number(size).filter(|_| !crate::ffi::object::is_float(size))
}

/// The number of bytes, checked as `n < 0` and `buffer[:n]` would.
#[inline]
fn size_of(co: &Own<Coroutine>) -> R<f64> {
    match co.locals[ARGUMENT].take() {
        None => Ok(co.number.get()),
        Some(size) => {
            let number = odd_size(&size)?;
            co.number.set(number);
            Ok(number)
        }
    }
}

#[cold]
fn odd_size(size: &Obj) -> R<f64> {
    let zero = Obj::int(0)?;
    let negative = size.lt(&zero)?;
    if crate::ffi::object::is_float(size) {
        // nothing is cut off for these
        return match (negative, size.eq(&zero)?) {
            (true, _) => Ok(-1.0),
            (_, true) => Ok(0.0),
            _ => Err(type_error(NO_SIZE)),
        };
    }
    match size.to_i64() {
        Ok(number) => Ok(number as f64),
        // too large for any buffer
        Err(raised) if !raised.matches(exc::type_error()) => {
            raised.ignore();
            Ok(if negative { -1.0 } else { f64::INFINITY })
        }
        Err(raised) => Err(raised),
    }
}

/// `read(n)`
struct Read;

impl Reading for Read {
    const NAME: &'static str = "read";
    #[inline]
    fn begin(reader: &Own<StreamReader>, co: &Own<Coroutine>) -> R<Option<Obj>> {
        check(reader)?;
        let size = size_of(co)?;
        if size == 0.0 {
            return Obj::empty_bytes().map(Some);
        }
        Self::attempt(reader, co, false)
    }
    #[inline]
    fn attempt(reader: &Own<StreamReader>, co: &Own<Coroutine>, waited: bool) -> R<Option<Obj>> {
        if !waited && !reader.eof.get() && reader.buffer.is_empty()? {
            return Ok(None);
        }
        let data = reader.buffer.take(co.number.get() as usize)?;
        reader.resume_transport()?;
        Ok(Some(data))
    }
}

/// `read()`: everything up to the end, taken as it comes. The argument is a list of what has been taken.
struct ReadAll;

impl Reading for ReadAll {
    const NAME: &'static str = "read";
    fn begin(reader: &Own<StreamReader>, co: &Own<Coroutine>) -> R<Option<Obj>> {
        co.locals[ARGUMENT].set(Obj::list(&[])?);
        Self::attempt(reader, co, false)
    }
    fn attempt(reader: &Own<StreamReader>, co: &Own<Coroutine>, mut waited: bool) -> R<Option<Obj>> {
        let blocks = co.locals[ARGUMENT].get_or_none();
        loop {
            if !waited {
                check(reader)?;
            }
            let is_empty = reader.buffer.is_empty()?;
            if is_empty && !waited && !reader.eof.get() {
                return Ok(None);
            }
            reader.check_limit_is_size()?;
            if is_empty {
                reader.resume_transport()?;
                return Obj::empty_bytes()?.call_method_str("join", &[&blocks]).map(Some);
            }
            // asyncio takes `limit` at a time; nobody can tell, unless the next one is not taken any more
            let most = if reader.exception.is_empty() {
                usize::MAX
            } else {
                reader.limit()
            };
            let block = reader.buffer.take(most)?;
            reader.resume_transport()?;
            blocks.call_method(&names::APPEND, &[&block])?;
            waited = false;
        }
    }
}

fn read(args: &Args) -> R<Obj> {
    let (reader, size) = (args.this::<StreamReader>()?, args.get(1));
    let coroutine = coroutine("StreamReader.read", reader, read_step);
    keep_size(&coroutine, size);
    coroutine.alloc()
}

/// The first step sees what kind of `read` it is.
fn read_step(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    if co.stage.get() == START && (co.number.get() < 0.0 || !co.locals[ARGUMENT].is_empty()) {
        return match begin_read(co) {
            Ok(step) => step(co, input),
            Err(raised) => Step::Raise(raised),
        };
    }
    body::<Read>(co, input)
}

#[cold]
fn begin_read(co: &Own<Coroutine>) -> R<StepFn> {
    let reader = co.this::<StreamReader>()?;
    check(reader)?;
    if size_of(co)? >= 0.0 {
        return Ok(body::<Read>);
    }
    let step: StepFn = if reader.is_plain() {
        body::<ReadAll>
    } else {
        read_all_by_method
    };
    co.become_step(step);
    Ok(step)
}

/// `read()` of a class that may have its own `read(n)`.
#[cold]
fn read_all_by_method(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    let ask = || -> R<Step> {
        let reader = co.this::<StreamReader>()?;
        let block = reader
            .obj()
            .call_method(&names::READ, &[&reader.limit_object()?])?;
        Ok(waiters::park(co, block))
    };
    let mut step = if co.stage.get() == START {
        match Obj::list(&[]) {
            Ok(blocks) => co.locals[ARGUMENT].set(blocks),
            Err(raised) => return Step::Raise(raised),
        }
        ask()
    } else {
        Ok(waiters::resume(co, input))
    };
    loop {
        step = match step {
            Err(raised) => return Step::Raise(raised),
            Ok(Step::Return(block)) => {
                drop(waiters::unpark(co));
                let blocks = co.locals[ARGUMENT].get_or_none();
                match block.truth() {
                    Err(raised) => return Step::Raise(raised),
                    Ok(false) => {
                        let joined =
                            Obj::empty_bytes().and_then(|empty| empty.call_method_str("join", &[&blocks]));
                        return Step::from(joined);
                    }
                    Ok(true) => match blocks.call_method(&names::APPEND, &[&block]) {
                        Ok(_) => ask(),
                        Err(raised) => Err(raised),
                    },
                }
            }
            Ok(other) => return other,
        };
    }
}

// --- readexactly ----------------------------------------------------------------------------------

/// `readexactly(n)`
struct ReadExactly;

impl Reading for ReadExactly {
    const NAME: &'static str = "readexactly";
    #[inline]
    fn begin(reader: &Own<StreamReader>, co: &Own<Coroutine>) -> R<Option<Obj>> {
        let size = size_of(co)?;
        if size < 0.0 {
            return Err(value_error("readexactly size can not be less than zero"));
        }
        check(reader)?;
        if size == 0.0 {
            return Obj::empty_bytes().map(Some);
        }
        Self::attempt(reader, co, false)
    }
    #[inline]
    fn attempt(reader: &Own<StreamReader>, co: &Own<Coroutine>, _: bool) -> R<Option<Obj>> {
        let size = co.number.get();
        if (reader.buffer.len()? as f64) < size {
            if reader.eof.get() {
                let partial = reader.buffer.take(usize::MAX)?;
                return Err(incomplete(&partial, &Obj::int(size as i64)?));
            }
            return Ok(None);
        }
        let data = reader.buffer.take(size as usize)?;
        reader.resume_transport()?;
        Ok(Some(data))
    }
}

/// `IncompleteReadError(partial, expected)`
#[cold]
fn incomplete(partial: &Obj, expected: &Obj) -> Raised {
    match imports::INCOMPLETE_READ_ERROR.call(&[partial, expected]) {
        Ok(exception) => raise_with_context(&exception),
        Err(raised) => raised,
    }
}

fn readexactly(args: &Args) -> R<Obj> {
    let (reader, size) = (args.this::<StreamReader>()?, args.req(1)?);
    let coroutine = coroutine("StreamReader.readexactly", reader, body::<ReadExactly>);
    keep_size(&coroutine, Some(size));
    coroutine.alloc()
}

// --- readuntil ------------------------------------------------------------------------------------

const NEWLINE: [&[u8]; 1] = [b"\n"];
const TOO_LONG: &str = "Separator is found, but chunk is longer than limit";
const OVERRUN: &str = "Separator is not found, and chunk exceed the limit";

/// Looks once more, from where the last look ended (the coroutine's number).
#[inline]
fn look<S: AsRef<[u8]>>(reader: &Own<StreamReader>, co: &Own<Coroutine>, separators: &[S]) -> R<Verdict> {
    let mut search = Search::from(co.number.get() as usize);
    let verdict = reader.buffer.look(&mut search, separators, reader.limit())?;
    co.number.set(search.offset() as f64);
    Ok(verdict)
}

/// `readuntil(separator)`. The argument is empty (a line), the bytes of one separator, or a list, the shortest first.
struct ReadUntil;

impl Reading for ReadUntil {
    const NAME: &'static str = "readuntil";
    fn begin(reader: &Own<StreamReader>, co: &Own<Coroutine>) -> R<Option<Obj>> {
        if let Some(separator) = co.locals[ARGUMENT].get() {
            co.locals[ARGUMENT].set(sorted(&separator)?);
        }
        check(reader)?;
        Self::attempt(reader, co, false)
    }
    fn attempt(reader: &Own<StreamReader>, co: &Own<Coroutine>, _: bool) -> R<Option<Obj>> {
        let verdict = match co.locals[ARGUMENT].get() {
            None => look(reader, co, &NEWLINE)?,
            Some(list) => look_for(reader, co, &list)?,
        };
        match verdict {
            Verdict::Found { end, .. } => {
                let data = reader.buffer.take(end)?;
                reader.resume_transport()?;
                Ok(Some(data))
            }
            Verdict::TooLong { start } => Err(overrun(TOO_LONG, start)),
            Verdict::Overrun { consumed } => Err(overrun(OVERRUN, consumed)),
            // The last that came may have completed the message: so the end is looked at only now.
            Verdict::NotYet if reader.eof.get() => {
                let partial = reader.buffer.take(usize::MAX)?;
                Err(incomplete(&partial, &Obj::none()))
            }
            Verdict::NotYet => Ok(None),
        }
    }
}

/// The separators: one that is `bytes` as it is, else a list, the shortest first.
fn sorted(separator: &Obj) -> R<Obj> {
    if Bytes::of(separator).is_some_and(|bytes| !bytes.as_slice().is_empty()) {
        return Ok(separator.clone());
    }
    let mut all = if separator.is_tuple() {
        let mut all = Vec::new();
        for one in separator.tuple_items() {
            all.push((one.len()?, one.clone()));
        }
        all
    } else {
        vec![(separator.len()?, separator.clone())]
    };
    all.sort_by_key(|(length, _)| *length);
    match all.first() {
        None => Err(value_error("Separator should contain at least one element")),
        Some((0, _)) => Err(value_error("Separator should be at least one-byte string")),
        Some(_) => Obj::list(&all.into_iter().map(|(_, one)| one).collect::<Vec<_>>()),
    }
}

/// One separator as bytes: the object's own, or a copy of what it shows.
enum Separator {
    Own(Bytes),
    Copied(Vec<u8>),
}

impl AsRef<[u8]> for Separator {
    fn as_ref(&self) -> &[u8] {
        match self {
            Separator::Own(bytes) => bytes.as_slice(),
            Separator::Copied(bytes) => bytes,
        }
    }
}

fn look_for(reader: &Own<StreamReader>, co: &Own<Coroutine>, list: &Obj) -> R<Verdict> {
    if let Some(one) = Bytes::of(list) {
        return look(reader, co, &[one]);
    }
    let list = list.to_vec()?;
    let shortest = list.first().map_or(Ok(0), Obj::len)? as f64;
    // nothing to look for yet: not even whether they can be looked for
    if (reader.buffer.len()? as f64) - co.number.get() < shortest {
        return Ok(Verdict::NotYet);
    }
    let mut separators = Vec::new();
    for separator in list {
        separators.push(match Bytes::of(&separator) {
            Some(bytes) => Separator::Own(bytes),
            None => match View::readable(&separator) {
                Ok(view) => Separator::Copied(view.with(<[u8]>::to_vec)),
                Err(raised) => {
                    raised.ignore();
                    // what `bytearray.find` says of it
                    bytes::array(&[])?.call_method_str("find", &[&separator])?;
                    return Ok(Verdict::NotYet);
                }
            },
        });
    }
    look(reader, co, &separators)
}

/// `LimitOverrunError(text, consumed)`
#[cold]
fn overrun(text: &str, consumed: usize) -> Raised {
    let exception = || imports::LIMIT_OVERRUN_ERROR.call(&[&Obj::str(text)?, &Obj::int(consumed as i64)?]);
    match exception() {
        Ok(exception) => raise_with_context(&exception),
        Err(raised) => raised,
    }
}

fn readuntil(args: &Args) -> R<Obj> {
    let (reader, separator) = (args.this::<StreamReader>()?, args.get(1));
    let coroutine = coroutine("StreamReader.readuntil", reader, body::<ReadUntil>);
    coroutine.locals[ARGUMENT].put(separator.cloned());
    coroutine.alloc()
}

// --- readline -------------------------------------------------------------------------------------

/// `readline()` of a plain reader: `readuntil(b"\n")`, whose errors mean something else.
struct ReadLine;

impl Reading for ReadLine {
    const NAME: &'static str = "readuntil";
    #[inline]
    fn begin(reader: &Own<StreamReader>, co: &Own<Coroutine>) -> R<Option<Obj>> {
        check(reader)?;
        Self::attempt(reader, co, false)
    }
    #[inline]
    fn attempt(reader: &Own<StreamReader>, co: &Own<Coroutine>, _: bool) -> R<Option<Obj>> {
        match look(reader, co, &NEWLINE)? {
            Verdict::Found { end, .. } => {
                let line = reader.buffer.take(end)?;
                reader.resume_transport()?;
                Ok(Some(line))
            }
            Verdict::NotYet if reader.eof.get() => reader.buffer.take(usize::MAX).map(Some),
            Verdict::NotYet => Ok(None),
            Verdict::TooLong { start } => Err(line_too_long(reader, overrun(TOO_LONG, start), start)),
            Verdict::Overrun { consumed } => Err(line_too_long(reader, overrun(OVERRUN, consumed), consumed)),
        }
    }
}

/// A line above the limit is thrown away, as far as it has come.
#[cold]
fn line_too_long(reader: &Own<StreamReader>, raised: Raised, consumed: usize) -> Raised {
    let limit_error = raised.take();
    let attempt = || -> R<Obj> {
        if reader.buffer.has_at(consumed, b"\n")? {
            reader.buffer.drop_front(consumed + 1)?;
        } else {
            reader.buffer.clear()?;
        }
        reader.resume_transport()?;
        let args = limit_error.getattr_str("args")?;
        exc::value_error().call(&[args.tuple_items().first().unwrap_or(&Obj::none())])
    };
    match attempt() {
        Ok(exception) => {
            exceptions::set_context(&exception, Some(limit_error));
            crate::ffi::errors::raise(&exception)
        }
        Err(raised) => raised,
    }
}

fn readline(args: &Args) -> R<Obj> {
    line(args.this()?, "StreamReader.readline", body::<ReadLine>)
}

fn line(reader: &Own<StreamReader>, name: &'static str, plain: StepFn) -> R<Obj> {
    if reader.is_plain() {
        return coroutine(name, reader, plain).alloc();
    }
    Coroutine::boxed(name, &[reader.obj()], |co: Co| async move {
        let reading = co
            .local(SELF)
            .call_method(&names::READUNTIL, &[&bytes::new(b"\n")?])?;
        let raised = match co.wait(reading).await {
            Ok(line) => return Ok(line),
            Err(raised) => raised,
        };
        if raised.matches(&imports::INCOMPLETE_READ_ERROR) {
            return raised.take().getattr_str("partial");
        }
        if !raised.matches(&imports::LIMIT_OVERRUN_ERROR) {
            return Err(raised);
        }
        let error = raised.take();
        let consumed = error.getattr_str("consumed")?.to_i64()? as usize;
        let reader = co.this::<StreamReader>()?;
        Err(line_too_long(
            &reader,
            crate::ffi::errors::raise(&error),
            consumed,
        ))
    })
}

/// `__anext__`: a line, until there is none.
fn next_line(args: &Args) -> R<Obj> {
    let reader = args.this::<StreamReader>()?;
    if reader.is_plain() {
        return coroutine("StreamReader.__anext__", reader, next_line_step).alloc();
    }
    Coroutine::boxed("StreamReader.__anext__", &[reader.obj()], |co: Co| async move {
        let reading = co.local(SELF).call_method(&names::READLINE, &[])?;
        let line = co.wait(reading).await?;
        if line.eq(&Obj::empty_bytes()?)? {
            return Err(no_more_lines());
        }
        Ok(line)
    })
}

fn next_line_step(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    match body::<ReadLine>(co, input) {
        Step::Return(line) if line.is_empty_bytes() => Step::Raise(no_more_lines()),
        other => other,
    }
}

#[cold]
fn no_more_lines() -> Raised {
    match exc::stop_async_iteration().call0() {
        Ok(exception) => raise_with_context(&exception),
        Err(raised) => raised,
    }
}

// --- _wait_for_data -------------------------------------------------------------------------------

/// `_wait_for_data(func_name)`, for those who call it themselves.
struct WaitForData;

impl Reading for WaitForData {
    const NAME: &'static str = "_wait_for_data";
    fn begin(_: &Own<StreamReader>, _: &Own<Coroutine>) -> R<Option<Obj>> {
        Ok(None)
    }
    fn attempt(_: &Own<StreamReader>, _: &Own<Coroutine>, _: bool) -> R<Option<Obj>> {
        Ok(Some(Obj::none()))
    }
    fn caller(co: &Own<Coroutine>) -> R<String> {
        co.locals[ARGUMENT].get_or_none().to_str()?.to_string()
    }
}

fn wait_for_data_step(co: &Own<Coroutine>, input: R<&Obj>) -> Step {
    if co.stage.get() != START {
        return body::<WaitForData>(co, input);
    }
    let begin = || -> R<Result<(), Step>> {
        let reader = co.this::<StreamReader>()?;
        let step = wait_for_data::<WaitForData>(reader, co)?;
        Ok(waited(reader, co, step))
    };
    match begin() {
        Ok(Ok(())) => Step::Return(Obj::none()),
        Ok(Err(step)) => step,
        Err(raised) => Step::Raise(raised),
    }
}

fn method_wait_for_data(args: &Args) -> R<Obj> {
    let coroutine = coroutine("StreamReader._wait_for_data", args.this()?, wait_for_data_step);
    coroutine.locals[ARGUMENT].set(args.req(1)?.clone());
    coroutine.alloc()
}

/// What this file adds to the class.
pub(super) fn slots(slots: &mut Slots<StreamReader>) -> R<()> {
    slots.async_method("_wait_for_data(self, func_name)", method_wait_for_data)?;
    slots.async_method("readline(self)", readline)?;
    slots.async_method("readuntil(self, separator=b'\\n')", readuntil)?;
    slots.async_method("read(self, n=-1)", read)?;
    slots.async_method("readexactly(self, n)", readexactly)?;
    slots.method("__aiter__(self)", |args| Ok(args.req(0)?.clone()))?;
    slots.async_method("__anext__(self)", next_line)
}
