//! Values that a configuration writes as text: memory sizes, addresses, published ports.

mod duration;
mod egress;
mod publish;
#[cfg(feature = "schema")]
mod schema;

pub use duration::{Span, Window};
pub use egress::{Destination, Ports, Resolver};
pub use publish::{Protocol, Publish};

use crate::error::quoted;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Units of memory sizes, largest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A size of memory in bytes: a number with a unit (`"16MiB"`), or an integer of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySize(pub u64);

impl Default for MemorySize {
    fn default() -> Self {
        Self(16 << 20)
    }
}

impl FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{} {why}; write e.g. \"16MiB\"", quoted(text));
        let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
        let Some((number, unit)) = unit else {
            return Err(wrong("has no unit of KiB, MiB or GiB"));
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong("is not a whole number and a unit"));
        }
        let number: Option<u64> = number.parse().ok();
        match number.and_then(|number| number.checked_mul(unit)) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(wrong("is more than any guest can have")),
        }
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl Serialize for MemorySize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 > 0 && self.0.is_multiple_of(1024) {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = MemorySize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"16MiB\"")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<MemorySize, E> {
                Ok(MemorySize(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<MemorySize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A MAC address, written as six pairs of hexadecimal digits with colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

impl FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{} is not a MAC address; write e.g. \"02:00:00:00:00:01\"", quoted(text));
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        if bytes[0] & 1 != 0 || bytes == [0; 6] {
            return Err(format!(
                "{} is not the address of one device; its first byte must be even, e.g. \
                 \"02:00:00:00:00:01\"",
                quoted(text)
            ));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub Ipv4Addr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(address) => Ok(Self(address)),
            Err(_) => {
                Err(format!("{} is not an IPv4 address; write e.g. \"10.0.2.2\"", quoted(text)))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An IPv4 address and the bits of its subnet's prefix (1 to 30): `"10.0.2.15/24"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the prefix.
    pub prefix_len: u8,
}

impl Subnet {
    /// The bits of an address that name the subnet.
    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix_len))
    }

    /// Whether `host` is an address that a host of this subnet can have.
    #[must_use]
    pub fn has_host(self, host: Ipv4Addr) -> bool {
        let (own, host) = (u32::from(self.address), u32::from(host));
        let number = host & !self.mask();
        own & self.mask() == host & self.mask() && number != 0 && number != !self.mask()
    }

    /// The n-th address of the subnet.
    pub(crate) fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from((u32::from(self.address) & self.mask()) | (n & !self.mask()))
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{} {why}; write e.g. \"10.0.2.15/24\"", quoted(text));
        let Some((address, prefix)) = text.split_once('/') else {
            return Err(wrong("has no prefix length"));
        };
        let address = address.parse().map_err(|_| wrong("is not an IPv4 address and a prefix"))?;
        let prefix_len = match number::<u8>(prefix) {
            Some(prefix_len @ 1..=30) => prefix_len,
            _ => return Err(wrong("has a prefix length that is not 1 to 30")),
        };
        let subnet = Self { address, prefix_len };
        let special = address.is_loopback() || address.is_multicast() || address.octets()[0] == 0;
        if special || !subnet.has_host(address) {
            return Err(wrong("is not an address that a host can have"));
        }
        Ok(subnet)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// A decimal number of digits alone: no sign, no blanks.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Reads and writes a type as the text of its `FromStr` and `Display`.
macro_rules! as_text {
    ($type:ty, $what:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

pub(crate) use as_text;

as_text!(MacAddress, "a MAC address such as \"02:00:00:00:00:01\"");
as_text!(Address, "an IPv4 address such as \"10.0.2.2\"");
as_text!(Subnet, "an address such as \"10.0.2.15/24\"");
