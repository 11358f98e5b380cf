//! The common tests, and those of what only a process guest has: an emptied process, and people who
//! send it signals.

use super::{ProcessVm, available};
use crate::conformance::control::{ignore, with_signals};
use crate::conformance::{
    Backend, DATA, Guest, MEMORY, PORT, TEXT, assemble, conformance_tests, entry,
};
use crate::state::mxcsr_mask;
use crate::{Backing, Error, Exit, Fault, GuestRam, ImagePart, VcpuState, Vm, Width};
use denali_arch::space::{Access, AddressSpace};
use std::rc::Rc;
use std::time::{Duration, Instant};

pub(crate) const BACKEND: Backend = Backend {
    backing: Backing::Shared,
    make: |ram| Ok(Box::new(ProcessVm::new(ram)?) as Box<dyn Vm>),
};

conformance_tests!(Some(BACKEND));

/// The same with memory that other processes can map.
mod exported {
    use super::{BACKEND, Backend, Backing, conformance_tests};

    conformance_tests!(Some(Backend { backing: Backing::Exported, ..BACKEND }));
}

/// The only child of this test's thread.
fn child() -> libc::pid_t {
    // SAFETY: a plain system call.
    let thread = unsafe { libc::gettid() };
    let children = std::fs::read_to_string(format!("/proc/self/task/{thread}/children")).unwrap();
    children.trim().parse().expect("one child")
}

fn send(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

const COUNTING: fn() -> &'static [u8] =
    || assemble!("mov edx, 0xd03", "xor eax, eax", "5:", "out dx, eax", "inc eax", "jmp 5b");

#[test]
fn processes_can_be_guests_here() {
    assert_eq!(available(), Ok(()));
}

#[test]
fn the_process_has_the_guests_memory_and_no_descriptor() {
    let mut guest = Guest::new(&BACKEND, COUNTING());
    guest.run_to_out();
    let pid = child();
    let Ok(maps) = std::fs::read_to_string(format!("/proc/{pid}/maps")) else {
        eprintln!("skipped: only root may look at a process that cannot be dumped");
        return;
    };
    let mut signal_stacks = 0;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|word| u64::from_str_radix(word, 16).unwrap());
        if line.ends_with("[vsyscall]") {
            continue;
        }
        if start >= 1 << 32 {
            assert_eq!(&rights[..3], "rw-", "{line}");
            assert!(end - start <= 64 << 10, "{line}");
            signal_stacks += 1;
            continue;
        }
        for page in (start..end).step_by(4096) {
            let expected = match guest.ram.space().access_at(page) {
                Some(Access::Read) => "r--",
                Some(Access::ReadWrite) => "rw-",
                Some(Access::ReadExecute) => "r-x",
                None => panic!("{line} maps {page:#x}"),
            };
            assert_eq!(&rights[..3], expected, "{line}");
        }
    }
    assert_eq!(signal_stacks, 1, "{maps}");
    assert_eq!(std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), 0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for expected in ["Seccomp:\t2", "NoNewPrivs:\t1", "Threads:\t1"] {
        assert!(status.contains(expected), "{status}");
    }
    // One byte, which programs that get core dumps heed, unless even that is not to be had.
    let limit = if core_limits("self")[1] == "0" { "0" } else { "1" };
    assert_eq!(core_limits(&pid.to_string()), [limit; 2]);
}

/// The limits of a process on core dumps, the one in force and the hard one.
fn core_limits(process: &str) -> [String; 2] {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    let mut words = core.split_whitespace().map(str::to_owned);
    [0; 2].map(|_| words.next().unwrap())
}

