//! What the kernel knows of the server.

use std::io;
use std::time::Duration;

/// A process, by its number.
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// User and system time of all its threads.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            sum += first_number(&text);
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Bytes of memory in use.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.map_or(0, |line| first_number(line.trim()) * 1024))
    }
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}
