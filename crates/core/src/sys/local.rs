//! Unix sockets between processes of one user, and how they find each other: by /proc, without a file.
//!
//! Owns the system calls of [`crate::attach`]: the pipe at which others ring, a listening socket, who is at the other end
//! of a connection, and the waiting for any of them.
//! Must never follow a symbolic link, leave a file, nor touch a loop's sockets.
#![allow(
    unsafe_code,
    reason = "rustix does not tell whether the process is set-uid, nor of a peer without a number"
)]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::{self, PipeFlags};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 8;
/// What [`Door::end`] writes; others write anything else.
const END: u8 = b'.';
/// How long one waits who cannot wait for anything, at most.
const UNPOLLED: Duration = Duration::from_millis(100);
/// What the name of a [hidden](Listener::hidden_in) socket's file begins with, which is there no more: /proc shows it.
pub const HIDDEN: &str = ".aioxide-";

/// The effective user.
#[must_use]
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Has the process more rights than whoever started it (set-uid, file capabilities)?
#[must_use]
pub fn is_privileged() -> bool {
    // SAFETY: no preconditions.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// A door with a bell: a pipe without a name, of which one descriptor is both ends. Nothing else is open until somebody
/// rings: this process to say that it is over ([`Door::end`]), or another one that opens `/proc/PID/fd/N` and writes to it.
/// That the kernel allows to whoever may look into the process, which is its user and root, in any container.
///
/// The program may close its number behind our back (`os.closerange`) and have something of its own there: nobody is to
/// write to that, or read from it. So the door knows itself again.
#[derive(Debug)]
pub struct Door {
    fd: OwnedFd,
    /// Device and number: [`identity`].
    identity: (u64, u64),
    over: Arc<AtomicBool>,
}

/// What a descriptor leads to.
fn identity(fd: BorrowedFd<'_>) -> Option<(u64, u64)> {
    let found = fs::fstat(fd).ok()?;
    Some((found.st_dev, found.st_ino))
}

impl Door {
    /// One at which nobody has rung.
    ///
    /// # Errors
    /// EMFILE; ENOENT without /proc.
    pub fn new() -> io::Result<Self> {
        let (reader, _writer) = pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The kernel counts the pages that a user's pipes may have, and gives less to later ones when there are many.
        let _ = pipe::fcntl_setpipe_size(&reader, 1);
        let both = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = fs::open(of_own(&reader), both, Mode::empty())?;
        let identity = identity(fd.as_fd()).ok_or(Errno::BADF)?;
        Ok(Self {
            fd,
            identity,
            over: Arc::new(AtomicBool::new(false)),
        })
    }

    /// The same door, for a thread that has [left](super::apart) the table of descriptors. That has one end of the pipe,
    /// and the program has the only other one: so it hears of it when that is closed ([`Heard::Closed`]).
    ///
    /// # Errors
    /// EBADF: the program has closed it.
    pub fn bring(&self) -> io::Result<Self> {
        let both = super::apart::bring(self.fd.as_fd())?;
        if identity(both.as_fd()) != Some(self.identity) {
            return Err(Errno::BADF.into()); // what the program has there now is not ours to open
        }
        let one = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(Self {
            // (whose process has changed its user may not open it; then nothing is heard of its closing)
            fd: fs::open(of_own(&both), one, Mode::empty()).unwrap_or(both),
            identity: self.identity,
            over: Arc::clone(&self.over),
        })
    }

    /// Its number, by which others find it.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Is its number still its own? If not, so are those of all that was open beside it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        identity(self.fd.as_fd()) == Some(self.identity)
    }

    /// Tells the thread that waits here to end. `false`: nobody can hear it any more.
    #[must_use]
    pub fn end(&self) -> bool {
        self.over.store(true, Ordering::Release);
        self.is_ours()
            && match retry_on_intr(|| rustix::io::write(&self.fd, &[END])) {
                // (full of what has not been heard yet)
                Ok(_) | Err(Errno::AGAIN) => true,
                Err(_) => false,
            }
    }

    /// Has the thread been told to end since the last time?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.swap(false, Ordering::AcqRel)
    }

    /// What has happened there since the last time?
    #[must_use]
    pub fn listen(&self) -> Heard {
        let mut bytes = [END; 4096];
        match retry_on_intr(|| rustix::io::read(&self.fd, &mut bytes)) {
            Ok(0) => Heard::Closed,
            // (a byte of our own may be left of an end that was heard of before it was read)
            Ok(_) if bytes.iter().any(|byte| *byte != END) => Heard::Ring,
            _ => Heard::Nothing,
        }
    }
}

