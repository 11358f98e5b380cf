//! Answers datagrams, and writes to those who never wrote when it is told to.

use crate::{Checked, Failed};
use ilwaco::net::{IpEndpoint, UdpSocket};
use ilwaco::{println, stop};

/// Most bytes of a datagram.
const SIZE_MAX: usize = 16 << 10;

/// How many ports beside the one that wrote are written to.
const STRANGERS: u16 = 64;

/// Sends datagrams that come to a UDP port back, until asked to stop. One that begins with `stray` goes
/// to the ports beside that of its sender too, and from another port of the guest.
pub fn echo(port: u16) -> Checked {
    ilwaco::block_on(async move {
        let socket = UdpSocket::bind(port).map_err(|_| Failed("the port cannot be bound"))?;
        let other = UdpSocket::open().map_err(|_| Failed("no other port can be bound"))?;
        ilwaco::spawn(async move {
            let mut buffer = alloc::vec![0; SIZE_MAX];
            loop {
                let (length, from) = socket.receive_from(&mut buffer).await;
                let datagram = &buffer[..length];
                if datagram.starts_with(b"stray") {
                    stray(datagram, from, &socket, &other).await;
                }
                // One that cannot be sent is lost, as datagrams may be.
                let _ = socket.send_to(datagram, from).await;
            }
        });
        println!("ready");
        stop::requested().await;
        Ok(())
    })
}

async fn stray(datagram: &[u8], from: IpEndpoint, socket: &UdpSocket, other: &UdpSocket) {
    let _ = other.send_to(datagram, from).await;
    for distance in 1..=STRANGERS {
        for port in [from.port.wrapping_add(distance), from.port.wrapping_sub(distance)] {
            let _ = socket.send_to(datagram, IpEndpoint::new(from.addr, port)).await;
        }
    }
}
