//! The switch without its sockets: what becomes of each frame, and what waits for whom.

use crate::frame::{Arp, Content, ETHERNET, Frame, Packet, Reason, Transport, parse, parse_packet};
use crate::header::{HEADER, Header};
use crate::options::{Options, is_special};
use crate::ports::{Entry, Ports, may_talk};
use crate::protocol::{Counters, Dropped, PortNumber};
use crate::reply;
use crate::waiting::{Held, Waiting, Wanted};
use crate::wake::{self, Effect};
use std::net::Ipv4Addr;

/// What becomes of a frame of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// So many bytes of the message go to the guest of a port.
    Port(PortNumber, usize),
    /// It is for the gateway, or for somebody beyond.
    Host(ForHost),
    /// The sender is given the answer.
    Answered,
    /// It goes nowhere.
    Dropped(Reason),
}

/// A packet that leaves the guests' network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForHost {
    pub packet: Packet,
    pub header: Header,
    /// It is for the gateway itself.
    pub gateway: bool,
}

/// The switch without its sockets.
#[derive(Debug)]
pub struct Fabric {
    pub options: Options,
    pub ports: Ports,
    pub waiting: Waiting,
    pub counters: Counters,
}

impl Fabric {
    /// A switch without ports.
    pub fn new(options: Options) -> Self {
        let message_max = HEADER + ETHERNET + usize::from(options.mtu);
        let waiting = Waiting::new(options.waiting, message_max);
        Self { options, ports: Ports::default(), waiting, counters: Counters::default() }
    }

    /// Decides about a message of a guest: header and frame. What goes to another guest is made ready for it in
    /// place; what the switch answers itself is put into `answer`, header and frame.
    pub fn take_from_guest(
        &self,
        from: PortNumber,
        message: &mut [u8],
        answer: &mut Vec<u8>,
    ) -> Verdict {
        let Some(sender) = self.ports.get(from) else { return Verdict::Dropped(Reason::Unknown) };
        self.judge(sender, message, answer).unwrap_or_else(Verdict::Dropped)
    }

    fn judge(
        &self,
        sender: &Entry,
        message: &mut [u8],
        answer: &mut Vec<u8>,
    ) -> Result<Verdict, Reason> {
        let (header, bytes) = message.split_first_chunk_mut().ok_or(Reason::Malformed)?;
        if bytes.get(6..12).ok_or(Reason::Malformed)? != sender.mac {
            return Err(Reason::Spoofed);
        }
        let frame = parse(bytes)?;
        match frame.content {
            Content::Arp(asked) => {
                reply::arp(&asked, self.resolve(sender, &asked)?, answer);
                Ok(Verdict::Answered)
            }
            Content::Ip(packet) => {
                let header_read = Header::of_guest(header, Some(&packet))?;
                match self.route(sender, &frame, &packet)? {
                    Some(to) => {
                        *header = header_read.for_guest();
                        let owner = self.ports.get(to).ok_or(Reason::Unknown)?;
                        bytes[..6].copy_from_slice(&owner.mac);
                        if frame.to == self.options.mac {
                            bytes[6..12].copy_from_slice(&self.options.mac);
                        }
                        Ok(Verdict::Port(to, HEADER + ETHERNET + packet.length))
                    }
                    None => {
                        let gateway = packet.destination == self.options.gateway;
                        Ok(Verdict::Host(ForHost { packet, header: header_read, gateway }))
                    }
                }
            }
        }
    }

    /// Who has the address that a guest asks for, as far as that is its concern.
    fn resolve(&self, sender: &Entry, asked: &Arp) -> Result<[u8; 6], Reason> {
        if (asked.sender_mac, asked.sender) != (sender.mac, sender.address) {
            return Err(Reason::Spoofed);
        }
        if !asked.asks || asked.target == sender.address {
            return Err(Reason::Arp);
        }
        if asked.target == self.options.gateway {
            return Ok(self.options.mac);
        }
        let owner = self.ports.by_address(asked.target).and_then(|owner| self.ports.get(owner));
        let owner = owner.filter(|owner| may_talk(self.options.policy, sender, owner));
        owner.map(|owner| owner.mac).ok_or(Reason::Arp)
    }

    /// Where a packet of a guest goes: to a port, or out.
    fn route(
        &self,
        sender: &Entry,
        frame: &Frame,
        packet: &Packet,
    ) -> Result<Option<PortNumber>, Reason> {
        let Packet { source, destination, length, .. } = *packet;
        if source != sender.address {
            return Err(Reason::Spoofed);
        }
        if length > usize::from(self.options.mtu) {
            return Err(Reason::TooLong);
        }
        if frame.to[0] & 1 != 0 || is_special(destination) {
            return Err(Reason::Broadcast);
        }
        let to_switch = frame.to == self.options.mac;
        if destination == self.options.gateway || !self.options.contains(destination) {
            return if to_switch { Ok(None) } else { Err(Reason::Unknown) };
        }
        if !self.options.is_host(destination) {
            return Err(Reason::Broadcast);
        }
        let to = self.ports.by_address(destination).ok_or(Reason::Unknown)?;
        let owner = self.ports.get(to).ok_or(Reason::Unknown)?;
        if destination == source {
            return Err(Reason::Unknown);
        }
        if !may_talk(self.options.policy, sender, owner) {
            return Err(Reason::Forbidden);
        }
        if to_switch || frame.to == owner.mac { Ok(Some(to)) } else { Err(Reason::Unknown) }
    }

