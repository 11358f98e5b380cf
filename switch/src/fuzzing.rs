//! For fuzzing: a small network without sockets, which checks itself.

use crate::fabric::{Fabric, Verdict};
use crate::frame::ETHERNET;
use crate::header::HEADER;
use crate::options::{Options, Policy};
use crate::protocol::{Port, PortNumber};
use crate::waiting::Held;
use std::net::Ipv4Addr;

/// The gateway's addresses.
pub const GATEWAY: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 1], [10, 0, 0, 1]);

/// Guests there are.
pub const GUESTS: u8 = 4;

/// Addresses of a guest.
#[must_use]
pub fn guest(number: u8) -> ([u8; 6], [u8; 4]) {
    ([2, 0, 1, 0, 0, number], [10, 0, 0, 10 + number])
}

/// A switch with four guests: two in a group, two in another. Of the second one port alone wakes.
#[derive(Debug)]
pub struct Network(Fabric);

impl Network {
    /// A network of a policy: isolated, group or open.
    ///
    /// # Panics
    /// When its ports cannot be.
    #[must_use]
    pub fn new(policy: u8) -> Self {
        let policy = [Policy::Isolated, Policy::Group, Policy::Open][usize::from(policy % 3)];
        let options = Options::new(GATEWAY.1.into(), 24, GATEWAY.0);
        let mut network = Self(Fabric::new(Options { policy, ..options }));
        for number in 0..GUESTS {
            let (mac, address) = guest(number);
            let (address, group) = (Ipv4Addr::from(address), u32::from(number / 2));
            let wakes = if number == 1 { vec![80] } else { Vec::new() };
            let number = number.into();
            network.set(Port { number, address, mac, group, wakes, rate: 0 });
        }
        assert_eq!(network.0.ports.len(), usize::from(GUESTS));
        network
    }

    /// Adds or changes a port, if that can be.
    pub fn set(&mut self, port: Port) {
        // What is wrong with it is said to whoever asks.
        let _ = self.0.ports.set(port, &self.0.options);
    }

    /// Carries a message of a guest. What is for another guest waits for it.
    ///
    /// # Panics
    /// When it passes where it may not.
    pub fn take_from_guest(&mut self, from: u8, message: &mut [u8], now_ns: u64) {
        let original = message.to_vec();
        let mut answer = Vec::new();
        let port = PortNumber::from(from);
        let verdict = self.0.take_from_guest(port, message, &mut answer);
        let Some(sender) = self.0.ports.get(port) else {
            return assert!(matches!(verdict, Verdict::Dropped(_)));
        };
        let own =
            original.len() >= HEADER + ETHERNET && original[HEADER + 6..HEADER + 12] == sender.mac;
        let is_ip_of = |address: Ipv4Addr| {
            original.get(HEADER + 26..HEADER + 30) == Some(&address.octets()[..])
        };
        match verdict {
            Verdict::Port(to, length) => {
                assert!(own && is_ip_of(sender.address) && to != port && length <= message.len());
                let owner = self.0.ports.get(to).expect("there is such a port");
                let may = match self.0.options.policy {
                    Policy::Isolated => false,
                    Policy::Group => owner.group == sender.group,
                    Policy::Open => true,
                };
                assert!(may && message[HEADER..HEADER + 6] == owner.mac);
                self.wait_for(to, &message[..length], now_ns);
            }
            Verdict::Host(wanted) => {
                assert!(own && is_ip_of(sender.address));
                let inside = self.0.options.contains(wanted.packet.destination);
                assert!(wanted.gateway || !inside, "no way round through the host");
                let packet = &mut message[HEADER + ETHERNET..][..wanted.packet.length];
                wanted.header.complete(packet);
                self.0.answer_for_host(&original[HEADER..], &wanted, &mut answer);
            }
            Verdict::Answered => assert!(own && answer[HEADER..HEADER + 6] == sender.mac),
            Verdict::Dropped(reason) => self.0.count_drops(reason, 1),
        }
    }

    /// Carries a packet of the host: a header, room for an Ethernet header, the packet. It waits for its guest.
    ///
    /// # Panics
    /// When it reaches whom it may not.
    pub fn take_from_host(&mut self, message: &mut [u8], now_ns: u64) {
        match self.0.take_from_host(message) {
            Ok((to, length)) => {
                let owner = self.0.ports.get(to).expect("there is such a port");
                assert_eq!(message[HEADER..HEADER + 6], owner.mac);
                assert_eq!(message[HEADER + 30..HEADER + 34], owner.address.octets());
                self.wait_for(to, &message[..length], now_ns);
            }
            Err(reason) => self.0.count_drops(reason, 1),
        }
    }

    /// Has a message wait for a guest.
    pub fn wait_for(&mut self, to: PortNumber, message: &[u8], now_ns: u64) {
        if let (Err(reason), _) = self.0.hold(to, message, (now_ns, now_ns), false) {
            self.0.count_drops(reason, 1);
        }
    }

    /// A guest takes what waits; how many frames, none of them older than may be.
    ///
    /// # Panics
    /// When more waits than may, or for longer.
    pub fn take(&mut self, number: u8, now_ns: u64) -> usize {
        let Some(entry) = self.0.ports.get_mut(number.into()) else { return 0 };
        while self.0.waiting.take_aged(&mut entry.line, now_ns).is_some() {}
        let mut frames = 0;
        let mut last = 0;
        while let Some(Held { message, since_ns, .. }) = self.0.waiting.take(&mut entry.line) {
            assert!(message.len() > HEADER + ETHERNET && since_ns >= last);
            last = since_ns;
            frames += 1;
        }
        assert!(frames <= self.0.options.waiting.packets);
        frames
    }

    /// Everybody takes what waits: then nothing does.
    ///
    /// # Panics
    /// When something still waits.
    pub fn end(&mut self) {
        let numbers: Vec<PortNumber> = self.0.ports.iter().map(|(number, _)| number).collect();
        for number in numbers {
            let Some(entry) = self.0.ports.get_mut(number) else { continue };
            while self.0.waiting.take(&mut entry.line).is_some() {}
        }
        assert_eq!(self.0.waiting.amount(), (0, 0));
    }
}