/// What one hears at a [`Door`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard {
    /// Nobody has been there but this process.
    Nothing,
    /// Somebody has rung.
    Ring,
    /// The program has closed it. (Only by who has [brought](Door::bring) it elsewhere.)
    Closed,
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The path of a descriptor of this thread.
fn of_own(fd: &OwnedFd) -> String {
    format!("/proc/thread-self/fd/{}", fd.as_raw_fd())
}

fn unconnected() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

/// A socket that listens, and has no name in any directory: others of this user connect by `/proc/PID/fd/N`, where N is
/// the number of the handle.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// The file whose name has been removed. (A descriptor of the socket itself leads nowhere.)
    handle: OwnedFd,
}

impl Listener {
    /// Makes one in this directory, with a name there for a moment. It is for its owner alone: 0600.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn hidden_in(directory: &Path) -> io::Result<Self> {
        let socket = unconnected()?;
        // nobody knows it before, so that nobody can have taken it
        let name = RandomState::new().build_hasher().finish();
        let path = directory.join(format!("{HIDDEN}{name:016x}"));
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
        let handle = fs::open(
            &path,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        fs::unlink(&path)?;
        let handle = handle?;
        // (whatever the program's umask has made of it; until it listens nobody can connect)
        fs::chmod(of_own(&handle), Mode::RUSR | Mode::WUSR)?;
        let found = fs::fstat(&handle)?;
        let is_ours = FileType::from_raw_mode(found.st_mode) == FileType::Socket
            && found.st_uid == user()
            && found.st_mode & 0o177 == 0;
        if !is_ours {
            return Err(Errno::PERM.into());
        }
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(Self { socket, handle })
    }

