//! The crash report: what a guest did that ended it, where, and how it got there; for people and as
//! JSON.

mod backtrace;
mod cause;
mod region;
#[cfg(test)]
mod tests;
mod text;

pub use cause::{CauseKind, CauseReport};
pub use region::RegionKind;

use denali_arch::image::Image;
use denali_arch::symbols::Symbols;
use denali_hypervisor::{GPR_NAMES, GuestRam, Registers};
use denali_vcpu::{Cause, Crash};
use serde::{Serialize, Serializer};

/// The guest that crashed, as far as its report tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Name of the guest.
    pub guest: &'a str,
    /// What the user called the image.
    pub image_name: &'a str,
    /// What ran the guest: `kvm` or `process`.
    pub hypervisor: &'a str,
    /// The image.
    pub image: &'a Image,
    /// The image's symbols.
    pub symbols: Symbols<'a>,
    /// How long the guest ran, in ns.
    pub uptime_ns: u64,
    /// What was counted meanwhile.
    pub counters: Counters,
}

/// What was counted while the guest ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Times the guest left guest mode for the monitor.
    pub exits: u64,
    /// Interrupts raised by devices and timers.
    pub interrupts_raised: u64,
    /// Interrupts posted to the guest.
    pub interrupts_delivered: u64,
    /// Times at least one was posted.
    pub batches: u64,
    /// How many interrupts the batches had.
    pub batch_size: Spread,
    /// How long batches waited from the first interrupt that was raised to the post, in ns.
    pub time_held_ns: Spread,
}

/// What half, and what 99 of 100, of some values do not exceed; 0 without values. Estimated from a histogram,
/// by less than a factor of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Half of them.
    pub p50: u64,
    /// 99 of 100.
    pub p99: u64,
}

/// The end of a guest that crashed. Its [`Display`](std::fmt::Display) is for people: some dozen lines
/// without a final newline; serialised, addresses and registers are strings of the form `0x1f`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrashReport {
    /// Name of the guest.
    pub guest: String,
    /// What the user called the image.
    pub image: String,
    /// What ran the guest.
    pub hypervisor: String,
    /// What the guest did.
    pub cause: CauseReport,
    /// The instruction that did it, or the one after it where `cause` is a port or a trap.
    pub location: Location,
    /// Registers of the guest.
    #[serde(serialize_with = "registers")]
    pub registers: Registers,
    /// Return addresses of the callers, innermost first, as far as frame pointers lead: at most 32.
    pub backtrace: Vec<Location>,
    /// How long the guest ran, in ms.
    pub uptime_ms: u64,
    /// What was counted meanwhile.
    pub counters: Counters,
}

/// An address in the guest's code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The address.
    #[serde(serialize_with = "hex")]
    pub address: u64,
    /// The symbol it belongs to, demangled, where the image has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Bytes from the start of the symbol; 0 without one.
    pub offset: u64,
}

impl CrashReport {
    /// Reports the crash of a guest whose memory is still as it left it. Memory is read only where the
    /// guest itself could, and not much of it, whatever the guest has made of its stack.
    #[must_use]
    pub fn new(subject: &Subject<'_>, ram: &GuestRam, crash: &Crash) -> Self {
        let registers = crash.registers;
        let location = if ends_before_rip(&crash.cause) {
            Location::after(registers.rip, &subject.symbols)
        } else {
            Location::at(registers.rip, &subject.symbols)
        };
        let callers = backtrace::callers(ram, &registers);
        Self {
            guest: subject.guest.to_owned(),
            image: subject.image_name.to_owned(),
            hypervisor: subject.hypervisor.to_owned(),
            cause: CauseReport::new(crash, subject.image, ram),
            location,
            registers,
            backtrace: callers
                .into_iter()
                .map(|address| Location::after(address, &subject.symbols))
                .collect(),
            uptime_ms: subject.uptime_ns / 1_000_000,
            counters: subject.counters,
        }
    }
}

impl Location {
    /// The instruction at `address`.
    fn at(address: u64, symbols: &Symbols<'_>) -> Self {
        let place = symbols.lookup(address);
        let offset = place.as_ref().map_or(0, |place| place.offset);
        Self { address, symbol: place.map(|place| place.name), offset }
    }

    /// The instruction before `address`: a call that never returns may be the last of its function.
    fn after(address: u64, symbols: &Symbols<'_>) -> Self {
        let before = Self::at(address.wrapping_sub(1), symbols);
        let offset = if before.symbol.is_some() { before.offset + 1 } else { 0 };
        Self { address, offset, ..before }
    }
}

/// Whether RIP is already behind the instruction that ended the guest.
fn ends_before_rip(cause: &Cause) -> bool {
    match cause {
        Cause::UnknownPort { .. } | Cause::BadConsole { .. } => true,
        Cause::Fault(fault) => matches!(fault.vector, cause::BREAKPOINT | cause::OVERFLOW),
        Cause::UpcallStack | Cause::Lost(_) => false,
    }
}

/// A number as JSON can carry it: 64 bits do not fit into its own.
fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

fn registers<S: Serializer>(registers: &Registers, serializer: S) -> Result<S::Ok, S::Error> {
    let named = GPR_NAMES.into_iter().zip(registers.gpr);
    let special = [("rip", registers.rip), ("rflags", registers.rflags)];
    serializer.collect_map(named.chain(special).map(|(name, value)| (name, format!("{value:#x}"))))
}
