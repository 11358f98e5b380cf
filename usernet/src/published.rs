//! Published ports for datagrams: sockets of the host to which anybody may write.

use crate::Config;
use crate::counters::Counters;
use crate::datagram::{self, Received};
use crate::flow::Flow;
use crate::frames::FrameQueue;
use crate::packets::DATAGRAM_HEADERS;
use crate::peers::Peers;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};

/// Datagrams taken from one socket before the next has its turn.
const DATAGRAMS_MAX: usize = 64;

/// The ports and who writes to them.
#[derive(Debug, Default)]
pub struct Published {
    ports: Vec<Port>,
    pub peers: Peers,
    buffer: Vec<u8>,
    /// Nobody watches the sockets: there is no room for what they have.
    pub paused: bool,
}

#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    guest_port: u16,
    /// Datagrams that the host says it has dropped.
    overrun: u32,
}

impl Published {
    /// Adds a port; its number.
    pub fn add(&mut self, socket: UdpSocket, guest_port: u16) -> io::Result<u32> {
        datagram::prepare(&socket)?;
        self.ports.push(Port { socket, guest_port, overrun: 0 });
        Ok(self.ports.len() as u32 - 1)
    }

    /// The sockets, by their numbers.
    pub fn sockets(&self) -> impl Iterator<Item = (u32, RawFd)> {
        (0..).zip(self.ports.iter().map(|port| port.socket.as_raw_fd()))
    }

    /// Carries what a port has to the guest, as far as there is room.
    pub fn receive(
        &mut self,
        port: u32,
        now_ns: u64,
        (config, queue, counters): (&Config, &mut FrameQueue, &mut Counters),
    ) {
        let Some(Port { socket, guest_port, overrun }) = self.ports.get_mut(port as usize) else {
            return;
        };
        self.buffer.resize(usize::from(config.mtu) - DATAGRAM_HEADERS, 0);
        for _ in 0..DATAGRAMS_MAX {
            if !queue.has_room() {
                return;
            }
            // What else goes wrong than that there is nothing, has cost a datagram at most.
            let Ok(received) = datagram::receive(socket, &mut self.buffer) else { return };
            let Received { length, cut, ends, .. } = received;
            if let Some(dropped) = received.overrun {
                counters.datagrams_overrun += u64::from(dropped.wrapping_sub(*overrun));
                *overrun = dropped;
            }
            if cut {
                // It would have to be sent in pieces.
                counters.datagrams_dropped += 1;
                continue;
            }
            let known = self.peers.heard_of(port, ends, now_ns);
            let flow = known.or_else(|| {
                let gateway = (config.gateway_ip, config.first_port);
                let added = self.peers.add((port, *guest_port), ends, gateway, now_ns);
                let count = if added.is_some() {
                    &mut counters.peers
                } else {
                    &mut counters.peers_turned_away
                };
                *count += 1;
                added
            });
            if let Some(flow) = flow {
                queue.push_datagram(&flow, config, &self.buffer[..length]);
                counters.bytes_to_guest += length as u64;
            } else {
                counters.datagrams_dropped += 1;
            }
        }
    }

    /// Sends a datagram of the guest, if it answers somebody who wrote to a published port; false if it
    /// is something else.
    pub fn answer(
        &mut self,
        flow: &Flow,
        payload: &[u8],
        now_ns: u64,
        counters: &mut Counters,
    ) -> bool {
        let Some(peer) = self.peers.answered(flow, now_ns) else { return false };
        let Some(port) = self.ports.get(peer.port as usize) else { return false };
        match datagram::send(&port.socket, payload, &peer.ends) {
            Ok(length) => counters.bytes_to_host += length as u64,
            Err(_) => counters.datagrams_dropped += 1,
        }
        true
    }

    /// Gives memory back.
    pub fn trim(&mut self) {
        self.buffer = Vec::new();
        self.peers.trim();
    }
}
