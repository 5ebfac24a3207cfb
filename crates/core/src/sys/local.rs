//! Unix sockets between processes of one user, and the directory in which they find each other.
//!
//! Owns the system calls of [`crate::attach`]: a directory that is nobody else's, a watch on what appears in it, a
//! listening socket, who is at the other end of a connection, and the waiting for any of them.
//! Must never follow a symbolic link, nor touch a loop's sockets.
#![allow(unsafe_code, reason = "rustix does not tell whether the process is set-uid")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{self, FileType, Mode, inotify};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 8;

/// The effective user.
#[must_use]
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// This process.
#[must_use]
pub fn process() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Has the process more rights than whoever started it (set-uid, file capabilities)?
#[must_use]
pub fn is_privileged() -> bool {
    // SAFETY: no preconditions.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Is there no process with this number?
#[must_use]
pub fn is_dead(process: i32) -> bool {
    rustix::process::Pid::from_raw(process)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(Errno::SRCH))
}

/// Makes the directory if it is missing: 0700.
///
/// # Errors
/// What the kernel answers; EPERM if it is no directory, another user's, or open to others.
pub fn own_directory(path: &Path) -> io::Result<()> {
    match fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let found = fs::lstat(path)?;
    let is_ours = FileType::from_raw_mode(found.st_mode) == FileType::Directory
        && found.st_uid == user()
        && found.st_mode & 0o077 == 0;
    if is_ours { Ok(()) } else { Err(Errno::PERM.into()) }
}

/// Whose file it is; a symbolic link is a file of its own.
///
/// # Errors
/// What the kernel answers.
pub fn owner(path: &Path) -> io::Result<u32> {
    Ok(fs::lstat(path)?.st_uid)
}

/// Removes a file, if it is there.
pub fn remove(path: &Path) {
    // (whoever else has removed it has done our work)
    let _ = fs::unlink(path);
}

/// A watch on a directory.
#[derive(Debug)]
pub struct Notices(OwnedFd);

/// What a [watch](Notices) has seen.
#[derive(Debug, Default)]
pub struct News {
    /// The names of files that have appeared.
    pub names: Vec<Vec<u8>>,
    /// The directory has gone, and with it the watch.
    pub gone: bool,
}

impl Notices {
    /// Begins to watch what appears in a directory.
    ///
    /// # Errors
    /// What the kernel answers: EMFILE or ENOSPC if the user has too many of them.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(
            &fd,
            directory,
            inotify::WatchFlags::CREATE
                | inotify::WatchFlags::DELETE_SELF
                | inotify::WatchFlags::MOVE_SELF
                | inotify::WatchFlags::ONLYDIR
                | inotify::WatchFlags::DONT_FOLLOW,
        )?;
        Ok(Self(fd))
    }

    /// What has happened since the last time.
    #[must_use]
    pub fn take(&self) -> News {
        let mut news = News::default();
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut room);
        while let Ok(event) = reader.next() {
            let kind = event.events();
            let left = inotify::ReadFlags::DELETE_SELF
                | inotify::ReadFlags::MOVE_SELF
                | inotify::ReadFlags::IGNORED
                | inotify::ReadFlags::UNMOUNT;
            news.gone |= kind.intersects(left);
            if kind.contains(inotify::ReadFlags::CREATE)
                && let Some(name) = event.file_name()
            {
                news.names.push(name.to_bytes().to_vec());
            }
        }
        news
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A bell: whoever waits for it hears that it was rung.
///
/// The program may close its number behind our back (`os.closerange`) and have something of its own there: nobody is to
/// write to that, or read from it. So the bell knows itself again.
#[derive(Debug)]
pub struct Bell {
    fd: OwnedFd,
    /// Device and number: [`identity`].
    identity: (u64, u64),
}

/// What a descriptor leads to, as far as the kernel tells: other than files, sockets and pipes.
fn identity(fd: BorrowedFd<'_>) -> Option<(u64, u64)> {
    let found = fs::fstat(fd).ok()?;
    Some((found.st_dev, found.st_ino))
}

