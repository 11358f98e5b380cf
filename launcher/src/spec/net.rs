//! Network devices as the monitor is told of them.

use super::limit::LimitSpec;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::os::fd::RawFd;

/// One network device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetSpec {
    /// Name of the device.
    pub name: String,
    /// MAC address of the guest.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// IPv4 address of the guest.
    pub address: Ipv4Addr,
    /// Bits of the subnet's prefix.
    pub prefix_len: u8,
    /// IPv4 address of the gateway.
    pub gateway: Ipv4Addr,
    /// Limits of what reaches the guest.
    pub receive_limit: LimitSpec,
    /// Limits of what leaves the guest.
    pub transmit_limit: LimitSpec,
    /// What the device is connected to.
    pub backend: NetBackendSpec,
}

/// What a network device is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum NetBackendSpec {
    /// The user-mode gateway.
    User(UserSpec),
    /// A tap device with virtio-net headers of 12 bytes, non-blocking.
    Tap {
        /// The tap.
        tap: RawFd,
    },
    /// A connected SOCK_SEQPACKET socket.
    Socket {
        /// The socket.
        socket: RawFd,
    },
    /// A vhost-user back end.
    VhostUser {
        /// The connection to it.
        socket: RawFd,
        /// Channel to the broker, which connects anew.
        broker: RawFd,
    },
}

/// The user-mode gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// Ports of the host that lead into the guest.
    pub publish: Vec<PublishSpec>,
    /// Most connections at once.
    pub max_connections: usize,
    /// Channel to the broker, which opens what the guest may connect to; `None` where nothing leads out.
    pub broker: Option<RawFd>,
    /// Whether the gateway answers questions for names.
    pub resolves: bool,
}

/// A host port that leads into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishSpec {
    /// The host's socket.
    pub socket: PublishedSocket,
    /// Port in the guest.
    pub guest_port: u16,
}

/// A socket to which clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum PublishedSocket {
    /// A listening, non-blocking TCP socket.
    Tcp(RawFd),
    /// A bound, non-blocking UDP socket.
    Udp(RawFd),
}
