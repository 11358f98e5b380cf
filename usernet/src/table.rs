//! All connections of a gateway: found by slot, by their ends, and by when they must be looked at.

use crate::connection::{Connection, GuestSide};
use crate::flow::Flow;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

/// Guest sides kept for the next connections, with their buffers.
const SPARE_MAX: usize = 4;

/// A deadline that means: none.
const NEVER: u64 = u64::MAX;

/// What epoll tells about a connection: its slot, and which of the slot's users is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub slot: u32,
    generation: u32,
}

impl Token {
    /// As epoll carries it; the highest bit is always clear.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub fn from_bits(bits: u64) -> Self {
        Self { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// The connections. Slots are reused, last freed first, so that the table stays as small as the most
/// connections there were at once.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    flows: HashMap<Flow, u32>,
    /// First of the gateway's ephemeral ports; the last is 65,535.
    first_port: u16,
    next_port: u16,
    /// By slot, beside each other: looking through all of them is one short pass over memory.
    deadlines: Vec<u64>,
    spare: Vec<GuestSide>,
    active: Vec<u32>,
}

impl Table {
    /// An empty table whose ports are `first_port` and higher, and start somewhere that `seed` decides.
    pub fn new(first_port: u16, seed: u64) -> Self {
        let ports = u64::from(u16::MAX - first_port) + 1;
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            flows: HashMap::new(),
            first_port,
            next_port: first_port + (seed % ports) as u16,
            deadlines: Vec::new(),
            spare: Vec::new(),
            active: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.flows.len()
    }

    pub fn get(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.connection.as_deref_mut()
    }

    /// The connection a token means, unless it is gone.
    pub fn by_token(&mut self, token: Token) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        slot.connection.as_deref_mut().filter(|_| slot.generation == token.generation)
    }

    pub fn slot_of(&self, flow: &Flow) -> Option<u32> {
        self.flows.get(flow).copied()
    }

    /// Adds a connection between ends that no other is between.
    pub fn insert(&mut self, stream: TcpStream, flow: Flow) -> Token {
        let guest = self.spare.pop().unwrap_or_else(GuestSide::new);
        let connection = Some(Box::new(Connection::new(stream, guest, flow)));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.deadlines.push(NEVER);
            self.slots.len() as u32 - 1
        });
        self.flows.insert(flow, slot);
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1) & (u32::MAX >> 1);
        entry.connection = connection;
        Token { slot, generation: entry.generation }
    }

    /// Removes a connection; `reusable`: its guest side ended in order and may serve another.
    pub fn remove(&mut self, slot: u32, reusable: bool) {
        let Some(connection) = self.slots[slot as usize].connection.take() else { return };
        self.flows.remove(&connection.flow);
        self.deadlines[slot as usize] = NEVER;
        self.free.push(slot);
        if reusable && self.spare.len() < SPARE_MAX {
            self.spare.push(connection.guest);
        }
    }

    /// Ends for a connection from the gateway to a port of the guest, whose own port is free, and has
    /// been for as long as can be. There always is one: connections are limited to half as many.
    pub fn free_flow(&mut self, gateway: Ipv4Addr, guest_port: u16) -> Flow {
        loop {
            let port = self.next_port;
            self.next_port = port.wrapping_add(1).max(self.first_port);
            let flow = Flow { remote: SocketAddrV4::new(gateway, port), guest_port };
            if !self.flows.contains_key(&flow) {
                return flow;
            }
        }
    }

    /// Puts a connection on the list of those to work on.
    pub fn activate(&mut self, slot: u32) {
        if let Some(connection) = self.get(slot).filter(|connection| !connection.active) {
            connection.active = true;
            self.active.push(slot);
        }
    }

    /// Puts those connections on the list whose deadline has come.
    pub fn activate_due(&mut self, now_ns: u64) {
        for slot in 0..self.deadlines.len() {
            if self.deadlines[slot] <= now_ns {
                self.activate(slot as u32);
            }
        }
    }

    /// Takes the list of connections to work on; give it back with [`Table::recycle`].
    pub fn take_active(&mut self) -> Vec<u32> {
        let active = std::mem::take(&mut self.active);
        for &slot in &active {
            if let Some(connection) = self.get(slot) {
                connection.active = false;
            }
        }
        active
    }

    /// Gives the memory of a list back that [`Table::take_active`] gave.
    pub fn recycle(&mut self, mut list: Vec<u32>) {
        list.clear();
        if self.active.is_empty() {
            self.active = list;
        }
    }

    pub fn set_deadline(&mut self, slot: u32, deadline_ns: Option<u64>) {
        self.deadlines[slot as usize] = deadline_ns.unwrap_or(NEVER);
    }

    /// The earliest deadline of all.
    pub fn deadline(&self) -> Option<u64> {
        self.deadlines.iter().copied().min().filter(|&deadline| deadline != NEVER)
    }

    /// Gives memory back, when there is no connection.
    pub fn trim(&mut self) {
        if self.len() == 0 {
            let seed = u64::from(self.next_port - self.first_port);
            let slots = std::mem::take(&mut self.slots);
            *self = Self { slots, ..Self::new(self.first_port, seed) };
            self.free = (0..self.slots.len() as u32).collect();
            self.deadlines = vec![NEVER; self.slots.len()];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FIRST_PORT;
    use std::net::TcpListener;

    fn stream() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    /// Adds a connection from the gateway.
    fn insert(table: &mut Table) -> Token {
        let flow = table.free_flow(Ipv4Addr::new(10, 0, 2, 2), 80);
        table.insert(stream(), flow)
    }

    #[test]
    fn tokens_of_the_past_mean_nothing() {
        let mut table = Table::new(FIRST_PORT, 0);
        let first = insert(&mut table);
        assert_eq!(Token::from_bits(first.to_bits()), first);
        assert!(table.by_token(first).is_some());
        table.remove(first.slot, true);
        let second = insert(&mut table);
        assert_eq!(first.slot, second.slot, "the slot is used again");
        assert!(table.by_token(first).is_none());
        assert!(table.by_token(second).is_some());
    }

    #[test]
    fn ports_are_not_used_again_soon() {
        let mut table = Table::new(FIRST_PORT, 32_765);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let token = insert(&mut table);
            let flow = table.get(token.slot).unwrap().flow;
            let port = flow.remote.port();
            assert!(port >= FIRST_PORT && seen.insert(port), "across the wrap too");
            assert_eq!(table.slot_of(&flow), Some(token.slot));
            table.remove(token.slot, true);
            assert_eq!(table.slot_of(&flow), None);
        }
        assert_eq!(table.slots.len(), 1);
    }

    #[test]
    fn deadlines_wake_their_connections() {
        let mut table = Table::new(FIRST_PORT, 1);
        let [a, b] = [insert(&mut table), insert(&mut table)];
        assert_eq!(table.deadline(), None);
        table.set_deadline(a.slot, Some(50));
        table.set_deadline(b.slot, Some(40));
        assert_eq!(table.deadline(), Some(40));
        table.activate_due(45);
        table.activate(b.slot);
        assert_eq!(table.take_active(), [b.slot]);
        table.remove(b.slot, false);
        assert_eq!(table.deadline(), Some(50));
        table.remove(a.slot, false);
        table.trim();
        assert_eq!((table.len(), table.deadline()), (0, None));
        insert(&mut table);
        assert_eq!(table.slots.len(), 2, "slots, and their generations, are kept");
    }
}
