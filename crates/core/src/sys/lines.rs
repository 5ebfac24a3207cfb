//! Lines of a report, written whole by whichever thread has them.
//!
//! Owns no descriptor and no lock: a file is opened for each line, so that it may be moved away or removed meanwhile,
//! and a `fork` at any moment leaves nothing behind.

use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::{retry_on_intr, write};

/// Puts a line at the end of a file, which is made if it is not there, for its owner alone.
///
/// # Errors
/// The kernel's.
pub fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?
        .write_all(line)
}

/// Writes a line to the descriptor 2.
///
/// # Errors
/// The kernel's.
pub fn to_stderr(mut line: &[u8]) -> io::Result<()> {
    let stderr = rustix::stdio::stderr();
    while !line.is_empty() {
        let written = retry_on_intr(|| write(stderr, line))?;
        line = &line[written..];
    }
    Ok(())
}
