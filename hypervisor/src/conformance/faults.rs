//! Faults: vector, error code, address, and the registers of the faulting instruction.

use super::{
    ARITHMETIC_FLAGS, Backend, CONSTANTS, DATA, GUARD, Guest, MEMORY, TEXT, assemble, assert_same,
    entry,
};
use crate::Fault;
use denali_abi::frame::GPR_RSP;

/// An address with bits above the 48th that do not repeat it.
const NON_CANONICAL: u64 = 0x1234_5678_9abc_def0;

pub fn exceptions_have_vector_error_code_and_place(backend: &Backend) {
    // Code, offset of the faulting instruction, vector, error code.
    let cases: [(&str, &[u8], u64, u8, u64); 16] = [
        ("div by 0", assemble!("xor ecx, ecx", "div ecx"), 2, 0, 0),
        ("div overflow", assemble!("mov edx, -1", "mov ecx, 1", "div ecx"), 10, 0, 0),
        ("ud2", assemble!("nop", "ud2"), 1, 6, 0),
        ("not an instruction", assemble!(".byte 0x06"), 0, 6, 0),
        ("hlt", assemble!("hlt"), 0, 13, 0),
        ("cli", assemble!("nop", "cli"), 1, 13, 0),
        ("sti", assemble!("sti"), 0, 13, 0),
        ("mov cr3", assemble!("mov rax, cr3"), 0, 13, 0),
        ("rdmsr", assemble!("rdmsr"), 0, 13, 0),
        ("lgdt", assemble!("lgdt [rip]"), 0, 13, 0),
        ("invlpg", assemble!("invlpg [rip]"), 0, 13, 0),
        ("int 0x80", assemble!("nop", "int 0x80"), 1, 13, 0x402),
        ("int 0x20", assemble!("nop", "int 0x20"), 1, 13, 0x102),
        ("int 1", assemble!("int 1"), 0, 13, 0xa),
        (
            "non-canonical read",
            assemble!("mov rax, 0x123456789abcdef0", "mov rcx, [rax]"),
            10,
            13,
            0,
        ),
        ("misaligned SSE", assemble!("mov eax, 0x300001", "movaps [rax], xmm0"), 5, 13, 0),
    ];
    for (name, code, offset, vector, error_code) in cases {
        let mut guest = Guest::new(backend, code);
        let fault = guest.run_to_fault();
        assert_eq!(fault, Fault { vector, error_code, address: 0 }, "{name}");
        let registers = guest.registers();
        assert_eq!(registers.rip, TEXT + offset, "{name}");
        assert_eq!(registers.rsp(), entry().rsp(), "{name}");
    }
}

pub fn page_faults_say_what_was_tried(backend: &Backend) {
    let read = assemble!("mov ecx, [rdi]");
    let write = assemble!("mov [rdi], ecx");
    let modify = assemble!("lock xadd [rdi], ecx");
    let jump = assemble!("jmp rdi");
    let kernel = 0xffff_8000_0000_0000;
    // Code, RDI, error code.
    let cases: [(&str, &[u8], u64, u64); 15] = [
        ("read of null", read, 0, 4),
        ("read below RAM", read, 0xf_fff0, 4),
        ("read behind RAM", read, MEMORY, 4),
        ("read at 4 GiB", read, 1 << 32, 4),
        ("read far above", read, 0x7fff_0000_0000, 4),
        ("read of the kernel's half", read, kernel, 4),
        ("write to the kernel's half", write, kernel, 6),
        ("write to null", write, 8, 6),
        ("write to text", write, TEXT, 7),
        ("write to boot information", write, 0x10_1010, 7),
        ("write to constants", write, CONSTANTS + 8, 7),
        ("atomic to constants", modify, CONSTANTS + 8, 7),
        ("write to the stack guard", write, GUARD + 0xff0, 6),
        ("jump to null", jump, 0, 0x14),
        ("jump to data", jump, DATA, 0x15),
    ];
    for (name, code, address, error_code) in cases {
        let mut registers = entry();
        registers.gpr[5] = address;
        let mut guest = Guest::with_entry(backend, code, &registers);
        let fault = guest.run_to_fault();
        assert_eq!(fault, Fault { vector: 14, error_code, address }, "{name}");
        registers.rip = if error_code & 0x10 != 0 { address } else { TEXT };
        assert_same(&guest.registers(), &registers);
    }
}

