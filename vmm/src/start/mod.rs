//! Starts a guest and sees it to its end.

mod error;
mod finished;
mod saved;

pub(crate) use error::{StartError, io_error};
pub(crate) use saved::SavedGuest;

use crate::control::Control;
use crate::end::{Started, exit_now};
use crate::events::{Events, Share, Sources};
use crate::guest::{self, ImageFile, Memory};
use crate::machine::{GuestMachine, Identity};
use crate::output::Output;
use crate::prepared::Prepared;
use crate::residence::Residence;
use crate::sandbox::Confinement;
use crate::{devices, last_words, sandbox};
use denali_abi::layout::ARGUMENTS_MAX;
use denali_arch::image::Image;
use denali_hypervisor::kvm::{BareMachine, KvmVm};
use denali_hypervisor::process::ProcessVm;
use denali_hypervisor::{Backing, GuestRam, Registers, Vm};
use denali_interrupts::{Batcher, Poster};
use denali_launcher::spec::{ControlSpec, HypervisorSpec, MachineSpec};
use denali_scheduler::{IdlePolicy, ParkPolicy};
use denali_vcpu::{ClockStart, End, GuestClock, VcpuLoop};
use finished::Finished;
use saved::{Beginning, Seeking};
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

/// Runs the guest that `spec` describes to its end, and ends the process with its exit status: at once,
/// without taking the machine apart, which the kernel does faster.
///
/// # Errors
/// When the guest cannot be started or the host fails; what the guest does is no error.
pub(crate) fn run(
    spec: MachineSpec,
    started: ClockStart,
    mut prepared: Prepared,
) -> Result<Infallible, StartError> {
    let channel = spec.control.channel.map(inherited).map(Arc::new);
    last_words::are_for(channel.clone());
    if !prepared.serves(&spec) {
        return Err(StartError::Spec("likeness to what was prepared"));
    }
    let output = Output::new(spec.output);
    let report = spec.report.map(inherited).map(File::from);
    let file = ImageFile::new(inherited(spec.image.file))?;
    let image_length = file.length();
    let mapped = file.map()?;
    let image = parse_image(&spec, mapped.bytes())?;
    if spec.arguments.len() as u64 > ARGUMENTS_MAX {
        return Err(StartError::Spec("argument string"));
    }
    if spec.swap.is_some() {
        use_one_heap();
    }
    let mut seeking = Seeking::begin(&spec, &mut prepared)?;
    let (hypervisor, backing, shadows) = match spec.hypervisor {
        HypervisorSpec::Kvm { shadows, .. } => ("kvm", Backing::Private, shadows),
        HypervisorSpec::Process => ("process", Backing::Shared, false),
    };
    let backing = if devices::shares_memory(&spec) { Backing::Exported } else { backing };
    let memory = seeking.take_memory(&spec);
    let is_copy = matches!(memory, Memory::InSnapshot(_));
    drop(mapped);
    let machine = prepared.machine.as_mut().filter(|_| backing == Backing::Private);
    let mapped = machine.and_then(|machine| machine.take_memory(spec.memory_size));
    let mut ram = guest::load(&image, file, (spec.memory_size, memory), (backing, mapped))
        .map_err(|error| name_image(error, &spec))?;
    if spec.swap.is_some() || spec.control != ControlSpec::default() {
        match prepared.account.take() {
            Some(account) => ram.watch_pages_by(account),
            None => ram.watch_pages()?,
        }
    }
    let table = devices::table(&spec)?;
    let ram = Rc::new(ram);
    let share = Share::take(spec.cpu.niceness).map_err(StartError::Share)?;
    let mut vm = create_vm(spec.hypervisor, prepared.machine.take(), &ram)?;
    // As late as can be: the disks have worked meanwhile.
    let Beginning { found, saved } = seeking.finish(&spec, &ram)?;
    let entry = match saved {
        Some(_) => Registers::default(),
        None => guest::prepare(&ram, &image, &table, &spec.arguments)?,
    };
    let mut vcpu = vm.create_vcpu(&entry)?;
    // With it goes the only descriptor by which the machine could be given other memory.
    drop(vm);
    if let Some(saved) = &saved {
        vcpu.restore(&saved.vcpu.vcpu)?;
    }

    let batcher = Batcher::new();
    let share =
        share.executed_by(vcpu.process_id()).map_err(io_error("follow the guest's time"))?;
    let sources = prepared.sources.take().map_or_else(Sources::new, Ok);
    let sources = sources.map_err(io_error("set up events"))?;
    let mut events = Events::new(sources, batcher.stop_line(), &spec.cpu, share);
    let mut bus = devices::attach(&spec, &batcher, &ram, &events)?;
    bus.deliver_singly(spec.cpu.window_ns == Some(0));
    let control = create_control(&spec, channel, &mut events)?;
    let told = (spec.name.clone(), output);
    let parked = saved.as_ref().filter(|_| !is_copy).map(|saved| saved.generation);
    let residence = found.map(|found| Residence::new(found, ram.clone(), parked, shadows, told));
    let clock = GuestClock::new(started, vcpu.tsc_khz(), vcpu.tsc_offset());
    // Whoever could be assigned any guest has done so before this one came.
    if prepared.confinement != Confinement::Whole {
        sandbox::enter(&sandbox::Needs {
            kvm: hypervisor == "kvm",
            tracee: vcpu.process_id(),
            ..devices::needs(&spec)
        })?;
    }

    output.event(&Started {
        name: &spec.name,
        image: &spec.image.name,
        hypervisor,
        memory: spec.memory_size,
    });
    let names = devices::kinds(&spec).into_iter().map(|(_, name)| name.to_owned()).collect();
    let mut machine = GuestMachine {
        bus,
        ram: ram.clone(),
        events,
        output,
        names,
        deep: false,
        control,
        residence,
        generation: saved.as_ref().map_or(1, |saved| saved.generation),
        devices_saved: None,
        identity: identity(&spec, image_length),
    };
    let timer = batcher.timer_line();
    let (poster, idle) = (Poster::new(batcher), idle_policy(&spec));
    let mut guest = match saved {
        None => {
            machine.begin_paging();
            machine.tell_running();
            VcpuLoop::new(vcpu, ram.clone(), machine, poster, timer, clock, idle)
        }
        Some(saved) => {
            let table = is_copy.then_some(&table[..]);
            machine.go_on(&saved.devices, table).map_err(StartError::Saved)?;
            let clock = clock.resumed(&saved.vcpu.clock, &spec.boot_id);
            machine.tell_running();
            VcpuLoop::new(vcpu, ram.clone(), machine, poster, timer, clock, idle)
                .resumed(&saved.vcpu)
        }
    };
    let end = guest.run()?;
    if !matches!(end, End::Parked) {
        guest.machine_mut().retire();
    }
    let finished = Finished { spec, image, image_length, hypervisor, started, ram, guest };
    let status = finished.finish(end, report)?;
    exit_now(status)
}

