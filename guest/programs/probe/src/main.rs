//! The probe: a guest that does what its argument string says, so that tests can see what a monitor
//! makes of it. The first word is a command:
//!
//! | command | what it does | how it ends |
//! |---|---|---|
//! | `exit N` | rings TERMINATE with the 32-bit number N | N modulo 256 |
//! | `print TEXT` | prints TEXT and a newline | 0 |
//! | `panic` | panics | 101 |
//! | `read A`, `write A`, `jump A` | accesses the address A (decimal, or hexadecimal with `0x`) | crash, or 0 |
//! | `read-null`, `write-null` | accesses address 0 | crash |
//! | `write-text`, `write-rodata`, `write-boot` | writes to code, read-only data, boot information | crash |
//! | `exec-data`, `exec-stack`, `jump-wild` | executes data, the stack, an address far away | crash |
//! | `stack-overflow` | recurses until the stack ends | crash |
//! | `wild-rsp-fault` | faults with RSP outside memory | crash |
//! | `wild-rsp-handled` | the same with `fault_entry` set | crash |
//! | `unknown-port`, `in-unknown-port`, `in-doorbell` | OUT to 0x3f8, IN from 0x60, IN from IDLE | crash |
//! | `div0`, `ud2`, `int3`, `int80`, `syscall`, `sysenter`, `hlt`, `cli`, `read-cr3`, `rdmsr` | executes that | crash |
//! | `noncanonical`, `misaligned-sse` | accesses memory like that | crash |
//! | `console-bad-address` | rings CONSOLE for bytes at address 0 | crash |
//! | `console-empty` | rings CONSOLE for no bytes, then for too many | 0 |
//! | `console-flood N` | prints the lines `line 0` to `line N-1` | 0 |
//! | `fault-resume` | handles faults of several kinds; compares all registers, flags and the red zone | 0 |
//! | `fault-many N` | handles N faults | 0 |
//! | `upcall-resume` | interrupts a computation by upcalls; compares with one left alone | 0 |
//! | `upcall-exact N` | the same in all registers there are, until N upcalls have come | 0 |
//! | `upcall-deadline N` | the same, interrupted by N deadlines for guests that run | 0 |
//! | `upcall-traffic PORT N` | the same, interrupted N times by what comes to the TCP port | 0 |
//! | `upcall-idle` | takes the upcall that ends an IDLE | 0 |
//! | `fpu N` | rings FLUSH N times with all registers in use; compares them | 0 |
//! | `protection` | reads, writes and executes in each part of the address map | 0 |
//! | `edge-of-memory` | uses the last word of memory; the next one faults | 0 |
//! | `big-memory` | all free memory is zero, then holds a pattern | 0 |
//! | `registers` | prints virtual registers and boot information, as `name=value` lines | 0 |
//! | `no-device` | the registers of devices that are not attached read as 0 | 0 |
//! | `clock` | the clock never runs backwards; prints `monotonic=` and `realtime=` in ns | 0 |
//! | `idle MS` | idles MS milliseconds; prints `slept=` in µs | 0 |
//! | `idle-many N` | idles N times for 1 ms | 0 |
//! | `idle-pending` | IDLE returns at once if something is pending or the deadline has passed | 0 |
//! | `timers S` | runs timers of 1 ms, 10 ms and 1 s for S seconds; prints how late they are (see `timers`) | 0 |
//! | `timer-order N` | sets N timers; they come in the order of their deadlines | 0 |
//! | `clock-watch` | prints `ready`; reads the clock and idles until asked to stop | 0 |
//! | `clock-stopped MS` | prints `ready`; idles MS milliseconds, in which the monitor may be stopped | 0 |
//! | `console-echo` | prints `ready`, answers lines of the console device until `quit` | 0 |
//! | `console-bulk N` | writes N letters to the console device | 0 |
//! | `console-count N` | prints `ready`, reads N bytes of the console device; prints `bytes=` and `sum=` | 0 |
//! | `entropy-device N` | reads N bytes of the entropy device, and reseeds from it | 0 |
//! | `wait-stop` | prints `ready`, idles until asked to stop | 3 |
//! | `egress WORD...` | connects, sends and asks as the words say (see `egress::run`) | 0 |
//! | `udp-echo PORT` | prints `ready`; sends datagrams to the UDP port back (see `datagrams::echo`) | 0, when asked to stop |
//! | `threads WHAT N` | starts threads that do WHAT (see `threads::run`) | 0; `panic` 101; `overflow` crash |
//! | `wake PORT` | prints `ready`; answers each byte that comes to the TCP port (see `wake::serve`) | 0, when asked to stop |
//! | `wake-computing PORT` | the same beside a thread that computes for ever | 0, when asked to stop |
//! | `tcp-echo PORT` | prints `ready`; sends what comes to the TCP port back, however late (see `wake::echo`) | 0, when asked to stop |
//! | `memory-hash MIB [SECONDS]` | watches over MIB MiB of memory and all registers (see `hash::run`) | 0, when asked to stop |
//! | `grow MIB [PASSES]` | writes MIB MiB page by page, then verifies them again and again (see `grow::run`) | 0 |
//! | `identity` | prints `ready`; answers lines on TCP port 80 with who it is (see `identity::serve`) | 0, when asked to stop |
//! | `entropy-once` | prints 16 random bytes for each generation (see `identity::entropy_once`) | 0, when asked to stop |
//! | `tick-report MS` | prints times every MS milliseconds (see `timers::report`) | 0, when asked to stop |
//! | `tick MS` | prints `ready`; has a timer every MS milliseconds | 0, when asked to stop |
//! | `spin` | prints `ready`, computes for ever | – |
//!
//! A check that fails prints a line that starts with `FAILED` and ends with status 1; an unknown
//! command ends with 2.
#![cfg_attr(guest_image, no_std, no_main)]

