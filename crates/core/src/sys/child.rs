//! A child process, by its pid: hearing of its end, taking its status, sending it signals.
//!
//! Owns the descriptor that becomes readable when the child ends, and the knowledge whether the pid is still the
//! child's: it is, dead or alive, until somebody takes its status.
//! Must never send a signal to a pid that may be another process's by now, nor take the status of another child.
//!
//! The descriptor is a pidfd. Where the kernel has none (before Linux 5.3) or forbids it, a thread waits for the child,
//! without taking its status, and then says so by an eventfd.
#![allow(
    unsafe_code,
    reason = "rustix has no waitid that leaves the status, nor signals by number"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};

use super::fd::Kept;
use super::threads::names;

/// A child of this process that this module may take the status of.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    end: Kept,
    /// `end` is a pidfd, by which a signal reaches nobody else.
    is_pidfd: bool,
    /// Its status has been taken: the pid may be somebody else's.
    taken: bool,
}

/// What [`Child::take`] finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// It has not ended.
    Running,
    /// It has ended with this exit code, or, if that is negative, by a signal: `Popen.returncode`.
    Ended(i32),
    /// Somebody else has taken its status, which nobody can know any more.
    Lost,
}

impl Child {
    /// Begins to watch the child `pid`, whose status nobody has taken yet.
    ///
    /// # Errors
    /// What the kernel answers, EMFILE for instance.
    pub fn watch(pid: i32) -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOSYS | libc::EPERM | libc::EINVAL) => Self::watch_by_thread(pid),
                // it has ended, and nobody had to take its status (SIGCHLD is ignored)
                Some(libc::ESRCH) => Ok(Self {
                    pid,
                    end: eventfd(1, EventfdFlags::CLOEXEC)?.into(),
                    is_pidfd: false,
                    taken: true,
                }),
                _ => Err(error),
            };
        }
        Ok(Self {
            pid,
            // SAFETY: a new descriptor that nobody else has.
            end: unsafe { OwnedFd::from_raw_fd(fd as RawFd) }.into(),
            is_pidfd: true,
            taken: false,
        })
    }

    /// The same without a pidfd.
    ///
    /// # Errors
    /// EMFILE, or EAGAIN if there can be no more threads.
    pub fn watch_by_thread(pid: i32) -> io::Result<Self> {
        let end = eventfd(0, EventfdFlags::CLOEXEC)?;
        let ours = end.try_clone()?;
        std::thread::Builder::new()
            .name(format!("{}{pid}", names::WAITPID))
            .stack_size(64 * 1024)
            .spawn(move || {
                while wait(pid, libc::WEXITED | libc::WNOWAIT)
                    .is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
                {}
                // It fails only if the counter is full.
                let _ = rustix::io::write(&ours, &1_u64.to_ne_bytes());
            })?;
        Ok(Self {
            pid,
            end: end.into(),
            is_pidfd: false,
            taken: false,
        })
    }

    /// The descriptor to watch: readable when the child has ended.
    #[must_use]
    pub fn end(&self) -> RawFd {
        self.end.as_raw_fd()
    }

    /// Has it ended, whoever has its status?
    #[must_use]
    pub fn has_ended(&self) -> bool {
        if self.taken {
            return true;
        }
        // (it fails if somebody else has taken the status)
        wait(self.pid, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).map_or(true, |pid| pid != 0)
    }

    /// Takes its status, if it has ended: the pid is not its own any more.
    ///
    /// # Errors
    /// None that is to be expected.
    pub fn take(&mut self) -> io::Result<Status> {
        if self.taken {
            return Ok(Status::Lost);
        }
        let mut status = 0;
        // SAFETY: a place for an int.
        match unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } {
            0 => Ok(Status::Running),
            pid if pid > 0 => {
                self.taken = true;
                Ok(Status::Ended(if libc::WIFSIGNALED(status) {
                    -libc::WTERMSIG(status)
                } else {
                    libc::WEXITSTATUS(status)
                }))
            }
            _ => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::ECHILD) {
                    return Err(error);
                }
                self.taken = true;
                Ok(Status::Lost)
            }
        }
    }

    /// Somebody else has taken its status.
    pub fn give_up(&mut self) {
        self.taken = true;
    }

    /// Sends it a signal. If its status has been taken, nobody gets one.
    ///
    /// # Errors
    /// EINVAL if there is no such signal, EPERM if the child is another user's by now.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        if self.taken {
            return Ok(());
        }
        let result = if self.is_pidfd {
            let nothing = std::ptr::null_mut::<libc::siginfo_t>();
            // SAFETY: no siginfo is passed.
            unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    self.end.as_raw_fd(),
                    number,
                    nothing,
                    0,
                )
            }
        } else {
            // SAFETY: no memory is passed. The pid is the child's until its status is taken.
            unsafe { libc::kill(self.pid, number) }.into()
        };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // it has ended, and somebody has taken its status behind our back
            Some(libc::ESRCH) => Ok(()),
            _ => Err(error),
        }
    }
}

