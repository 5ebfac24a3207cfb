//! The directory, and the files in it.
//!
//! Must never use a directory that is another user's or open to others.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sys::local;

/// The directory's name in the user's runtime directory; elsewhere it is followed by the user's number.
pub const NAME: &str = "aioxide";
/// Where it is made if the user has no such directory.
pub const FALLBACK: &str = "/tmp";
/// The longest path that a Unix socket may have is 107 bytes; so much of it is the file's name.
const LONGEST_DIRECTORY: usize = 107 - "/2147483647.attach".len();

/// The directory, and which process this is.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    process: i32,
}

impl Place {
    /// Finds the directory, or makes it.
    pub(super) fn find(runtime: Option<&Path>) -> io::Result<Self> {
        let process = local::process();
        let preferred = runtime
            .filter(|path| path.is_absolute())
            .map(|path| path.join(NAME))
            .filter(|path| path.as_os_str().len() <= LONGEST_DIRECTORY);
        if let Some(directory) = preferred
            && local::own_directory(&directory).is_ok()
        {
            return Ok(Self { directory, process });
        }
        let directory = Path::new(FALLBACK).join(format!("{NAME}-{}", local::user()));
        local::own_directory(&directory)?;
        Ok(Self { directory, process })
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", self.process))
    }

    /// The socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    /// Has somebody who may asked for the socket? The request is taken away.
    pub(super) fn take_request(&self) -> bool {
        let request = self.file("attach");
        let Ok(owner) = local::owner(&request) else {
            return false;
        };
        local::remove(&request);
        owner == local::user() || owner == 0
    }

    /// Removes what processes have left that are no more: a socket that nobody serves, a request that nobody hears.
    pub(super) fn clean(&self) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // (a process that cannot be seen from here, in another container, answers at its socket)
            if process_of(&path).is_some_and(local::is_dead) && !local::is_served(&path) {
                local::remove(&path);
            }
        }
    }
}

/// The process whose file it is.
fn process_of(path: &Path) -> Option<i32> {
    let ending = path.extension().map(OsStr::as_bytes);
    if ending != Some(b"sock") && ending != Some(b"attach") {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::process_of;
    use std::path::Path;

    #[test]
    fn only_files_of_ours_have_a_process() {
        assert_eq!(process_of(Path::new("/d/12.sock")), Some(12));
        assert_eq!(process_of(Path::new("/d/12.attach")), Some(12));
        for other in ["/d/12.txt", "/d/x.sock", "/d/12", "/d/.sock"] {
            assert_eq!(process_of(Path::new(other)), None, "{other}");
        }
    }
}
