//! Starts a guest and sees it to its end.

use crate::end::{Ended, Ending, Started, exit_now, terminated_status};
use crate::events::{Events, Share};
use crate::guest::{self, ImageFile};
use crate::machine::GuestMachine;
use crate::output::Output;
use crate::report::{Counters, CrashReport, Spread, Subject};
use crate::{devices, sandbox};
use denali_abi::layout::ARGUMENTS_MAX;
use denali_abi::status::{BAD_CONFIG, BAD_IMAGE, HOST_LACKS, MONITOR_FAILED};
use denali_arch::image::{Image, ImageError};
use denali_arch::symbols::Symbols;
use denali_hypervisor::kvm::KvmVm;
use denali_hypervisor::process::ProcessVm;
use denali_hypervisor::{Backing, GuestRam, Vm};
use denali_interrupts::{Batcher, Poster};
use denali_launcher::spec::{CpuSpec, HypervisorSpec, MachineSpec};
use denali_scheduler::IdlePolicy;
use denali_vcpu::{ClockStart, Crash, End, GuestClock, VcpuLoop};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// Why a guest could not be started, or the monitor failed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The image cannot be used, or not with this configuration.
    #[error("image {name}: {error}")]
    Image {
        /// What the user called it.
        name: String,
        /// What is wrong.
        error: ImageError,
    },
    /// The image wants a device that is not attached.
    #[error(
        "image {image}: wants a {kind} device{named}; add one to \"{kind}\" in the configuration"
    )]
    MissingDevice {
        /// What the user called the image.
        image: String,
        /// The kind of device.
        kind: &'static str,
        /// ` named "x"`, or nothing where any name does.
        named: String,
    },
    /// The launcher and this monitor do not fit together.
    #[error("the machine's {0} is impossible: the launcher and the monitor differ in version")]
    Spec(&'static str),
    /// The image does not fit the memory it was checked against: a defect.
    #[error("the image does not fit into memory")]
    Memory,
    /// The hypervisor failed.
    #[error(transparent)]
    Hypervisor(#[from] denali_hypervisor::Error),
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was being done.
        what: &'static str,
        /// The operating system's reason.
        source: nix::Error,
    },
    /// Input or output failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A device cannot be made of what the launcher opened.
    #[error("device {name}: {source}")]
    Device {
        /// What the configuration calls it.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// The host does not give this user such a share of its processors.
    #[error(
        "cpu.weight: the host does not give this user more than an ordinary share ({0}); take 100 or less, \
         or grant CAP_SYS_NICE"
    )]
    Share(io::Error),
    /// The sandbox cannot be set up, and nothing runs without.
    #[error("cannot enter the sandbox: {0}")]
    Sandbox(String),
    /// The loop failed.
    #[error(transparent)]
    Loop(#[from] denali_vcpu::Error),
}

impl From<ImageError> for StartError {
    fn from(error: ImageError) -> Self {
        Self::Image { name: String::new(), error }
    }
}

impl StartError {
    /// The exit status for this error; `None` for a failure of the monitor itself.
    #[must_use]
    pub(crate) fn status(&self) -> Option<u8> {
        match self {
            Self::Image {
                error: ImageError::MemoryTooSmall { .. } | ImageError::Space(_), ..
            } => Some(BAD_CONFIG),
            Self::Image { .. } | Self::MissingDevice { .. } => Some(BAD_IMAGE),
            Self::Hypervisor(_)
            | Self::Host { .. }
            | Self::Io { .. }
            | Self::Device { .. }
            | Self::Share(_)
            | Self::Sandbox(_) => Some(HOST_LACKS),
            Self::Spec(_) | Self::Memory | Self::Loop(_) => Some(MONITOR_FAILED),
        }
    }
}

