//! The table of ports: found by number and by address, small for each, however many there are.

use crate::options::{Options, Policy, is_of_one_card};
use crate::protocol::{PORTS_MAX, Port, PortNumber};
use crate::rate::Limit;
use crate::waiting::Line;
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// Ports that memory is taken for at once.
const BLOCK: usize = 256;

/// Most ports that can wake one guest.
const WAKES_MAX: usize = 64;

/// A port.
#[derive(Debug)]
pub struct Entry {
    pub address: Ipv4Addr,
    pub mac: [u8; 6],
    /// Connections of published ports lead to it.
    pub published: bool,
    /// A timer knows when what waits for it has done so for too long.
    pub age_is_watched: bool,
    pub group: u32,
    /// Where its guest is among those that are connected.
    pub guest: Option<u32>,
    /// Bytes a second, each way; 0 = no limit.
    pub rate: u64,
    /// What the guest may send.
    pub sends: Limit,
    /// What it may get.
    pub gets: Limit,
    /// Ports of packets that wake it; none = any.
    pub wakes: Box<[u16]>,
    /// What waits for it.
    pub line: Option<Box<Line>>,
}

impl Entry {
    /// Whether something has come for its guest, which is not connected.
    pub fn is_wanted(&self) -> bool {
        self.guest.is_none() && self.line.as_ref().is_some_and(|line| line.wanted_ns.is_some())
    }
}

/// The ports.
#[derive(Debug, Default)]
pub struct Ports {
    blocks: Vec<Option<Box<[Option<Entry>]>>>,
    by_address: HashMap<Ipv4Addr, PortNumber>,
}

impl Ports {
    /// Number of ports.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Adds or changes a port.
    ///
    /// # Errors
    /// One line that names what is wrong with it; then nothing is changed.
    pub fn set(&mut self, port: Port, options: &Options) -> Result<(), String> {
        let Port { number, address, mac, group, wakes, rate } = port;
        let wrong = |what: &str| Err(format!("port {number}: {what}"));
        if number >= PORTS_MAX {
            return wrong("number is too high");
        }
        if !options.is_host(address) || address == options.gateway {
            return wrong("address is not that of a guest in the switch's subnet");
        }
        if !is_of_one_card(mac) || mac == options.mac {
            return wrong("mac is not the address of a guest's card");
        }
        if wakes.len() > WAKES_MAX {
            return wrong("wakes has too many ports");
        }
        if self.by_address.get(&address).is_some_and(|&other| other != number) {
            return wrong("address is another port's");
        }
        let index = number as usize;
        if self.blocks.len() <= index / BLOCK {
            self.blocks.resize_with(index / BLOCK + 1, || None);
        }
        let block =
            self.blocks[index / BLOCK].get_or_insert_with(|| (0..BLOCK).map(|_| None).collect());
        let wakes = wakes.into();
        match &mut block[index % BLOCK] {
            Some(entry) => {
                if entry.address != address {
                    self.by_address.remove(&entry.address);
                }
                (entry.address, entry.mac, entry.group) = (address, mac, group);
                (entry.wakes, entry.rate) = (wakes, rate);
            }
            empty => {
                *empty = Some(Entry {
                    address,
                    mac,
                    published: false,
                    age_is_watched: false,
                    group,
                    guest: None,
                    rate,
                    sends: Limit::default(),
                    gets: Limit::default(),
                    wakes,
                    line: None,
                });
            }
        }
        self.by_address.insert(address, number);
        Ok(())
    }

    /// Forgets a port, and gives what it was.
    pub fn remove(&mut self, number: PortNumber) -> Option<Entry> {
        let block = self.blocks.get_mut(number as usize / BLOCK)?;
        let entries = block.as_mut()?;
        let entry = entries[number as usize % BLOCK].take()?;
        if entries.iter().all(Option::is_none) {
            *block = None;
        }
        self.by_address.remove(&entry.address);
        Some(entry)
    }

