//! Spawning: `subprocess.Popen`, of which the plain case goes without its Python code.
//!
//! Rules
//! 1. What is made is a `Popen` in any case, and whatever is not plain is done by `Popen` itself, which knows what is legal.
//!    Audit events, the exceptions and their order are those of `Popen`.
//! 2. It is the program's `Popen`: where it has been replaced, or a method of it that makes a child, that is called.
//! 3. What attributes a `Popen` has differs between versions. The first plain child is spawned by `Popen`, and is the
//!    pattern of those to come. If it has something that is neither known here nor a plain value, there is no pattern.
//! 4. The child is made last, when nothing is left that is likely to fail. After the first audit event nobody else is asked.

use super::transport::Order;
use crate::ffi::errors::{R, Raised, exc, raise, raise_new};
use crate::ffi::object::{Static, ascii, exact_int, is_exact_str};
use crate::ffi::python_function::{self, SeenAs};
use crate::ffi::{Obj, bytes, threads};
use crate::imports;
use crate::version;
use aioxide_core::beginning::{self, Beginning};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

/// `subprocess.PIPE`
pub(super) const PIPE: i64 = -1;
/// `subprocess.STDOUT`
const STDOUT: i64 = -2;

pub(super) const FILES: [&str; 3] = ["stdin", "stdout", "stderr"];

/// Rule 3: a tuple of pairs of a name and a value; empty: there is none.
static PATTERN: Static = Static::new();
/// What is different for each child.
const OWN: [&str; 9] = [
    "args",
    "stdin",
    "stdout",
    "stderr",
    "pid",
    "returncode",
    "_waitpid_lock",
    "_child_created",
    "_closed_child_pipe_fds",
];

/// A frame of asyncio's around it, for Popen waits until the child has begun.
static SUBPROCESS_EXEC: SeenAs = SeenAs::new("asyncio.base_events", "subprocess_exec");
static SUBPROCESS_SHELL: SeenAs = SeenAs::new("asyncio.base_events", "subprocess_shell");

/// `subprocess.Popen(args, shell=…, stdin=…, …, **kwargs)`
pub(super) fn popen(order: &Order<'_>) -> R<Obj> {
    let class = imports::SUBPROCESS.getattr_str("Popen")?;
    if !is_plain(order)? || !is_stock(&class)? {
        return by_popen(order, &class);
    }
    if PATTERN.filled()
        && PATTERN.tuple_len() > 0
        && let Some(popen) = directly(order, &class)?
    {
        return Ok(popen);
    }
    let popen = by_popen(order, &class)?;
    if !PATTERN.filled() {
        PATTERN.fill(pattern(&popen)?);
    }
    Ok(popen)
}

/// Rule 1: all of it.
fn by_popen(order: &Order<'_>, class: &Obj) -> R<Obj> {
    let kwargs = Obj::dict()?;
    if let Some(more) = &order.kwargs {
        kwargs.call_method_str("update", &[more])?;
    }
    for (name, value) in [
        ("shell", order.shell),
        ("stdin", order.files[0]),
        ("stdout", order.files[1]),
        ("stderr", order.files[2]),
        ("universal_newlines", &Obj::bool(false)),
        ("bufsize", order.bufsize),
    ] {
        kwargs.dict_set(&Obj::interned(name)?, value)?;
    }
    let seen_as = if order.shell.truth()? {
        &SUBPROCESS_SHELL
    } else {
        &SUBPROCESS_EXEC
    };
    seen_as.call(class, &[order.args], Some(&kwargs))
}

/// A program and its arguments by name, with pipes or the parent's files, and nothing else that `Popen` would have to do.
fn is_plain(order: &Order<'_>) -> R<bool> {
    if let Some(kwargs) = &order.kwargs
        && kwargs.len()? > 0
    {
        return Ok(false);
    }
    let is_file = |file: &Obj| file.is_none() || exact_int(file) == Some(PIPE);
    let [stdin, stdout, stderr] = order.files;
    let is_joined = exact_int(stderr) == Some(STDOUT) && !stdout.is_none();
    if !order.args.is_tuple() || order.args.tuple_len() == 0 {
        return Ok(false);
    }
    let null = Obj::interned("\0")?;
    for arg in order.args.tuple_items() {
        if !is_exact_str(arg) || arg.contains(&null)? {
            return Ok(false);
        }
    }
    Ok(order.shell.is(&Obj::bool(false))
        && exact_int(order.bufsize) == Some(0)
        && is_file(stdin)
        && is_file(stdout)
        && (is_file(stderr) || is_joined))
}

