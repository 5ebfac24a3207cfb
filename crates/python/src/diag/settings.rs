//! What is watched, and where findings go: `AIOXIDE_…` in the environment, read at import, and `configure()`.
//!
//! Owns the settings of all of `diag`. They are read by threads without the GIL, so they are published as a whole; a
//! callable that gets records is kept in the module, where the garbage collector sees it.
//!
//! | variable | setting | meaning |
//! |---|---|---|
//! | `AIOXIDE_DIAG=0` | | nothing is watched, no thread is started; `aioxide run --dev` alone turns it on all the same |
//! | `AIOXIDE_BLOCK_MS` | `block_ms` | from when on a callback counts as a block; 0: never |
//! | `AIOXIDE_BLOCK_REPEAT=all` | `block_repeat` | each block is reported, not one in ten seconds for each culprit |
//! | `AIOXIDE_DIAG_LOG` | `log` | `logging`, `stderr`, `jsonl:PATH`, or several with commas |
//! | `AIOXIDE_FLIGHT` | `flight` | the size of each loop's flight recorder in MiB; 0: off |
//! | `AIOXIDE_FLIGHT_DIR` | `flight_dir` | where it is saved unasked |
//! | | `on_event` | called with each record, as a dict, by the loop's thread |

use super::{MODULE, blocks, flight, records, trace};
use crate::ffi::errors::{os_error_at, type_error, value_error};
use crate::ffi::function::Kind::Plain;
use crate::ffi::{Args, Obj, R, stack};
use crate::module::export;
use aioxide_core::{Published, lines};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// What can be changed while the program runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// In seconds; 0: blocks are not looked for.
    pub(crate) block: f64,
    /// Each block is reported.
    pub(crate) repeat_all: bool,
    /// To the logger `aioxide.diag`.
    pub(crate) to_logging: bool,
    /// To the descriptor 2.
    pub(crate) to_stderr: bool,
    /// To the end of a file.
    pub(crate) to_file: Option<PathBuf>,
    /// There is an `on_event`.
    pub(crate) to_callable: bool,
}

/// How long a callback may run, in seconds: in production, and in development.
const BLOCK: f64 = 0.1;
const BLOCK_IN_DEVELOPMENT: f64 = 0.05;

static CURRENT: Published<Settings> = Published::new();
static ENABLED: AtomicBool = AtomicBool::new(false);

/// Rule 4 of [`super`].
pub(crate) fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// The settings of this moment.
pub(crate) fn get() -> Option<&'static Settings> {
    if enabled() { CURRENT.get() } else { None }
}