#[test]
fn signals_from_others_are_not_seen_by_the_guest() {
    let mut guest = Guest::new(&BACKEND, COUNTING());
    guest.run_to_out();
    let pid = child();
    let signals = [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGSTOP,
        libc::SIGCONT,
        libc::SIGTSTP,
        libc::SIGSEGV,
        libc::SIGTRAP,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGALRM,
        libc::SIGQUIT,
        libc::SIGABRT,
        libc::SIGUSR1,
        libc::SIGSYS,
    ];
    for (count, signal) in (1..).zip(signals.into_iter().cycle().take(64)) {
        send(pid, signal);
        assert_eq!(guest.run_to_out(), count, "signal {signal}");
    }
}

#[test]
fn a_killed_process_is_lost() {
    let mut guest = Guest::new(&BACKEND, COUNTING());
    guest.run_to_out();
    send(child(), libc::SIGKILL);
    let lost = Exit::Lost("its process was killed by signal 9".to_owned());
    assert_eq!(guest.run(), lost);
    assert_eq!(guest.run(), lost, "and stays so");
    // While it runs, too.
    let mut guest = Guest::new(&BACKEND, assemble!("5:", "jmp 5b"));
    let pid = child();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            send(pid, libc::SIGKILL);
        });
        assert_eq!(guest.run(), lost);
    });
}

#[test]
fn dropping_a_guest_ends_and_reaps_its_process() {
    let guest = Guest::new(&BACKEND, assemble!("5:", "jmp 5b"));
    let pid = child();
    drop(guest);
    // SAFETY: signal 0 only asks.
    assert_eq!(unsafe { libc::kill(pid, 0) }, -1);
    let unused = ProcessVm::new(ram(&[0x0f, 0x0b], Vec::new())).unwrap();
    let pid = child();
    drop(unused);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(pid, 0) }, -1);
}

#[test]
fn a_signal_during_a_fault_loses_neither() {
    let code = assemble!("mov edx, 0xd03", "5:", "ud2", "inc eax", "jmp 5b");
    let mut guest = Guest::new(&BACKEND, code);
    let (mut faults, mut interruptions) = (0_u32, 0);
    with_signals(ignore, || {
        while faults < 5000 || interruptions < 5 {
            match guest.vcpu.run().unwrap() {
                Exit::Fault(Fault { vector: 6, .. }) => {
                    faults += 1;
                    guest.change(|registers| registers.rip += 2);
                }
                Exit::Interrupted => interruptions += 1,
                exit => panic!("{exit:?}"),
            }
        }
    });
    assert!(guest.registers().gpr[0] >= u64::from(faults) - 1);
}

#[test]
fn a_stepped_port_instruction_traps_after_it_is_done() {
    let mut guest = Guest::new(&BACKEND, assemble!("in al, 0x80", "nop"));
    guest.change(|registers| registers.rflags |= 0x100);
    assert_eq!(guest.run(), Exit::In { port: 0x80, width: Width::Byte });
    guest.vcpu.complete_in(5).unwrap();
    assert_eq!(guest.run_to_fault(), Fault { vector: 1, error_code: 0, address: 0 });
    let registers = guest.registers();
    assert_eq!((registers.rip, registers.gpr[0]), (TEXT + 2, 5));
}

#[test]
fn misuse_is_reported() {
    let mut guest = Guest::new(&BACKEND, assemble!("in al, 0x80", "ud2"));
    assert!(matches!(guest.vcpu.complete_in(0), Err(Error::Misuse(_))));
    assert!(matches!(guest.run(), Exit::In { .. }));
    assert!(matches!(guest.vcpu.run(), Err(Error::Misuse(_))));
    guest.vcpu.complete_in(0).unwrap();
    assert_eq!(guest.run_to_fault().vector, 6);
    let space = AddressSpace::new(MEMORY).unwrap();
    let private = Rc::new(GuestRam::new(space, Backing::Private).unwrap());
    assert!(matches!(ProcessVm::new(private), Err(Error::Misuse(_))));
}

