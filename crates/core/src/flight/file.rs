//! Where a trace is saved: in a file that was not there before.
//!
//! Owns the names of files that are made unasked.
//! Must never overwrite anything, follow a link that somebody has laid, or leave half a file under its name.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::sys::apart;
use crate::sys::names::block_signals;
use crate::sys::threads::names;

/// How many files of one name there may be.
const ATTEMPTS: u32 = 1000;

/// Writes a new file that nobody else may read.
///
/// # Errors
/// What the kernel answers: [`io::ErrorKind::AlreadyExists`] if there is one. If `write` fails the file is gone again.
pub fn create(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let file = open(path)?;
    finish(path, file, write)
}

/// Writes a new file of the name `stem.json`, or `stem-2.json` and so on if that is taken. Answers its path.
///
/// # Errors
/// What the kernel answers. If `write` fails the file is gone again.
pub fn create_in(
    directory: &Path,
    stem: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let mut attempt = 1;
    loop {
        let name = if attempt == 1 {
            format!("{stem}.json")
        } else {
            format!("{stem}-{attempt}.json")
        };
        let path = directory.join(name);
        match open(&path) {
            Ok(file) => return finish(&path, file, write).map(|()| path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Runs `write` on a thread of its own: a megabyte takes as long to write as a loop should not stand still.
///
/// # Errors
/// No thread can be started.
pub fn in_background(write: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    apart::spawn(names::FLIGHT, || {
        block_signals();
        write();
    })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn finish(path: &Path, file: File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let result = write(&mut out).and_then(|()| out.flush());
    if result.is_err() {
        // (the first error is the one to tell)
        let _ = std::fs::remove_file(path);
    }
    result
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("aioxide-{name}-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        directory
    }

    #[test]
    fn a_name_that_is_taken_is_left_alone() {
        let directory = directory("taken");
        let paths: Vec<PathBuf> = (0..3)
            .map(|number| create_in(&directory, "flight", |out| write!(out, "{number}")).unwrap())
            .collect();
        for (number, (path, name)) in paths
            .iter()
            .zip(["flight.json", "flight-2.json", "flight-3.json"])
            .enumerate()
        {
            assert_eq!(path, &directory.join(name));
            assert_eq!(std::fs::read_to_string(path).unwrap(), number.to_string());
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let again = create(&paths[0], |_| Ok(()));
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&paths[0]).unwrap(), "0");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = directory("link");
        let link = directory.join("flight.json");
        std::os::unix::fs::symlink(directory.join("elsewhere"), &link).unwrap();
        let path = create_in(&directory, "flight", |_| Ok(())).unwrap();
        assert_eq!(path, directory.join("flight-2.json"));
        assert!(!directory.join("elsewhere").exists());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn half_a_file_does_not_stay() {
        let directory = directory("half");
        let path = directory.join("trace.json");
        let failed = create(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert!(!path.exists());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
