//! `denali-vmm`: runs the one guest described by the descriptor whose number is its only argument.
//!
//! That is a file with the machine, or a socket through which a keeper hands one over later: then as much is made
//! in advance as can be, and the sandbox is entered, before there is a guest.
//!
//! It has a C `main`: the standard library's start makes a dozen system calls (it reads
//! `/proc/self/maps` for the guard of a stack that never grows) that every start of a guest would pay.
#![no_main]

use denali_abi::status::BAD_ARGUMENTS;
use denali_launcher::spec::MachineSpec;
use denali_vmm::{ClockStart, Prepared};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::process::exit;

/// Called by the C library's start code, once, before any other thread could exist.
#[unsafe(no_mangle)]
extern "C" fn main(_count: libc::c_int, _arguments: *const *const libc::c_char) -> libc::c_int {
    let started = ClockStart::now();
    let (spec, started, prepared) = match machine() {
        Ok(Machine::Described(spec)) => (*spec, started, Prepared::default()),
        Ok(Machine::HandedOver(spec, prepared)) => (*spec, ClockStart::now(), *prepared),
        Ok(Machine::None) => exit(0),
        Err(why) => {
            eprintln!("denali-vmm: {why}; it is started by `denali run`, not by hand");
            exit(i32::from(BAD_ARGUMENTS));
        }
    };
    denali_vmm::run_prepared(spec, started, prepared)
}

/// What the monitor is to run.
enum Machine {
    /// The machine in a file.
    Described(Box<MachineSpec>),
    /// One that a keeper handed over, after a while.
    HandedOver(Box<MachineSpec>, Box<Prepared>),
    /// None: the keeper has gone.
    None,
}

fn machine() -> Result<Machine, String> {
    let mut file = File::from(argument()?);
    if is_socket(&file) {
        return wait_for_guest(file.into());
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(|error| format!("cannot read the machine: {error}"))?;
    let machine = serde_json::from_slice(&text);
    machine
        .map(|spec| Machine::Described(Box::new(spec)))
        .map_err(|error| format!("cannot understand the machine: {error}"))
}

/// Makes what can be made before there is a guest, and waits for it at `socket`.
fn wait_for_guest(socket: OwnedFd) -> Result<Machine, String> {
    let Some(preparation) = denali_launcher::await_preparation(socket.as_fd())? else {
        return Ok(Machine::None);
    };
    touch_program();
    let prepared = Prepared::new(&preparation);
    let machine = denali_launcher::await_machine(socket, prepared.asked_to_end())?;
    Ok(machine.map_or(Machine::None, |spec| Machine::HandedOver(spec.into(), prepared.into())))
}

unsafe extern "C" {
    /// Where the linker has put the program's first byte.
    static __executable_start: u8;
    /// Behind its last one.
    static _end: u8;
}

/// Has the program's pages mapped now, which are in memory anyway, and not one by one while a guest waits.
fn touch_program() {
    let (start, end) = (&raw const __executable_start, &raw const _end);
    // SAFETY: the range is the program's own mappings, which are only read. On kernels before 5.14 it fails.
    unsafe {
        libc::madvise(
            start.cast_mut().cast(),
            end as usize - start as usize,
            libc::MADV_POPULATE_READ,
        )
    };
}

/// The descriptor whose number is the argument.
fn argument() -> Result<OwnedFd, String> {
    let mut arguments = std::env::args_os().skip(1);
    let number: RawFd = arguments
        .next()
        .and_then(|argument| argument.to_str()?.parse().ok())
        .filter(|&number| number > 2 && arguments.next().is_none())
        .ok_or("the only argument is the number of a descriptor")?;
    // SAFETY: `fcntl` with F_GETFD only asks about the number.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(format!("descriptor {number} is not open"));
    }
    // SAFETY: the launcher passed this open descriptor to this process for this one use.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn is_socket(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}