/// `waitid(P_PID, pid, options)`: which child, 0 if none.
fn wait(pid: i32, options: i32) -> io::Result<i32> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: a place for a siginfo, which is all zeroes if there is nothing to tell; one of SIGCHLD has a pid.
    unsafe {
        if libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), options) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(info.assume_init().si_pid())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use std::os::fd::BorrowedFd;
    use std::process::{Command, Stdio};

    #[expect(clippy::zombie_processes, reason = "who takes the status is what is tested")]
    fn spawn(script: &str) -> i32 {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // (dropping it neither kills nor waits)
        child.id() as i32
    }

    fn wait_for_end(child: &Child) {
        // SAFETY: open as long as the child.
        let fd = unsafe { BorrowedFd::borrow_raw(child.end()) };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).unwrap();
    }

    const WAYS: [fn(i32) -> io::Result<Child>; 2] = [Child::watch, Child::watch_by_thread];

    #[test]
    fn its_status_is_told_once() {
        for watch in WAYS {
            let mut child = watch(spawn("exit 7")).unwrap();
            wait_for_end(&child);
            assert!(child.has_ended());
            assert!(child.has_ended(), "asking does not take it");
            assert_eq!(child.take().unwrap(), Status::Ended(7));
            assert_eq!(child.take().unwrap(), Status::Lost);
            assert!(child.has_ended());
        }
    }

    #[test]
    fn a_signal_reaches_it_and_nobody_after_it() {
        for watch in WAYS {
            let mut child = watch(spawn("exec sleep 1000")).unwrap();
            assert!(!child.has_ended());
            assert_eq!(child.take().unwrap(), Status::Running);
            child.signal(0).unwrap();
            child.signal(libc::SIGKILL).unwrap();
            wait_for_end(&child);
            child.signal(libc::SIGKILL).unwrap();
            assert_eq!(child.take().unwrap(), Status::Ended(-libc::SIGKILL));
            child.signal(libc::SIGKILL).unwrap();
        }
    }

    #[test]
    fn a_status_that_somebody_else_took_is_lost() {
        for watch in WAYS {
            let pid = spawn("exit 3");
            let mut child = watch(pid).unwrap();
            wait_for_end(&child);
            // SAFETY: no memory is passed.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            assert!(child.has_ended());
            assert_eq!(child.take().unwrap(), Status::Lost);
        }
    }

    #[test]
    fn no_such_signal() {
        for watch in WAYS {
            let mut child = watch(spawn("exec sleep 1000")).unwrap();
            assert_eq!(child.signal(1000).unwrap_err().raw_os_error(), Some(libc::EINVAL));
            child.signal(libc::SIGKILL).unwrap();
            wait_for_end(&child);
            assert_eq!(child.take().unwrap(), Status::Ended(-libc::SIGKILL));
        }
    }
}