/// Has all threads share one heap: to give others back, the C library opens files, which the sandbox forbids. And has
/// it map what is large apart, such as buffers of connections: zeroes that nobody touches then take no memory, and
/// a guest that wakes does not wait for them.
pub(crate) fn use_one_heap() {
    const LARGE: libc::c_int = 64 << 10;
    // SAFETY: there is one thread, and the calls change settings of the allocator's.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

fn create_control(
    spec: &MachineSpec,
    channel: Option<Arc<OwnedFd>>,
    events: &mut Events,
) -> Result<Option<Control>, StartError> {
    let control = Control::new(spec.control.listener.map(inherited), channel);
    let control = control.map_err(io_error("set up the control socket"))?;
    if let Some(control) = &control {
        events.watch_control(control.descriptor()).map_err(io_error("watch the control socket"))?;
    }
    Ok(control)
}

fn identity(spec: &MachineSpec, image_length: usize) -> Identity {
    Identity {
        name: spec.name.clone(),
        memory_size: spec.memory_size,
        image: spec.image.hash.clone(),
        image_length,
        boot_id: spec.boot_id.clone(),
        configuration: spec.control.configuration.clone(),
        guest_id: spec.swap.as_ref().filter(|swap| swap.lasting).map(|swap| swap.guest_id.clone()),
    }
}

fn idle_policy(spec: &MachineSpec) -> IdlePolicy {
    // Who is there to wake it is asked at the time: a keeper may come later.
    let park = spec.swap.as_ref().filter(|swap| swap.lasting).and_then(|swap| swap.park);
    IdlePolicy {
        sleep: spec.cpu.sleep,
        spin_max_ns: spec.cpu.spin_ns,
        deep_after_ns: spec.cpu.deep_after_ns,
        out_after_ns: spec.swap.as_ref().and_then(|swap| swap.after_ns),
        park: park.map(|park| ParkPolicy { after_ns: park.after_ns, horizon_ns: park.horizon_ns }),
    }
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

fn create_vm(
    hypervisor: HypervisorSpec,
    machine: Option<BareMachine>,
    ram: &Rc<GuestRam>,
) -> Result<Box<dyn Vm>, StartError> {
    let device = match hypervisor {
        HypervisorSpec::Process => return Ok(Box::new(ProcessVm::new(ram.clone())?)),
        HypervisorSpec::Kvm { device, .. } => inherited(device),
    };
    Ok(Box::new(match machine {
        Some(machine) => KvmVm::with_memory(machine, ram.clone())?,
        None => KvmVm::new(device, ram.clone())?,
    }))
}

/// Takes ownership of a descriptor that the launcher passed.
pub(crate) fn inherited(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the machine's description names each descriptor once, and this process inherited them
    // for these uses alone. A number that is not open makes the first use fail, nothing else.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
