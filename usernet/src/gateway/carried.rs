//! Connections that whoever drives the gateway has accepted, and gives it to be carried.

use super::Gateway;
use crate::flow::Flow;
use crate::opener::Protocol;
use std::net::{SocketAddrV4, TcpStream};

impl Gateway {
    /// Whether there is room for one more connection.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.connections() < self.config.max_connections
    }

    /// Carries a connection, whose socket does not block, as one to a port of the guest; false if it was closed instead,
    /// for want of room or because the port is 0.
    pub fn carry(&mut self, stream: TcpStream, guest_port: u16) -> bool {
        self.has_room() && guest_port != 0 && self.open(stream, guest_port)
    }

    /// Whether what the guest sends from one of its ports to `remote` belongs to a connection or a peer of this gateway.
    #[must_use]
    pub fn knows(&self, protocol: Protocol, guest_port: u16, remote: SocketAddrV4) -> bool {
        let flow = Flow { remote, guest_port };
        match protocol {
            Protocol::Tcp => self.table.slot_of(&flow).is_some(),
            Protocol::Udp => self.published.peers.knows(&flow),
        }
    }
}
