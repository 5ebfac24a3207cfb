//! Records: what has been found, one JSON object each, `{"v":1,"ev":…,"t":…,"pid":…}` and then what the finder adds.
//!
//! Owns their form and the ways that they take. A file and the descriptor 2 are written at once, by the thread that has
//! found something (`outlets.rs`); logging and the program's own callable are Python, and wait for the loop's thread
//! ([`deliver`]). When no loop runs any more they are told by whoever has found something and may run Python
//! ([`emit_by_python`]), or when the interpreter ends ([`finish`]).
//!
//! Must never: block a finder on Python or on a reader, raise in the middle of a program because a report went wrong, or
//! lose a record because its file cannot be written: then the log gets it.

use super::{Job, MODULE, at_next_boundary, dev, outlets, running, settings};
use crate::ffi::object::Static;
use crate::ffi::{Obj, R, threads};
use aioxide_core::lines::Place;
use aioxide_core::{PerProcess, wall_time};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many records wait for Python, at most.
const MOST_WAITING: usize = 1000;
/// How long a text in a record may be, in characters.
const LONGEST: usize = 1000;

/// What is about to be told.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Without the closing brace.
    json: String,
    /// What the logger is told, in words; without it the logger hears nothing.
    message: Option<String>,
}

impl Record {
    /// A record of an event, with what all records have.
    pub(crate) fn new(event: &str) -> Record {
        let mut record = Record {
            json: String::from("{\"v\":1"),
            message: None,
        };
        record = record.text("ev", event).text("t", &timestamp());
        record.integer("pid", i64::from(std::process::id()))
    }

    /// What a person reads in the log.
    pub(crate) fn message(mut self, text: impl Into<String>) -> Record {
        self.message = Some(text.into());
        self
    }

    /// A text. It may be anything that a program has chosen: it is cut, and its control characters are escaped.
    pub(crate) fn text(self, key: &str, value: &str) -> Record {
        self.with(key, |json| quote(json, value))
    }

    /// A text, or null.
    pub(crate) fn text_or_null(self, key: &str, value: Option<&str>) -> Record {
        match value {
            Some(value) => self.text(key, value),
            None => self.with(key, |json| json.push_str("null")),
        }
    }

    /// A number with one digit behind the point: milliseconds.
    pub(crate) fn milliseconds(self, key: &str, value: f64) -> Record {
        self.with(key, |json| {
            let _ = write!(json, "{value:.1}");
        })
    }

    /// A whole number.
    pub(crate) fn integer(self, key: &str, value: i64) -> Record {
        self.with(key, |json| {
            let _ = write!(json, "{value}");
        })
    }

    /// `true` or `false`.
    pub(crate) fn boolean(self, key: &str, value: bool) -> Record {
        self.with(key, |json| json.push_str(if value { "true" } else { "false" }))
    }

    /// A list of texts.
    pub(crate) fn texts<T: AsRef<str>>(self, key: &str, values: impl IntoIterator<Item = T>) -> Record {
        self.with(key, |json| {
            json.push('[');
            for (index, value) in values.into_iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                quote(json, value.as_ref());
            }
            json.push(']');
        })
    }

    /// A value that is JSON already: [`Record::object`]s in a list, for one.
    pub(crate) fn raw(self, key: &str, value: &str) -> Record {
        self.with(key, |json| json.push_str(value))
    }

    /// An object inside of a record; built like a record, ended by [`Record::close`].
    pub(crate) fn object() -> Record {
        Record {
            json: String::from("{"),
            message: None,
        }
    }

    /// The whole as JSON.
    pub(crate) fn close(mut self) -> String {
        self.json.push('}');
        self.json
    }

    /// The whole as a line of a file.
    pub(super) fn line(self) -> String {
        self.close() + "\n"
    }

    fn with(mut self, key: &str, value: impl FnOnce(&mut String)) -> Record {
        if self.json.len() > 1 {
            self.json.push(',');
        }
        quote(&mut self.json, key);
        self.json.push(':');
        value(&mut self.json);
        self
    }
}

/// How long a text in a message for people may be, in characters.
const LONGEST_FOR_PEOPLE: usize = 200;

/// A text that a program has chosen, for people: cut, and on one line, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == LONGEST_FOR_PEOPLE {
            printable.push_str("...");
            break;
        }
        // (`escape_debug` would escape quotes too, which are harmless here)
        if character.is_control() || is_invisible(character) {
            printable.extend(character.escape_unicode());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// Does it change how what follows is shown, or show nothing: marks of direction, separators of lines?
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A JSON string in ASCII. What is outside of ASCII is escaped too: no terminal is told to do anything.
fn quote(json: &mut String, text: &str) {
    json.push('"');
    for (index, character) in text.chars().enumerate() {
        if index == LONGEST {
            json.push_str("...");
            break;
        }
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            ' '..='~' => json.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(json, "\\u{unit:04x}");
                }
            }
        }
    }
    json.push('"');
}

/// Now, as `2026-11-22T19:00:00.051Z`.
fn timestamp() -> String {
    let now = wall_time();
    let (days, seconds) = (now.as_secs() / 86400, now.as_secs() % 86400);
    // the day of an era of 400 years that begins on the first of March, as Howard Hinnant's `civil_from_days` has it
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        now.subsec_millis()
    )
}

