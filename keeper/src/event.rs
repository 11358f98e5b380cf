//! What a keeper tells of its guests.

use serde::Serialize;
use std::net::SocketAddr;

/// Something that happened to a guest, as programs are told: one JSON object with the field `event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A port of the host leads into it.
    Published {
        /// Name of the guest.
        name: &'a str,
        /// Where the host listens.
        host: SocketAddr,
        /// Number of the guest's network device.
        device: usize,
        /// Port in the guest.
        guest_port: u16,
        /// `tcp` or `udp`.
        protocol: String,
    },
    /// It runs for the first time.
    Started {
        /// Name of the guest.
        name: &'a str,
        /// Its monitor's process.
        pid: u32,
    },
    /// It is parked: it has no process and no memory. Also told, by a keeper that starts, of those that
    /// were parked before.
    Parked {
        /// Name of the guest.
        name: &'a str,
        /// Pages in its region.
        pages: u64,
        /// Number of the state in its region.
        sequence: u64,
    },
    /// It could not be parked.
    NotParked {
        /// Name of the guest.
        name: &'a str,
        /// Why.
        why: String,
    },
    /// A monitor was given to it.
    Waking {
        /// Name of the guest.
        name: &'a str,
        /// Its monitor's process.
        pid: u32,
        /// What for.
        because: Reason,
    },
    /// It runs again.
    Woken {
        /// Name of the guest.
        name: &'a str,
        /// Microseconds since something was found to be for it.
        micros: u64,
    },
    /// It has ended, or is given up.
    Ended {
        /// Name of the guest.
        name: &'a str,
        /// Its monitor's exit status, as `docs/exit-codes.md` lists it; `None` if a signal ended it, or it
        /// had none.
        status: Option<u8>,
        /// The signal that ended its monitor.
        signal: Option<i32>,
        /// How, in a few words.
        how: String,
    },
    /// It was stopped, and can be started anew.
    Stopped {
        /// Name of the guest.
        name: &'a str,
        /// How, in a few words.
        how: String,
    },
    /// Something that its user should know, in one line.
    Notice {
        /// Name of the guest; empty where it is about all of them.
        name: &'a str,
        /// What.
        message: String,
    },
}

/// Why a guest wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It has not run yet.
    Start,
    /// Something came for it: a connection, a packet, input.
    Arrival,
    /// Its timer has gone off.
    Timer,
    /// Somebody asked its monitor for something that only a guest that runs can do.
    Command,
    /// Its keeper stops, and it is asked to.
    Stop,
    /// Its monitor ended before it told how far it came.
    Again,
}