/// Memory whose text page at [`TEXT`] is `code`, from a file that is mapped at `parts`.
fn ram(code: &[u8], parts: Vec<ImagePart>) -> Rc<GuestRam> {
    let mut space = AddressSpace::new(MEMORY).unwrap();
    space.set("text", TEXT, TEXT + 0x3000, Some(Access::ReadExecute)).unwrap();
    let mut ram = GuestRam::new(space, Backing::Shared).unwrap();
    let file = nix::sys::memfd::memfd_create("image", nix::sys::memfd::MFdFlags::empty()).unwrap();
    nix::unistd::ftruncate(&file, 0x4000).unwrap();
    nix::sys::uio::pwrite(&file, code, 0x2000).unwrap();
    ram.map_image(file, parts).unwrap();
    Rc::new(ram)
}

#[test]
fn text_is_mapped_from_the_image() {
    let parts = vec![ImagePart { start: TEXT, end: TEXT + 0x2000, file_offset: 0x2000 }];
    let ram = ram(COUNTING(), parts);
    let mut vm = ProcessVm::new(Rc::clone(&ram)).unwrap();
    let vcpu = vm.create_vcpu(&entry()).unwrap();
    let mut guest = Guest { vcpu, vm: Box::new(vm), ram };
    for expected in 0..3 {
        assert_eq!(guest.run_to_out(), expected);
    }
    guest.change(|registers| registers.rip = DATA);
    assert_eq!(guest.run_to_fault().vector, 14);
    // The page behind the file's part is the memory's.
    guest.ram.load(TEXT + 0x2000, &[0xe6, PORT as u8]).unwrap();
    guest.change(|registers| registers.rip = TEXT + 0x2000);
    assert!(matches!(guest.run(), Exit::Out { port: 3, .. }));
}

/// ptrace does not set such bases: the guest's process has to, in the midst of its own code.
#[test]
fn bases_of_kernels_are_restored_over_the_images_text() {
    if std::arch::x86_64::__cpuid_count(7, 0).ebx & 1 == 0 {
        eprintln!("skipped: this processor has no WRFSBASE");
        return;
    }
    let code =
        assemble!("rdfsbase rax", "rdgsbase rbx", "shr rax, 32", "mov edx, 0xd03", "out dx, eax",);
    let parts = vec![ImagePart { start: TEXT, end: TEXT + 0x1000, file_offset: 0x2000 }];
    let ram = ram(code, parts);
    let mut vm = ProcessVm::new(Rc::clone(&ram)).unwrap();
    let mut vcpu = vm.create_vcpu(&entry()).unwrap();
    let bases = [0xffff_8000_0000_0000, u64::MAX - 0xfff];
    let state = VcpuState { fs_base: bases[0], gs_base: bases[1], ..vcpu.save().unwrap() };
    vcpu.restore(&state).unwrap();
    assert_eq!(vcpu.save().unwrap(), state);
    let mut guest = Guest { vcpu, vm: Box::new(vm), ram };
    assert_eq!(guest.run_to_out(), 0xffff_8000);
    assert_eq!(guest.registers().gpr[1], bases[1]);
}

/// Far transfers into 32-bit code, and what can be tried from there.
#[test]
fn compatibility_mode_leads_nowhere() {
    let inner: [&[u8]; 5] = [&[0xcd, 0x80], &[0x0f, 0x34], &[0x0f, 0x05], &[0x0f, 0x0b], &[0xf4]];
    for bytes in inner {
        let mut code = assemble!("push 0x23", "push 0x200010", "retfq").to_vec();
        code.resize(16, 0x90);
        code.extend_from_slice(bytes);
        let mut guest = Guest::new(&BACKEND, &code);
        guest.change(|registers| registers.gpr[0] = 1);
        assert!(matches!(guest.run(), Exit::Fault(_)), "{bytes:x?}");
        guest.vcpu.set_registers(&entry()).unwrap();
        assert_eq!(guest.registers().gpr[15], u64::MAX, "64-bit registers");
        assert!(matches!(guest.run(), Exit::Fault(_)), "{bytes:x?}");
    }
}

