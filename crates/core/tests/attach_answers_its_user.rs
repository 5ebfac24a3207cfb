//! Who asks for the socket gets one, and answers; limits hold; what is left over goes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use aioxide_core::attach::{self, Answer};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

struct Echo;

impl Answer for Echo {
    fn answer(&self, request: &str, answer: &mut Vec<u8>) {
        match request.strip_prefix("long ") {
            Some(length) => answer.resize(answer.len() + length.parse::<usize>().unwrap(), b'x'),
            None => answer.extend_from_slice(request.as_bytes()),
        }
    }
}

fn exists_soon(path: &Path) -> bool {
    for _ in 0..2000 {
        if path.exists() {
            return true;
        }
        let (one, _other) = UnixStream::pair().unwrap();
        one.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let _ = (&one).read(&mut [0]);
    }
    false
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
    let thread = attach::start(Some(runtime.clone()), Echo).unwrap().unwrap();
    let directory = runtime.join(attach::NAME);
    assert!(exists_soon(&directory));
    assert_eq!(
        fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let file = |ending: &str| -> PathBuf { directory.join(format!("{}.{ending}", std::process::id())) };
    // the directory goes (a cleaner of /tmp), and comes again
    fs::remove_dir_all(&directory).unwrap();
    assert!(exists_soon(&directory));

    // no process has such a number
    let left_over = directory.join("2147483646.attach");
    fs::write(&left_over, "").unwrap();
    fs::write(directory.join("readme.txt"), "").unwrap();
    assert!(!file("sock").exists());

    fs::write(file("attach"), "").unwrap();
    assert!(exists_soon(&file("sock")));
    assert!(!file("attach").exists());
    assert!(!left_over.exists());
    assert!(directory.join("readme.txt").exists());
    assert_eq!(fs::metadata(file("sock")).unwrap().mode() & 0o777, 0o600);

    let mut stream = UnixStream::connect(file("sock")).unwrap();
    assert_eq!(ask(&mut stream, "hello").unwrap(), b"hello");
    assert_eq!(ask(&mut stream, "long 3000000").unwrap().len(), 3_000_000);
    let longest = "y".repeat(attach::LONGEST_REQUEST);
    assert_eq!(ask(&mut stream, &longest).unwrap(), longest.as_bytes());

    // a request that is too long, and one that is no text
    for bad in [&[0, 1, 0, 1, b'x'][..], &[0, 0, 0, 1, 0xff]] {
        let mut other = UnixStream::connect(file("sock")).unwrap();
        other.write_all(bad).unwrap();
        assert_eq!(other.read(&mut [0; 8]).unwrap_or(0), 0);
    }

    // four at a time
    let mut others: Vec<UnixStream> = (0..attach::MOST_CLIENTS)
        .map(|_| UnixStream::connect(file("sock")).unwrap())
        .collect();
    let answered = others.iter_mut().filter_map(|other| ask(other, "me")).count();
    assert_eq!(answered, attach::MOST_CLIENTS - 1);
    drop(others);

    // the thread may end and go on, and nobody notices
    let thread = thread.stop().unwrap().go_on().unwrap();
    assert_eq!(ask(&mut stream, "still there").unwrap(), b"still there");
    drop(thread);

    // a hundred in a second: of 150 some have to wait
    let before = ask_time(&mut stream, 150);
    assert!(before >= Duration::from_millis(300), "{before:?}");
    fs::remove_dir_all(&runtime).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the time that a test takes")]
fn ask_time(stream: &mut UnixStream, count: usize) -> Duration {
    let begin = std::time::Instant::now();
    for _ in 0..count {
        assert_eq!(ask(stream, "again").unwrap(), b"again");
    }
    begin.elapsed()
}
