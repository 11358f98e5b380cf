//! What a supervisor passes, checked before it is used; and what it asks for that takes more than a line.

use super::Server;
use super::published::Socket;
use crate::protocol::{Counters, PortNumber};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, setsockopt,
    sockopt,
};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

/// Seconds after which a silent client of a published port is probed.
const KEEPALIVE_IDLE_S: u32 = 75;
/// Seconds between probes.
const KEEPALIVE_INTERVAL_S: u32 = 15;
/// Unanswered probes after which the client is gone.
const KEEPALIVE_PROBES: u32 = 4;

/// Checks and prepares the listening control socket.
pub fn prepare(control: &OwnedFd) -> std::io::Result<()> {
    let wrong = |what: &str| Err(std::io::Error::other(format!("the control socket {what}")));
    if family(control) != Some(AddressFamily::Unix) {
        return wrong("is no Unix socket");
    }
    if getsockopt(control, sockopt::SockType)? != SockType::SeqPacket {
        return wrong("is not of type SOCK_SEQPACKET");
    }
    if !getsockopt(control, sockopt::AcceptConn)? {
        return wrong("does not listen");
    }
    Ok(do_not_block(control)?)
}

fn family(socket: &OwnedFd) -> Option<AddressFamily> {
    getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok()?.family()
}

fn do_not_block(socket: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(|_| ())
}

/// Connects a guest.
pub fn connect(
    server: &mut Server,
    port: PortNumber,
    passed: Option<OwnedFd>,
) -> Result<(), String> {
    let socket = passed.ok_or("none came along")?;
    if server.fabric.ports.get(port).is_none() {
        return Err("there is no such port".to_owned());
    }
    let kind = getsockopt(&socket, sockopt::SockType).map_err(|error| error.desc().to_owned())?;
    if kind != SockType::SeqPacket || family(&socket) != Some(AddressFamily::Unix) {
        return Err("it is no Unix socket of type SOCK_SEQPACKET".to_owned());
    }
    server.connect(port, socket).map_err(|error| error.to_string())
}

/// Publishes a port of a guest.
pub fn publish(
    server: &mut Server,
    port: PortNumber,
    guest_port: u16,
    udp: bool,
    passed: Option<OwnedFd>,
) -> Result<(), String> {
    let socket = passed.ok_or("no socket came along")?;
    if server.fabric.ports.get(port).is_none() {
        return Err("there is no such port".to_owned());
    }
    if guest_port == 0 {
        return Err("guest_port is 0".to_owned());
    }
    let said = |error: Errno| error.desc().to_owned();
    let family = family(&socket);
    if !matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6)) {
        return Err("it is no socket of the Internet's".to_owned());
    }
    let kind = getsockopt(&socket, sockopt::SockType).map_err(said)?;
    let socket = if udp {
        if kind != SockType::Datagram {
            return Err("it is no UDP socket".to_owned());
        }
        do_not_block(&socket).map_err(said)?;
        Socket::Udp(UdpSocket::from(socket))
    } else {
        if kind != SockType::Stream || !getsockopt(&socket, sockopt::AcceptConn).map_err(said)? {
            return Err("it is no listening TCP socket".to_owned());
        }
        do_not_block(&socket).map_err(said)?;
        prepare_tcp(&socket).map_err(said)?;
        Socket::Tcp(TcpListener::from(socket))
    };
    server.publish(port, guest_port, socket).map_err(|error| error.to_string())
}

/// Bytes travel at once, and clients that are gone are noticed: connections inherit it.
fn prepare_tcp(socket: &OwnedFd) -> Result<(), Errno> {
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_S)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_S)?;
    setsockopt(socket, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)
}

impl Server {
    /// Forgets a port, with its guest, what waits for it, and what is published of it.
    pub(super) fn remove(&mut self, port: PortNumber) {
        self.disconnect(port);
        self.unpublish_all(port);
        let Some(mut entry) = self.fabric.ports.remove(port) else { return };
        while self.fabric.waiting.take(&mut entry.line).is_some() {}
        self.wanted.retain(|&wanted| wanted != port);
        self.gone.retain(|&gone| gone != port);
        self.shared.forget(port);
    }

    /// What was counted, and what there is.
    pub(super) fn counters(&self) -> Counters {
        let (frames, bytes) = self.fabric.waiting.amount();
        Counters {
            ports: self.fabric.ports.len() as u64,
            connected: self.guests.len() as u64,
            connections: self.published.connections() as u64,
            waiting: frames as u64,
            waiting_bytes: bytes as u64,
            ..self.fabric.counters
        }
    }
}
