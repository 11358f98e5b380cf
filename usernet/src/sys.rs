//! The few system calls the standard library does not offer, each wrapped once.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Seconds a client may be silent before the host probes it.
const KEEPALIVE_IDLE_S: libc::c_int = 75;
/// Seconds between probes.
const KEEPALIVE_INTERVAL_S: libc::c_int = 15;
/// Unanswered probes after which the client is gone.
const KEEPALIVE_PROBES: libc::c_int = 4;

/// Sets an option of a socket.
pub fn set_option<T>(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the size are those of `value`, which outlives the call.
    let done = unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Prepares a listening socket; what it accepts inherits no delay and dead-client probes from it.
pub fn prepare_listener(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let fd = listener.as_raw_fd();
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &1)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, &KEEPALIVE_IDLE_S)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, &KEEPALIVE_INTERVAL_S)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, &KEEPALIVE_PROBES)
}

/// Accepts a connection as a non-blocking socket, in one call.
pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let null = std::ptr::null_mut();
    // SAFETY: null address pointers mean that the caller does not want the peer's address.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), null, null.cast(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Lets the peer of a connection see a reset when it is closed.
pub fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // When this fails the peer sees an end instead of a reset; there is nothing better to do.
    let _ = set_option(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

/// A new epoll instance.
pub fn create_epoll() -> io::Result<OwnedFd> {
    let fd = epoll::create(true)?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
