//! Sockets of the broker: how they are made, watched and passed on.

use crate::message::Failure;
use crate::rules::Protocol;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrStorage, UnixAddr,
    connect, getsockopt, sendmsg, setsockopt, socket, sockopt,
};
use std::io::{self, IoSlice};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Seconds after which a silent peer of a guest is probed.
const KEEPALIVE_IDLE_S: u32 = 75;
/// Seconds between probes.
const KEEPALIVE_INTERVAL_S: u32 = 15;
/// Unanswered probes after which the peer is gone.
const KEEPALIVE_PROBES: u32 = 4;

const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);

/// A socket, and whether it is connected yet.
pub struct Started {
    pub socket: OwnedFd,
    pub connected: bool,
}

/// Starts a connection to `to`.
pub fn start_connecting(protocol: Protocol, to: SocketAddrV4) -> Result<Started, Failure> {
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let made = socket(AddressFamily::Inet, kind, FLAGS, None).map_err(failure)?;
    if protocol == Protocol::Tcp {
        prepare_tcp(&made).map_err(failure)?;
    }
    match connect(made.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => Ok(Started { socket: made, connected: true }),
        Err(Errno::EINPROGRESS) => Ok(Started { socket: made, connected: false }),
        Err(error) => Err(failure(error)),
    }
}

/// Bytes travel at once, and peers that are gone are noticed.
fn prepare_tcp(made: &OwnedFd) -> Result<(), Errno> {
    setsockopt(made, sockopt::TcpNoDelay, &true)?;
    setsockopt(made, sockopt::KeepAlive, &true)?;
    setsockopt(made, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_S)?;
    setsockopt(made, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_S)?;
    setsockopt(made, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)
}

/// What became of a connection that was started and is not waited for any more.
pub fn outcome(started: &OwnedFd) -> Result<(), Failure> {
    match getsockopt(started, sockopt::SocketError).map_err(failure)? {
        0 => Ok(()),
        error => Err(failure(Errno::from_raw(error))),
    }
}

/// A connection to the Unix socket at `path`.
pub fn connect_unix(path: &Path) -> Result<OwnedFd, Failure> {
    let address = UnixAddr::new(path).map_err(failure)?;
    let made = socket(AddressFamily::Unix, SockType::Stream, FLAGS, None).map_err(failure)?;
    match connect(made.as_raw_fd(), &address) {
        Ok(()) => Ok(made),
        // The listener has too many that wait already.
        Err(Errno::EAGAIN) => Err(Failure::Busy),
        Err(error) => Err(failure(error)),
    }
}

/// A socket that exchanges datagrams with a name server.
pub fn connect_resolver(server: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let made = socket(family, SockType::Datagram, FLAGS, None)?;
    connect(made.as_raw_fd(), &SockaddrStorage::from(server))?;
    Ok(made)
}

/// Sends a datagram and, with it, a descriptor.
pub fn send(channel: &OwnedFd, bytes: &[u8], passed: Option<&OwnedFd>) -> Result<(), Errno> {
    let descriptors: [RawFd; 1] = [passed.map_or(-1, AsRawFd::as_raw_fd)];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let control = if passed.is_some() { &rights[..] } else { &[] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(channel.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives a datagram, as much of it as there is room for.
pub fn receive(from: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match nix::sys::socket::recv(from.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// What a system call's error means to who asked for a connection.
fn failure(error: Errno) -> Failure {
    match error {
        Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::ENOENT => Failure::Refused,
        Errno::ETIMEDOUT => Failure::TimedOut,
        Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL => {
            Failure::Busy
        }
        _ => Failure::Unreachable,
    }
}

/// An epoll instance.
pub struct Poller(OwnedFd);

impl Poller {
    pub fn new() -> io::Result<Self> {
        let made = epoll::create(true)?;
        // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(made) }))
    }

    /// Watches a socket; its events carry `token`.
    pub fn add(&self, socket: &OwnedFd, events: epoll::Events, token: u64) -> io::Result<()> {
        self.control(epoll::ControlOptions::EPOLL_CTL_ADD, socket, events, token)
    }

    /// Watches for other events.
    pub fn change(&self, socket: &OwnedFd, events: epoll::Events, token: u64) -> io::Result<()> {
        self.control(epoll::ControlOptions::EPOLL_CTL_MOD, socket, events, token)
    }

    /// Stops watching. What is passed to another process would be watched on otherwise, even when it
    /// is closed here.
    pub fn remove(&self, socket: &OwnedFd) {
        // It can fail only if the socket is not watched, which is what is wanted.
        let none = epoll::Events::empty();
        let _ = self.control(epoll::ControlOptions::EPOLL_CTL_DEL, socket, none, 0);
    }

    fn control(
        &self,
        option: epoll::ControlOptions,
        socket: &OwnedFd,
        events: epoll::Events,
        token: u64,
    ) -> io::Result<()> {
        epoll::ctl(self.0.as_raw_fd(), option, socket.as_raw_fd(), epoll::Event::new(events, token))
    }

    /// Waits until something happens or `timeout_ns` has passed.
    pub fn wait(&self, timeout_ns: Option<u64>, events: &mut [epoll::Event]) -> io::Result<usize> {
        let limit =
            timeout_ns.map_or(-1, |ns| i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX));
        match epoll::wait(self.0.as_raw_fd(), limit, events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            result => result,
        }
    }
}
