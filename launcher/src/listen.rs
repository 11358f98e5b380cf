//! Sockets of published ports.

use crate::devices::Place;
use crate::error::LaunchError;
use denali_config::{Document, Protocol, Publish};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen,
    setsockopt, socket, sockopt,
};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Connections that may wait to be accepted; the host may cut it (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A non-blocking socket at the host's address of `publish`, which listens if it is TCP's, and its true
/// address: where the port is 0, the host chooses one.
pub(crate) fn open(
    publish: &Publish,
    place: &Place<'_>,
) -> Result<(OwnedFd, SocketAddr), LaunchError> {
    attempt(publish.host, publish.protocol)
        .map_err(|error| place.unavailable(explain(publish, error)))
}

/// The same for a port that field `field` of `document` publishes.
///
/// # Errors
/// When the port is taken, or this user may not have it.
pub fn open_port(
    publish: &Publish,
    document: &Document,
    field: &str,
) -> Result<(OwnedFd, SocketAddr), LaunchError> {
    open(publish, &Place::new(document, field.into()))
}

fn attempt(address: SocketAddr, protocol: Protocol) -> Result<(OwnedFd, SocketAddr), Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let opened = socket(family, kind, flags, None)?;
    if protocol == Protocol::Tcp {
        // For UDP, this would let others take the port as well.
        setsockopt(&opened, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        // [::] is then every IPv6 address and no IPv4 one, which can be published beside it.
        setsockopt(&opened, sockopt::Ipv6V6Only, &true)?;
    }
    bind(opened.as_raw_fd(), &SockaddrStorage::from(address))?;
    if protocol == Protocol::Tcp {
        listen(&opened, Backlog::new(BACKLOG)?)?;
    }
    let port = match address.port() {
        0 => local_port(&opened)?,
        port => port,
    };
    Ok((opened, SocketAddr::new(address.ip(), port)))
}

fn local_port(socket: &OwnedFd) -> Result<u16, Errno> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let v4 = address.as_sockaddr_in().map(|v4| v4.port());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.port())).ok_or(Errno::EAFNOSUPPORT)
}

fn explain(publish: &Publish, error: Errno) -> String {
    let (address, port) = (publish.host.ip(), publish.host.port());
    let elsewhere = |port| Publish { host: SocketAddr::new(address, port), ..*publish };
    match error {
        Errno::EADDRINUSE => format!(
            "port {port} of {address} is in use; stop what listens there or choose another port, \
             e.g. \"{}\"",
            elsewhere(port.checked_add(1).unwrap_or(8080))
        ),
        Errno::EACCES | Errno::EPERM => format!(
            "this user may not listen on port {port}; choose one above 1023, e.g. \"{}\"",
            elsewhere(8080)
        ),
        Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT => {
            format!("this host has no address {address}; choose one it has, e.g. 127.0.0.1")
        }
        other => format!("cannot listen on {}: {}", publish.host, other.desc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use denali_config::Document;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn document() -> Document {
        Document::parse(b"{}", "vm.json", "".into()).unwrap()
    }

    #[test]
    fn a_free_port_is_taken_and_accepts() {
        let publish: Publish = "0:80".parse().unwrap();
        let (listener, address) = open(&publish, &Place::new(&document(), "f".into())).unwrap();
        assert_ne!(address.port(), 0);
        let listener = TcpListener::from(listener);
        let nothing_yet = listener.accept().unwrap_err();
        assert_eq!(nothing_yet.kind(), std::io::ErrorKind::WouldBlock);
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn a_port_for_datagrams_is_nobody_elses() {
        let publish: Publish = "0:80/udp".parse().unwrap();
        let document = document();
        let place = Place::new(&document, "f".into());
        let (socket, address) = open(&publish, &place).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"datagram", address).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(UdpSocket::from(socket.try_clone().unwrap()).recv(&mut buffer).unwrap(), 8);
        let again = Publish { host: address, ..publish };
        let error = open(&again, &place).unwrap_err().to_string();
        let next = address.port() + 1;
        assert!(error.contains("is in use; stop what listens there"), "{error}");
        assert!(error.ends_with(&format!("\"127.0.0.1:{next}:80/udp\"")), "{error}");
    }

    #[test]
    fn a_port_in_use_names_the_field() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let publish: Publish = format!("{port}:80").parse().unwrap();
        let error =
            open(&publish, &Place::new(&document(), "net[0].backend.user.publish[0]".into()))
                .unwrap_err();
        let expected =
            format!("vm.json: net[0].backend.user.publish[0]: port {port} of 127.0.0.1 is in use");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(error.status(), denali_abi::status::HOST_LACKS);
    }

    #[test]
    fn an_address_of_another_host_is_refused() {
        let publish: Publish = "192.0.2.1:0:80".parse().unwrap();
        let error = open(&publish, &Place::new(&document(), "f".into())).unwrap_err().to_string();
        assert!(error.contains("this host has no address 192.0.2.1"), "{error}");
    }
}
