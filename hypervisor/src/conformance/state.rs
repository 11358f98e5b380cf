//! State: what a guest starts with, and what survives exits.

use super::{ARITHMETIC_FLAGS, Backend, DATA, Guest, TEXT, assemble, assert_same, entry};
use crate::{Exit, Width};
use vm_memory::{Bytes, GuestAddress};

pub fn a_guest_starts_with_the_entry_registers(backend: &Backend) {
    let mut guest = Guest::new(backend, assemble!("ud2"));
    assert_same(&guest.registers(), &entry());
    guest.run_to_fault();
    assert_same(&guest.registers(), &entry());
    // Direction flag and, where the guest can read them, segment bases.
    let mut guest =
        Guest::new(backend, assemble!("pushf", "pop rax", "mov edx, 0xd03", "out dx, eax"));
    assert_eq!(guest.run_to_out() & (0x400 | 0x100 | 0x4_0000 | ARITHMETIC_FLAGS as u32), 0);
}

pub fn extended_state_starts_clean(backend: &Backend) {
    let code = assemble!("mov edi, 0x300000", "fxsave64 [rdi]", "mov edx, 0xd03", "out dx, eax",);
    let mut guest = Guest::new(backend, code);
    guest.run_to_out();
    let mut area = [0_u8; 512];
    guest.ram.read_slice(&mut area, GuestAddress(DATA)).unwrap();
    assert_eq!(area[..2], [0x7f, 0x03], "x87 control word");
    assert_eq!(area[24..28], [0x80, 0x1f, 0, 0], "MXCSR");
    assert!(
        area[32..416].iter().all(|&byte| byte == 0),
        "nothing of the monitor's is in registers"
    );
    if is_x86_feature_detected!("avx") {
        let code = assemble!(
            "mov edi, 0x300000",
            "vextractf128 [rdi], ymm0, 1",
            "vextractf128 [rdi + 16], ymm15, 1",
            "mov edx, 0xd03",
            "out dx, eax",
        );
        let mut guest = Guest::new(backend, code);
        guest.ram.load(DATA, &[0xff; 32]).unwrap();
        guest.run_to_out();
        let mut upper = [1; 32];
        guest.ram.read_slice(&mut upper, GuestAddress(DATA)).unwrap();
        assert_eq!(upper, [0; 32]);
    }
}

/// Takes the guest through every kind of exit: OUT, IN, a fault, a trap, a page fault, a system call.
fn through_every_exit(guest: &mut Guest) {
    assert!(matches!(guest.run(), Exit::Out { .. }));
    scramble();
    assert_eq!(guest.run(), Exit::In { port: 0xd03, width: Width::Double });
    guest.vcpu.complete_in(1).unwrap();
    scramble();
    for vector in [6, 3, 14, 6] {
        let fault = guest.run_to_fault();
        assert_eq!(fault.vector, vector);
        scramble();
        // All of them have two bytes, and INT3 has already passed its one.
        let skip = if vector == 3 { 0 } else { 2 };
        guest.change(|registers| registers.rip += skip);
    }
}

/// Uses the monitor's own vector registers.
fn scramble() {
    let numbers: Vec<f64> = (0..64).map(|n| f64::from(n) * 1.5).collect();
    assert!(std::hint::black_box(&numbers).iter().sum::<f64>() > 0.0);
}

pub fn sse_and_x87_state_survives_every_exit(backend: &Backend) {
    let code = assemble!(
        "mov edi, 0x300000",
        "mov edx, 0xd03",
        "fxrstor64 [rdi]",
        "out dx, eax",
        "in eax, dx",
        "ud2",
        "int3",
        "xor esi, esi",
        "mov [rsi], al",
        "syscall",
        "fxsave64 [rdi + 0x1000]",
        "mov edx, 0xd03",
        "out dx, eax",
    );
    let mut guest = Guest::new(backend, code);
    let mut image = [0_u8; 512];
    image[..2].copy_from_slice(&0x027f_u16.to_le_bytes());
    image[24..28].copy_from_slice(&0x3f80_u32.to_le_bytes()); // round down
    image[4] = 0xff; // all x87 registers in use
    for (index, byte) in image[32..416].iter_mut().enumerate() {
        let x87_padding = index < 128 && index % 16 >= 10;
        *byte = if x87_padding { 0 } else { index as u8 ^ 0x5a };
    }
    guest.ram.load(DATA, &image).unwrap();
    through_every_exit(&mut guest);
    assert!(matches!(guest.run(), Exit::Out { .. }));
    let mut after = [0_u8; 512];
    guest.ram.read_slice(&mut after, GuestAddress(DATA + 0x1000)).unwrap();
    assert_eq!(after[..8], image[..8], "x87 control");
    assert_eq!(after[24..28], image[24..28], "MXCSR");
    assert_eq!(after[32..416], image[32..416], "registers");
}