pub fn faults_change_no_register(backend: &Backend) {
    for code in [assemble!("ud2"), assemble!("hlt"), assemble!("mov al, [0x10]")] {
        let mut guest = Guest::new(backend, code);
        for _ in 0..3 {
            guest.run_to_fault();
            assert_same(&guest.registers(), &entry());
        }
    }
}

pub fn wild_stack_pointers(backend: &Backend) {
    let push = assemble!("push rax");
    for rsp in [0, 8, 0x1000, GUARD + 0x1000, MEMORY + 0x1000, 1 << 46] {
        let mut guest = Guest::new(backend, push);
        guest.change(|registers| registers.gpr[GPR_RSP] = rsp);
        let fault = guest.run_to_fault();
        let address = rsp.wrapping_sub(8);
        // Below 0 is the end of the kernel's half.
        assert_eq!(fault, Fault { vector: 14, error_code: 6, address }, "{rsp:#x}");
        assert_eq!(guest.registers().rsp(), rsp);
        assert_eq!(guest.registers().rip, TEXT);
    }
    let mut guest = Guest::new(backend, push);
    guest.change(|registers| registers.gpr[GPR_RSP] = NON_CANONICAL);
    assert_eq!(guest.run_to_fault(), Fault { vector: 12, error_code: 0, address: 0 }, "#SS");
    assert_eq!(guest.registers().rsp(), NON_CANONICAL);
    // Faults that do not involve the stack, with a stack pointer that nothing can be pushed to.
    for rsp in [0, 7, NON_CANONICAL, u64::MAX] {
        let mut guest = Guest::new(backend, assemble!("ud2"));
        guest.change(|registers| registers.gpr[GPR_RSP] = rsp);
        assert_eq!(guest.run_to_fault().vector, 6, "{rsp:#x}");
        assert_eq!(guest.registers().rsp(), rsp);
    }
}

pub fn jumps_into_nowhere(backend: &Backend) {
    let code = assemble!("jmp rdi");
    for address in [0, 0xf_ffff, MEMORY, 1 << 32, 0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_0007] {
        let mut guest = Guest::new(backend, code);
        guest.change(|registers| registers.gpr[5] = address);
        let fault = guest.run_to_fault();
        assert_eq!(fault, Fault { vector: 14, error_code: 0x14, address }, "{address:#x}");
        assert_eq!(guest.registers().rip, address);
        assert_eq!(guest.registers().rsp(), entry().rsp(), "{address:#x}");
    }
    // The addresses at which the host's kernel offers calls, with registers as for them.
    for address in [0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_0400, 0xffff_ffff_ff60_0800] {
        let mut guest = Guest::new(backend, assemble!("xor esi, esi", "call rdi", "ud2"));
        guest.change(|registers| registers.gpr[5] = address);
        let fault = guest.run_to_fault();
        assert_eq!(fault, Fault { vector: 14, error_code: 0x14, address }, "{address:#x}");
        assert_eq!(guest.registers().rip, address);
        assert_eq!(guest.registers().rsp(), entry().rsp() - 8);
        guest.change(|registers| registers.rip = TEXT + 4);
        assert_eq!(guest.run_to_fault().vector, 6, "it goes on");
    }
    let mut guest = Guest::new(backend, code);
    guest.change(|registers| registers.gpr[5] = NON_CANONICAL);
    assert_eq!(guest.run_to_fault(), Fault { vector: 13, error_code: 0, address: 0 });
}

