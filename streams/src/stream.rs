//! One descriptor that bytes are read from or written to, without ever waiting.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Bytes that a descriptor takes or gives at a time where it would wait for more: what a pipe takes whole.
pub(crate) const CHUNK: usize = 4096;

/// Turns output into the bytes that are written for it: for 512 bytes at most 4096.
pub type Encoder = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// How a descriptor is used without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Its calls do not wait.
    Plain,
    /// Its calls wait: they are made only when it is ready, for so many bytes as never make it wait then.
    Careful,
    /// It is a socket, whose calls can be told not to wait.
    Socket,
}

/// A descriptor that bytes are read from or written to.
#[derive(Debug)]
pub(crate) struct Stream {
    descriptor: OwnedFd,
    manner: Manner,
    /// It is a standard stream: a reader that is gone is told of by a signal.
    signals: bool,
}

impl Stream {
    /// A descriptor that others may share, so that its flags stay as they are.
    pub(crate) fn of(descriptor: OwnedFd) -> Self {
        // SAFETY: the descriptor is open; the call touches no memory.
        let flags = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFL) };
        let manner = if kind(descriptor.as_raw_fd()).is_ok_and(|kind| kind == libc::S_IFSOCK) {
            Manner::Socket
        } else if flags & libc::O_NONBLOCK == 0 {
            Manner::Careful
        } else {
            Manner::Plain
        };
        Self { descriptor, manner, signals: false }
    }

    /// Standard stream `number`, 0 or 1. A terminal or pipe is opened anew where it can be, so that calls
    /// do not wait and whoever else has it does not notice.
    pub(crate) fn standard(number: RawFd) -> io::Result<Self> {
        let kind = kind(number)?;
        if kind == libc::S_IFCHR || kind == libc::S_IFIFO {
            let path = if number == 0 { c"/proc/self/fd/0" } else { c"/proc/self/fd/1" };
            let access = if number == 0 { libc::O_RDONLY } else { libc::O_WRONLY };
            let flags = access | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
            // SAFETY: the path ends with a zero.
            let opened = unsafe { libc::open(path.as_ptr(), flags) };
            if opened >= 0 {
                // SAFETY: the descriptor was made by the call above and belongs to nobody else.
                let stream = Self::of(unsafe { OwnedFd::from_raw_fd(opened) });
                return Ok(Self { signals: true, ..stream });
            }
        }
        // SAFETY: the descriptor is open, as `fstat` has shown; it is borrowed for the call.
        let standard = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        Ok(Self { signals: true, ..Self::of(standard.try_clone_to_owned()?) })
    }

    /// Whether it is ready for `events`, or broken: what `poll` says.
    fn ready(&self, events: libc::c_short) -> libc::c_short {
        poll(&self.descriptor, events)
    }

    /// Reads what there is; 0 = the end, `WouldBlock` = nothing now.
    pub(crate) fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut length = room.len();
        if self.manner == Manner::Careful {
            if self.ready(libc::POLLIN) == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            length = length.min(CHUNK);
        }
        let (fd, room) = (self.as_raw_fd(), room.as_mut_ptr().cast());
        let read = if self.manner == Manner::Socket {
            // SAFETY: the room is writable for its length.
            unsafe { libc::recv(fd, room, length, libc::MSG_DONTWAIT) }
        } else {
            // SAFETY: as above.
            unsafe { libc::read(fd, room, length) }
        };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// Writes as much as there is room for; `WouldBlock` = nothing now, `BrokenPipe` = nobody reads.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let ready = self.ready(libc::POLLOUT);
        if ready & libc::POLLERR != 0 && !self.signals {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if ready & (libc::POLLOUT | libc::POLLERR) == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length =
            if self.manner == Manner::Careful { bytes.len().min(CHUNK) } else { bytes.len() };
        let (fd, bytes) = (self.as_raw_fd(), bytes.as_ptr().cast());
        let written = if self.manner == Manner::Socket {
            let signal = if self.signals { 0 } else { libc::MSG_NOSIGNAL };
            // SAFETY: the bytes are readable for their length.
            unsafe { libc::send(fd, bytes, length, libc::MSG_DONTWAIT | signal) }
        } else {
            // SAFETY: as above.
            unsafe { libc::write(fd, bytes, length) }
        };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }
}

/// What kind of file a descriptor is.
fn kind(descriptor: RawFd) -> io::Result<libc::mode_t> {
    // SAFETY: all bytes zero is a valid value, which the call fills in.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // By `fstat` itself, which takes no path: the C library's calls `newfstatat`, which sandboxes do not have.
    // SAFETY: the structure is valid during the call, and the kernel's own.
    if unsafe { libc::syscall(libc::SYS_fstat, descriptor, &raw mut status) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status.st_mode & libc::S_IFMT)
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// What `poll` says of a descriptor at once.
pub(crate) fn poll(descriptor: &impl AsFd, events: libc::c_short) -> libc::c_short {
    let fd = descriptor.as_fd().as_raw_fd();
    let mut polled = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: the structure is valid during the call.
    unsafe { libc::poll(&raw mut polled, 1, 0) };
    polled.revents
}