pub fn avx_state_survives_every_exit(backend: &Backend) {
    if !is_x86_feature_detected!("avx") {
        eprintln!("skipped: this processor has no AVX");
        return;
    }
    let code = assemble!(
        "mov edi, 0x300000",
        "mov edx, 0xd03",
        "vmovups ymm0, [rdi]",
        "vmovups ymm7, [rdi + 32]",
        "vmovups ymm15, [rdi + 64]",
        "out dx, eax",
        "in eax, dx",
        "ud2",
        "int3",
        "xor esi, esi",
        "mov [rsi], al",
        "syscall",
        "vmovups [rdi + 0x1000], ymm0",
        "vmovups [rdi + 0x1020], ymm7",
        "vmovups [rdi + 0x1040], ymm15",
        "mov edx, 0xd03",
        "out dx, eax",
    );
    let mut guest = Guest::new(backend, code);
    let before: Vec<u8> = (1..=96).collect();
    guest.ram.load(DATA, &before).unwrap();
    through_every_exit(&mut guest);
    assert!(matches!(guest.run(), Exit::Out { .. }));
    let mut after = vec![0; 96];
    guest.ram.read_slice(&mut after, GuestAddress(DATA + 0x1000)).unwrap();
    assert_eq!(after, before);
}

pub fn flags_are_seen_and_set(backend: &Backend) {
    let code = assemble!("mov edx, 0xd03", "out dx, eax", "pushf", "pop rax", "out dx, eax");
    let mut guest = Guest::new(backend, code);
    guest.run_to_out();
    let flags = ARITHMETIC_FLAGS | 0x400 | 0x4_0000; // and direction, alignment check
    guest.change(|registers| registers.rflags = flags | 2);
    assert_eq!(u64::from(guest.run_to_out()) & (flags | 2), flags | 2);
    assert_eq!(guest.registers().rflags, flags | 2);
    // What the guest sets itself is seen as well: the carry, direction and ID flags.
    let code = assemble!("push 0x200403", "popf", "ud2");
    let mut guest = Guest::new(backend, code);
    guest.run_to_fault();
    assert_eq!(guest.registers().rflags, 0x20_0403);
}

pub fn segment_bases_are_the_guests(backend: &Backend) {
    let code = assemble!(
        "mov edx, 0xd03",
        "mov eax, fs:[0x300000]",
        "out dx, eax",
        "mov eax, gs:[0x300004]",
        "out dx, eax",
    );
    let mut guest = Guest::new(backend, code);
    guest.ram.load(DATA, &[1, 0, 0, 0, 2, 0, 0, 0]).unwrap();
    assert_eq!((guest.run_to_out(), guest.run_to_out()), (1, 2), "both start at 0");
    // CPUID leaf 7: FSGSBASE.
    if std::arch::x86_64::__cpuid_count(7, 0).ebx & 1 == 0 {
        eprintln!("skipped in part: this processor has no WRFSBASE");
        return;
    }
    let code = assemble!(
        "mov edx, 0xd03",
        "mov eax, 0x2fff00",
        "wrfsbase rax",
        "mov rax, 0xffff800000000000",
        "wrgsbase rax",
        "out dx, eax",
        "ud2",
        "mov eax, fs:[0x100]",
        "out dx, eax",
        "rdgsbase rax",
        "shr rax, 32",
        "out dx, eax",
    );
    let mut guest = Guest::new(backend, code);
    guest.ram.load(DATA, &[7, 0, 0, 0]).unwrap();
    guest.run_to_out();
    assert_eq!(guest.run_to_fault().vector, 6);
    guest.change(|registers| registers.rip += 2);
    assert_eq!(guest.run_to_out(), 7, "FS keeps its base");
    assert_eq!(guest.run_to_out(), 0xffff_8000, "and GS one that only a kernel would use");
}

pub fn time_runs(backend: &Backend) {
    let code = assemble!(
        "rdtsc",
        "mov ecx, eax",
        "rdtsc",
        "sub eax, ecx",
        "mov edx, 0xd03",
        "out dx, eax",
        "cpuid",
    );
    let mut guest = Guest::new(backend, code);
    assert!(guest.run_to_out() > 0);
    assert!(guest.registers().rip > TEXT);
}