extern crate alloc;

mod crashes;
mod datagrams;
mod devices;
mod egress;
mod exact;
mod exercise;
mod grow;
mod handlers;
mod hash;
mod identity;
mod instructions;
mod lines;
mod memory;
mod pages;
mod resume;
mod state;
mod threads;
mod time;
mod timers;
mod wake;
mod wide;

use ilwaco::abi::doorbell;
use ilwaco::{print, println};

ilwaco::program!(start);

/// A check that did not hold, and what it was about.
struct Failed(&'static str);

/// The result of a command that checks something.
type Checked = Result<(), Failed>;

/// `Ok` if the condition holds.
fn check(holds: bool, what: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(Failed(what)) }
}

/// Runs the command of the argument string.
fn start() -> u8 {
    let arguments = ilwaco::registers::arguments();
    let (command, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
    crashes::run(command, rest);
    let checked = match command {
        "exit" => instructions::terminate(number(rest) as u32),
        "print" => {
            println!("{rest}");
            Ok(())
        }
        "panic" => panic!("as asked"),
        "console-empty" => memory::console_limits(),
        "console-flood" => console_flood(number(rest)),
        "fault-resume" => resume::faults(),
        "fault-many" => resume::many_faults(number(rest)),
        "upcall-resume" => resume::upcalls(),
        "upcall-exact" => exact::always(number(rest)),
        "upcall-deadline" => exact::deadlines(number(rest)),
        "upcall-traffic" => {
            let (port, count) = rest.split_once(' ').unwrap_or((rest, ""));
            exact::traffic(number(port) as u16, number(count))
        }
        "upcall-idle" => resume::upcall_after_idle(),
        "fpu" => resume::doorbells(number(rest)),
        "protection" => memory::protection(),
        "edge-of-memory" => memory::edge(),
        "big-memory" => memory::pattern(),
        "registers" => registers(),
        "no-device" => no_device(),
        "clock" => time::clock(),
        "idle" => time::idle(number(rest)),
        "idle-many" => time::idle_many(number(rest)),
        "idle-pending" => time::idle_pending(),
        "timers" => timers::periods(number(rest)),
        "timer-order" => timers::order(number(rest)),
        "clock-watch" => timers::watch(),
        "clock-stopped" => timers::stopped(number(rest)),
        "console-echo" => ilwaco::block_on(devices::console_echo()),
        "console-bulk" => ilwaco::block_on(devices::console_bulk(number(rest))),
        "console-count" => ilwaco::block_on(devices::console_count(number(rest))),
        "entropy-device" => ilwaco::block_on(devices::entropy_device(number(rest))),
        "wait-stop" => time::wait_stop(),
        "egress" => egress::run(rest),
        "udp-echo" => datagrams::echo(number(rest) as u16),
        "threads" => {
            let (what, count) = rest.split_once(' ').unwrap_or((rest, ""));
            threads::run(what, number(count))
        }
        "wake" => wake::serve(number(rest) as u16),
        "wake-computing" => wake::serve_computing(number(rest) as u16),
        "tcp-echo" => wake::echo(number(rest) as u16),
        "memory-hash" => hash::run(rest),
        "grow" => grow::run(rest),
        "identity" => identity::serve(),
        "entropy-once" => identity::entropy_once(),
        "tick-report" => timers::report(number(rest)),
        "tick" => wake::tick(number(rest)),
        "spin" => time::spin(),
        _ => {
            println!("unknown command \"{command}\"");
            return 2;
        }
    };
    match checked {
        Ok(()) => 0,
        Err(Failed(what)) => {
            println!("FAILED {command}: {what}");
            1
        }
    }
}

/// The number at the start of the arguments; 0 if there is none.
fn number(text: &str) -> u64 {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap_or(0),
        None => text.parse().unwrap_or(0),
    }
}

