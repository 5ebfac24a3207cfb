//! The threads of this process, as the kernel lists them: those that Python does not know, too. And what ours are called.
//!
//! Owns the names. Linux lists the threads in `/proc`; where that cannot be read there is no answer.

use std::fs;

/// A thread: its id (`threading.get_native_id()`) and its name, of which the kernel keeps 15 bytes.
pub type Thread = (u64, String);

/// The names of our own threads: by them people know what runs in a process, and we who is
/// nobody to wait for ([`is_bystander`]).
pub mod names {
    /// It looks up names.
    pub const DNS: &str = "aioxide-dns";
    /// It looks whether loops go on.
    pub const WATCH: &str = "aioxide-watch";
    /// It answers who asks from outside; the number of its pipe follows.
    pub const ATTACH: &str = "aioxide@";
    /// It comes back to records that could not be written.
    pub const RECORDS: &str = "aioxide-records";
    /// It writes what the flight recorder had.
    pub const FLIGHT: &str = "aioxide-flight";
    /// It answers signals.
    pub const SIGNAL: &str = "aioxide-signal";
    /// It waits for the end of a child, where there are no descriptors for that; the child's number follows.
    pub const WAITPID: &str = "aioxide-waitpid-";
}

/// Is a thread of this name one of ours that ends no wait of the program's, unless somebody has asked it to?
#[must_use]
pub fn is_bystander(name: &str) -> bool {
    use names::{ATTACH, DNS, FLIGHT, RECORDS, SIGNAL, WATCH};
    [DNS, WATCH, RECORDS, FLIGHT, SIGNAL].contains(&name) || name.starts_with(ATTACH)
}

/// All threads. `None`: the kernel does not say.
#[must_use]
pub fn all() -> Option<Vec<Thread>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task").ok()? {
        let path = entry.ok()?.path();
        let id = path.file_name()?.to_str()?.parse().ok()?;
        // (one that has ended meanwhile has no name)
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        threads.push((id, name.trim_end().to_owned()));
    }
    Some(threads)
}

/// The id of the calling thread.
#[must_use]
pub fn current() -> Option<u64> {
    let link = fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{all, current};

    #[test]
    fn finds_itself_and_others_by_name() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("a-name-of-mine".into());
        let thread = thread.spawn(move || {
            let _ = wait.recv();
            current()
        });
        let thread = thread.expect("a thread can be started");
        let named = loop {
            let all = all().expect("/proc is there");
            assert!(all.iter().any(|(id, _)| Some(*id) == current()));
            // its name is its own first deed
            if let Some((id, _)) = all.iter().find(|(_, name)| name == "a-name-of-mine") {
                break *id;
            }
        };
        drop(stop);
        assert_eq!(thread.join().expect("no panic"), Some(named));
    }
}
