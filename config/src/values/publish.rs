//! Published ports: where the host listens, by which protocol, and where that leads.

use super::{as_text, number};
use crate::error::quoted;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that leads into the guest: `"127.0.0.1:8080:80"`, `"8080:80"`,
/// `"[::1]:8080:80"`, `"5000:5000/udp"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where the host listens; port 0 takes any free port.
    pub host: SocketAddr,
    /// Port in the guest, not 0.
    pub guest_port: u16,
    /// The protocol of both.
    pub protocol: Protocol,
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{} is not HOST:PORT:GUEST_PORT; write e.g. \"127.0.0.1:8080:80\"",
                quoted(text)
            )
        };
        let (ports, protocol) = match text.split_once('/').unwrap_or((text, "tcp")) {
            (ports, "tcp") => (ports, Protocol::Tcp),
            (ports, "udp") => (ports, Protocol::Udp),
            _ => {
                let message = "has a protocol that is not tcp or udp; write e.g. \"5000:5000/udp\"";
                return Err(format!("{} {message}", quoted(text)));
            }
        };
        let (host, guest_port) = ports.rsplit_once(':').ok_or_else(wrong)?;
        let (address, host_port) = match host.rsplit_once(':') {
            Some((address, port)) => (address, port),
            None => ("127.0.0.1", host),
        };
        let address: IpAddr =
            match address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
                Some(v6) => IpAddr::V6(v6.parse().map_err(|_| wrong())?),
                None => IpAddr::V4(address.parse().map_err(|_| wrong())?),
            };
        let host_port = number::<u16>(host_port).ok_or_else(wrong)?;
        match number::<u16>(guest_port).ok_or_else(wrong)? {
            0 => Err(format!("{} leads to port 0, which no guest can have", quoted(text))),
            guest_port => {
                Ok(Self { host: SocketAddr::new(address, host_port), guest_port, protocol })
            }
        }
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.guest_port)?;
        if self.protocol == Protocol::Udp { write!(f, "/udp") } else { Ok(()) }
    }
}

as_text!(Publish, "a text such as \"127.0.0.1:8080:80\"");
