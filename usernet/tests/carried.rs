//! Connections that were accepted elsewhere, and from which of the gateway's ports they come.

mod common;

use common::{Rig, config, echo};
use denali_usernet::{Config, Protocol};
use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};

/// A connection: the client's end, and the end that was accepted.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    (client, accepted)
}

#[test]
fn connections_are_carried_up_to_their_number_and_from_ports_that_are_allowed() {
    let config = Config { first_port: 61_000, max_connections: 2, ..config() };
    let mut rig = Rig::new(config.clone());
    rig.guest.listen(3);
    let guest_port = 80;
    assert!(!rig.gateway.carry(pair().1, 0), "port 0 is nobody's");
    let (mut client, accepted) = pair();
    assert!(rig.gateway.carry(accepted, guest_port));
    assert!(rig.gateway.has_room());
    let (_second, accepted) = pair();
    assert!(rig.gateway.carry(accepted, guest_port));
    assert!(!rig.gateway.has_room() && !rig.gateway.carry(pair().1, guest_port));
    client.write_all(b"hello").unwrap();
    let mut answer: Vec<u8> = Vec::new();
    rig.until("an answer", |rig| {
        echo(&mut rig.guest);
        let mut some = [0; 100];
        if let Ok(length) = client.read(&mut some) {
            answer.extend(&some[..length]);
        }
        answer == b"hello"
    });
    let handle = rig.guest.connected().unwrap();
    let remote = rig.guest.socket(handle).remote_endpoint().unwrap();
    let SocketAddr::V4(remote) =
        SocketAddr::from((std::net::IpAddr::from(remote.addr), remote.port))
    else {
        panic!("IPv4")
    };
    assert!(remote.port() >= 61_000 && *remote.ip() == config.gateway_ip);
    assert!(rig.gateway.knows(Protocol::Tcp, guest_port, remote));
    assert!(!rig.gateway.knows(Protocol::Udp, guest_port, remote));
    assert!(!rig.gateway.knows(Protocol::Tcp, guest_port + 1, remote));
    let other = SocketAddrV4::new(config.gateway_ip, 60_999);
    assert!(!rig.gateway.knows(Protocol::Tcp, guest_port, other));
}
