//! The threads of this process, as the kernel lists them: those that Python does not know, too.
//!
//! Owns nothing. Linux says it in `/proc`; where that cannot be read there is no answer.

use std::fs;

/// A thread: its id (`threading.get_native_id()`) and its name, of which the kernel keeps 15 bytes.
pub type Thread = (u64, String);

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
