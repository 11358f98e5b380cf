//! Gateways of guests with published ports: one while there are connections, as if it were the guest's gateway.

use super::sys::BATCH;
use super::{GATEWAY, Server, Timer};
use crate::frame::ETHERNET;
use crate::header::{HEADER, Header};
use crate::protocol::{Port, PortNumber};
use denali_usernet::{Config, Gateway};
use epoll::Events;
use std::io;

/// How long a gateway without connections is kept, in ns.
const KEEP_NS: u64 = 2_000_000_000;

/// Times that a gateway is polled in one turn.
const ROUNDS_MAX: usize = 16;

impl Server {
    /// The gateway of a port, which is made if there is none.
    pub(super) fn gateway(&mut self, port: PortNumber) -> io::Result<&mut Gateway> {
        let gone = || io::Error::other("there is no such port");
        let gate = self.published.gates.get_mut(&port).ok_or_else(gone)?;
        if gate.gateway.is_none() {
            let entry = self.fabric.ports.get_mut(port).ok_or_else(gone)?;
            let options = &self.fabric.options;
            let (guest, own) = ((entry.mac, entry.address), (options.mac, options.gateway));
            let mut config = Config::new(guest, own, options.prefix_len);
            config.mtu = options.mtu;
            config.first_port = self.published.first_port.unwrap_or(config.first_port);
            let gateway = Gateway::new(config, Vec::new())?;
            self.poller.add(&gateway, Events::EPOLLIN, GATEWAY | u64::from(port))?;
            entry.published = true;
            (gate.due_at, gate.idle_since, gate.datagrams) = (None, None, false);
            gate.gateway = Some(Box::new(gateway));
        }
        gate.gateway.as_deref_mut().ok_or_else(gone)
    }

    /// Does what there is to do in the gateway of a port, if there is one.
    pub(super) fn run_gateway(&mut self, port: PortNumber) {
        let Some(gate) = self.published.gates.get_mut(&port) else { return };
        let Some(mut gateway) = gate.gateway.take() else { return };
        gateway.begin(self.now_ns);
        for _ in 0..ROUNDS_MAX {
            gateway.poll();
            self.deliver_from(port, &mut gateway);
            if !gateway.has_work() || gateway.next_frame().is_some() {
                break;
            }
        }
        self.plan_gateway(port, gateway);
    }

    /// Delivers the frames of a gateway, as far as there is room for them.
    fn deliver_from(&mut self, port: PortNumber, gateway: &mut Gateway) {
        let mut outgoing = std::mem::take(&mut self.published.outgoing);
        while let Some(entry) = self.fabric.ports.get(port) {
            if !self.fabric.waiting.has_room(entry.line.as_deref()) {
                break;
            }
            outgoing.clear();
            let mut ends = [0; BATCH];
            let mut count = 0;
            while count < BATCH
                && let Some(frame) = gateway.next_frame()
            {
                append(&mut outgoing, frame);
                gateway.consume();
                ends[count] = outgoing.len();
                count += 1;
            }
            if count == 0 {
                break;
            }
            let mut messages: [&[u8]; BATCH] = [&[]; BATCH];
            let mut start = 0;
            for (message, &end) in messages.iter_mut().zip(&ends[..count]) {
                *message = &outgoing[start..end];
                start = end;
            }
            self.deliver(port, &messages[..count], true);
        }
        self.published.outgoing = outgoing;
    }

    /// Puts a gateway back, and sees to it that it is polled in time; one that has long had nothing to do is dropped.
    fn plan_gateway(&mut self, port: PortNumber, gateway: Box<Gateway>) {
        let Some(gate) = self.published.gates.get_mut(&port) else { return };
        let connections = gateway.counters().open as usize;
        self.published.connections =
            (self.published.connections + connections).saturating_sub(gate.connections);
        gate.connections = connections;
        let mut deadline = gateway.deadline();
        let idle = gateway.busy().is_none();
        gate.gateway = Some(gateway);
        if idle {
            let ends_at = *gate.idle_since.get_or_insert(self.now_ns) + KEEP_NS;
            if ends_at <= self.now_ns {
                return self.drop_gateway(port);
            }
            deadline = deadline.into_iter().chain([ends_at]).min();
        } else {
            gate.idle_since = None;
        }
        if let Some(at) = deadline
            && gate.due_at.is_none_or(|due| at < due)
        {
            gate.due_at = Some(at);
            self.timers.set(at.max(self.now_ns + 1), Timer::Gateway(port));
        }
    }

    /// The time has come to poll a gateway.
    pub(super) fn gateway_is_due(&mut self, port: PortNumber) {
        if let Some(gate) = self.published.gates.get_mut(&port)
            && gate.due_at.is_some_and(|at| at <= self.now_ns)
        {
            gate.due_at = None;
            self.run_gateway(port);
        }
    }

    /// Drops the gateway of a port whose guest has other addresses from now on.
    pub(super) fn drop_gateway_unless(&mut self, same: &Port) {
        let entry = self.fabric.ports.get(same.number);
        if entry.is_some_and(|entry| (entry.address, entry.mac) != (same.address, same.mac)) {
            self.drop_gateway(same.number);
        }
    }

    /// Drops the gateway of a port with its connections, and watches the sockets again that it has watched.
    pub(super) fn drop_gateway(&mut self, port: PortNumber) {
        let Some(gate) = self.published.gates.get_mut(&port) else { return };
        if gate.gateway.take().is_none() {
            return;
        }
        self.published.connections = self.published.connections.saturating_sub(gate.connections);
        (gate.connections, gate.due_at) = (0, None);
        let listeners = gate.listeners.clone();
        if let Some(entry) = self.fabric.ports.get_mut(port) {
            entry.published = false;
        }
        for index in listeners {
            self.accept_again(index);
        }
    }
}

/// Appends a message with a gateway's frame, whose TCP checksum, if it has one, is left to the guest.
fn append(outgoing: &mut Vec<u8>, frame: &[u8]) {
    let start = outgoing.len();
    outgoing.extend([0; HEADER]);
    outgoing.extend(frame);
    let (header, frame) = outgoing[start..].split_at_mut(HEADER);
    let is_tcp = frame.len() >= ETHERNET + 20
        && frame[12..ETHERNET] == [0x08, 0x00]
        && frame[ETHERNET + 9] == crate::frame::TCP;
    if is_tcp {
        let length = usize::from(frame[ETHERNET] & 0xf) * 4;
        let left = Header::leave_tcp(&mut frame[ETHERNET..], length);
        header.copy_from_slice(&left.for_guest());
    }
}
