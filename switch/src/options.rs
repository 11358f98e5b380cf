//! What a switch is started with: its own addresses, who may talk to whom, and how much may wait.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::os::fd::RawFd;

/// Least bytes of an IP packet that every link must carry.
const MTU_MIN: u16 = 576;

/// Most bytes of an IP packet: with its headers it has less than 64 KiB.
const MTU_MAX: u16 = 65_000;

/// Most packets that may wait for one guest.
const PACKETS_MAX: usize = 4096;

/// Most connections of all published ports together.
const CONNECTIONS_MAX: usize = 1 << 20;

/// Which guests may talk to each other. Host and uplink are open to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// None.
    #[default]
    Isolated,
    /// Those of the same group.
    Group,
    /// All.
    Open,
}

/// What a switch is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Its address in the guests' subnet: the guests' gateway, and the host's address if there is an uplink.
    pub gateway: Ipv4Addr,
    /// Bits of the subnet's prefix, 1 to 30.
    pub prefix_len: u8,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Most bytes of an IP packet, 576 to 65,000.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Which guests may talk to each other.
    #[serde(default)]
    pub policy: Policy,
    /// How much may wait.
    #[serde(default)]
    pub waiting: Waiting,
    /// Whether an echo request wakes guests that any packet may wake.
    #[serde(default = "yes")]
    pub echo_wakes: bool,
    /// Most connections of all published ports together.
    #[serde(default = "default_connections")]
    pub connections: usize,
}

/// How much may wait for guests that are not connected, or slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Waiting {
    /// Most packets for one guest, 1 to 4096.
    pub packets: usize,
    /// Most bytes for one guest: at least one packet's.
    pub bytes: usize,
    /// Most bytes for all guests together.
    pub total_bytes: usize,
    /// For how long, in ms.
    pub age_ms: u64,
}

impl Default for Waiting {
    /// 64 packets and 64 KiB for each guest, 64 MiB together, for 30 s.
    fn default() -> Self {
        Self { packets: 64, bytes: 64 << 10, total_bytes: 64 << 20, age_ms: 30_000 }
    }
}

fn default_mtu() -> u16 {
    1500
}

fn default_connections() -> usize {
    16_384
}

fn yes() -> bool {
    true
}

impl Options {
    /// Options with which guests are isolated, packets have 1,500 bytes, and as much waits as
    /// [`Waiting::default`] says.
    #[must_use]
    pub fn new(gateway: Ipv4Addr, prefix_len: u8, mac: [u8; 6]) -> Self {
        Self {
            gateway,
            prefix_len,
            mac,
            mtu: default_mtu(),
            policy: Policy::default(),
            waiting: Waiting::default(),
            echo_wakes: true,
            connections: default_connections(),
        }
    }

    /// Checks the values together.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self) -> Result<(), String> {
        if !(MTU_MIN..=MTU_MAX).contains(&self.mtu) {
            return Err(format!("mtu is {}, not {MTU_MIN} to {MTU_MAX}", self.mtu));
        }
        if !(1..=30).contains(&self.prefix_len) {
            return Err(format!("prefix_len is {}, not 1 to 30", self.prefix_len));
        }
        if !is_of_one_card(self.mac) {
            return Err("mac is not the address of one card".to_owned());
        }
        if !self.is_host(self.gateway) {
            return Err(format!("gateway {} is not the address of a host", self.gateway));
        }
        let Waiting { packets, bytes, total_bytes, .. } = self.waiting;
        if !(1..=PACKETS_MAX).contains(&packets) {
            return Err(format!("waiting.packets is {packets}, not 1 to {PACKETS_MAX}"));
        }
        let least = usize::from(self.mtu) + 64;
        if bytes < least || total_bytes < bytes {
            return Err(format!(
                "waiting.bytes is {bytes}, not {least} to waiting.total_bytes ({total_bytes})"
            ));
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            let given = self.connections;
            return Err(format!("connections is {given}, not 1 to {CONNECTIONS_MAX}"));
        }
        Ok(())
    }

    /// Whether an address is in the guests' subnet.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.gateway.to_bits()) & self.mask() == 0
    }

    /// Whether an address of the subnet is one that a host can have.
    #[must_use]
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        let host = address.to_bits() & !self.mask();
        self.contains(address) && host != 0 && host != !self.mask() && !is_special(address)
    }

    fn mask(&self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix_len))
    }
}

/// Whether an address is that of one card.
pub(crate) fn is_of_one_card(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

/// Whether an address is nobody's on any network: this host's inside, or many hosts'.
pub(crate) fn is_special(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first == 0 || first == 127 || first >= 224
}

/// What the program is told: as JSON, its only argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Descriptor of the listening control socket.
    pub control: RawFd,
    /// Descriptor of the TUN interface, if there is one.
    #[serde(default)]
    pub uplink: Option<RawFd>,
    /// The rest.
    pub options: Options,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Options {
        Options::new(Ipv4Addr::new(10, 64, 0, 1), 12, [2, 0, 0, 0, 0, 1])
    }

    #[test]
    fn errors_name_the_field() {
        assert_eq!(good().check(), Ok(()));
        type Spoil = fn(&mut Options);
        let ways: [(&str, Spoil); 8] = [
            ("mtu", |it| it.mtu = 500),
            ("prefix_len", |it| it.prefix_len = 31),
            ("mac", |it| it.mac[0] = 1),
            ("gateway", |it| it.gateway = Ipv4Addr::new(10, 64, 0, 0)),
            ("waiting.packets", |it| it.waiting.packets = 0),
            ("waiting.bytes", |it| it.waiting.bytes = 1500),
            ("waiting.total_bytes", |it| it.waiting.total_bytes = 2000),
            ("connections", |it| it.connections = 0),
        ];
        for (name, way) in ways {
            let mut options = good();
            way(&mut options);
            assert!(options.check().unwrap_err().contains(name), "{name}");
        }
    }

    #[test]
    fn hosts_are_in_the_subnet_and_neither_its_first_nor_last() {
        let options = good();
        assert!(options.is_host(Ipv4Addr::new(10, 79, 255, 254)));
        for no in [[10, 79, 255, 255], [10, 64, 0, 0], [10, 80, 0, 1], [10, 63, 0, 1]] {
            assert!(!options.is_host(no.into()), "{no:?}");
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let json = r#"{"control":3,"options":{"gateway":"10.64.0.1","prefix_len":12,"mac":[2,0,0,0,0,1]}}"#;
        let spec: Spec = serde_json::from_str(json).unwrap();
        assert_eq!(spec, Spec { control: 3, uplink: None, options: good() });
        assert!(serde_json::from_str::<Spec>(&json.replace("mac", "mack")).is_err());
    }
}
