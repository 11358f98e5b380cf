//! Tests of the crash report on a fabricated guest.

use super::*;
use denali_abi::note::ImageNote;
use denali_arch::space::Access;
use denali_hypervisor::{Backing, Fault};
use std::sync::atomic::Ordering;

const MEMORY: u64 = 16 << 20;
const TEXT: u64 = 0x20_0000;
const STACK_TOP: u64 = 0x20_0000;

/// An ELF file of a page of code, with three functions of 0x100 bytes in its symbol table.
fn image_file() -> Vec<u8> {
    let mut file = vec![0; 0x2000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let mut numbers = |at: usize, values: &[u64]| {
        for (index, value) in values.iter().enumerate() {
            put(at + index * 8, &value.to_le_bytes());
        }
    };
    let note_size = 12 + 8 + size_of::<ImageNote>() as u64;
    // File header: entry, program headers at 64, section headers at 0x400.
    numbers(24, &[TEXT, 64, 0x400]);
    // One segment to load, and the note.
    numbers(64, &[1 | (5 << 32), 0x1000, TEXT, TEXT, 0x1000, 0x1000, 0x1000]);
    numbers(64 + 56, &[4 | (4 << 32), 0x200, 0, 0, note_size, note_size, 4]);
    // Symbol table (section 0) at 0x600, its strings (section 1) at 0x700.
    numbers(0x400, &[2 << 32, 0, 0, 0x600, 3 * 24, 1]);
    numbers(0x440, &[3 << 32, 0, 0, 0x700, 32]);
    for index in 0..3 {
        let name = 1 + index * 6;
        let at = 0x600 + index as usize * 24;
        numbers(at, &[name | (2 << 32) | (1 << 48), TEXT + index * 0x100, 0x100]);
    }
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0]);
    put(54, &[56, 0, 2, 0, 64, 0, 2, 0]);
    put(0x200, &[7, 0, 0, 0, 64, 1, 0, 0, 1, 0, 0, 0]);
    put(0x20c, b"Denali\0\0\x01");
    put(0x700, b"\0inner\0outer\0start\0");
    file
}

struct Guest {
    file: Vec<u8>,
    image: Image,
    ram: GuestRam,
}

impl Guest {
    fn new() -> Self {
        let file = image_file();
        let image = Image::parse(&file).expect("the fabricated image is sound");
        let space = image.address_space(MEMORY).unwrap();
        assert_eq!(space.access_at(TEXT), Some(Access::ReadExecute));
        Self { file, image, ram: GuestRam::new(space, Backing::Private).unwrap() }
    }

    fn report(&self, cause: Cause, registers: Registers) -> CrashReport {
        let subject = Subject {
            guest: "web",
            image_name: "probe",
            hypervisor: "kvm",
            image: &self.image,
            symbols: Symbols::new(&self.file),
            uptime_ns: 1_234_567_890,
            counters: Counters { exits: 7, ..Counters::default() },
        };
        CrashReport::new(&subject, &self.ram, &Crash { cause, registers })
    }

    fn put(&self, address: u64, words: &[u64]) {
        for (index, word) in words.iter().enumerate() {
            self.ram.load(address + 8 * index as u64, &word.to_le_bytes()).unwrap();
        }
    }

    fn page_fault(&self, address: u64, error_code: u64) -> CauseReport {
        let fault = Fault { vector: 14, error_code, address };
        self.report(Cause::Fault(fault), registers(TEXT, 0)).cause
    }
}

fn registers(rip: u64, rbp: u64) -> Registers {
    let mut registers = Registers { rip, rflags: 0x202, ..Registers::default() };
    registers.gpr[6] = rbp;
    registers.gpr[7] = STACK_TOP - 0x200;
    registers
}

const DIVISION: Cause = Cause::Fault(Fault { vector: 0, error_code: 0, address: 0 });

/// The callers' symbols and offsets; a caller without a symbol is "?".
fn symbols(report: &CrashReport) -> Vec<(&str, u64)> {
    let pairs = report.backtrace.iter().map(|at| (at.symbol.as_deref().unwrap_or("?"), at.offset));
    pairs.collect()
}

#[test]
fn page_faults_say_what_was_done_and_where() {
    let guest = Guest::new();
    let check = |address, error_code, kind, region, text: &str| {
        let cause = guest.page_fault(address, error_code);
        assert_eq!((cause.kind, cause.region), (kind, Some(region)), "{cause:?}");
        assert_eq!(cause.text, text);
    };
    use CauseKind::{PageFault, StackOverflow};
    check(0x10, 4, PageFault, RegionKind::NullGuard, "read of 0x10 in the null guard");
    check(TEXT + 8, 7, PageFault, RegionKind::Code, "write to 0x200008 in the image's code");
    check(
        0x1b_fff8,
        6,
        StackOverflow,
        RegionKind::StackGuard,
        "stack overflow: write to 0x1bfff8 in the guard page below the stack",
    );
    check(
        0x1c_0000,
        0x15,
        PageFault,
        RegionKind::Stack,
        "execution ran into 0x1c0000 on the stack, no code",
    );
    let far = 0xffff_8000_0000_0000;
    check(
        far,
        4,
        PageFault,
        RegionKind::OutsideMemory,
        "read of 0xffff800000000000 outside memory",
    );
}

