//! Who writes datagrams to published ports: as whom the guest knows each, and for how long.

use crate::datagram::Ends;
use crate::flow::Flow;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Peers at once.
pub const PEERS_MAX: usize = 1024;

/// How long a peer may rest before it is forgotten, in ns.
const IDLE_NS: u64 = 60_000_000_000;

/// How long a peer whom the guest has answered must have rested before another may take its place, in ns.
const ANSWERED_NS: u64 = 10_000_000_000;

/// The same for one that it has not.
const UNANSWERED_NS: u64 = 1_000_000_000;

/// Somebody who wrote to a published port.
#[derive(Debug)]
pub struct Peer {
    /// Number of the port.
    pub port: u32,
    pub ends: Ends,
    flow: Flow,
    /// When a datagram was last carried either way, in ns.
    used_ns: u64,
    answered: bool,
}

impl Peer {
    /// When another may take its place.
    fn yields_ns(&self) -> u64 {
        self.used_ns.saturating_add(if self.answered { ANSWERED_NS } else { UNANSWERED_NS })
    }
}

/// The peers, each a port of the gateway in the guest's eyes.
#[derive(Debug, Default)]
pub struct Peers {
    slots: Vec<Option<Peer>>,
    free: Vec<u32>,
    by_ends: HashMap<(u32, Ends), u32>,
    by_flow: HashMap<Flow, u32>,
    next_port: u16,
    /// When it is looked for peers that have rested for too long.
    sweep_at: Option<u64>,
    /// No peer makes room before this.
    crowded_until: u64,
}