/// A record on its way to Python.
struct Waiting {
    line: String,
    /// What the logger is told, if it is.
    message: Option<String>,
}

static WAITING: PerProcess<Mutex<VecDeque<Waiting>>> = PerProcess::new();
/// Records that nobody will hear of: too many were waiting, or the descriptor 2 could not be written.
static LOST: AtomicU64 = AtomicU64::new(0);
/// The function that hands a record to Python: [`register`].
static HAND_OVER: Static = Static::new();
/// The interpreter ends: no loop is going to hand anything over.
static ENDING: AtomicBool = AtomicBool::new(false);
/// The file of which has been said that it cannot be written.
static UNWRITABLE: PerProcess<Mutex<Option<PathBuf>>> = PerProcess::new();

/// How many records have been lost.
pub(super) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed) + outlets::lost()
}

/// It has been said already that records cannot be written there.
pub(super) fn is_known_to_be_unwritable(path: &Path) {
    *UNWRITABLE.lock() = Some(path.to_owned());
}

/// Tells it to whoever is to hear. Any thread, with the GIL or without.
pub(crate) fn emit(record: Record) {
    let Some(settings) = settings::get() else {
        return;
    };
    let message = record.message.clone();
    let line = record.line();
    let mut for_log = message.clone().filter(|_| settings.to_logging);
    if let Some(path) = &settings.to_file
        && let Err(error) = outlets::write(&Place::File(path.clone()), &line)
    {
        tell_unwritable(path, &error);
        // (of what has no words the log gets the record itself)
        for_log = Some(message.unwrap_or_else(|| line.trim_end().to_owned()));
    }
    if settings.to_stderr && outlets::write(&Place::Stderr, &line).is_err() {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
    if settings.to_callable || for_log.is_some() {
        hand_over_later(Waiting {
            line,
            message: for_log,
        });
    }
}

/// The same, by a thread that has the GIL and may run any Python code: when no loop runs it is handed over at once.
pub(crate) fn emit_by_python(record: Record) {
    emit(record);
    if ENDING.load(Ordering::Relaxed) || running().is_empty() {
        deliver();
    }
}

/// Once for a file.
fn tell_unwritable(path: &Path, error: &std::io::Error) {
    if UNWRITABLE.lock().replace(path.to_owned()).as_deref() == Some(path) {
        return;
    }
    let (path, error) = (path.display().to_string(), error.to_string());
    let message = format!(
        "Records of aioxide.diag cannot be written to {}: {error}. While that is so, this log gets them.",
        printable(&path)
    );
    hand_over_later(Waiting {
        line: Record::new("unwritable")
            .text("path", &path)
            .text("error", &error)
            .line(),
        message: Some(message),
    });
}

fn hand_over_later(record: Waiting) {
    let mut waiting = WAITING.lock();
    if waiting.len() < MOST_WAITING {
        waiting.push_back(record);
    } else {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
    drop(waiting);
    for loop_ in running() {
        at_next_boundary(&loop_, Job::Deliver);
    }
}

/// Does anything wait for Python?
pub(super) fn are_waiting() -> bool {
    !WAITING.lock().is_empty()
}

/// Hands over to Python what waits for it. With the GIL.
pub(crate) fn deliver() {
    loop {
        let next = WAITING.lock().pop_front();
        let Some(record) = next else { return };
        if let Err(raised) = hand_over(&record) {
            raised.unraisable(MODULE.get());
        }
    }
}

fn hand_over(record: &Waiting) -> R<()> {
    let message = match &record.message {
        Some(message) => Obj::str(message)?,
        None => Obj::none(),
    };
    HAND_OVER
        .get()
        .call(&[
            &Obj::str(&record.line)?,
            &message,
            &MODULE.get().getattr_str("_on_event")?,
        ])
        .map(drop)
}

/// The interpreter ends: what waits goes out. What is found from now on, by finalizers, does so at once.
pub(super) fn finish() -> R<()> {
    ENDING.store(true, Ordering::Relaxed);
    if dev::enabled() || are_waiting() {
        // while there is still something to import
        PREPARE.get().call0()?;
    }
    deliver();
    // (the program's own objects are about to go: its callable would keep some of them from it)
    MODULE.get().setattr_str("_on_event", &Obj::none())?;
    threads::without_gil(outlets::finish);
    Ok(())
}

/// The function that imports what [`HAND_OVER`] needs.
static PREPARE: Static = Static::new();

/// The Python side: the logger is asked for when it is needed, so that a program may configure logging at any time.
const SOURCE: &str = "
json = logging = None

def prepare():
    global json, logging
    import json, logging

def hand_over(line, message, on_event):
    if json is None:
        prepare()
    record = json.loads(line)
    if message is not None:
        logging.getLogger('aioxide.diag').warning('%s', message, extra={'aioxide': record})
    if on_event is not None:
        on_event(record)
";

/// Makes the functions. Called once.
pub(super) fn register(_: &Obj) -> R<()> {
    let namespace = Obj::dict()?;
    Obj::import("builtins")?
        .getattr_str("exec")?
        .call(&[&Obj::str(SOURCE)?, &namespace])?;
    for (name, place) in [("hand_over", &HAND_OVER), ("prepare", &PREPARE)] {
        if let Some(function) = namespace.dict_get(&Obj::str(name)?)? {
            place.fill(function);
        }
    }
    Ok(())
}
