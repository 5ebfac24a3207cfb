//! The flight recorder, on the side of whoever reads: files of what has been recorded.
//!
//! Owns when a file is made unasked, and where. `aioxide_core::flight` has their form.
//!
//! Must never: overwrite a file, make more of them than a disk bears, or keep a loop waiting for one.

use super::flight::{self, Who};
use super::records::{self, Record};
use super::settings;
use crate::ffi::errors::{os_error, runtime_error};
use crate::ffi::function::Kind::Plain;
use crate::ffi::{Args, Obj, R, threads};
use crate::module::export;
use aioxide_core::flight::Snapshot;
use aioxide_core::flight::file;
use aioxide_core::flight::trace::{About, write};
use aioxide_core::{Clock, Monotonic, PerProcess, Published};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

/// Unasked, at most one file in so many seconds, and so many in all.
const PAUSE: f64 = 10.0;
const MOST_FILES: u64 = 8;

/// Where files go that are made unasked.
static DIRECTORY: Published<PathBuf> = Published::new();
/// Are there any? The program, or who started it, has asked for recordings.
static IS_AUTOMATIC: AtomicBool = AtomicBool::new(false);

/// What has been saved unasked by this process, and who is at it.
#[derive(Debug, Default)]
struct Saved {
    files: AtomicU64,
    /// The time of the last one, as the bits of a float.
    last: AtomicU64,
    writing: Mutex<Vec<JoinHandle<()>>>,
}

static SAVED: PerProcess<Saved> = PerProcess::new();

/// What has happened, that the recordings of this moment are wanted for. Any thread, with the GIL or without; it costs the
/// copy of the rings.
pub(crate) fn on_event(reason: &'static str) {
    if !IS_AUTOMATIC.load(Ordering::Relaxed) || !settings::enabled() {
        return;
    }
    let saved = SAVED.get();
    let (now, last) = (Monotonic.now(), saved.last.load(Ordering::Relaxed));
    let is_soon = last != 0 && now - f64::from_bits(last) < PAUSE;
    let claim = || {
        let exchanged =
            saved
                .last
                .compare_exchange(last, now.to_bits(), Ordering::Relaxed, Ordering::Relaxed);
        exchanged.is_ok() && saved.files.fetch_add(1, Ordering::Relaxed) < MOST_FILES
    };
    if is_soon
        || saved.files.load(Ordering::Relaxed) >= MOST_FILES
        || flight::recordings().is_empty()
        || !claim()
    {
        return;
    }
    save_in_background(reason);
}

/// As [`on_event`], but somebody has asked: no matter how many files there are.
pub(super) fn save_in_background(reason: &'static str) {
    let loops = snapshots(reason);
    if loops.is_empty() {
        return;
    }
    let started = file::in_background(move || save_and_tell(reason, &loops));
    match started {
        Ok(thread) => {
            let mut writing = SAVED.get().writing.lock().unwrap_or_else(PoisonError::into_inner);
            writing.retain(|thread| !thread.is_finished());
            writing.push(thread);
        }
        Err(error) => tell_failure(reason, &error),
    }
}

/// How many events these are together, and how many more have been lost.
fn counted(loops: &[(About<'_>, Snapshot)]) -> (usize, u64) {
    let events = loops.iter().map(|(_, snapshot)| snapshot.len()).sum();
    let lost = loops.iter().map(|(_, snapshot)| snapshot.lost()).sum();
    (events, lost)
}

fn save_and_tell(reason: &'static str, loops: &[(About<'_>, Snapshot)]) {
    let directory = DIRECTORY.get().map_or(Path::new("/tmp"), PathBuf::as_path);
    let stem = format!("aioxide-{}-{reason}", std::process::id());
    match file::create_in(directory, &stem, |out| write(out, loops)) {
        Ok(path) => {
            let (events, lost) = counted(loops);
            let path = path.display().to_string();
            let record = Record::new("flight")
                .text("reason", reason)
                .text("path", &path)
                .integer("events", events as i64)
                .integer("lost", lost as i64)
                .message(format!(
                    "flight recorder: {events} events saved to {path} ({reason})"
                ));
            records::emit(record);
        }
        Err(error) => tell_failure(reason, &error),
    }
}

fn tell_failure(reason: &str, error: &io::Error) {
    let record = Record::new("flight")
        .text("reason", reason)
        .text("error", &error.to_string())
        .message(format!("flight recorder: nothing saved ({reason}): {error}"));
    records::emit(record);
}

/// What has been recorded up to now. Any thread, with the GIL or without.
pub(crate) fn snapshots(reason: &str) -> Vec<(About<'_>, Snapshot)> {
    flight::recordings()
        .into_iter()
        .map(|(number, recording)| {
            let about = About {
                pid: std::process::id(),
                number: number.into(),
                reason,
            };
            (about, recording.snapshot())
        })
        .collect()
}

/// `_save_flight(path, reason)`: a new file. `(events, lost)`
fn save(args: &Args) -> R<Obj> {
    let path = PathBuf::from(args.req(0)?.to_string()?);
    let reason = args.req(1)?.to_string()?;
    let loops = snapshots(&reason);
    if loops.is_empty() {
        return Err(runtime_error(
            "nothing has been recorded: the flight recorder is off",
        ));
    }
    let (events, lost) = counted(&loops);
    threads::without_gil(move || file::create(&path, |out| write(out, &loops)))
        .map_err(|error| os_error(&error))?;
    Obj::tuple(&[&Obj::int(events as i64)?, &Obj::int(lost as i64)?])
}

/// `_flights() -> [(loop, events written), …]`
fn flights(_: &Args) -> R<Obj> {
    let all = flight::recordings()
        .into_iter()
        .map(|(number, recording)| {
            Obj::tuple(&[&Obj::int(number.into())?, &Obj::int(recording.written() as i64)?])
        })
        .collect::<R<Vec<Obj>>>()?;
    Obj::list(&all)
}

/// `_finish_flights()`: the process is about to end; what is being written is to be a whole file.
fn finish(_: &Args) -> R<Obj> {
    let writing = std::mem::take(&mut *SAVED.get().writing.lock().unwrap_or_else(PoisonError::into_inner));
    threads::without_gil(move || {
        for thread in writing {
            // (a thread that has panicked has told so itself)
            let _ = thread.join();
        }
    });
    Ok(Obj::none())
}

/// `AIOXIDE_FLIGHT`, `AIOXIDE_FLIGHT_DIR`, `configure(flight=…, flight_dir=…)`: a ring of so many bytes, files where.
pub(super) fn configure(bytes: Option<usize>, directory: Option<PathBuf>) {
    if let Some(directory) = directory {
        DIRECTORY.set(directory);
    }
    if let Some(bytes) = bytes {
        IS_AUTOMATIC.store(bytes > 0, Ordering::Relaxed);
        flight::want(Who::Program, bytes);
    }
}

/// Where files go that are made unasked, if it has been said.
pub(super) fn directory() -> Option<&'static PathBuf> {
    DIRECTORY.get()
}

/// Puts the functions into the module. Called once.
pub(super) fn register(diag: &Obj) -> R<()> {
    export(
        diag,
        &[
            ("aioxide._core.diag", "_save_flight(path, reason)", save, Plain),
            ("aioxide._core.diag", "_flights()", flights, Plain),
            ("aioxide._core.diag", "_finish_flights()", finish, Plain),
        ],
    )?;
    Obj::import("atexit")?
        .call_method_str("register", &[&diag.getattr_str("_finish_flights")?])
        .map(drop)
}
