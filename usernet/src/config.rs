//! What a gateway is configured with, and which configurations make sense.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Least bytes of an IP packet every link must carry (RFC 791 hosts accept 576); the longest answer about
/// a name fits.
const MTU_MIN: u16 = 576;

/// Most connections a gateway can be allowed.
const CONNECTIONS_MAX: usize = 16_384;

/// The link between a gateway and its guest.
#[derive(Clone, Debug)]
pub struct Config {
    /// The guest's MAC address; frames from any other are dropped.
    pub guest_mac: [u8; 6],
    /// The gateway's MAC address.
    pub gateway_mac: [u8; 6],
    /// Most bytes of an IP packet, at least 576.
    pub mtu: u16,
    /// The guest's address; packets from any other are dropped.
    pub guest_ip: Ipv4Addr,
    /// The gateway's address, from which the guest sees connections come.
    pub gateway_ip: Ipv4Addr,
    /// Bits of the subnet's prefix, 1 to 30.
    pub prefix_len: u8,
    /// Most connections at once, both ways together; more wait in the host's backlog or try again.
    pub max_connections: usize,
    /// How long a guest may take to answer a new connection before its client is reset.
    pub connect_timeout: Duration,
    /// How long data may go unacknowledged by the guest before the connection is reset. More than two
    /// minutes, or a guest that takes its time may be taken for dead: while its window is closed it
    /// is probed once a minute.
    pub stall_timeout: Duration,
    /// Whether the gateway answers questions about names, at its port 53.
    pub resolves: bool,
    /// First of the gateway's ports that connections and peers come from, in the guest's eyes; the last is 65,535. There
    /// must be twice as many as connections.
    pub first_port: u16,
}

/// First of the gateway's ports, unless there is a reason for another.
pub(crate) const FIRST_PORT: u16 = 32_768;

/// Ports there are at least: more than twice as many as peers.
const PORTS_MIN: usize = 2_100;

impl Config {
    /// A link with 1,500-byte packets, 1,024 connections, and time-outs of 30 and 180 seconds.
    #[must_use]
    pub fn new(guest: ([u8; 6], Ipv4Addr), gateway: ([u8; 6], Ipv4Addr), prefix_len: u8) -> Self {
        Self {
            guest_mac: guest.0,
            gateway_mac: gateway.0,
            mtu: 1500,
            guest_ip: guest.1,
            gateway_ip: gateway.1,
            prefix_len,
            max_connections: 1024,
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(180),
            resolves: false,
            first_port: FIRST_PORT,
        }
    }

    /// Checks the values together.
    pub(crate) fn check(&self) -> io::Result<()> {
        let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if self.mtu < MTU_MIN {
            return wrong(format!("mtu is {}, below {MTU_MIN}", self.mtu));
        }
        if !(1..=30).contains(&self.prefix_len) {
            return wrong(format!("prefix_len is {}, not 1 to 30", self.prefix_len));
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.max_connections) {
            let given = self.max_connections;
            return wrong(format!("max_connections is {given}, not 1 to {CONNECTIONS_MAX}"));
        }
        let ports = usize::from(u16::MAX - self.first_port) + 1;
        if ports < PORTS_MIN || ports < 2 * self.max_connections {
            return wrong(format!(
                "first_port is {}, which leaves {ports} ports, not {PORTS_MIN} and twice max_connections",
                self.first_port
            ));
        }
        for (name, mac) in [("guest_mac", self.guest_mac), ("gateway_mac", self.gateway_mac)] {
            if mac[0] & 1 != 0 || mac == [0; 6] {
                return wrong(format!("{name} is not the address of one card"));
            }
        }
        for (name, ip) in [("guest_ip", self.guest_ip), ("gateway_ip", self.gateway_ip)] {
            if !self.is_host_address(ip) {
                return wrong(format!("{name} {ip} is not the address of a host in its subnet"));
            }
        }
        let mask = self.mask();
        let different_subnet = (self.guest_ip.to_bits() ^ self.gateway_ip.to_bits()) & mask != 0;
        if different_subnet || self.guest_ip == self.gateway_ip {
            return wrong(format!(
                "guest_ip {} and gateway_ip {} must differ and share a /{}",
                self.guest_ip, self.gateway_ip, self.prefix_len
            ));
        }
        if self.guest_mac == self.gateway_mac {
            return wrong("guest_mac and gateway_mac are the same".to_owned());
        }
        Ok(())
    }

    fn mask(&self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix_len))
    }

    fn is_host_address(&self, ip: Ipv4Addr) -> bool {
        let host = ip.to_bits() & !self.mask();
        let special =
            ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.octets()[0] >= 240;
        !special && host != 0 && host != !self.mask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Config {
        let guest = ([2, 0, 0, 0, 0, 2], Ipv4Addr::new(10, 0, 2, 15));
        Config::new(guest, ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 2, 2)), 24)
    }

    #[test]
    fn errors_name_the_field() {
        assert!(good().check().is_ok());
        let ip = |d| Ipv4Addr::new(10, 0, 2, d);
        type Spoil = fn(&mut Config);
        let ways: [(&str, Spoil); 8] = [
            ("mtu", |c| c.mtu = 500),
            ("prefix_len", |c| c.prefix_len = 31),
            ("max_connections", |c| c.max_connections = 0),
            ("first_port", |c| c.first_port = 64_000),
            ("first_port", |c| (c.first_port, c.max_connections) = (61_000, 4000)),
            ("guest_mac", |c| c.guest_mac[0] = 1),
            ("gateway_ip", |c| c.gateway_ip = Ipv4Addr::new(10, 0, 2, 255)),
            ("share a /24", |c| c.guest_ip = Ipv4Addr::new(10, 0, 3, 1)),
        ];
        for (name, way) in ways {
            let mut config = good();
            way(&mut config);
            assert!(config.check().unwrap_err().to_string().contains(name), "{name}");
        }
        let same = Config { gateway_ip: ip(15), ..good() };
        assert!(same.check().is_err());
    }
}
