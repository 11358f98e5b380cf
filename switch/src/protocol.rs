//! What a supervisor and its switch say to each other, over a Unix socket of type SOCK_SEQPACKET, as one JSON
//! object a message of at most 64 KiB. Both sides take the other's messages as untrusted.
//!
//! The switch listens at a socket that the supervisor made and passed to it, and has one supervisor at a time: a
//! new connection takes the place of the old one. Ports stay when a supervisor leaves.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Number of a port: the supervisor's choice, and index into the table of [`Activity`].
pub type PortNumber = u32;

/// Most bytes of a message.
pub const MESSAGE_MAX: usize = 64 << 10;

/// Most ports.
pub const PORTS_MAX: PortNumber = 1 << 20;

/// What the switch is asked for. It answers none of them but [`Ask::Hello`], [`Ask::Ports`] and [`Ask::Counters`],
/// and those that cannot be done, by [`Told::Problem`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "ask")]
pub enum Ask {
    /// The first message: is answered by [`Told::Hello`].
    Hello {
        /// Version of the protocol: [`VERSION`].
        version: u32,
    },
    /// To have these ports, or change them. What is connected to one stays connected.
    Set {
        /// The ports.
        ports: Vec<Port>,
    },
    /// To forget ports.
    Remove {
        /// Their numbers.
        ports: Vec<PortNumber>,
    },
    /// To connect a guest: its socket (SOCK_SEQPACKET, one frame a message, as the crate `denali-wire` has it) comes
    /// along. What waits for the guest is put into it at once. An older one is closed.
    Connect {
        /// The port.
        port: PortNumber,
    },
    /// To have a port of the host lead into a guest: a listening TCP socket, or a bound UDP one, comes along.
    Publish {
        /// The port.
        port: PortNumber,
        /// Port in the guest.
        guest_port: u16,
        /// Whether the socket is UDP's.
        #[serde(default)]
        udp: bool,
    },
    /// To publish a port of a guest no more: its sockets are closed, connections that are there go on.
    Unpublish {
        /// The port.
        port: PortNumber,
        /// Port in the guest.
        guest_port: u16,
        /// Whether the sockets are UDP's.
        #[serde(default)]
        udp: bool,
    },
    /// To say again, of all ports that are wanted by a packet and not connected, that they are: for a supervisor
    /// that has come anew; and all that are connected.
    Ports {},
    /// What it has counted: is answered by [`Told::Counters`].
    Counters {},
    /// To end, and have all guests lose their network.
    End {},
}

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// A port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its number.
    pub number: PortNumber,
    /// The guest's address: what it sends with another source is dropped.
    pub address: Ipv4Addr,
    /// The guest's MAC address, likewise.
    pub mac: [u8; 6],
    /// The group that it is in; guests of one group may talk to each other if the switch's policy says so.
    pub group: u32,
    /// TCP and UDP ports that a packet for the parked guest must have to wake it; empty = any.
    #[serde(default)]
    pub wakes: Vec<u16>,
    /// Bytes a second that it may send, and as many that it may get; 0 = no limit.
    #[serde(default)]
    pub rate: u64,
}

/// What the switch says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "told")]
pub enum Told {
    /// Who it is; a descriptor comes along: a memfd with a table of [`Activity`], to be mapped for reading.
    Hello {
        /// Version of the protocol.
        version: u32,
        /// How many ports it has.
        ports: u32,
    },
    /// Something came for guests that are not connected, and waits for them. Said once until they are connected, or the
    /// packets are too old; and again when more comes half a second later, in case the supervisor was busy with the guest.
    Wanted {
        /// Their ports.
        ports: Vec<PortNumber>,
    },
    /// Ports that are connected: the answer to [`Ask::Ports`], in as many messages as it takes; the last is empty.
    Connected {
        /// The ports.
        ports: Vec<PortNumber>,
    },
    /// Sockets of guests whose other end is gone: they are not connected from now on. It may cross an
    /// [`Ask::Connect`], and is then about the socket before: who is in doubt asks for [`Ask::Ports`].
    Gone {
        /// Their ports.
        ports: Vec<PortNumber>,
    },
    /// The answer to [`Ask::Counters`].
    Counters {
        /// What was counted since the switch began.
        counters: Counters,
    },
    /// A request could not be done.
    Problem {
        /// Why, in one line.
        message: String,
    },
}

/// What the whole switch has counted since it began, and what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Ports, connected or not.
    pub ports: u64,
    /// Guests that are connected.
    pub connected: u64,
    /// Frames of guests.
    pub sent: u64,
    /// Bytes of these frames.
    pub sent_bytes: u64,
    /// Frames to guests.
    pub received: u64,
    /// Bytes of these frames.
    pub received_bytes: u64,
    /// Packets from the uplink.
    pub uplink_received: u64,
    /// Packets to the uplink.
    pub uplink_sent: u64,
    /// Connections and peers of published ports that there are.
    pub connections: u64,
    /// Times that a packet wanted a guest that was not connected.
    pub wanted: u64,
    /// Frames that wait now, for guests that are not connected or slow.
    pub waiting: u64,
    /// Bytes of these frames.
    pub waiting_bytes: u64,
    /// Packets that were dropped, and why.
    pub dropped: Dropped,
}

/// Packets that were dropped, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// Contradictory, or cut off.
    pub malformed: u64,
    /// Under a source that is not the sender's.
    pub spoofed: u64,
    /// Larger than packets may be.
    pub too_long: u64,
    /// IPv6.
    pub ipv6: u64,
    /// Neither IPv4 nor ARP, or with options of IPv4.
    pub protocol: u64,
    /// To everybody, or to many.
    pub broadcast: u64,
    /// ARP that asks for nobody whom the sender may talk to, or does not ask.
    pub arp: u64,
    /// To a guest whom the sender may not talk to.
    pub forbidden: u64,
    /// To an address where nobody is.
    pub unknown: u64,
    /// To the host or beyond, where nothing leads.
    pub no_uplink: u64,
    /// To a guest that is not connected, and not of the kind that wakes it.
    pub not_waking: u64,
    /// The same segment again as one that waits.
    pub repeated: u64,
    /// No room in what waits for this guest.
    pub full: u64,
    /// No room in what waits for all guests.
    pub crowded: u64,
    /// Waited for too long.
    pub aged: u64,
    /// Refused by the socket or the uplink.
    pub refused: u64,
}

/// What a port has done, in the table that the switch shares: 32 bytes, each a number of 8 bytes of the host's order
/// that is written whole.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Activity {
    /// Packets from the guest.
    pub sent: std::sync::atomic::AtomicU64,
    /// Packets to the guest.
    pub received: std::sync::atomic::AtomicU64,
    /// Packets that were dropped: forbidden, too many, or too fast.
    pub dropped: std::sync::atomic::AtomicU64,
    /// When there was the last one, in ms of the host's boot time; 0 = never.
    pub last_ms: std::sync::atomic::AtomicU64,
}
