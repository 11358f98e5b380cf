//! Traps: exceptions reported behind the instruction that caused them.

use super::{Backend, Guest, PORT, TEXT, assemble, entry};
use crate::{Exit, Fault, Width};

/// The trap flag.
pub const TF: u64 = 1 << 8;

fn trap(vector: u8) -> Fault {
    Fault { vector, error_code: 0, address: 0 }
}

pub fn breakpoints_are_reported_behind_the_instruction(backend: &Backend) {
    for (code, vector) in [
        (assemble!("nop", "int3", "ud2"), 3),
        (assemble!(".byte 0xcd, 3", "ud2"), 3),
        (assemble!(".byte 0xcd, 4", "ud2"), 4),
    ] {
        let mut guest = Guest::new(backend, code);
        assert_eq!(guest.run_to_fault(), trap(vector));
        assert_eq!(guest.registers().rip, TEXT + 2, "vector {vector}");
        assert_eq!(guest.run_to_fault(), trap(6));
        assert_eq!(guest.registers().rip, TEXT + 2);
    }
}

/// INT1 traps, but some processors' virtual machines report it at the instruction, not behind it.
pub fn int1_is_reported(backend: &Backend) {
    let mut guest = Guest::new(backend, assemble!("nop", ".byte 0xf1", "ud2"));
    assert_eq!(guest.run_to_fault(), trap(1));
    let rip = guest.registers().rip;
    assert!((TEXT + 1..=TEXT + 2).contains(&rip), "{rip:#x}");
    guest.change(|registers| registers.rip = TEXT + 2);
    assert_eq!(guest.run_to_fault(), trap(6));
}

pub fn single_steps_trap(backend: &Backend) {
    // POPF sets the flag; the trap comes behind the instruction after it, and each one from there.
    let code = assemble!(
        "pushf",
        "or dword ptr [rsp], 0x100",
        "popf",
        "nop",
        "nop",
        "mov edx, 0xd03",
        "out dx, eax",
    );
    let mut guest = Guest::new(backend, code);
    for expected in [TEXT + 10, TEXT + 11, TEXT + 16] {
        assert_eq!(guest.run_to_fault(), trap(1));
        let registers = guest.registers();
        assert_eq!((registers.rip, registers.rflags & TF), (expected, TF));
    }
    assert_eq!(guest.run(), Exit::Out { port: PORT, data: 0, width: Width::Double });
    guest.change(|registers| {
        registers.rflags &= !TF;
        registers.rip = TEXT + 9;
    });
    assert_eq!(guest.run_to_out(), 0, "no more traps");
}

pub fn single_steps_reach_over_faults(backend: &Backend) {
    let mut guest = Guest::new(backend, assemble!("nop", "ud2", "nop", "nop"));
    guest.change(|registers| registers.rflags |= TF);
    assert_eq!(guest.run_to_fault(), trap(1));
    assert_eq!(guest.registers().rip, TEXT + 1);
    assert_eq!(guest.run_to_fault(), trap(6));
    assert_eq!(guest.registers().rflags & TF, TF);
    guest.change(|registers| registers.rip += 2);
    assert_eq!(guest.run_to_fault(), trap(1));
    assert_eq!(guest.registers().rip, TEXT + 4);
    assert_eq!(guest.registers().rsp(), entry().rsp());
}
