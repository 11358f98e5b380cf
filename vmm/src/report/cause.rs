//! What a guest did that ended it, in words and for programs.

use super::region::RegionKind;
use denali_arch::image::Image;
use denali_hypervisor::{Fault, GuestRam, PAGE_FAULT};
use denali_vcpu::{Cause, Crash};
use serde::Serialize;
use std::sync::atomic::Ordering;

/// Vector of the breakpoint trap.
pub(super) const BREAKPOINT: u8 = 3;
/// Vector of the overflow trap.
pub(super) const OVERFLOW: u8 = 4;

const ERROR_WRITE: u64 = 1 << 1;
const ERROR_FETCH: u64 = 1 << 4;

/// The sort of thing that ended a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseKind {
    /// A read, write or execution the address space does not allow.
    PageFault,
    /// An access to the guard page below the stack.
    StackOverflow,
    /// Another processor exception.
    Exception,
    /// A port outside the contract.
    UnknownPort,
    /// The CONSOLE doorbell named memory the guest may not read.
    BadConsole,
    /// An upcall was due and the stack takes no frame.
    UpcallStack,
    /// The guest could not be continued.
    Lost,
}

/// What a guest did that ended it. Fields that do not apply are absent from the JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CauseReport {
    /// The sort of thing.
    pub kind: CauseKind,
    /// One line for people.
    pub text: String,
    /// Exception vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<u8>,
    /// The processor's error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<u64>,
    /// The address that was accessed.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_hex")]
    pub address: Option<u64>,
    /// What lies there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionKind>,
    /// The port that was accessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl CauseReport {
    /// Puts the cause of `crash` into words.
    pub(super) fn new(crash: &Crash, image: &Image, ram: &GuestRam) -> Self {
        let region = |address| RegionKind::of(address, image, ram.space().memory_size());
        match &crash.cause {
            Cause::Fault(fault) => {
                let mut report = if fault.vector == PAGE_FAULT {
                    page_fault(fault, crash.registers.rip, region(fault.address))
                } else {
                    exception(fault)
                };
                if ram.registers().fault_entry.load(Ordering::Relaxed) != 0 {
                    report.text.push_str("; its stack takes no frame for fault_entry");
                }
                report
            }
            Cause::UpcallStack => {
                let rsp = crash.registers.rsp();
                let at = region(rsp).phrase();
                let text = format!("an upcall was due, but RSP {rsp:#x} {at} takes no frame");
                located(plain(CauseKind::UpcallStack, text), rsp, region(rsp))
            }
            Cause::UnknownPort { port, write } => {
                let access = if *write { "OUT to" } else { "IN from" };
                let text = format!("{access} port {port:#06x}, which is no doorbell");
                Self { port: Some(*port), ..plain(CauseKind::UnknownPort, text) }
            }
            Cause::BadConsole { address, length } => {
                let text = format!(
                    "CONSOLE of {length} bytes at {address:#x}, which it may not read ({})",
                    region(*address).phrase()
                );
                located(plain(CauseKind::BadConsole, text), *address, region(*address))
            }
            Cause::Lost(why) => plain(CauseKind::Lost, why.clone()),
        }
    }
}

fn plain(kind: CauseKind, text: String) -> CauseReport {
    CauseReport {
        kind,
        text,
        vector: None,
        error_code: None,
        address: None,
        region: None,
        port: None,
    }
}

fn located(report: CauseReport, address: u64, region: RegionKind) -> CauseReport {
    CauseReport { address: Some(address), region: Some(region), ..report }
}

fn page_fault(fault: &Fault, rip: u64, region: RegionKind) -> CauseReport {
    let (address, place) = (fault.address, region.phrase());
    let fetch = fault.error_code & ERROR_FETCH != 0;
    let access = if fault.error_code & ERROR_WRITE != 0 { "write to" } else { "read of" };
    let (kind, text) = match region {
        _ if fetch && address == rip => {
            (CauseKind::PageFault, format!("jump to {address:#x} {place}, which is not code"))
        }
        _ if fetch => {
            (CauseKind::PageFault, format!("execution ran into {address:#x} {place}, no code"))
        }
        RegionKind::StackGuard => {
            (CauseKind::StackOverflow, format!("stack overflow: {access} {address:#x} {place}"))
        }
        _ => (CauseKind::PageFault, format!("{access} {address:#x} {place}")),
    };
    let (vector, error_code) = (Some(fault.vector), Some(fault.error_code));
    located(CauseReport { vector, error_code, ..plain(kind, text) }, address, region)
}

fn exception(fault: &Fault) -> CauseReport {
    let mut text = exception_name(fault.vector).to_owned();
    if fault.error_code != 0 {
        text.push_str(&format!(", error code {:#x}", fault.error_code));
    }
    let (vector, error_code) = (Some(fault.vector), Some(fault.error_code));
    CauseReport { vector, error_code, ..plain(CauseKind::Exception, text) }
}

/// The processor's name for an exception, and what it mostly means.
fn exception_name(vector: u8) -> &'static str {
    match vector {
        0 => "division by zero or quotient too large (#DE)",
        1 => "debug exception (#DB)",
        2 => "non-maskable interrupt",
        BREAKPOINT => "breakpoint (#BP)",
        OVERFLOW => "overflow (#OF)",
        5 => "bound range exceeded (#BR)",
        6 => "invalid instruction (#UD)",
        7 => "floating point not available (#NM)",
        8 => "double fault (#DF)",
        10 => "invalid task state (#TS)",
        11 => "segment not present (#NP)",
        12 => "stack fault, mostly a non-canonical stack address (#SS)",
        13 => {
            "general protection: a privileged instruction, a non-canonical address, or a \
             misaligned vector operand (#GP)"
        }
        PAGE_FAULT => "page fault (#PF)",
        16 => "x87 floating-point error (#MF)",
        17 => "misaligned access (#AC)",
        18 => "machine check (#MC)",
        19 => "SIMD floating-point error (#XM)",
        21 => "control-flow protection (#CP)",
        _ => "reserved exception",
    }
}

fn optional_hex<S: serde::Serializer>(
    value: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    super::hex(&value.unwrap_or_default(), serializer)
}
