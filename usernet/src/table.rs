//! All connections of a gateway: found by slot, by port, and by when they must be looked at.

use crate::connection::{Connection, GuestSide};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::TcpStream;

/// First of the gateway's ephemeral ports; the last is 65,535.
const FIRST_PORT: u16 = 32_768;

/// Guest sides kept for the next connections, with their buffers.
const SPARE_MAX: usize = 4;

/// A deadline that means: none.
const NEVER: u64 = u64::MAX;

/// Hashes ports, which only the gateway chooses, so that nobody can make them collide.
#[derive(Default)]
pub struct PortHasher(u64);

impl Hasher for PortHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u16(byte.into());
        }
    }
    fn write_u16(&mut self, port: u16) {
        self.0 = (self.0 ^ u64::from(port)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

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
    ports: HashMap<u16, u32, BuildHasherDefault<PortHasher>>,
    next_port: u16,
    /// By slot, beside each other: looking through all of them is one short pass over memory.
    deadlines: Vec<u64>,
    spare: Vec<GuestSide>,
    active: Vec<u32>,
}

impl Table {
    /// An empty table whose ports start somewhere that `seed` decides.
    pub fn new(seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ports: HashMap::default(),
            next_port: FIRST_PORT | seed as u16,
            deadlines: Vec::new(),
            spare: Vec::new(),
            active: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.ports.len()
    }

    pub fn get(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.connection.as_deref_mut()
    }

    /// The connection a token means, unless it is gone.
    pub fn by_token(&mut self, token: Token) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        slot.connection.as_deref_mut().filter(|_| slot.generation == token.generation)
    }

    pub fn slot_of_port(&self, port: u16) -> Option<u32> {
        self.ports.get(&port).copied()
    }

    /// Adds a connection under a port that is free, and has been for as long as can be.
    pub fn insert(&mut self, stream: TcpStream) -> Token {
        let port = self.take_port();
        let guest = self.spare.pop().unwrap_or_else(GuestSide::new);
        let connection = Some(Box::new(Connection::new(stream, guest, port)));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.deadlines.push(NEVER);
            self.slots.len() as u32 - 1
        });
        self.ports.insert(port, slot);
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1) & (u32::MAX >> 1);
        entry.connection = connection;
        Token { slot, generation: entry.generation }
    }

    /// Removes a connection; `reusable`: its guest side ended in order and may serve another.
    pub fn remove(&mut self, slot: u32, reusable: bool) {
        let Some(connection) = self.slots[slot as usize].connection.take() else { return };
        self.ports.remove(&connection.port);
        self.deadlines[slot as usize] = NEVER;
        self.free.push(slot);
        if reusable && self.spare.len() < SPARE_MAX {
            self.spare.push(connection.guest);
        }
    }

    /// There are always free ports: connections are limited to half as many.
    fn take_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = port.wrapping_add(1).max(FIRST_PORT);
            if !self.ports.contains_key(&port) {
                return port;
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
            let seed = self.next_port.into();
            *self = Self { slots: std::mem::take(&mut self.slots), ..Self::new(seed) };
            self.free = (0..self.slots.len() as u32).collect();
            self.deadlines = vec![NEVER; self.slots.len()];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn stream() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    #[test]
    fn tokens_of_the_past_mean_nothing() {
        let mut table = Table::new(0);
        let first = table.insert(stream());
        assert_eq!(Token::from_bits(first.to_bits()), first);
        assert!(table.by_token(first).is_some());
        table.remove(first.slot, true);
        let second = table.insert(stream());
        assert_eq!(first.slot, second.slot, "the slot is used again");
        assert!(table.by_token(first).is_none());
        assert!(table.by_token(second).is_some());
    }

    #[test]
    fn ports_are_not_used_again_soon() {
        let mut table = Table::new(u64::MAX - 2);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let token = table.insert(stream());
            let port = table.get(token.slot).unwrap().port;
            assert!(port >= FIRST_PORT && seen.insert(port), "across the wrap too");
            assert_eq!(table.slot_of_port(port), Some(token.slot));
            table.remove(token.slot, true);
            assert_eq!(table.slot_of_port(port), None);
        }
        assert_eq!(table.slots.len(), 1);
    }

    #[test]
    fn deadlines_wake_their_connections() {
        let mut table = Table::new(1);
        let [a, b] = [table.insert(stream()), table.insert(stream())];
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
        table.insert(stream());
        assert_eq!(table.slots.len(), 2, "slots, and their generations, are kept");
    }
}
