//! "Running subprocesses": subprocess_exec, subprocess_shell, and `_make_subprocess_transport`.

use super::class::{EVENT_LOOP, this};
use super::run::is_fatal;
use super::sockets::loop_core;
use crate::ffi::errors::{exc, raise, runtime_error, value_error};
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Co, Coroutine, Obj, R};
use crate::futures::methods;
use crate::imports::{self, names};
use crate::subprocesses::ending;
use crate::subprocesses::transport::{self, Order};
use crate::transports::{log, log_debug};
use crate::version;

/// What this file adds to the class.
pub(super) fn add(body: &mut Body) -> R<()> {
    body.async_method(
        "subprocess_shell(self, protocol_factory, cmd, *, stdin=-1, stdout=-1, stderr=-1, \
         universal_newlines=False, shell=True, bufsize=0, encoding=None, errors=None, text=None, **kwargs)",
        |args| begin(args, "BaseEventLoop.subprocess_shell", subprocess_shell),
    )?;
    body.async_method(
        "subprocess_exec(self, protocol_factory, program, *args, stdin=-1, stdout=-1, stderr=-1, \
         universal_newlines=False, shell=False, bufsize=0, encoding=None, errors=None, text=None, **kwargs)",
        |args| begin(args, "BaseEventLoop.subprocess_exec", subprocess_exec),
    )?;
    body.async_method(
        "_make_subprocess_transport(self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=None, **kwargs)",
        |args| {
            let order = order_of(args)?;
            Coroutine::boxed(
                "_UnixSelectorEventLoop._make_subprocess_transport",
                &[this(args)?.0, &order],
                make_transport,
            )
        },
    )?;
    body.method("_child_watcher_callback(self, pid, returncode, transp)", |args| {
        child_watcher_callback(args)
    })
}

/// Locals of all of them.
const LOOP: usize = 0;
/// First what was given, a tuple; then the arguments of `_make_subprocess_transport`, with `kwargs` at the end.
const ORDER: usize = 1;
const TRANSPORT: usize = 2;
/// A child watcher of the program's, and who is asked in its place; or the protocol.
const OTHER: usize = 3;

// --- subprocess_exec and subprocess_shell ---------------------------------------------------------

