//! Who rings gets a socket, and answers; limits hold; no file is left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use aioxide_core::attach::{self, Answer};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

struct Echo;

/// How often nobody was left.
static LEFT: AtomicU32 = AtomicU32::new(0);

impl Answer for Echo {
    fn answer(&self, request: &str, answer: &mut Vec<u8>) {
        match request.strip_prefix("long ") {
            Some(length) => answer.resize(answer.len() + length.parse::<usize>().unwrap(), b'x'),
            None => answer.extend_from_slice(request.as_bytes()),
        }
    }

    fn nobody_is_left(&self) {
        LEFT.fetch_add(1, Ordering::Relaxed);
    }
}

/// What `look` finds, sooner or later.
fn soon<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = look() {
            return found;
        }
        let (one, _other) = UnixStream::pair().unwrap();
        one.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let _ = (&one).read(&mut [0]);
    }
    panic!("it never comes")
}

fn entries(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The pipe, by the name of the thread.
fn door() -> Option<PathBuf> {
    entries("/proc/self/task").iter().find_map(|thread| {
        let name = fs::read_to_string(thread.join("comm")).ok()?;
        let number: u32 = name.trim().strip_prefix(attach::THREAD)?.parse().ok()?;
        Some(PathBuf::from(format!("/proc/self/fd/{number}")))
    })
}

/// The socket, by the name that its file has had in `directory`, among what the thread has open.
fn socket_of(directory: &Path) -> Option<PathBuf> {
    let threads = entries("/proc/self/task").into_iter();
    let mut open = threads.flat_map(|thread| {
        // (it may have ended meanwhile)
        let entries = fs::read_dir(thread.join("fd")).into_iter().flatten();
        entries.flatten().map(|entry| entry.path())
    });
    open.find(|fd| {
        fs::read_link(fd).is_ok_and(|was| {
            let was = was.to_string_lossy().into_owned();
            let place = directory.join(attach::HIDDEN);
            was.starts_with(&*place.to_string_lossy()) && was.ends_with(" (deleted)")
        })
    })
}

fn ring(door: &Path) {
    fs::OpenOptions::new()
        .write(true)
        .open(door)
        .unwrap()
        .write_all(b"?")
        .unwrap();
}

fn ask(stream: &mut UnixStream, request: &str) -> Option<Vec<u8>> {
    let length = u32::try_from(request.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).ok()?;
    let mut answer = vec![0; u32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

/// One test, for there is one thread in a process.
#[test]
fn who_asks_is_answered_within_the_limits() {
    let runtime = std::env::temp_dir().join(format!("aioxide-test-{}", std::process::id()));
    fs::create_dir(&runtime).unwrap();
    let before = entries("/proc/self/fd").len();
    let thread = attach::start(Some(runtime.clone()), Echo).unwrap().unwrap();
    let door = soon(door);
    assert_eq!(entries("/proc/self/fd").len(), before + 1, "nothing but the pipe");
    assert_eq!(fs::metadata(&door).unwrap().permissions().mode() & 0o777, 0o600);

    // it may end and go on before anybody has rung, and still nothing is open
    let thread = thread.stop().unwrap().go_on().unwrap();
    assert_eq!(soon(self::door), door);
    assert_eq!(entries("/proc/self/fd").len(), before + 1);
    assert_eq!(socket_of(&runtime), None);

    ring(&door);
    let socket = soon(|| socket_of(&runtime));
    assert_eq!(entries(&runtime), [] as [PathBuf; 0]);
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    // the directory may go, and nobody notices
    fs::remove_dir(&runtime).unwrap();

    let connect = || soon(|| UnixStream::connect(&socket).ok());
    let mut stream = connect();
    assert_eq!(ask(&mut stream, "hello").unwrap(), b"hello");
    assert_eq!(ask(&mut stream, "long 3000000").unwrap().len(), 3_000_000);
    let longest = "y".repeat(attach::LONGEST_REQUEST);
    assert_eq!(ask(&mut stream, &longest).unwrap(), longest.as_bytes());

    // a request that is too long, and one that is no text
    for bad in [&[0, 1, 0, 1, b'x'][..], &[0, 0, 0, 1, 0xff]] {
        let mut other = connect();
        other.write_all(bad).unwrap();
        assert_eq!(other.read(&mut [0; 8]).unwrap_or(0), 0);
    }

    // four at a time
    let mut others: Vec<UnixStream> = (0..attach::MOST_CLIENTS).map(|_| connect()).collect();
    let answered = others.iter_mut().filter_map(|other| ask(other, "me")).count();
    assert_eq!(answered, attach::MOST_CLIENTS - 1);
    drop(others);

    // the thread may end and go on: whoever was connected is still, or finds that out and asks again
    let thread = thread.stop().unwrap().go_on().unwrap();
    if ask(&mut stream, "still there").is_none() {
        ring(&door);
        let socket = || {
            attach::DIRECTORIES
                .iter()
                .find_map(|path| socket_of(Path::new(path)))
        };
        stream = soon(|| UnixStream::connect(socket()?).ok());
    }
    assert_eq!(ask(&mut stream, "still there").unwrap(), b"still there");
    assert_eq!(self::door(), Some(door));
    drop(thread);

    // a hundred in a second: of 150 some have to wait
    let before = ask_time(&mut stream, 150);
    assert!(before >= Duration::from_millis(300), "{before:?}");
    assert_eq!(LEFT.load(Ordering::Relaxed), 0);
    drop(stream);
    soon(|| (LEFT.load(Ordering::Relaxed) == 1).then_some(()));
}

#[expect(clippy::disallowed_methods, reason = "the time that a test takes")]
fn ask_time(stream: &mut UnixStream, count: usize) -> Duration {
    let begin = std::time::Instant::now();
    for _ in 0..count {
        assert_eq!(ask(stream, "again").unwrap(), b"again");
    }
    begin.elapsed()
}