impl Bell {
    /// One that nobody has rung.
    ///
    /// # Errors
    /// EMFILE
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let identity = identity(fd.as_fd()).ok_or(Errno::BADF)?;
        Ok(Self { fd, identity })
    }

    /// Is its number still its own? If not, so are those of all that was open beside it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        identity(self.fd.as_fd()) == Some(self.identity)
    }

    /// Rings it. `false`: nobody can hear it any more.
    #[must_use]
    pub fn ring(&self) -> bool {
        self.is_ours() && retry_on_intr(|| rustix::io::write(&self.fd, &1_u64.to_ne_bytes())).is_ok()
    }

    /// Has it been rung since the last time?
    #[must_use]
    pub fn take(&self) -> bool {
        retry_on_intr(|| rustix::io::read(&self.fd, &mut [0_u8; 8])).is_ok()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn unconnected() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

/// Is somebody listening there?
#[must_use]
pub fn is_served(path: &Path) -> bool {
    let connect = || -> io::Result<()> {
        let address = SocketAddrUnix::new(path)?;
        Ok(rustix::net::connect(&unconnected()?, &address)?)
    };
    // (EAGAIN: somebody, who is busy)
    match connect() {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// A socket that listens there, for its owner alone: 0600. The file must not exist.
///
/// # Errors
/// What the kernel answers: EADDRINUSE if there is a file of that name.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = unconnected()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // nobody else can reach it meanwhile: the directory is closed to them
    if let Err(error) = fs::chmod(path, Mode::RUSR | Mode::WUSR) {
        remove(path);
        return Err(error.into());
    }
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The next connection.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if there is none.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(retry_on_intr(|| rustix::net::accept_with(listener, flags))?)
}

/// The user at the other end, as the kernel has seen it connect.
///
/// # Errors
/// What the kernel answers.
pub fn peer(connection: &OwnedFd) -> io::Result<u32> {
    Ok(sockopt::socket_peercred(connection)?.uid.as_raw())
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
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    // (interrupted or out of memory: nothing is ready, and the caller looks at its clock)
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
        Err(_) => vec![false; all.len()],
    }
}

/// Where /proc shows the calling thread, if it does.
#[must_use]
pub fn this_thread() -> Option<PathBuf> {
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    Some(Path::new("/proc").join(link))
}

/// Waits until the kernel no longer counts a thread that has ended: a moment after others have seen its end.
pub fn until_gone(thread: &Path) {
    const LONGEST: u32 = 1000;
    for _ in 0..LONGEST {
        if !thread.exists() {
            return;
        }
        pause(50e-6);
    }
}

/// Does nothing for a while; not at all if that is over.
pub fn pause(seconds: f64) {
    if seconds > 0.0 {
        let _ = wait(&[], Some(Duration::from_secs_f64(seconds)));
    }
}

/// The numbers of descriptors that a child of a `fork` must let go of: it has no thread that uses them, and holding
/// them keeps connections open that the parent has closed.
#[derive(Debug)]
pub struct Inherited<const N: usize>([std::sync::atomic::AtomicI32; N]);

impl<const N: usize> Default for Inherited<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Inherited<N> {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { std::sync::atomic::AtomicI32::new(-1) }; N])
    }

    /// Notes what is open just now.
    pub fn note<'a>(&self, open: impl Iterator<Item = BorrowedFd<'a>>) {
        let mut numbers = open.map(|fd| fd.as_raw_fd());
        for place in &self.0 {
            place.store(numbers.next().unwrap_or(-1), std::sync::atomic::Ordering::Release);
        }
    }

    /// In the child: closes them. Safe to call in a signal handler, as after a `fork` it must be.
    pub fn close(&self) {
        for place in &self.0 {
            super::fd::close(place.swap(-1, std::sync::atomic::Ordering::AcqRel));
        }
    }
}