/// A variable of the environment, unless it is empty.
pub(crate) fn variable(name: &str) -> R<Option<String>> {
    let environment = Obj::import("os")?.getattr_str("environ")?;
    let value = environment.call_method_str("get", &[&Obj::str(name)?])?;
    if value.is_none() {
        return Ok(None);
    }
    // (bytes that are no text are nothing that we know)
    let text = value.to_string().unwrap_or_else(|raised| {
        raised.ignore();
        String::new()
    });
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Is this a program under development: `-X dev`, `AIOXIDE_DEV=1`?
pub(crate) fn in_development() -> R<bool> {
    let flags = Obj::import("sys")?.getattr_str("flags")?;
    Ok(flags.getattr_str("dev_mode")?.truth()? || variable("AIOXIDE_DEV")?.is_some_and(|value| value != "0"))
}

/// Reads the environment. A value that makes no sense is ignored, with a warning: no program fails to start for it.
pub(super) fn init(diag: &Obj) -> R<()> {
    ENABLED.store(
        variable("AIOXIDE_DIAG")?.as_deref() != Some("0"),
        Ordering::Relaxed,
    );
    let mut settings = Settings {
        block: if in_development()? {
            BLOCK_IN_DEVELOPMENT
        } else {
            BLOCK
        },
        repeat_all: false,
        to_logging: true,
        to_stderr: false,
        to_file: None,
        to_callable: false,
    };
    if let Some(value) = variable("AIOXIDE_BLOCK_MS")? {
        match value.trim().parse::<f64>() {
            Ok(milliseconds) if is_duration(milliseconds) => settings.block = milliseconds / 1000.0,
            _ => complain("AIOXIDE_BLOCK_MS", &value)?,
        }
    }
    if let Some(value) = variable("AIOXIDE_BLOCK_REPEAT")? {
        match value.as_str() {
            "all" => settings.repeat_all = true,
            "limited" => {}
            _ => complain("AIOXIDE_BLOCK_REPEAT", &value)?,
        }
    }
    if let Some(value) = variable("AIOXIDE_DIAG_LOG")? {
        if !direct(&mut settings, &value)? {
            complain("AIOXIDE_DIAG_LOG", &value)?;
        } else if let Some(path) = settings.to_file.as_ref().filter(|_| enabled())
            && let Err(error) = lines::check(path)
        {
            records::is_known_to_be_unwritable(path);
            warn(&format!(
                "AIOXIDE_DIAG_LOG={value:?}: {error}. While that is so, the log gets what is found"
            ))?;
        }
    }
    if enabled() {
        blocks::configure(settings.block);
    }
    CURRENT.set(settings);
    init_flight()?;
    diag.setattr_str("_on_event", &Obj::none())?;
    export(
        diag,
        &[
            (
                "aioxide.diag",
                "configure(*, block_ms=None, block_repeat=None, log=None, on_event=..., flight=None, flight_dir=None)",
                configure,
                Plain,
            ),
            ("aioxide.diag", "settings()", settings_as_dict, Plain),
            ("aioxide._core.diag", "_turn_on()", turn_on, Plain),
        ],
    )
}

/// `_turn_on()`: whatever the environment says; before the first loop runs.
fn turn_on(_: &Args) -> R<Obj> {
    ENABLED.store(true, Ordering::Relaxed);
    if let Some(settings) = CURRENT.get() {
        blocks::configure(settings.block);
    }
    Ok(Obj::none())
}

/// The flight recorder. Not in development alone: it would cost what that may, and more.
fn init_flight() -> R<()> {
    let mut bytes = 0;
    if let Some(value) = variable("AIOXIDE_FLIGHT")? {
        match value.trim().parse::<f64>().ok().and_then(ring_bytes) {
            Some(size) => bytes = size,
            None => complain("AIOXIDE_FLIGHT", &value)?,
        }
    }
    let directory = match variable("AIOXIDE_FLIGHT_DIR")? {
        Some(directory) => Some(absolute(&directory)?),
        None => None,
    };
    configure_flight(Some(bytes), directory)
}

/// `None`: as it is. Where `tempfile` puts its files is asked when it matters: importing that takes its time.
fn configure_flight(bytes: Option<usize>, directory: Option<PathBuf>) -> R<()> {
    let directory = match directory {
        None if bytes > Some(0) && trace::directory().is_none() => Some(temporary_directory()?),
        directory => directory,
    };
    trace::configure(bytes, directory);
    Ok(())
}

fn temporary_directory() -> R<PathBuf> {
    let directory = Obj::import("tempfile")?.call_method_str("gettempdir", &[])?;
    absolute(&directory.to_string()?)
}

/// A MiB.
const RING: usize = 1 << 20;

/// So many MiB, in bytes.
fn ring_bytes(size: f64) -> Option<usize> {
    (0.0..=1024.0)
        .contains(&size)
        .then_some((size * RING as f64) as usize)
}

fn complain(name: &str, value: &str) -> R<()> {
    warn(&format!(
        "{name}={value:?} is none of the values that aioxide knows; it is ignored"
    ))
}

/// Warns. With `-W error` too no import fails for what somebody has mistyped in the environment: as Python does with the
/// warnings of finalizers, it goes to `sys.unraisablehook` then.
fn warn(text: &str) -> R<()> {
    let warned = Obj::import("warnings")?.call_method_str(
        "warn",
        &[&Obj::str(text)?, crate::ffi::errors::exc::runtime_warning()],
    );
    if let Err(raised) = warned {
        raised.unraisable(MODULE.get());
    }
    Ok(())
}

fn is_duration(milliseconds: f64) -> bool {
    milliseconds.is_finite() && milliseconds >= 0.0
}

/// `"logging,jsonl:PATH"`; `false`: that is none.
fn direct(settings: &mut Settings, value: &str) -> R<bool> {
    let mut new = Settings {
        to_logging: false,
        to_stderr: false,
        to_file: None,
        ..settings.clone()
    };
    for sink in value.split(',').map(str::trim) {
        match sink.split_once(':') {
            None if sink == "logging" => new.to_logging = true,
            None if sink == "stderr" => new.to_stderr = true,
            Some(("jsonl", path)) if !path.is_empty() => new.to_file = Some(absolute(path)?),
            _ => return Ok(false),
        }
    }
    *settings = new;
    Ok(true)
}

/// The program may change its directory later.
fn absolute(path: &str) -> R<PathBuf> {
    let path = Obj::import("os.path")?.call_method_str("abspath", &[&Obj::str(path)?])?;
    Ok(PathBuf::from(path.to_string()?))
}

/// `configure(*, block_ms=None, block_repeat=None, log=None, on_event=...)`: `None` leaves a setting as it is.
fn configure(args: &Args) -> R<Obj> {
    let Some(current) = CURRENT.get() else {
        return Ok(Obj::none());
    };
    let mut new = current.clone();
    if let Some(value) = args.opt(0) {
        let milliseconds = value.to_f64()?;
        if !is_duration(milliseconds) {
            return Err(value_error("block_ms must be a number of milliseconds, or 0"));
        }
        new.block = milliseconds / 1000.0;
    }
    if let Some(value) = args.opt(1) {
        new.repeat_all = match value.to_string()?.as_str() {
            "all" => true,
            "limited" => false,
            _ => return Err(value_error("block_repeat must be 'all' or 'limited'")),
        };
    }
    if let Some(value) = args.opt(2) {
        if !direct(&mut new, &value.to_string()?)? {
            return Err(value_error(
                "log must be 'logging', 'stderr' or 'jsonl:PATH', or several of them with commas",
            ));
        }
        if let Some(path) = &new.to_file {
            lines::check(path).map_err(|error| os_error_at(&error, path))?;
        }
    }
    if let Some(callable) = args.get(3).filter(|given| !is_ellipsis(given)) {
        if !callable.is_none() && !callable.callable() {
            return Err(type_error("on_event must be callable, or None"));
        }
        new.to_callable = !callable.is_none();
        MODULE.get().setattr_str("_on_event", callable)?;
    }
    let bytes = match args.opt(4) {
        Some(size) => Some(
            ring_bytes(size.to_f64()?)
                .ok_or_else(|| value_error("flight must be True, False or a number of MiB up to 1024"))?,
        ),
        None => None,
    };
    let directory = match args.opt(5) {
        Some(directory) => Some(absolute(&path(directory)?)?),
        None => None,
    };
    if new != *current {
        if enabled() {
            blocks::configure(new.block);
        }
        CURRENT.set(new);
    }
    configure_flight(bytes, directory)?;
    Ok(Obj::none())
}

/// `os.fspath(path)`
fn path(path: &Obj) -> R<String> {
    Obj::import("os")?.call_method_str("fspath", &[path])?.to_string()
}

fn is_ellipsis(object: &Obj) -> bool {
    object.class_name() == "ellipsis"
}

/// `settings()`
fn settings_as_dict(_: &Args) -> R<Obj> {
    let dict = Obj::dict()?;
    let Some(settings) = CURRENT.get() else {
        return Ok(dict);
    };
    let directory = match trace::directory() {
        Some(directory) => directory.clone(),
        None => temporary_directory()?,
    };
    let mut log = Vec::new();
    if settings.to_logging {
        log.push("logging".to_owned());
    }
    if settings.to_stderr {
        log.push("stderr".to_owned());
    }
    if let Some(path) = &settings.to_file {
        log.push(format!("jsonl:{}", path.display()));
    }
    let entries = [
        ("enabled", Obj::bool(enabled())),
        ("block_ms", Obj::float(settings.block * 1000.0)?),
        (
            "block_repeat",
            Obj::str(if settings.repeat_all { "all" } else { "limited" })?,
        ),
        ("log", Obj::str(&log.join(","))?),
        ("flight", Obj::float(flight::wanted() as f64 / RING as f64)?),
        ("flight_dir", Obj::str(&directory.display().to_string())?),
        ("on_event", MODULE.get().getattr_str("_on_event")?),
        (
            "stacks",
            Obj::str(
                stack::why_not()
                    .map_or("yes".to_owned(), |reason| format!("no: {reason}"))
                    .as_str(),
            )?,
        ),
        ("lost", Obj::int(records::lost() as i64)?),
    ];
    for (name, value) in entries {
        dict.dict_set(&Obj::interned(name)?, &value)?;
    }
    Ok(dict)
}