/// Both have the same parameters: the factory, the program or command, stdin, stdout, stderr, universal_newlines, shell,
/// bufsize, encoding, errors, text. Then come the arguments of the program, and what is for `Popen`.
fn begin<F>(args: &Args, name: &'static str, body: fn(Co) -> F) -> R<Obj>
where
    F: Future<Output = R<Obj>> + 'static,
{
    let (none, rest) = (Obj::none(), Obj::tuple_of(args.rest())?);
    let (pipe, zero) = (Obj::int(-1)?, Obj::int(0)?);
    let default = |index| match index {
        3..=5 => &pipe,
        8 => &zero,
        _ => &none,
    };
    let mut given: Vec<&Obj> = (1..12)
        .map(|index| args.get(index).unwrap_or_else(|| default(index)))
        .collect();
    given.push(&rest);
    given.push(args.kwargs().unwrap_or(&none));
    Coroutine::boxed(name, &[this(args)?.0, &Obj::tuple(&given)?], body)
}

async fn subprocess_exec(co: Co) -> R<Obj> {
    let text = {
        let given = co.local(ORDER);
        let given = given.tuple_items();
        check(given, given[6].truth()?.then_some("shell must be False"))?;
        // don't log arguments: they may contain passwords
        let text = log_text(&co, "execute program", &given[1])?;
        let mut command = vec![given[1].clone()];
        command.extend_from_slice(given[11].tuple_items());
        prepare(&co, given, &Obj::tuple_of(&command)?, false, &text)?;
        text
    };
    finish(co, text).await
}

async fn subprocess_shell(co: Co) -> R<Obj> {
    let text = {
        let given = co.local(ORDER);
        let given = given.tuple_items();
        let builtins = Obj::import("builtins")?;
        let strings = Obj::tuple(&[&builtins.getattr_str("bytes")?, &builtins.getattr_str("str")?])?;
        if !given[1].isinstance(&strings)? {
            return Err(value_error("cmd must be a string"));
        }
        // (not given, it is true)
        let shell = given[6].is_none() || given[6].truth()?;
        check(given, (!shell).then_some("shell must be True"))?;
        let text = log_text(&co, "run shell command", &given[1])?;
        prepare(&co, given, &given[1], true, &text)?;
        text
    };
    finish(co, text).await
}

/// What debug mode's log says. (Otherwise nobody reads it.)
fn log_text(co: &Co, what: &str, program: &Obj) -> R<String> {
    if !loop_core(&co.local(LOOP))?.debug.get() {
        return Ok(String::new());
    }
    Ok(format!("{what} {}", program.repr()?))
}

/// What Popen does and asyncio does not.
fn check(given: &[Obj], shell: Option<&str>) -> R<()> {
    if given[5].truth()? {
        return Err(value_error("universal_newlines must be False"));
    }
    if let Some(text) = shell {
        return Err(value_error(text));
    }
    if !given[7].eq(&Obj::int(0)?)? {
        return Err(value_error("bufsize must be 0"));
    }
    if given[10].truth()? {
        return Err(value_error("text must be False"));
    }
    for (index, name) in [(8, "encoding"), (9, "errors")] {
        if !given[index].is_none() {
            return Err(value_error(&format!("{name} must be None")));
        }
    }
    Ok(())
}

/// Makes the protocol; the order takes the place of what was given.
fn prepare(co: &Co, given: &[Obj], command: &Obj, shell: bool, text: &str) -> R<()> {
    let protocol = given[0].call0()?;
    if loop_core(&co.local(LOOP))?.debug.get() {
        log_files(text, [&given[2], &given[3], &given[4]])?;
    }
    let order = Obj::tuple(&[
        &protocol,
        command,
        &Obj::bool(shell),
        &given[2],
        &given[3],
        &given[4],
        &given[7],
        &Obj::none(),
        &given[12],
    ])?;
    co.set(ORDER, order);
    co.set(OTHER, protocol);
    Ok(())
}

/// `_log_subprocess(msg, stdin, stdout, stderr)`
#[cold]
fn log_files(text: &str, [stdin, stdout, stderr]: [&Obj; 3]) -> R<()> {
    let format = |file: &Obj| imports::FORMAT_PIPE.call(&[file])?.to_string();
    let mut parts = vec![text.to_owned()];
    if !stdin.is_none() {
        parts.push(format!("stdin={}", format(stdin)?));
    }
    if !stdout.is_none() && stderr.eq(&imports::SUBPROCESS.getattr_str("STDOUT")?)? {
        parts.push(format!("stdout=stderr={}", format(stdout)?));
    } else {
        for (file, name) in [(stdout, "stdout"), (stderr, "stderr")] {
            if !file.is_none() {
                parts.push(format!("{name}={}", format(file)?));
            }
        }
    }
    log_debug(&parts.join(" "), &[], None)
}

/// The pair of transport and protocol.
async fn finish(co: Co, text: String) -> R<Obj> {
    let protocol = co.local(OTHER);
    let making = {
        let loop_ = co.local(LOOP);
        if EVENT_LOOP.is_exact(&loop_) && !loop_core(&loop_)?.patched.get() {
            None
        } else {
            Some(by_method(&loop_, &co.local(ORDER))?)
        }
    };
    drop(protocol);
    let transport = match making {
        None => make_transport(co).await?,
        Some(making) => co.wait(making).await?,
    };
    if loop_core(&co.local(LOOP))?.debug.get() {
        log("info", "%s: %r", &[&Obj::str(&text)?, &transport], None)?;
    }
    let order = co.local(ORDER);
    match order.tuple_items().first() {
        Some(protocol) => Obj::tuple(&[&transport, protocol]),
        None => Err(runtime_error("no protocol")),
    }
}

/// `self._make_subprocess_transport(protocol, args, shell, stdin, stdout, stderr, bufsize, **kwargs)`
fn by_method(loop_: &Obj, order: &Obj) -> R<Obj> {
    let items = order.tuple_items();
    let (positional, kwargs) = (Obj::tuple_of(&items[..7])?, items[8].non_none());
    loop_
        .getattr_str("_make_subprocess_transport")?
        .call_with(&positional, kwargs)
}

// --- _make_subprocess_transport -------------------------------------------------------------------

fn order_of(args: &Args) -> R<Obj> {
    let none = Obj::none();
    let mut items = Vec::new();
    for index in 1..8 {
        items.push(args.req(index)?);
    }
    items.push(args.get(8).unwrap_or(&none));
    items.push(args.kwargs().unwrap_or(&none));
    Obj::tuple(&items)
}

async fn make_transport(co: Co) -> R<Obj> {
    let watcher = ending::foreign_watcher()?;
    let Some(watcher) = watcher else {
        return spawn_and_connect(&co, false).await;
    };
    // `with watcher:`, and before 3.12 `with … as watcher:`
    let entered = watcher.call_method_str("__enter__", &[])?;
    let asked = if version::SINCE_312.get() {
        &watcher
    } else {
        &entered
    };
    co.set(OTHER, Obj::tuple(&[&watcher, asked])?);
    drop((watcher, entered));
    let made = spawn_and_connect(&co, true).await;
    let pair = co.local(OTHER);
    let [watcher, _] = pair.tuple_items() else {
        return made;
    };
    let none = Obj::none();
    match made {
        Ok(transport) => {
            watcher.call_method_str("__exit__", &[&none, &none, &none])?;
            Ok(transport)
        }
        Err(raised) => {
            let exception = raised.take();
            watcher.call_method_str("__exit__", &[&exception.class(), &exception, &none])?;
            Err(raise(&exception))
        }
    }
}

async fn spawn_and_connect(co: &Co, watched_by_others: bool) -> R<Obj> {
    let waiter = begin_child(co, watched_by_others)?;
    let connected = match waiter {
        // `connection_made` comes before whoever asked for the child goes on
        None => co.suspend(Obj::none()).await,
        Some(waiter) => co.wait(waiter).await,
    };
    match connected {
        Ok(_) => Ok(co.local(TRANSPORT)),
        Err(raised) if is_fatal(&raised) => Err(raised),
        Err(raised) => {
            let exception = raised.take();
            if exception.isinstance(exc::generator_exit())? {
                // nobody drives this coroutine any more
                co.local(TRANSPORT).call_method(&names::CLOSE, &[])?;
                return Err(raise(&exception));
            }
            put_down(co, exception).await
        }
    }
}

/// Nobody is going to have the child: it ends before whoever has asked for it hears why.
async fn put_down(co: &Co, exception: Obj) -> R<Obj> {
    let ending = {
        let transport = co.local(TRANSPORT);
        co.set(ORDER, exception);
        transport.call_method(&names::CLOSE, &[])?;
        let ending = transport.call_method_str("_wait", &[])?;
        if version::SINCE_314.get() {
            Obj::import("asyncio.tasks")?.call_method_str("shield", &[&ending])?
        } else {
            ending
        }
    };
    co.wait(ending).await?;
    Err(raise(&co.local(ORDER)))
}

/// Spawns the child, has its end watched for, and connects its pipes, or begins to: then there is something to wait for.
fn begin_child(co: &Co, watched_by_others: bool) -> R<Option<Obj>> {
    let (loop_, order, pair) = (co.local(LOOP), co.local(ORDER), co.local(OTHER));
    let core = loop_core(&loop_)?;
    core.check_closed()?;
    let watcher = pair.tuple_items().get(1).filter(|_| watched_by_others);
    if let Some(watcher) = watcher
        && !watcher.call_method_str("is_active", &[])?.truth()?
    {
        return Err(runtime_error(
            "asyncio.get_child_watcher() is not activated, subprocess support is not installed.",
        ));
    }
    let [
        protocol,
        args,
        shell,
        stdin,
        stdout,
        stderr,
        bufsize,
        extra,
        kwargs,
    ] = order.tuple_items()
    else {
        return Err(runtime_error("an order has nine parts"));
    };
    let child = transport::spawn(&Order {
        loop_: &loop_,
        protocol,
        args,
        shell,
        files: [stdin, stdout, stderr],
        bufsize,
        extra: extra.non_none().cloned(),
        kwargs: kwargs.non_none().cloned(),
    })?;
    co.set(TRANSPORT, child.obj().clone());
    let direct = EVENT_LOOP.is_exact(&loop_) && !core.patched.get();
    let waiter = if direct {
        None
    } else {
        let waiter = methods::create(&loop_)?;
        let connecting = transport::connect_pipes(&child, &waiter)?;
        loop_.call_method(&names::CREATE_TASK, &[&connecting])?;
        Some(waiter)
    };
    if let Some(watcher) = watcher {
        let callback = loop_.getattr_str("_child_watcher_callback")?;
        watcher.call_method_str("add_child_handler", &[&child.pid()?, &callback, child.obj()])?;
    } else {
        ending::watch(&child, core)?;
    }
    if direct && let Err(raised) = transport::connect_directly(&child) {
        // it is waited for as if it had failed later
        let failed = methods::create(&loop_)?;
        failed.call_method(&names::SET_EXCEPTION, &[&raised.take()])?;
        return Ok(Some(failed));
    }
    Ok(waiter)
}

/// `_child_watcher_callback(pid, returncode, transp)`: a watcher has taken the status, in whatever thread.
fn child_watcher_callback(args: &Args) -> R<Obj> {
    let (loop_, returncode, transport) = (this(args)?.0, args.req(2)?, args.req(3)?);
    let exited = transport.getattr_str("_process_exited")?;
    if version::SINCE_312.get() {
        return loop_.call_method(&names::CALL_SOON_THREADSAFE, &[&exited, returncode]);
    }
    // skips one iteration for callbacks to be executed
    let soon = loop_.getattr(&names::CALL_SOON)?;
    loop_.call_method(&names::CALL_SOON_THREADSAFE, &[&soon, &exited, returncode])
}
