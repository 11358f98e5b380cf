//! Values of egress rules: destinations, ports, name servers.

use super::{as_text, number};
use crate::error::quoted;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Most characters of a domain name (RFC 1035).
const NAME_MAX: usize = 253;

/// Most characters between two dots of a domain name.
const LABEL_MAX: usize = 63;

/// Most entries of a list of ports.
const RANGES_MAX: usize = 64;

/// The port of name servers.
const DNS_PORT: u16 = 53;

/// Where a guest may connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// All addresses of a range: the address, and the bits of its prefix, 0 to 32.
    Range(Ipv4Addr, u8),
    /// What this name means, in lower case and without a dot at its end.
    Name(String),
    /// What any name below this one means.
    Below(String),
    /// The host's loopback, which the guest sees at its gateway's address.
    Host,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "host" {
            return Ok(Self::Host);
        }
        if let Some((address, prefix)) = text.split_once('/') {
            return range(text, address, prefix);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Range(address, 32));
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        match domain_name(name) {
            Some(name) if below => Ok(Self::Below(name)),
            Some(name) => Ok(Self::Name(name)),
            None => Err(format!(
                "{} is not an address range or a name; write e.g. \"192.0.2.0/24\", \
                 \"api.example.com\", \"*.example.com\" or \"host\"",
                quoted(text)
            )),
        }
    }
}

fn range(text: &str, address: &str, prefix: &str) -> Result<Destination, String> {
    let wrong = |why: &str| Err(format!("{} {why}; write e.g. \"192.0.2.0/24\"", quoted(text)));
    let Ok(address) = address.parse::<Ipv4Addr>() else {
        return wrong("is not a range of IPv4 addresses");
    };
    let Some(prefix_len @ 0..=32) = number::<u8>(prefix) else {
        return wrong("has a prefix length that is not 0 to 32");
    };
    let host_bits = u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
    if u32::from(address) & host_bits != 0 {
        let first = Ipv4Addr::from(u32::from(address) & !host_bits);
        return Err(format!(
            "{} does not start at the range's first address; write \"{first}/{prefix_len}\"",
            quoted(text)
        ));
    }
    Ok(Destination::Range(address, prefix_len))
}

/// `text` in lower case if it is a domain name; a dot at its end is dropped. What looks like an address
/// is no name.
fn domain_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| {
        let sized = (1..=LABEL_MAX).contains(&label.len());
        sized && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    let numeric = name.rsplit('.').next().is_some_and(|last| last.parse::<u64>().is_ok());
    let valid = name.len() <= NAME_MAX && name.split('.').all(label) && !numeric;
    valid.then_some(name)
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(address, 32) => write!(f, "{address}"),
            Self::Range(address, prefix_len) => write!(f, "{address}/{prefix_len}"),
            Self::Name(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Host => f.write_str("host"),
        }
    }
}

as_text!(Destination, "an address range or a name such as \"192.0.2.0/24\"");

/// The address of a name server; its port is 53 where none is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolver(pub SocketAddr);

impl FromStr for Resolver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bracketed = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let address = match bracketed {
            Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        let whole = text.parse().ok().filter(|whole: &SocketAddr| whole.port() != 0);
        let found = address.map(|address| SocketAddr::new(address, DNS_PORT)).or(whole);
        found.map(Self).ok_or_else(|| {
            format!(
                "{} is not the address of a name server; write e.g. \"192.0.2.53:53\"",
                quoted(text)
            )
        })
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_text!(Resolver, "the address of a name server such as \"192.0.2.53:53\"");

/// Ranges of ports, the first and the last of each, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(pub Vec<(u16, u16)>);

impl Default for Ports {
    fn default() -> Self {
        Self(vec![(1, u16::MAX)])
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(first, last)| format!("{first}-{last}")))
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortsVisitor)
    }
}

struct PortsVisitor;

impl<'de> de::Visitor<'de> for PortsVisitor {
    type Value = Ports;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port, a range such as \"8000-8999\", or a list of those")
    }

    fn visit_u64<E: de::Error>(self, port: u64) -> Result<Ports, E> {
        PortRange::from_number(port).map(|range| Ports(vec![range.0])).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ports, E> {
        text.parse().map(|range: PortRange| Ports(vec![range.0])).map_err(E::custom)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Ports, A::Error> {
        let mut ranges = Vec::new();
        while let Some(range) = items.next_element::<PortRange>()? {
            if ranges.len() == RANGES_MAX {
                let message = format!("has more than {RANGES_MAX} entries; join some to ranges");
                return Err(de::Error::custom(message));
            }
            ranges.push(range.0);
        }
        if ranges.is_empty() {
            let message = "names no port; leave the field out for all ports";
            return Err(de::Error::custom(message));
        }
        Ok(Ports(ranges))
    }
}

/// One entry of a list of ports.
struct PortRange((u16, u16));

impl PortRange {
    fn from_number(port: u64) -> Result<Self, String> {
        match u16::try_from(port) {
            Ok(port @ 1..) => Ok(Self((port, port))),
            _ => Err(format!("{port} is not a port; write a number from 1 to 65535")),
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (number::<u16>(first), number::<u16>(last)) {
            (Some(first @ 1..), Some(last)) if first <= last => Ok(Self((first, last))),
            _ => Err(format!(
                "{} is not a port or a range of ports; write e.g. 443 or \"8000-8999\"",
                quoted(text)
            )),
        }
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = PortRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port or a range such as \"8000-8999\"")
            }

            fn visit_u64<E: de::Error>(self, port: u64) -> Result<PortRange, E> {
                PortRange::from_number(port).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortRange, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
