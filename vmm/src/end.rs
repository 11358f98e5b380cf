//! The end of a guest: its report, its last event, and the monitor's exit status.

use crate::devices::DeviceCounters;
use crate::last_words;
use crate::output::Output;
use crate::prepared::Prepared;
use crate::report::Counters;
use crate::report::CrashReport;
use crate::start;
use denali_abi::status::{ENDED_BY_SIGNAL, GUEST_CRASHED, HOST_LACKS, MONITOR_FAILED, PARKED};
use denali_launcher::spec::MachineSpec;
use denali_vcpu::ClockStart;
use serde::Serialize;
use std::fmt;

/// Runs the guest that `spec` describes, and ends the process with the exit status that
/// `docs/exit-codes.md` gives for how it went. A guest that cannot be run is told of in one line.
pub fn run_to_end(spec: MachineSpec, started: ClockStart) -> ! {
    run_prepared(spec, started, Prepared::default())
}

/// As [`run_to_end`], with what was made before.
pub fn run_prepared(spec: MachineSpec, started: ClockStart, prepared: Prepared) -> ! {
    let output = Output::new(spec.output);
    // A panic is a defect of the monitor: it ends the guest with a status that says so.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("denali: the monitor failed, please report it: {panic}");
        last_words::tell(MONITOR_FAILED, "the monitor failed");
        exit_now(MONITOR_FAILED);
    }));
    let error = match start::run(spec, started, prepared) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let status = error.status().unwrap_or(MONITOR_FAILED);
    eprintln!("denali: {error}");
    output.event(&Failed { message: error.to_string(), status });
    last_words::tell(status, &error.to_string());
    exit_now(status)
}

/// Ends the process without running anything more of it: inside the sandbox, the ends of libraries are
/// none of its business. Output is written line by line and waits nowhere.
pub(crate) fn exit_now(status: u8) -> ! {
    // SAFETY: ends the process; nothing of it is used any more.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Ends the process because the guest's memory cannot be had any more, and says so. Any thread may call it.
pub(crate) fn memory_lost(name: &str, output: Output, why: &str) -> ! {
    output.message(&format!("denali: the guest {name} is lost: {why}"));
    output.event(&Lost { name, status: HOST_LACKS, reason: "lost", message: why });
    last_words::tell(HOST_LACKS, &format!("its memory is lost: {why}"));
    exit_now(HOST_LACKS)
}

/// The last event of a guest whose memory cannot be had.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "ended")]
struct Lost<'a> {
    name: &'a str,
    status: u8,
    reason: &'a str,
    message: &'a str,
}

/// How a guest ended, as programs are told.
#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all = "lowercase")]
pub(crate) enum Ending {
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
    /// It is in its region, and can go on from there.
    Parked,
}

/// The last event of a guest.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "ended")]
pub(crate) struct Ended {
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
    pub devices: DeviceCounters,
}

/// The first event of a guest, just before its first instruction.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "started")]
pub(crate) struct Started<'a> {
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
pub(crate) struct Failed {
    /// What went wrong, in one line.
    pub message: String,
    /// The monitor's exit status.
    pub status: u8,
}

/// In one line, for whoever cannot wait for the process.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminated => f.write_str("it terminated itself"),
            Self::Crashed { report } => write!(f, "it crashed: {}", report.cause.text),
            Self::Signalled { signal } => write!(f, "signal {signal} ended it"),
            Self::Parked => f.write_str("it was parked"),
        }
    }
}

/// The exit status for a guest that terminated itself with this value: its low 8 bits.
#[must_use]
pub(crate) fn terminated_status(value: u32) -> u8 {
    (value & 0xff) as u8
}

impl Ending {
    /// The exit status for an end that the guest did not choose; `terminated` is the one it chose.
    #[must_use]
    pub(crate) fn status(&self, terminated: u8) -> u8 {
        match self {
            Self::Terminated => terminated,
            Self::Crashed { .. } => GUEST_CRASHED,
            Self::Parked => PARKED,
            Self::Signalled { signal } => ENDED_BY_SIGNAL.saturating_add(*signal as u8),
        }
    }
}