    /// The next connection.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(retry_on_intr(|| rustix::net::accept_with(&self.socket, flags))?)
    }

    /// Its second descriptor.
    #[must_use]
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The user at the other end, as the kernel has seen it connect. (rustix takes it for an error if the process at the other
/// end has no number here, which is so if it is outside of this container.)
///
/// # Errors
/// What the kernel answers.
pub fn peer(connection: &OwnedFd) -> io::Result<u32> {
    let mut found = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes so many bytes of a `ucred` at most.
    let answer = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if answer == 0 {
        Ok(found.uid)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `recv(2)`: `Ok(0)` is the end.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if there is nothing yet.
pub fn receive(connection: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (taken, _) = retry_on_intr(|| rustix::net::recv(connection, &mut *buffer, RecvFlags::DONTWAIT))?;
    Ok(taken)
}

/// `send(2)`: how much of it the kernel took.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if that is nothing.
pub fn send(connection: &OwnedFd, data: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(retry_on_intr(|| rustix::net::send(connection, data, flags))?)
}

/// What one waits for of a descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// Something to read, or a connection to accept.
    Read,
    /// Room to write.
    Write,
    /// Only its end.
    Nothing,
}

/// Waits until one of them is ready, or `timeout` has passed: which are.
#[must_use]
pub fn wait(all: &[(BorrowedFd<'_>, Wanted)], timeout: Option<Duration>) -> Vec<bool> {
    let mut fds: Vec<PollFd<'_>> = all
        .iter()
        .map(|(fd, wanted)| {
            let flags = match wanted {
                Wanted::Read => PollFlags::IN,
                Wanted::Write => PollFlags::OUT,
                Wanted::Nothing => PollFlags::empty(),
            };
            PollFd::from_borrowed_fd(*fd, flags)
        })
        .collect();
    let span = |timeout: Duration| Timespec::try_from(timeout).ok();
    let polled = poll(&mut fds, timeout.and_then(span).as_ref());
    if polled.is_ok() {
        return fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    }
    // (nothing is ready, and the caller looks at its clock; without memory, or with more than the process may have open,
    // that is not to be at once)
    if polled != Err(Errno::INTR) {
        let longest = UNPOLLED.min(timeout.unwrap_or(UNPOLLED));
        let _ = poll(&mut [], span(longest).as_ref());
    }
    vec![false; all.len()]
}

/// Where /proc shows the calling thread, if it does.
#[must_use]
pub fn this_thread() -> Option<PathBuf> {
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    Some(Path::new("/proc").join(link))
}

/// Waits until the kernel no longer counts a thread that has ended: a moment after others have seen its end.
pub fn until_gone(thread: &Path) {
    soon(|| !thread.exists());
}

/// Waits for a moment for what is about to happen. Has it?
pub fn soon(has_happened: impl Fn() -> bool) -> bool {
    const LONGEST: u32 = 1000;
    for _ in 0..LONGEST {
        if has_happened() {
            return true;
        }
        pause(50e-6);
    }
    false
}

/// Does nothing for a while; not at all if that is over.
pub fn pause(seconds: f64) {
    if seconds > 0.0 {
        let _ = wait(&[], Some(Duration::from_secs_f64(seconds)));
    }
}

/// The descriptors that a child of a `fork` must let go of: it has no thread that uses them, and holding them keeps
/// connections open that the parent has closed. A number that has become the program's own meanwhile is left alone.
#[derive(Debug)]
pub struct Inherited<const N: usize>([Noted; N]);

/// A number (-1: none), and what it has led to.
#[derive(Debug)]
struct Noted {
    number: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl<const N: usize> Default for Inherited<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Inherited<N> {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(
            [const {
                Noted {
                    number: AtomicI32::new(-1),
                    device: AtomicU64::new(0),
                    inode: AtomicU64::new(0),
                }
            }; N],
        )
    }

    /// Notes what is open just now.
    pub fn note<'a>(&self, open: impl Iterator<Item = BorrowedFd<'a>>) {
        let mut open = open.filter_map(|fd| Some((fd.as_raw_fd(), identity(fd)?)));
        for place in &self.0 {
            // (another thread may fork at any time: it finds what goes together, or nothing)
            place.number.store(-1, Ordering::Release);
            if let Some((number, (device, inode))) = open.next() {
                place.device.store(device, Ordering::Release);
                place.inode.store(inode, Ordering::Release);
                place.number.store(number, Ordering::Release);
            }
        }
    }

    /// In the child: closes them. Safe to call in a signal handler, as after a `fork` it must be.
    pub fn close(&self) {
        for place in &self.0 {
            let number = place.number.swap(-1, Ordering::AcqRel);
            let known = (
                place.device.load(Ordering::Acquire),
                place.inode.load(Ordering::Acquire),
            );
            // (-1 is not open)
            if super::fd::with_borrowed(number, |fd| Ok(identity(fd))).is_ok_and(|found| found == Some(known))
            {
                super::fd::close(number);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::{Inherited, identity};
    use crate::sys::fd::{Kept, replace};
    use rustix::io::fcntl_dupfd_cloexec;
    use rustix::pipe::pipe;
    use std::os::fd::AsFd;

    #[test]
    fn what_has_become_another_meanwhile_is_not_closed() {
        let (one, other) = (pipe().unwrap(), pipe().unwrap());
        // numbers that no other thread of the tests is given
        let taken = Kept::from(fcntl_dupfd_cloexec(&one.0, 910).unwrap());
        let left = Kept::from(fcntl_dupfd_cloexec(&one.1, 910).unwrap());
        let inherited = Inherited::<3>::new();
        inherited.note([taken.as_fd(), left.as_fd()].into_iter());
        replace(&taken, &other.0).unwrap();
        inherited.close();
        assert_eq!(identity(taken.as_fd()), identity(other.0.as_fd()));
        assert_eq!(identity(left.as_fd()), None);
        // and no more than once
        replace(&left, &one.1).unwrap();
        inherited.close();
        assert!(identity(left.as_fd()).is_some());
    }
}