    /// A port.
    pub fn get(&self, number: PortNumber) -> Option<&Entry> {
        let block = self.blocks.get(number as usize / BLOCK)?.as_ref()?;
        block[number as usize % BLOCK].as_ref()
    }

    /// A port, to be changed.
    pub fn get_mut(&mut self, number: PortNumber) -> Option<&mut Entry> {
        let block = self.blocks.get_mut(number as usize / BLOCK)?.as_mut()?;
        block[number as usize % BLOCK].as_mut()
    }

    /// The port whose guest has an address.
    pub fn by_address(&self, address: Ipv4Addr) -> Option<PortNumber> {
        self.by_address.get(&address).copied()
    }

    /// All ports with their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (PortNumber, &Entry)> {
        let entries = self.blocks.iter().enumerate().flat_map(|(block, entries)| {
            let first = block * BLOCK;
            let entries = entries.iter().flat_map(|entries| entries.iter());
            entries.enumerate().map(move |(index, entry)| (first + index, entry))
        });
        entries.filter_map(|(number, entry)| Some((number as PortNumber, entry.as_ref()?)))
    }
}

/// Whether guests of two ports may talk to each other.
pub fn may_talk(policy: Policy, one: &Entry, other: &Entry) -> bool {
    match policy {
        Policy::Isolated => false,
        Policy::Group => one.group == other.group,
        Policy::Open => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn options() -> Options {
        Options::new(Ipv4Addr::new(10, 64, 0, 1), 12, [2, 0, 0, 0, 0, 1])
    }

    fn port(number: PortNumber, last: u32) -> Port {
        Port {
            number,
            address: Ipv4Addr::from_bits(0x0a40_0000 + last),
            mac: [2, 0, 1, 0, 0, number as u8],
            group: 0,
            wakes: Vec::new(),
            rate: 0,
        }
    }

    #[test]
    fn a_port_takes_little_memory() {
        assert!(size_of::<Option<Entry>>() <= 96, "{}", size_of::<Option<Entry>>());
    }

    #[test]
    fn what_is_wrong_is_named_and_changes_nothing() {
        let mut ports = Ports::default();
        ports.set(port(1, 5), &options()).unwrap();
        type Spoil = fn(&mut Port);
        let ways: [(&str, Spoil); 6] = [
            ("number", |it| it.number = PORTS_MAX),
            ("address is not", |it| it.address = Ipv4Addr::new(10, 64, 0, 1)),
            ("address is not", |it| it.address = Ipv4Addr::new(10, 80, 0, 1)),
            ("address is another", |it| it.number = 2),
            ("mac", |it| it.mac = [2, 0, 0, 0, 0, 1]),
            ("wakes", |it| it.wakes = vec![1; 65]),
        ];
        for (name, way) in ways {
            let mut wrong = port(1, 5);
            way(&mut wrong);
            assert!(ports.set(wrong, &options()).unwrap_err().contains(name), "{name}");
            assert_eq!((ports.len(), ports.iter().count()), (1, 1));
        }
    }

    proptest! {
        #[test]
        fn what_was_set_is_found(
            steps in prop::collection::vec((0..2000_u32, 2..40_u32, any::<bool>()), 1..200),
        ) {
            let mut ports = Ports::default();
            let mut model: BTreeMap<PortNumber, Ipv4Addr> = BTreeMap::new();
            for (number, last, removes) in steps {
                let port = port(number, last);
                let address = port.address;
                if removes {
                    prop_assert_eq!(ports.remove(number).map(|it| it.address), model.remove(&number));
                } else {
                    let free = model.iter().all(|(&n, &a)| a != address || n == number);
                    prop_assert_eq!(ports.set(port, &options()).is_ok(), free);
                    if free {
                        model.insert(number, address);
                    }
                }
                let found = ports.iter().map(|(number, entry)| (number, entry.address));
                prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), model.clone());
                for (&number, &address) in &model {
                    prop_assert_eq!(ports.by_address(address), Some(number));
                    prop_assert!(ports.get(number).is_some());
                }
                prop_assert_eq!(ports.len(), model.len());
            }
        }
    }
}
