//! `denali-vmm`: runs the one guest described by the descriptor whose number is its only argument.
//!
//! It has a C `main`: the standard library's start makes a dozen system calls (it reads
//! `/proc/self/maps` for the guard of a stack that never grows) that every start of a guest would pay.
#![no_main]

use denali_abi::status::BAD_ARGUMENTS;
use denali_launcher::spec::MachineSpec;
use denali_vmm::ClockStart;
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, RawFd};
use std::process::exit;

/// Called by the C library's start code, once, before any other thread could exist.
#[unsafe(no_mangle)]
extern "C" fn main(_count: libc::c_int, _arguments: *const *const libc::c_char) -> libc::c_int {
    let started = ClockStart::now();
    let spec = match read_spec() {
        Ok(spec) => spec,
        Err(why) => {
            eprintln!("denali-vmm: {why}; it is started by `denali run`, not by hand");
            exit(i32::from(BAD_ARGUMENTS));
        }
    };
    denali_vmm::run_to_end(spec, started)
}

fn read_spec() -> Result<MachineSpec, String> {
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
    let mut file = unsafe { File::from_raw_fd(number) };
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(|error| format!("cannot read the machine: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("cannot understand the machine: {error}"))
}