#[test]
fn a_call_into_nowhere_names_its_caller() {
    let guest = Guest::new();
    let mut registers = registers(0x1234, 0);
    guest.put(registers.rsp(), &[TEXT + 0x110]);
    let fault = Fault { vector: 14, error_code: 0x14, address: 0x1234 };
    let report = guest.report(Cause::Fault(fault), registers);
    assert_eq!(report.cause.text, "jump to 0x1234 in the null guard, which is not code");
    assert_eq!(report.location.symbol, None);
    assert_eq!(symbols(&report), [("outer", 0x10)]);
    registers.gpr[7] = 0x1234;
    assert_eq!(guest.report(Cause::Fault(fault), registers).backtrace, [], "a wild RSP");
}

#[test]
fn frame_pointers_are_followed() {
    let guest = Guest::new();
    let (inner, outer) = (STACK_TOP - 0x100, STACK_TOP - 0x40);
    guest.put(inner, &[outer, TEXT + 0x200]);
    guest.put(outer, &[0, TEXT + 0x2a0]);
    let report = guest.report(DIVISION, registers(TEXT + 0x20, inner));
    assert_eq!(report.location.symbol.as_deref(), Some("inner"));
    assert_eq!(report.location.offset, 0x20);
    assert_eq!(symbols(&report), [("outer", 0x100), ("start", 0xa0)], "a call may be last");
}

#[test]
fn broken_chains_end() {
    let guest = Guest::new();
    let frame = STACK_TOP - 0x100;
    let length = |words: &[u64], rbp| {
        guest.put(frame, words);
        guest.report(DIVISION, registers(TEXT, rbp)).backtrace.len()
    };
    assert_eq!(length(&[frame, TEXT], frame), 1, "a loop");
    assert_eq!(length(&[frame - 0x40, TEXT], frame), 1, "a step down");
    assert_eq!(length(&[0, 0x40_0000], frame), 0, "a return address that is no code");
    for rbp in [0, frame + 4, 0x1b_f000, STACK_TOP - 8, MEMORY - 8, u64::MAX - 7, u64::MAX] {
        assert_eq!(length(&[0, TEXT], rbp), 0, "{rbp:#x}");
    }
    for index in 0..100 {
        let at = 0x30_0000 + index * 16;
        guest.put(at, &[at + 16, TEXT + 5]);
    }
    assert_eq!(length(&[0x30_0000, TEXT], frame), 32, "a very deep stack");
}

#[test]
fn ports_and_consoles_are_named() {
    let guest = Guest::new();
    let report =
        guest.report(Cause::UnknownPort { port: 0x3f8, write: true }, registers(TEXT + 0x100, 0));
    assert_eq!(report.cause.text, "OUT to port 0x03f8, which is no doorbell");
    assert_eq!(report.cause.port, Some(0x3f8));
    assert_eq!(report.location.symbol.as_deref(), Some("inner"), "the OUT is before RIP");
    let bad = Cause::BadConsole { address: 0, length: 5 };
    let cause = guest.report(bad, registers(TEXT, 0)).cause;
    assert_eq!(cause.text, "CONSOLE of 5 bytes at 0x0, which it may not read (in the null guard)");
    let cause = guest.report(Cause::Lost("the vCPU shut down".into()), registers(TEXT, 0)).cause;
    assert_eq!((cause.kind, cause.text.as_str()), (CauseKind::Lost, "the vCPU shut down"));
}

#[test]
fn a_fault_entry_that_could_not_be_used_is_mentioned() {
    let guest = Guest::new();
    guest.ram.registers().fault_entry.store(TEXT, Ordering::Relaxed);
    let cause = guest.report(DIVISION, registers(TEXT, 0)).cause;
    assert!(cause.text.ends_with("; its stack takes no frame for fault_entry"), "{}", cause.text);
}

#[test]
fn people_get_a_dozen_lines() {
    let guest = Guest::new();
    let text = guest.report(DIVISION, registers(TEXT + 0x20, 0)).to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 8, "{text}");
    assert_eq!(lines[0], "guest \"web\" crashed: division by zero or quotient too large (#DE)");
    assert_eq!(lines[1], "  at    0x00200020  inner + 0x20");
    assert!(lines[3].contains("rsp 00000000001ffe00"), "{text}");
    assert!(lines[7].ends_with("on kvm, after 1.234 s, 7 exits, 0 interrupts in 0 batches"));
}

#[test]
fn a_recursion_takes_two_lines() {
    let guest = Guest::new();
    for index in 0..40 {
        let at = 0x30_0000 + index * 16;
        guest.put(at, &[at + 16, TEXT + 0x105]);
    }
    let text = guest.report(DIVISION, registers(TEXT, 0x30_0000)).to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[2], "  from  0x00200105  outer + 0x5");
    assert_eq!(lines[3], "        … 31 times more");
    assert_eq!(lines.len(), 10, "{text}");
}

#[test]
fn programs_get_json() {
    let guest = Guest::new();
    let fault = Fault { vector: 14, error_code: 6, address: u64::MAX };
    let report = guest.report(Cause::Fault(fault), registers(TEXT, 0));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["cause"]["kind"], "page-fault");
    assert_eq!(json["cause"]["address"], "0xffffffffffffffff");
    assert_eq!(json["cause"]["region"], "outside-memory");
    assert_eq!(json["location"]["symbol"], "inner");
    assert_eq!(json["registers"]["rsp"], "0x1ffe00");
    assert_eq!(json["registers"].as_object().map(|registers| registers.len()), Some(18));
    assert_eq!(json["uptime_ms"], 1234);
    assert!(json["cause"].get("port").is_none());
}
