//! The end of a guest: its report, its last event, and the monitor's exit status.

use crate::report::Counters;
use crate::report::CrashReport;
use denali_abi::status::{ENDED_BY_SIGNAL, GUEST_CRASHED};
use serde::Serialize;
use std::collections::BTreeMap;

/// How a guest ended, as programs are told.
#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all = "lowercase")]
pub enum Ending {
    /// It terminated itself.
    Terminated,
    /// It crashed.
    Crashed {
        /// What it did, where, and how it got there.
        report: Box<CrashReport>,
    },
    /// The monitor was told to end it.
    Signalled {
        /// By this signal.
        signal: i32,
    },
}

/// The last event of a guest.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "ended")]
pub struct Ended {
    /// Name of the guest.
    pub name: String,
    /// The monitor's exit status.
    pub status: u8,
    /// How it ended.
    #[serde(flatten)]
    pub ending: Ending,
    /// How long it ran, in ms.
    pub uptime_ms: u64,
    /// What was counted meanwhile.
    pub counters: Counters,
    /// Counters of each device, by the device's name.
    pub devices: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

/// The first event of a guest, just before its first instruction.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "started")]
pub struct Started<'a> {
    /// Name of the guest.
    pub name: &'a str,
    /// What the user called the image.
    pub image: &'a str,
    /// What runs the guest: `kvm` or `process`.
    pub hypervisor: &'a str,
    /// End of RAM in bytes.
    pub memory: u64,
}

/// The last event of a monitor that could not see its guest to its end.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "error")]
pub struct Failed {
    /// What went wrong, in one line.
    pub message: String,
    /// The monitor's exit status.
    pub status: u8,
}

/// The exit status for a guest that terminated itself with this value: its low 8 bits.
#[must_use]
pub fn terminated_status(value: u32) -> u8 {
    (value & 0xff) as u8
}

impl Ending {
    /// The exit status for an end that the guest did not choose; `terminated` is the one it chose.
    #[must_use]
    pub fn status(&self, terminated: u8) -> u8 {
        match self {
            Self::Terminated => terminated,
            Self::Crashed { .. } => GUEST_CRASHED,
            Self::Signalled { signal } => ENDED_BY_SIGNAL.saturating_add(*signal as u8),
        }
    }
}