/// The methods that make a child.
const METHODS: [&str; 4] = ["__init__", "_execute_child", "_get_handles", "_posix_spawn"];
/// Rule 2: the class and what those are, as they were when we were imported; `None`: they were somebody else's by then.
static STOCK: Static = Static::new();

/// To be called once.
pub(super) fn init() -> R<()> {
    let class = imports::SUBPROCESS.getattr_str("Popen")?;
    let namespace = imports::SUBPROCESS.getattr_str("__dict__")?;
    let mut stock = vec![class.clone()];
    // (a tool may have put anything in its place)
    let bases = class.getattr_opt(&Obj::interned("__mro__")?)?;
    let mut is_stock = bases.is_some_and(|bases| bases.is_tuple() && bases.tuple_len() == 2);
    for name in METHODS {
        let Some(method) = class.getattr_opt(&Obj::interned(name)?)? else {
            is_stock = false;
            break;
        };
        is_stock &= python_function::is_defined_in(&method, &namespace);
        stock.push(python_function::parts(&method)?.unwrap_or_else(Obj::none));
    }
    STOCK.fill(if is_stock {
        Obj::tuple_of(&stock)?
    } else {
        Obj::none()
    });
    Ok(())
}

/// Rule 2.
fn is_stock(class: &Obj) -> R<bool> {
    if !STOCK.is_tuple() {
        return Ok(false);
    }
    let [stock, methods @ ..] = STOCK.tuple_items() else {
        return Ok(false);
    };
    if !class.is(stock) {
        return Ok(false);
    }
    for (name, parts) in METHODS.iter().zip(methods) {
        let method = class.getattr_str(name)?;
        if !python_function::consists_of(&method, parts) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Rule 3.
fn pattern(popen: &Obj) -> R<Obj> {
    let mut pairs = Vec::new();
    for pair in popen
        .getattr_str("__dict__")?
        .call_method_str("items", &[])?
        .to_vec()?
    {
        let [name, value] = pair.tuple_items() else {
            continue;
        };
        if ascii(name).is_some_and(|name| OWN.contains(&name)) {
            continue;
        }
        let is_plain =
            value.is_none() || ["bool", "int", "float", "str"].contains(&value.class_name().as_str());
        if !is_plain {
            return Ok(Obj::empty_tuple());
        }
        pairs.push(pair);
    }
    Obj::tuple_of(&pairs)
}

/// A child's file: what it gets, and what we keep.
struct Pipe {
    child: OwnedFd,
    ours: Obj,
}

/// `None`: rule 1.
fn directly(order: &Order<'_>, class: &Obj) -> R<Option<Obj>> {
    let subprocess: &Obj = &imports::SUBPROCESS;
    if subprocess.getattr_str("_active")?.truth()? {
        subprocess.call_method_str("_cleanup", &[])?;
    }
    let Ok(Some(beginning)) = Beginning::new() else {
        return Ok(None);
    };
    let Some(pipes) = pipes(order)? else {
        return Ok(None);
    };
    match with_pipes(order, class, &pipes, beginning) {
        Ok(popen) => Ok(Some(popen)),
        Err(raised) => {
            let failure = raised.take();
            close(&pipes);
            Err(raise(&failure))
        }
    }
}

fn with_pipes(order: &Order<'_>, class: &Obj, pipes: &[Option<Pipe>; 3], beginning: Beginning) -> R<Obj> {
    let popen = unborn(order, class, pipes)?;
    let program = &order.args.tuple_items()[0];
    let args = Obj::list(order.args.tuple_items())?;
    audit(program, &args)?;
    let paths = paths(program)?;
    let pid = fork(&args, &paths, order, pipes, &beginning)?;
    let began = threads::without_gil(move || beginning.wait());
    if let Err(word) = began {
        let number = pid.to_i64()? as i32;
        threads::without_gil(|| beginning::forget(number));
        return Err(why_not(&word, program)?);
    }
    popen.setattr_str("pid", &pid)?;
    popen.setattr_str("_child_created", &Obj::bool(true))?;
    Ok(popen)
}

/// The audit events of `Popen`: since 3.13 it spawns a program that is named by its path with `os.posix_spawn`, if it can.
fn audit(program: &Obj, args: &Obj) -> R<()> {
    let subprocess: &Obj = &imports::SUBPROCESS;
    let audit = imports::SYS.getattr_str("audit")?;
    let none = Obj::none();
    let event = Obj::interned("subprocess.Popen")?;
    SUBPROCESS_EXEC.call(&audit, &[&event, program, args, &none, &none], None)?;
    let is_set = |name: &str| match subprocess.getattr_opt(&Obj::interned(name)?)? {
        Some(value) => value.truth(),
        None => Ok(false),
    };
    if has_path(program)? && is_set("_USE_POSIX_SPAWN")? && is_set("_HAVE_POSIX_SPAWN_CLOSEFROM")? {
        let event = Obj::interned("os.posix_spawn")?;
        SUBPROCESS_EXEC.call(&audit, &[&event, program, args, &none], None)?;
    }
    Ok(())
}

/// What `Popen` raises if the child has said this: `OSError:`, a number in hexadecimal, and a colon.
#[cold]
fn why_not(word: &[u8], program: &Obj) -> R<Raised> {
    let text = String::from_utf8_lossy(word);
    let mut parts = text.splitn(3, ':');
    let (kind, number, more) = (parts.next(), parts.next(), parts.next());
    let number = number.and_then(|number| i64::from_str_radix(number, 16).ok());
    let (Some("OSError"), Some(number), Some(more)) = (kind, number, more) else {
        let class = imports::SUBPROCESS.getattr_str("SubprocessError")?;
        return Ok(raise_new(
            &class,
            &format!("Bad exception data from child: {text:?}"),
        ));
    };
    let number = Obj::int(number)?;
    let said = imports::OS.call_method_str("strerror", &[&number])?;
    // (it has not come as far as the program)
    let exception = if more.starts_with("noexec") {
        exc::os_error().call(&[&number, &said])?
    } else {
        exc::os_error().call(&[&number, &said, program])?
    };
    Ok(raise(&exception))
}

/// The pipes that are asked for. `None`: there cannot be so many.
fn pipes(order: &Order<'_>) -> R<Option<[Option<Pipe>; 3]>> {
    let mut pipes = [None, None, None];
    for (index, file) in order.files.iter().enumerate() {
        if exact_int(file) != Some(PIPE) {
            continue;
        }
        let made = beginning::pipe().ok().map(|(reader, writer)| match index {
            0 => (reader, writer, "wb"),
            _ => (writer, reader, "rb"),
        });
        let Some((child, ours, mode)) = made else {
            close(&pipes);
            return Ok(None);
        };
        match file_of(ours, mode) {
            Ok(ours) => pipes[index] = Some(Pipe { child, ours }),
            Err(raised) => {
                let failure = raised.take();
                close(&pipes);
                return Err(raise(&failure));
            }
        }
    }
    Ok(Some(pipes))
}

/// `io.open(fd, mode, 0)`
fn file_of(fd: OwnedFd, mode: &str) -> R<Obj> {
    let number = Obj::int(fd.as_raw_fd().into())?;
    let file = imports::IO.call_method_str("open", &[&number, &Obj::interned(mode)?, &Obj::int(0)?])?;
    let _its_own_now = fd.into_raw_fd();
    Ok(file)
}

fn close(pipes: &[Option<Pipe>; 3]) {
    for pipe in pipes.iter().flatten() {
        if let Err(raised) = pipe.ours.call_method(&imports::names::CLOSE, &[]) {
            raised.unraisable(&pipe.ours);
        }
    }
}

/// A `Popen` as it is before it has a child.
fn unborn(order: &Order<'_>, class: &Obj, pipes: &[Option<Pipe>; 3]) -> R<Obj> {
    let popen = class.call_method_str("__new__", &[class])?;
    for pair in PATTERN.tuple_items() {
        let [name, value] = pair.tuple_items() else {
            continue;
        };
        popen.setattr(name, value)?;
    }
    let lock = imports::THREADING.call_method_str("Lock", &[])?;
    let none = Obj::none();
    let file = |index: usize| pipes[index].as_ref().map_or(&none, |pipe| &pipe.ours);
    for (name, value) in [
        ("args", order.args),
        ("stdin", file(0)),
        ("stdout", file(1)),
        ("stderr", file(2)),
        ("pid", &none),
        ("returncode", &none),
        ("_waitpid_lock", &lock),
        ("_closed_child_pipe_fds", &Obj::bool(true)),
    ] {
        popen.setattr_str(name, value)?;
    }
    Ok(popen)
}

/// `_posixsubprocess.fork_exec(…)`: the pid.
fn fork(
    args: &Obj,
    paths: &Obj,
    order: &Order<'_>,
    pipes: &[Option<Pipe>; 3],
    beginning: &Beginning,
) -> R<Obj> {
    let subprocess: &Obj = &imports::SUBPROCESS;
    let (none, yes, no, minus_one) = (Obj::none(), Obj::bool(true), Obj::bool(false), Obj::int(-1)?);
    let child = |index: usize| match &pipes[index] {
        Some(pipe) => Obj::int(pipe.child.as_raw_fd().into()),
        None => Ok(minus_one.clone()),
    };
    let ours = |index: usize| match &pipes[index] {
        Some(pipe) => pipe.ours.call_method(&imports::names::FILENO, &[]),
        None => Ok(minus_one.clone()),
    };
    let stderr = child(if exact_int(order.files[2]) == Some(STDOUT) {
        1
    } else {
        2
    })?;
    let (kept, told) = beginning.ends();
    let (kept, told) = (Obj::int(kept.into())?, Obj::int(told.into())?);
    let passed = Obj::tuple(&[&told])?;
    let (stdin, our_stdin) = (child(0)?, ours(0)?);
    let (our_stdout, stdout) = (ours(1)?, child(1)?);
    let our_stderr = ours(2)?;
    let mut all: Vec<&Obj> = vec![
        args,
        paths,
        &yes,
        &passed,
        /* cwd, env */ &none,
        &none, // the files
        &stdin,
        &our_stdin,
        &our_stdout,
        &stdout,
        &our_stderr,
        &stderr,
        &kept,
        &told,
        /* restore_signals, start_new_session, process_group */ &yes,
        &no,
        &minus_one,
        /* gid, groups, uid, umask, preexec_fn */ &none,
        &none,
        &none,
        &minus_one,
        &none,
    ];
    let vfork;
    if !version::SINCE_314.get() {
        vfork = subprocess.getattr_str("_USE_VFORK")?;
        all.push(&vfork);
    }
    subprocess
        .getattr_str("_fork_exec")?
        .call_tuple(&Obj::tuple(&all)?)
}

/// Is it said where the program is?
fn has_path(program: &Obj) -> R<bool> {
    program.contains(&Obj::interned("/")?)
}

/// Where the program may be.
fn paths(program: &Obj) -> R<Obj> {
    let os: &Obj = &imports::OS;
    let encoded = |text: &Obj| match ascii(text) {
        Some(text) => bytes::new(text.as_bytes()),
        None => os.call_method_str("fsencode", &[text]),
    };
    if has_path(program)? {
        return Obj::tuple(&[&encoded(program)?]);
    }
    let mut paths = Vec::new();
    for folder in os.call_method_str("get_exec_path", &[])?.to_vec()? {
        let path = os
            .getattr_str("path")?
            .call_method_str("join", &[&folder, program])?;
        paths.push(encoded(&path)?);
    }
    Obj::tuple_of(&paths)
}