/// Runs the guest that `spec` describes to its end, and ends the process with its exit status: at once,
/// without taking the machine apart, which the kernel does faster.
///
/// # Errors
/// When the guest cannot be started or the host fails; what the guest does is no error.
pub(crate) fn run(spec: MachineSpec, started: ClockStart) -> Result<Infallible, StartError> {
    let output = Output::new(spec.output);
    let report = spec.report.map(inherited).map(File::from);
    let file = ImageFile::new(inherited(spec.image.file))?;
    let image_length = file.length();
    let mapped = file.map()?;
    let image = parse_image(&spec, mapped.bytes())?;
    if spec.arguments.len() as u64 > ARGUMENTS_MAX {
        return Err(StartError::Spec("argument string"));
    }
    let devices = devices::table(&spec)?;
    let (hypervisor, backing) = match spec.hypervisor {
        HypervisorSpec::Kvm { .. } => ("kvm", Backing::Private),
        HypervisorSpec::Process => ("process", Backing::Shared),
    };
    let backing = if devices::shares_memory(&spec) { Backing::Exported } else { backing };
    let ram = guest::load(&image, (file, mapped.bytes()), spec.memory_size, backing)
        .map_err(|error| name_image(error, &spec))?;
    drop(mapped);
    let registers = guest::prepare(&ram, &image, &devices, &spec.arguments)?;
    let ram = Rc::new(ram);
    let share = Share::take(spec.cpu.niceness).map_err(StartError::Share)?;
    let mut vm = create_vm(spec.hypervisor, &ram)?;
    let vcpu = vm.create_vcpu(&registers)?;

    let batcher = Batcher::new();
    let events = share
        .executed_by(vcpu.process_id())
        .and_then(|share| Events::new(batcher.stop_line(), &spec.cpu, share))
        .map_err(io_error("set up events"))?;
    let mut bus = devices::attach(&spec, &batcher, &ram, &events)?;
    bus.deliver_singly(spec.cpu.window_ns == Some(0));
    let clock = GuestClock::new(started, vcpu.tsc_khz(), vcpu.tsc_offset());
    sandbox::enter(&sandbox::Needs {
        kvm: hypervisor == "kvm",
        tracee: vcpu.process_id(),
        ..devices::needs(&spec)
    })?;

    output.event(&Started {
        name: &spec.name,
        image: &spec.image.name,
        hypervisor,
        memory: spec.memory_size,
    });
    let names = devices::kinds(&spec).into_iter().map(|(_, name)| name.to_owned()).collect();
    let machine = GuestMachine { bus, ram: ram.clone(), events, output, names, deep: false };
    let timer = batcher.timer_line();
    let (poster, idle) = (Poster::new(batcher), idle_policy(&spec.cpu));
    let mut guest = VcpuLoop::new(vcpu, ram.clone(), machine, poster, timer, clock, idle);
    let end = guest.run()?;
    let finished = Finished { spec, image, image_length, hypervisor, started, ram, guest };
    let status = finished.finish(end, report)?;
    exit_now(status)
}

fn idle_policy(cpu: &CpuSpec) -> IdlePolicy {
    IdlePolicy { sleep: cpu.sleep, spin_max_ns: cpu.spin_ns, deep_after_ns: cpu.deep_after_ns }
}

/// A guest that ran, and all that its end is told with.
struct Finished {
    spec: MachineSpec,
    image: Image,
    image_length: usize,
    hypervisor: &'static str,
    started: ClockStart,
    ram: Rc<GuestRam>,
    guest: VcpuLoop<GuestMachine>,
}

impl Finished {
    fn finish(&self, end: End, report: Option<File>) -> Result<u8, StartError> {
        let (ending, chosen) = match end {
            End::Terminated(value) => (Ending::Terminated, terminated_status(value)),
            End::Signalled(signal) => (Ending::Signalled { signal }, 0),
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
        self.guest.machine().output.event(&Ended {
            name: self.spec.name.clone(),
            status,
            ending,
            uptime_ms: self.uptime_ns() / 1_000_000,
            counters: self.counters(),
            devices: self.guest.machine().device_counters(),
        });
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

fn parse_image(spec: &MachineSpec, bytes: &[u8]) -> Result<Image, StartError> {
    let image = Image::parse(bytes).map_err(|error| name_image(error.into(), spec))?;
    match image.missing_devices(&devices::kinds(spec)).first() {
        None => Ok(image),
        Some(missing) => Err(StartError::MissingDevice {
            image: spec.image.name.clone(),
            kind: denali_abi::boot::kind_name(missing.kind),
            named: match missing.name() {
                "" => String::new(),
                name => format!(" named \"{name}\""),
            },
        }),
    }
}

fn name_image(error: StartError, spec: &MachineSpec) -> StartError {
    match error {
        StartError::Image { error, .. } => {
            StartError::Image { name: spec.image.name.clone(), error }
        }
        other => other,
    }
}

fn create_vm(hypervisor: HypervisorSpec, ram: &Rc<GuestRam>) -> Result<Box<dyn Vm>, StartError> {
    Ok(match hypervisor {
        HypervisorSpec::Kvm { device } => Box::new(KvmVm::new(inherited(device), ram.clone())?),
        HypervisorSpec::Process => Box::new(ProcessVm::new(ram.clone())?),
    })
}

/// Takes ownership of a descriptor that the launcher passed.
pub(crate) fn inherited(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the machine's description names each descriptor once, and this process inherited them
    // for these uses alone. A number that is not open makes the first use fail, nothing else.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

pub(crate) fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}