impl Peers {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.by_flow.is_empty()
    }

    /// As whom the guest knows this peer of a port, who writes just now; `None` if it is one more.
    pub fn heard_of(&mut self, port: u32, ends: Ends, now_ns: u64) -> Option<Flow> {
        let &slot = self.by_ends.get(&(port, ends))?;
        let peer = self.slots[slot as usize].as_mut()?;
        peer.used_ns = now_ns;
        Some(peer.flow)
    }

    /// Adds a peer of a port that leads to `guest_port`, as one of the ports of a gateway from the given one on; `None` when
    /// there are too many.
    pub fn add(
        &mut self,
        (port, guest_port): (u32, u16),
        ends: Ends,
        gateway: (Ipv4Addr, u16),
        now_ns: u64,
    ) -> Option<Flow> {
        if !self.make_room(now_ns) {
            return None;
        }
        let flow = self.free_flow(gateway, guest_port);
        let peer = Some(Peer { port, ends, flow, used_ns: now_ns, answered: false });
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = peer;
        self.by_ends.insert((port, ends), slot);
        self.by_flow.insert(flow, slot);
        self.sweep_at.get_or_insert(now_ns + IDLE_NS);
        Some(flow)
    }

    /// Whether the guest knows a peer as this.
    pub fn knows(&self, flow: &Flow) -> bool {
        self.by_flow.contains_key(flow)
    }

    /// The peer whom the guest answers.
    pub fn answered(&mut self, flow: &Flow, now_ns: u64) -> Option<&Peer> {
        let &slot = self.by_flow.get(flow)?;
        let peer = self.slots[slot as usize].as_mut()?;
        (peer.used_ns, peer.answered) = (now_ns, true);
        Some(peer)
    }

    /// Ends for another peer, whose port of the gateway has been nobody's for as long as can be. There
    /// always is one: there are more ports than peers.
    fn free_flow(&mut self, (gateway, first_port): (Ipv4Addr, u16), guest_port: u16) -> Flow {
        loop {
            let port = self.next_port.max(first_port);
            self.next_port = port.wrapping_add(1);
            let flow = Flow { remote: SocketAddrV4::new(gateway, port), guest_port };
            if !self.by_flow.contains_key(&flow) {
                return flow;
            }
        }
    }

    /// Whether there is room for another peer. One that has rested makes room: sooner if the guest has
    /// never answered it, so that many who write once do not drive out those who are served.
    fn make_room(&mut self, now_ns: u64) -> bool {
        if self.by_flow.len() < PEERS_MAX {
            return true;
        }
        if now_ns < self.crowded_until {
            return false;
        }
        let peers = self.slots.iter().enumerate();
        let peers = peers.filter_map(|(slot, peer)| Some((slot, peer.as_ref()?)));
        let rested = peers.filter(|(_, peer)| peer.yields_ns() <= now_ns);
        match rested.min_by_key(|(_, peer)| (peer.answered, peer.used_ns)) {
            Some((slot, _)) => {
                self.remove(slot);
                true
            }
            None => {
                let soonest = self.slots.iter().flatten().map(Peer::yields_ns).min();
                self.crowded_until = soonest.unwrap_or(0);
                false
            }
        }
    }

    /// Forgets who has rested for too long.
    pub fn sweep(&mut self, now_ns: u64) {
        if self.sweep_at.is_none_or(|at| at > now_ns) {
            return;
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|it| it.used_ns + IDLE_NS <= now_ns) {
                self.remove(slot);
            }
        }
        let oldest = self.slots.iter().flatten().map(|it| it.used_ns).min();
        self.sweep_at = oldest.map(|used| used + IDLE_NS);
    }

    /// When [`Peers::sweep`] is due.
    pub fn deadline(&self) -> Option<u64> {
        self.sweep_at
    }

    fn remove(&mut self, slot: usize) {
        if let Some(peer) = self.slots[slot].take() {
            self.by_ends.remove(&(peer.port, peer.ends));
            self.by_flow.remove(&peer.flow);
            self.free.push(slot as u32);
        }
    }

    /// Gives memory back, when there is nobody.
    pub fn trim(&mut self) {
        if self.is_empty() {
            *self = Self { next_port: self.next_port, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FIRST_PORT;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    const SECOND: u64 = 1_000_000_000;

    fn ends(number: u32) -> Ends {
        let ip = Ipv4Addr::from_bits(0x0a00_0000 + number);
        Ends { peer: SocketAddrV4::new(ip, 4000).into(), local: None }
    }

    fn add(peers: &mut Peers, number: u32, now_ns: u64) -> Option<Flow> {
        peers.add((0, 7), ends(number), (GATEWAY, FIRST_PORT), now_ns)
    }

    fn full(now_ns: u64) -> Peers {
        let mut peers = Peers::default();
        for number in 0..PEERS_MAX as u32 {
            assert!(add(&mut peers, number, now_ns).is_some());
        }
        peers
    }

    #[test]
    fn who_was_never_answered_makes_room_after_a_second() {
        let mut peers = full(0);
        assert_eq!(add(&mut peers, 5000, 0), None);
        let first = peers.heard_of(0, ends(0), 0).unwrap();
        assert!(peers.answered(&first, 0).is_some());
        assert!(add(&mut peers, 5000, SECOND).is_some());
        assert!(peers.heard_of(0, ends(0), SECOND).is_some(), "whom the guest serves stays");
        assert_eq!(peers.heard_of(0, ends(1), SECOND), None);
    }

    #[test]
    fn who_is_answered_stays_longer() {
        let mut peers = full(0);
        for number in 0..PEERS_MAX as u32 {
            let flow = peers.heard_of(0, ends(number), 0).unwrap();
            peers.answered(&flow, u64::from(number)).unwrap();
        }
        assert_eq!(add(&mut peers, 5000, 9 * SECOND), None);
        assert!(add(&mut peers, 5000, 10 * SECOND).is_some());
        assert_eq!(peers.heard_of(0, ends(0), 0), None, "the one that rested longest is gone");
        assert_eq!(add(&mut peers, 5001, 10 * SECOND), None, "only one had rested enough");
        assert!(add(&mut peers, 5001, 10 * SECOND + 1).is_some());
    }

    #[test]
    fn who_rests_is_forgotten() {
        let mut peers = Peers::default();
        add(&mut peers, 1, 0).unwrap();
        add(&mut peers, 2, 20 * SECOND).unwrap();
        assert_eq!(peers.deadline(), Some(60 * SECOND));
        peers.sweep(60 * SECOND);
        assert_eq!(peers.heard_of(0, ends(1), 60 * SECOND), None);
        assert_eq!(peers.deadline(), Some(80 * SECOND));
        peers.sweep(80 * SECOND);
        assert!(peers.is_empty() && peers.deadline().is_none());
    }

    proptest! {
        #[test]
        fn peers_are_told_apart(steps in proptest::collection::vec((0..2000_u32, any::<bool>(), 0..SECOND), 1..3000)) {
            let mut peers = Peers::default();
            let mut now = 0;
            for (number, answers, passed) in steps {
                now += passed;
                let known = peers.heard_of(0, ends(number), now);
                if let Some(flow) = known.or_else(|| add(&mut peers, number, now)) {
                    prop_assert!(flow.remote.port() >= FIRST_PORT);
                    if answers {
                        prop_assert_eq!(peers.answered(&flow, now).unwrap().ends, ends(number));
                    }
                }
                peers.sweep(now);
                prop_assert!(peers.by_flow.len() <= PEERS_MAX);
                prop_assert_eq!(peers.by_flow.len(), peers.by_ends.len());
            }
            let flows: HashSet<Flow> = peers.slots.iter().flatten().map(|peer| peer.flow).collect();
            prop_assert_eq!(flows.len(), peers.by_flow.len());
        }
    }
}