pub fn a_fault_can_be_repaired_and_resumed(backend: &Backend) {
    let code = assemble!("mov eax, [rdi]", "mov edx, 0xd03", "out dx, eax", "ud2", "out dx, eax");
    let mut guest = Guest::new(backend, code);
    guest.ram.load(DATA, &0x0102_0304_u32.to_le_bytes()).unwrap();
    guest.change(|registers| registers.gpr[5] = 0x18);
    assert_eq!(guest.run_to_fault().address, 0x18);
    guest.change(|registers| registers.gpr[5] = DATA);
    assert_eq!(guest.run_to_out(), 0x0102_0304);
    assert_eq!(guest.run_to_fault().vector, 6);
    guest.change(|registers| {
        registers.rip += 2;
        registers.gpr[0] = 5;
    });
    assert_eq!(guest.run_to_out(), 5);
}

pub fn system_calls_are_invalid_instructions(backend: &Backend) {
    // Every number that could do something, by every way in; RAX as small as a 32-bit call keeps it.
    for number in [0, 1, 9, 11, 15, 39, 57, 60, 231, 0x4000_0001] {
        for (code, fault) in [
            (assemble!("nop", "syscall", "ud2"), Fault { vector: 6, error_code: 0, address: 0 }),
            (
                assemble!("nop", "int 0x80", "ud2"),
                Fault { vector: 13, error_code: 0x402, address: 0 },
            ),
        ] {
            let mut guest = Guest::new(backend, code);
            guest.change(|registers| registers.gpr[0] = number);
            for _ in 0..2 {
                assert_eq!(guest.run_to_fault(), fault, "call {number}");
                let registers = guest.registers();
                assert_eq!((registers.rip, registers.gpr[0]), (TEXT + 1, number));
                assert_eq!(registers.rsp(), entry().rsp());
            }
            guest.change(|registers| registers.rip = TEXT + 3);
            assert_eq!(guest.run_to_fault().vector, 6);
            assert_eq!(guest.registers().rip, TEXT + 3);
        }
    }
    // SYSENTER: by which vector, and where it leaves RIP, is unspecified; that it is refused is not.
    let mut guest = Guest::new(backend, assemble!("mov ebp, 0x300000", "sysenter"));
    let fault = guest.run_to_fault();
    assert!([6, 13].contains(&fault.vector), "{fault:?}");
    assert_eq!((fault.error_code, fault.address), (0, 0));
    guest.ram.load(TEXT, &[0x0f, 0x0b]).unwrap();
    guest.vcpu.set_registers(&entry()).unwrap();
    assert_eq!(guest.run_to_fault().vector, 6, "in 64-bit mode again");
    assert_same(&guest.registers(), &entry());
}

pub fn floating_point_exceptions(backend: &Backend) {
    // x87 divide by zero, unmasked: reported by the next waiting instruction.
    let x87 = assemble!(
        "mov word ptr [0x300000], 0x37b",
        "fldcw [0x300000]",
        "fld1",
        "fldz",
        "fdivp",
        "fwait",
    );
    let mut guest = Guest::new(backend, x87);
    assert_eq!(guest.run_to_fault(), Fault { vector: 16, error_code: 0, address: 0 });
    assert_eq!(guest.registers().rip, TEXT + x87.len() as u64 - 1);
    let sse = assemble!(
        "mov dword ptr [0x300000], 0x1d80",
        "ldmxcsr [0x300000]",
        "mov eax, 1",
        "cvtsi2sd xmm0, eax",
        "xorps xmm1, xmm1",
        "divsd xmm0, xmm1",
    );
    let mut guest = Guest::new(backend, sse);
    assert_eq!(guest.run_to_fault(), Fault { vector: 19, error_code: 0, address: 0 });
    let registers = guest.registers();
    assert_eq!(registers.rip, TEXT + sse.len() as u64 - 4);
    assert_eq!(registers.rflags & !ARITHMETIC_FLAGS, 2);
}

pub fn alignment_is_checked_when_asked(backend: &Backend) {
    let mut guest = Guest::new(backend, assemble!("mov eax, [rdi]", "mov eax, [rdi + 1]"));
    guest.change(|registers| {
        registers.gpr[5] = DATA;
        registers.rflags |= 1 << 18; // AC
    });
    assert_eq!(guest.run_to_fault(), Fault { vector: 17, error_code: 0, address: 0 });
    assert_eq!(guest.registers().rip, TEXT + 2);
}