fn console_flood(lines: u64) -> Checked {
    for line in 0..lines {
        println!("line {line}");
    }
    Ok(())
}

/// Prints what the monitor tells a guest.
fn registers() -> Checked {
    use core::sync::atomic::Ordering::Relaxed;
    let registers = ilwaco::registers::virtual_registers();
    let boot = ilwaco::registers::boot_information();
    println!("abi_version={}", registers.abi_version.load(Relaxed));
    println!("cpu_khz={}", registers.cpu_khz.load(Relaxed));
    println!("memory_size={}", registers.memory_size.load(Relaxed));
    println!("generation={}", registers.generation.load(Relaxed));
    print!("entropy=");
    for word in &registers.entropy {
        print!("{:016x}", word.load(Relaxed));
    }
    println!();
    println!("exits={}", registers.exits.load(Relaxed));
    println!("boot_abi_version={}", boot.abi_version);
    println!("image={:#x}..{:#x}", boot.image_start, boot.image_end);
    println!("stack={:#x}..{:#x}", boot.stack_bottom, boot.stack_top);
    for device in boot.attached() {
        println!("device={} kind={} name={}", device.number, device.kind, device.name());
    }
    check(boot.magic == ilwaco::abi::boot::BOOT_MAGIC, "the magic of the boot information")?;
    let same = boot.memory_size == registers.memory_size.load(Relaxed);
    check(same, "one memory size in the registers, another in the boot information")?;
    let random = registers.entropy.iter().all(|word| word.load(Relaxed) != 0);
    check(random, "entropy that is zero")
}

/// Registers behind which there is no device read as 0 and swallow what is written.
fn no_device() -> Checked {
    let first = ilwaco::registers::boot_information().attached().len();
    for device in first..doorbell::DEVICES_MAX {
        let port = doorbell::DEVICE_REGISTERS + device as u16 * doorbell::DEVICE_STRIDE;
        for offset in [0, 0x70, 0x100, 0x1fc] {
            instructions::out(port + offset, u32::MAX);
            check(instructions::input(port + offset) == 0, "a register of no device is not 0")?;
        }
        instructions::out(doorbell::NOTIFY + device as u16, 0);
    }
    Ok(())
}
