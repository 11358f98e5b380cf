//! The end of a guest that ran: what is told of it.

use super::{StartError, io_error};
use crate::end::{Ended, Ending, terminated_status};
use crate::guest;
use crate::last_words;
use crate::machine::GuestMachine;
use crate::report::{Counters, CrashReport, Spread, Subject};
use denali_arch::image::Image;
use denali_arch::symbols::Symbols;
use denali_hypervisor::GuestRam;
use denali_launcher::spec::MachineSpec;
use denali_vcpu::{ClockStart, Crash, End, VcpuLoop};
use std::fs::File;
use std::io::{self, Write};
use std::rc::Rc;

/// A guest that ran, and all that its end is told with.
pub(super) struct Finished {
    pub(super) spec: MachineSpec,
    pub(super) image: Image,
    pub(super) image_length: usize,
    pub(super) hypervisor: &'static str,
    pub(super) started: ClockStart,
    pub(super) ram: Rc<GuestRam>,
    pub(super) guest: VcpuLoop<GuestMachine>,
}

impl Finished {
    pub(super) fn finish(&self, end: End, report: Option<File>) -> Result<u8, StartError> {
        let (ending, chosen) = match end {
            End::Terminated(value) => (Ending::Terminated, terminated_status(value)),
            End::Signalled(signal) => (Ending::Signalled { signal }, 0),
            End::Parked => (Ending::Parked, 0),
            End::Crashed(crash) => {
                let written = Box::new(self.report_crash(&crash));
                self.guest.machine().output.message(&written.to_string());
                if let Some(file) = report {
                    write_report(file, &written)?;
                }
                (Ending::Crashed { report: written }, 0)
            }
        };
        let status = ending.status(chosen);
        let how = (!matches!(ending, Ending::Parked)).then(|| ending.to_string());
        self.guest.machine().output.event(&Ended {
            name: self.spec.name.clone(),
            status,
            ending,
            uptime_ms: self.uptime_ns() / 1_000_000,
            counters: self.counters(),
            devices: self.guest.machine().device_counters(),
        });
        if let Some(how) = how {
            last_words::tell(status, &how);
        }
        Ok(status)
    }

    fn report_crash(&self, crash: &Crash) -> CrashReport {
        let bytes = guest::read_image(&self.ram, self.image_length);
        let subject = Subject {
            guest: &self.spec.name,
            image_name: &self.spec.image.name,
            hypervisor: self.hypervisor,
            image: &self.image,
            symbols: Symbols::new(&bytes),
            uptime_ns: self.uptime_ns(),
            counters: self.counters(),
        };
        CrashReport::new(&subject, &self.ram, crash)
    }

    fn uptime_ns(&self) -> u64 {
        ClockStart::now().boot_ns().saturating_sub(self.started.boot_ns())
    }

    fn counters(&self) -> Counters {
        let (poster, clock) = (self.guest.interrupts(), self.guest.clock());
        let (interrupts, sizes, times) =
            (poster.counters(), poster.batch_sizes(), poster.times_held());
        let ns = |percent| times.percentile(percent).map_or(0, |ticks| clock.ns_of(ticks));
        let size = |percent| sizes.percentile(percent).unwrap_or(0);
        Counters {
            exits: self.guest.exits(),
            interrupts_raised: interrupts.raised,
            interrupts_delivered: interrupts.delivered,
            batches: interrupts.batches,
            batch_size: Spread { p50: size(50.0), p99: size(99.0) },
            time_held_ns: Spread { p50: ns(50.0), p99: ns(99.0) },
        }
    }
}

fn write_report(mut file: File, report: &CrashReport) -> Result<(), StartError> {
    let text = serde_json::to_vec_pretty(report).map_err(io::Error::from);
    text.and_then(|text| file.write_all(&text)).map_err(io_error("write the crash report"))
}
