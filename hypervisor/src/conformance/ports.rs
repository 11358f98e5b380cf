//! Port I/O: what the monitor sees of it, and what the guest keeps.

use super::{Backend, DATA, Guest, PORT, TEXT, assemble, assert_same, entry};
use crate::{Exit, Width};
use denali_abi::layout::PAGE_SIZE;

pub fn out_of_every_width(backend: &Backend) {
    let code = assemble!(
        "mov eax, 0x11223344",
        "mov edx, 0xabc0d03",
        "out dx, al",
        "out dx, ax",
        "out dx, eax",
        "out 0x80, al",
        "out 0x80, ax",
        "out 0x80, eax",
    );
    let mut guest = Guest::new(backend, code);
    let expected = [
        (PORT, 0x44, Width::Byte, 1),
        (PORT, 0x3344, Width::Word, 2),
        (PORT, 0x1122_3344, Width::Double, 1),
        (0x80, 0x44, Width::Byte, 2),
        (0x80, 0x3344, Width::Word, 3),
        (0x80, 0x1122_3344, Width::Double, 2),
    ];
    let mut rip = TEXT + 10;
    for (port, data, width, length) in expected {
        assert_eq!(guest.run(), Exit::Out { port, data, width });
        rip += length;
        assert_eq!(guest.registers().rip, rip, "RIP is behind {width:?} to {port:#x}");
    }
}

pub fn in_of_every_width(backend: &Backend) {
    let code = assemble!(
        "mov rax, 0x1122334455667788",
        "mov rbx, rax",
        "mov edx, 0x1004",
        "in al, dx",
        "xchg rax, rbx",
        "mov rcx, rax",
        "in ax, dx",
        "xchg rax, rcx",
        "in eax, dx",
        "mov r8, rax",
        "in al, 0x71",
        "in ax, 0x71",
        "in eax, 0x71",
        "mov edx, 0xd03",
        "out dx, eax",
    );
    let mut guest = Guest::new(backend, code);
    let data = 0xcafe_babe;
    for (port, width) in [
        (0x1004, Width::Byte),
        (0x1004, Width::Word),
        (0x1004, Width::Double),
        (0x71, Width::Byte),
        (0x71, Width::Word),
        (0x71, Width::Double),
    ] {
        assert_eq!(guest.run(), Exit::In { port, width });
        guest.vcpu.complete_in(data).unwrap();
    }
    assert_eq!(guest.run_to_out(), data);
    let registers = guest.registers();
    assert_eq!(registers.gpr[1], 0x1122_3344_5566_77be, "AL alone");
    assert_eq!(registers.gpr[2], 0x1122_3344_5566_babe, "AX alone");
    assert_eq!(registers.gpr[8], 0xcafe_babe, "EAX, zero-extended");
}

pub fn port_instructions_change_nothing_else(backend: &Backend) {
    let code = assemble!("mov edx, 0xd03", "out dx, eax", "in eax, dx", "out dx, eax");
    let mut guest = Guest::new(backend, code);
    let mut expected = entry();
    expected.gpr[3] = 0xd03;
    guest.run_to_out();
    expected.rip = TEXT + 6;
    assert_same(&guest.registers(), &expected);
    assert_eq!(guest.run(), Exit::In { port: PORT, width: Width::Double });
    guest.vcpu.complete_in(7).unwrap();
    expected.rip = TEXT + 7;
    expected.gpr[0] = 7;
    assert_same(&guest.registers(), &expected);
    assert_eq!(guest.run_to_out(), 7);
}

pub fn port_instructions_with_prefixes(backend: &Backend) {
    // REX.W, which changes nothing, and an operand size.
    let code = assemble!(
        "mov eax, 0x11223344",
        "mov edx, 0xd03",
        ".byte 0x48, 0xef",
        ".byte 0x40, 0xee",
        ".byte 0x66, 0x40, 0xef",
        ".byte 0x48, 0xed",
        "out dx, eax",
    );
    let mut guest = Guest::new(backend, code);
    assert_eq!(guest.run_to_out(), 0x1122_3344);
    assert_eq!(guest.run(), Exit::Out { port: PORT, data: 0x44, width: Width::Byte });
    assert_eq!(guest.run(), Exit::Out { port: PORT, data: 0x3344, width: Width::Word });
    assert_eq!(guest.run(), Exit::In { port: PORT, width: Width::Double });
    guest.vcpu.complete_in(0x8000_0001).unwrap();
    assert_eq!(guest.run_to_out(), 0x8000_0001);
    assert_eq!(guest.registers().gpr[0], 0x8000_0001);
}

pub fn a_port_instruction_at_the_end_of_text(backend: &Backend) {
    // The last byte of text is an OUT; the fetch behind it is of data.
    let mut code = vec![0x90; PAGE_SIZE as usize - 6];
    code.extend([0xba, 0x03, 0x0d, 0x00, 0x00, 0xef]); // mov edx, 0xd03; out dx, eax
    let mut guest = Guest::new(backend, &code);
    guest.run_to_out();
    let end = TEXT + PAGE_SIZE;
    assert_eq!(guest.registers().rip, end);
    let fault = guest.run_to_fault();
    assert_eq!((fault.vector, fault.error_code, fault.address), (14, 0x15, end));
    assert_eq!(guest.registers().rip, end);
}

pub fn port_instructions_outside_text_are_not_executed(backend: &Backend) {
    // OUT in memory that is not executable.
    let code = assemble!("mov byte ptr [0x300000], 0xee", "mov eax, 0x300000", "jmp rax");
    let mut guest = Guest::new(backend, code);
    let fault = guest.run_to_fault();
    assert_eq!((fault.vector, fault.error_code, fault.address), (14, 0x15, DATA));
    assert_eq!(guest.registers().rip, DATA);
}