    /// Makes a frame of a packet of the host, in a message whose frame's first bytes are still to be written; to whom it
    /// goes, and how many bytes of the message.
    pub fn take_from_host(&self, message: &mut [u8]) -> Result<(PortNumber, usize), Reason> {
        let (header, bytes) = message.split_first_chunk_mut().ok_or(Reason::Malformed)?;
        let (link, bytes) = bytes.split_at_mut_checked(ETHERNET).ok_or(Reason::Malformed)?;
        let packet = parse_packet(bytes)?;
        let Packet { source, destination, length, .. } = packet;
        if length > usize::from(self.options.mtu) {
            return Err(Reason::TooLong);
        }
        // Guests' own packets do not come back this way: what they may say to each other is decided here.
        if is_special(source) || self.ports.by_address(source).is_some() {
            return Err(Reason::Spoofed);
        }
        let to = self.find(destination)?;
        let owner = self.ports.get(to).ok_or(Reason::Unknown)?;
        *header = Header::of_host(header, &packet)?.for_guest();
        self.write_link(link, owner);
        Ok((to, HEADER + ETHERNET + length))
    }

    fn find(&self, destination: Ipv4Addr) -> Result<PortNumber, Reason> {
        let nobody = || {
            let many = is_special(destination)
                || self.options.contains(destination) && !self.options.is_host(destination);
            if many { Reason::Broadcast } else { Reason::Unknown }
        };
        self.ports.by_address(destination).ok_or_else(nobody)
    }

    /// The Ethernet header of a packet that comes from the switch.
    fn write_link(&self, link: &mut [u8], to: &Entry) {
        link[..6].copy_from_slice(&to.mac);
        link[6..12].copy_from_slice(&self.options.mac);
        link[12..ETHERNET].copy_from_slice(&[0x08, 0x00]);
    }

    /// Answers a packet for the gateway where there is no host behind it.
    pub fn answer_for_host(&self, frame: &[u8], wanted: &ForHost, answer: &mut Vec<u8>) -> Verdict {
        if wanted.gateway && wanted.packet.transport == Transport::Echo {
            reply::echo(frame, wanted.packet.length, answer);
            return Verdict::Answered;
        }
        Verdict::Dropped(Reason::NoUplink)
    }

    /// Has a message wait for a guest that is connected and slow.
    pub fn queue(
        &mut self,
        port: PortNumber,
        message: &[u8],
        since_ns: u64,
        published: bool,
    ) -> Result<(), Reason> {
        let entry = self.ports.get_mut(port).ok_or(Reason::Unknown)?;
        let held = Held { message: message.into(), published, since_ns, identity: None };
        self.waiting.put(&mut entry.line, held)
    }

    /// Has a message wait for a guest that is not connected, if it is of a kind that does, or was `published` for it. Whether it
    /// waits, and whether the supervisor is to be told that the guest is wanted.
    pub fn hold(
        &mut self,
        port: PortNumber,
        message: &[u8],
        (since_ns, now_ns): (u64, u64),
        published: bool,
    ) -> (Result<(), Reason>, bool) {
        let Some(entry) = self.ports.get_mut(port) else { return (Err(Reason::Unknown), false) };
        let packet = match message.get(HEADER..).map(parse) {
            Some(Ok(Frame { content: Content::Ip(packet), .. })) => packet,
            // Answers to ARP requests of a guest that has left.
            Some(Ok(_)) => return (Err(Reason::NotWaking), false),
            Some(Err(reason)) => return (Err(reason), false),
            None => return (Err(Reason::Malformed), false),
        };
        let wakes: &[u16] = if published { &[] } else { &entry.wakes };
        let effect = wake::effect(&packet, wakes, self.options.echo_wakes);
        if effect == Effect::Nothing {
            return (Err(Reason::NotWaking), false);
        }
        let identity = wake::identity(&packet);
        let held = Held { message: message.into(), published, since_ns, identity };
        let put = self.waiting.put(&mut entry.line, held);
        let line = entry.line.as_mut().filter(|_| effect == Effect::Wakes);
        let wanted = line.map_or(Wanted::No, |line| line.want(now_ns));
        self.counters.wanted += u64::from(wanted == Wanted::Now);
        (put, wanted != Wanted::No)
    }

    /// Counts packets that were dropped.
    pub fn count_drops(&mut self, reason: Reason, packets: u64) {
        *field(&mut self.counters.dropped, reason) += packets;
    }
}

fn field(dropped: &mut Dropped, reason: Reason) -> &mut u64 {
    match reason {
        Reason::Malformed => &mut dropped.malformed,
        Reason::Spoofed => &mut dropped.spoofed,
        Reason::TooLong => &mut dropped.too_long,
        Reason::Ipv6 => &mut dropped.ipv6,
        Reason::Protocol => &mut dropped.protocol,
        Reason::Broadcast => &mut dropped.broadcast,
        Reason::Arp => &mut dropped.arp,
        Reason::Forbidden => &mut dropped.forbidden,
        Reason::Unknown => &mut dropped.unknown,
        Reason::NoUplink => &mut dropped.no_uplink,
        Reason::NotWaking => &mut dropped.not_waking,
        Reason::Repeated => &mut dropped.repeated,
        Reason::Full => &mut dropped.full,
        Reason::Crowded => &mut dropped.crowded,
        Reason::Aged => &mut dropped.aged,
        Reason::Refused => &mut dropped.refused,
    }
}

#[cfg(test)]
mod tests;