#[test]
fn an_impossible_rip_is_a_fault() {
    let mut guest = Guest::new(&BACKEND, assemble!("ud2"));
    for rip in [1 << 47, 0x1234_5678_9abc_def0, u64::MAX >> 1] {
        guest.change(|registers| registers.rip = rip);
        let fault = guest.run_to_fault();
        assert_eq!((fault.vector, fault.error_code), (13, 0), "{rip:#x}");
    }
    guest.change(|registers| registers.rip = TEXT);
    assert_eq!(guest.run_to_fault().vector, 6);
}

/// Whatever bytes a guest executes, with whatever registers, the monitor keeps it in hand.
#[test]
fn random_code_is_contained() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut guest = Guest::new(&BACKEND, &[0x90; 64]);
    let (mut faults, mut ports) = (0, 0);
    let tempting: [&[u8]; 8] = [
        &[0x0f, 0x05],
        &[0xcd, 0x80],
        &[0x0f, 0x34],
        &[0xef],
        &[0xed],
        &[0xff, 0xe0],
        &[0x9d],
        &[0x48, 0xcb],
    ];
    with_signals(ignore, || {
        for _ in 0..1500 {
            let mut code: Vec<u8> = (0..8).flat_map(|_| random().to_le_bytes()).collect();
            let piece = tempting[random() as usize % tempting.len()];
            let at = random() as usize % 16;
            code[at..at + piece.len()].copy_from_slice(piece);
            guest.ram.load(TEXT, &code).unwrap();
            let mut registers = entry();
            for register in &mut registers.gpr {
                *register = random() >> (random() % 64);
            }
            registers.rflags = random() & 0xffff;
            guest.vcpu.set_registers(&registers).unwrap();
            for _ in 0..6 {
                match guest.vcpu.run().unwrap() {
                    Exit::Interrupted => break,
                    Exit::Out { .. } => ports += 1,
                    Exit::In { .. } => guest.vcpu.complete_in(1).unwrap(),
                    Exit::Fault(fault) => {
                        assert!(fault.vector < 20, "{fault:?}");
                        faults += 1;
                        guest.change(|registers| registers.rip = registers.rip.wrapping_add(1));
                    }
                    Exit::Lost(why) => panic!("{why} by {code:x?} from {registers:x?}"),
                }
                let saved = guest.vcpu.save().unwrap();
                assert_eq!(saved.check(saved.components, mxcsr_mask()), Ok(()));
            }
        }
    });
    assert!(faults > 1000 && ports > 10, "{faults} faults, {ports} ports");
    guest.ram.load(TEXT, assemble!("ud2")).unwrap();
    guest.vcpu.set_registers(&entry()).unwrap();
    assert_eq!(guest.run_to_fault().vector, 6);
}

#[test]
#[ignore = "a measurement: run it alone, in release"]
fn costs() {
    let rounds: u32 = 20_000;
    let each = |name: &str, started: Instant| {
        eprintln!("{name}: {:.2} us", started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    };
    let mut guest = Guest::new(&BACKEND, COUNTING());
    let started = Instant::now();
    for _ in 0..rounds {
        guest.run_to_out();
    }
    each("OUT", started);
    let mut guest = Guest::new(&BACKEND, assemble!("ud2"));
    let started = Instant::now();
    for _ in 0..rounds {
        guest.run_to_fault();
    }
    each("fault", started);
    let (mut create, mut end) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..200 {
        let ram = ram(&[], Vec::new());
        let started = Instant::now();
        let mut vm = ProcessVm::new(ram).unwrap();
        let vcpu = vm.create_vcpu(&entry()).unwrap();
        create += started.elapsed();
        let started = Instant::now();
        drop((vcpu, vm));
        end += started.elapsed();
    }
    eprintln!("creation: {:?}, end: {:?}", create / 200, end / 200);
}
