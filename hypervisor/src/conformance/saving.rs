//! Saving: a guest whose vCPU and machine are gone goes on in another machine as if nothing had been.

use super::control::{ignore, with_signals};
use super::{Backend, DATA, Guest, PORT, TEXT, assemble, assert_same, entry, traps};
use crate::{Error, Exit, GuestRam, Registers, StateError, VcpuState, Width};
use denali_abi::layout::PAGE_SIZE;
use std::ops::Range;
use std::rc::Rc;
use vm_memory::{Bytes, GuestAddress};

/// Where guests here load their registers from, and store them to.
const LOADED: u64 = DATA;
/// See [`LOADED`].
const STORED: u64 = DATA + 0x4000;
/// Bytes of either.
const STATE_BYTES: usize = 0x1000;
/// Where a guest that loops looks for the end.
const DONE: u64 = DATA + 0x8000;

/// Carry, sign and direction, and the one that is always set.
const FLAGS: u64 = 0x483;
/// Where FS and GS start: the latter where only a kernel would have it.
const BASES: [u64; 2] = [DATA + 0x123, 0xffff_8000_1234_5000];
/// The flag that tells that there is CPUID; one back end cannot set it.
const ID: u64 = 1 << 21;

/// Code that loads everything a processor of this kind has from [`LOADED`].
fn load_state() -> Vec<u8> {
    let mut code =
        assemble!("mov esi, 0x300000", "fxrstor64 [rsi]", "push qword ptr [rsi + 0xf00]", "popf",)
            .to_vec();
    if is_x86_feature_detected!("avx") {
        code.extend(assemble!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "vmovups ymm\\n, [rsi + 0x200 + 32 * \\n]",
            ".endr",
        ));
    }
    if is_x86_feature_detected!("avx512bw") {
        code.extend(assemble!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
            "kmovq k\\n, [rsi + 0xe00 + 8 * \\n]",
            ".endr",
            ".irp n, 0, 1, 2, 3, 8, 15, 16, 17, 23, 30, 31",
            "vmovups zmm\\n, [rsi + 0x600 + 64 * \\n]",
            ".endr",
        ));
    }
    if has_fsgsbase() {
        code.extend(assemble!(
            "mov rax, [rsi + 0xf08]",
            "wrfsbase rax",
            "mov rax, [rsi + 0xf10]",
            "wrgsbase rax",
        ));
    }
    code.extend(assemble!("mov rax, 0x1234567887654321", "mov ecx, 0", "mov edx, 0xd03"));
    code
}

/// Code that stores everything to [`STORED`], and ends with an OUT.
fn store_state() -> Vec<u8> {
    let mut code =
        assemble!("mov esi, 0x304000", "fxsave64 [rsi]", "pushf", "pop qword ptr [rsi + 0xf00]",)
            .to_vec();
    if is_x86_feature_detected!("avx") {
        code.extend(assemble!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "vmovups [rsi + 0x200 + 32 * \\n], ymm\\n",
            ".endr",
        ));
    }
    if is_x86_feature_detected!("avx512bw") {
        code.extend(assemble!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
            "kmovq [rsi + 0xe00 + 8 * \\n], k\\n",
            ".endr",
            ".irp n, 0, 1, 2, 3, 8, 15, 16, 17, 23, 30, 31",
            "vmovups [rsi + 0x600 + 64 * \\n], zmm\\n",
            ".endr",
        ));
    }
    if has_fsgsbase() {
        code.extend(assemble!(
            "rdfsbase rax",
            "mov [rsi + 0xf08], rax",
            "rdgsbase rax",
            "mov [rsi + 0xf10], rax",
        ));
    }
    code.extend(assemble!("mov edx, 0xd03", "out dx, eax"));
    code
}

/// CPUID leaf 7: FSGSBASE.
fn has_fsgsbase() -> bool {
    std::arch::x86_64::__cpuid_count(7, 0).ebx & 1 != 0
}

/// What [`load_state`] loads: different bytes everywhere, but for flags and bases.
fn registers_to_load() -> Vec<u8> {
    let mut area: Vec<u8> = (0..STATE_BYTES).map(|n| (n ^ (n >> 8) ^ 0x5a) as u8).collect();
    area[..32].fill(0);
    area[..2].copy_from_slice(&0x027f_u16.to_le_bytes());
    area[4] = 0xff; // all x87 registers in use
    area[24..28].copy_from_slice(&0x3f80_u32.to_le_bytes()); // round down
    for (at, value) in [(0xf00, FLAGS), (0xf08, BASES[0]), (0xf10, BASES[1])] {
        area[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    area
}

/// What of it no later load replaces.
fn what_is_last_loaded() -> Vec<Range<usize>> {
    let vectors = match () {
        () if is_x86_feature_detected!("avx512bw") => [0x600..0x640, 0xe00..0xe40],
        () if is_x86_feature_detected!("avx") => [0x200..0x300, 0x300..0x400],
        () => [32..160, 160..416],
    };
    let bases = has_fsgsbase().then_some(0xf08..0xf18);
    vectors.into_iter().chain([0..8, 24..28, 0xf00..0xf01]).chain(bases).collect()
}

/// A guest in the middle of `code`, between loading and storing everything.
fn full_guest(backend: &Backend, code: &[u8]) -> Guest {
    let code = [&load_state(), code, &store_state()].concat();
    let guest = Guest::new(backend, &code);
    let area = registers_to_load();
    guest.ram.load(LOADED, &area).unwrap();
    guest
}

/// What a guest has stored of its registers.
fn stored(guest: &Guest) -> Vec<u8> {
    let mut area = vec![0; STATE_BYTES];
    guest.ram.read_slice(&mut area, GuestAddress(STORED)).unwrap();
    area[464..512].fill(0); // the processor's own
    area
}

#[track_caller]
fn assert_same_bytes(left: &[u8], right: &[u8]) {
    let differ = left.iter().zip(right).position(|(left, right)| left != right);
    assert_eq!(differ.map(|at| format!("{at:#x}")), None);
}

/// The same guest on `backend`, in a machine and memory of its own, from what is left as text and bytes.
pub fn revived(mut guest: Guest, backend: &Backend) -> Guest {
    let before = guest.registers();
    let state = guest.vcpu.save().unwrap();
    assert_eq!(guest.vcpu.save().unwrap(), state, "saving changes nothing");
    let text = serde_json::to_string(&state).unwrap();
    let ram = Rc::new(GuestRam::new(guest.ram.space().clone(), backend.backing).unwrap());
    let mut page = [0; PAGE_SIZE as usize];
    for region in guest.ram.space().regions() {
        for address in (region.start..region.end).step_by(page.len()) {
            guest.ram.read_slice(&mut page, GuestAddress(address)).unwrap();
            if page != [0; PAGE_SIZE as usize] {
                ram.load(address, &page).unwrap();
            }
        }
    }
    drop(guest);
    let mut vm = (backend.make)(Rc::clone(&ram)).unwrap();
    let mut vcpu = vm.create_vcpu(&Registers { rip: TEXT, ..Registers::default() }).unwrap();
    let state: VcpuState = serde_json::from_str(&text).unwrap();
    vcpu.restore(&state).unwrap();
    assert_eq!(vcpu.save().unwrap(), state, "what was restored is what was saved");
    let mut guest = Guest { vcpu, vm, ram };
    assert_same(&guest.registers(), &before);
    guest
}

/// Runs a guest to each of its exits, with `change` after each, and returns what it stored and the
/// registers it ended with.
fn to_the_end(guest: Guest, change: impl Fn(Guest) -> Guest) -> (Vec<u8>, Registers) {
    let mut guest = change(guest);
    assert_eq!(guest.run_to_out(), 0x8765_4321);
    guest = change(guest);
    assert!(matches!(guest.run(), Exit::In { .. }));
    guest.vcpu.complete_in(0x5555_5555).unwrap();
    guest = change(guest);
    for vector in [6, 3, 14, 6] {
        assert_eq!(guest.run_to_fault().vector, vector);
        guest = change(guest);
        let skip = if vector == 3 { 0 } else { 2 };
        guest.change(|registers| registers.rip += skip);
        guest = change(guest);
    }
    guest.run_to_out();
    (stored(&guest), guest.registers())
}

/// A guest with an exit of each kind: OUT, IN, a fault, a trap, a page fault, a system call.
fn guest_of_every_exit(backend: &Backend) -> Guest {
    let code = assemble!(
        "out dx, eax",
        "in eax, dx",
        "ud2",
        "int3",
        ".byte 0x8a, 0x01", // mov al, [rcx]
        "syscall",
    );
    full_guest(backend, code)
}

pub fn everything_survives_after_every_exit(backend: &Backend) {
    between(backend, backend);
}

/// Has a guest move to and fro between two back ends after each of its exits.
pub fn between(one: &Backend, other: &Backend) {
    let undisturbed = to_the_end(guest_of_every_exit(one), |guest| guest);
    let loaded = registers_to_load();
    for range in what_is_last_loaded() {
        assert_same_bytes(&undisturbed.0[range.clone()], &loaded[range]);
    }
    let moved = to_the_end(guest_of_every_exit(one), |guest| {
        let there = revived(guest, other);
        revived(there, one)
    });
    assert_same(&moved.1, &undisturbed.1);
    assert_same_bytes(&moved.0, &undisturbed.0);
}

pub fn an_interrupted_guest_is_saved(backend: &Backend) {
    let code = assemble!("5:", "add r8, 1", "cmp dword ptr [0x308000], 0", "je 5b", "nop");
    let [mut undisturbed, mut saved] = [false, true].map(|save| {
        let mut guest = full_guest(backend, code);
        with_signals(ignore, || {
            for _ in 0..5 {
                while guest.vcpu.run().unwrap() != Exit::Interrupted {}
            }
        });
        if save { revived(guest, backend) } else { guest }
    });
    for guest in [&mut undisturbed, &mut saved] {
        guest.ram.load(DONE, &[1]).unwrap();
        guest.run_to_out();
    }
    assert_same_bytes(&stored(&saved), &stored(&undisturbed));
    // How often each went round is nobody's business.
    for guest in [&mut undisturbed, &mut saved] {
        guest.change(|registers| registers.gpr[8] = 0);
    }
    assert_same(&saved.registers(), &undisturbed.registers());
}

pub fn a_fresh_guest_is_saved_before_it_runs(backend: &Backend) {
    let mut guest = Guest::new(backend, assemble!("mov edx, 0xd03", "out dx, eax"));
    let state = guest.vcpu.save().unwrap();
    let fresh =
        VcpuState { registers: entry(), components: state.components, ..Default::default() };
    assert_eq!(state, fresh);
    assert_eq!(revived(guest, backend).run_to_out(), 0);
}

pub fn a_trap_that_is_due_survives(backend: &Backend) {
    // Whether an OUT that is single-stepped traps is the back end's affair.
    let steps = |change: &dyn Fn(Guest) -> Guest| {
        let mut guest = Guest::new(backend, assemble!("out dx, eax", "nop", "ud2"));
        guest.change(|registers| {
            registers.gpr[3] = u64::from(PORT);
            registers.rflags |= traps::TF;
        });
        guest.run_to_out();
        let mut faults = Vec::new();
        while faults.last().is_none_or(|(vector, _)| *vector == 1) {
            guest = change(guest);
            faults.push((guest.run_to_fault().vector, guest.registers()));
        }
        faults
    };
    let (undisturbed, saved) = (steps(&|guest| guest), steps(&|guest| revived(guest, backend)));
    assert_eq!(undisturbed, saved);
    assert!(undisturbed.len() >= 2);
    // Sent elsewhere, a guest does not take it.
    let mut guest = Guest::new(backend, assemble!("ud2"));
    let due = VcpuState { trap: true, ..guest.vcpu.save().unwrap() };
    guest.vcpu.restore(&due).unwrap();
    assert_eq!(guest.vcpu.save().unwrap(), due);
    let mut guest = revived(guest, backend);
    assert_eq!((guest.run_to_fault().vector, guest.registers().rip), (1, TEXT));
    assert_eq!(guest.run_to_fault().vector, 6);
    let mut guest = Guest::new(backend, assemble!("ud2"));
    guest.vcpu.restore(&due).unwrap();
    guest.change(|_| {});
    assert_eq!(guest.run_to_fault().vector, 6);
}

pub fn a_guest_that_waits_for_data_is_not_saved(backend: &Backend) {
    let mut guest = Guest::new(backend, assemble!("in eax, dx", "out dx, eax"));
    guest.change(|registers| registers.gpr[3] = 0xd03);
    assert_eq!(guest.run(), Exit::In { port: 0xd03, width: Width::Double });
    assert!(matches!(guest.vcpu.save(), Err(Error::Misuse(_))));
    guest.vcpu.complete_in(77).unwrap();
    let mut guest = revived(guest, backend);
    assert_eq!(guest.registers().gpr[0], 77);
    assert_eq!(guest.run_to_out(), 77);
}

pub fn a_state_for_another_processor_is_refused(backend: &Backend) {
    let mut guest = Guest::new(backend, assemble!("ud2"));
    let sound = guest.vcpu.save().unwrap();
    let amx = VcpuState { components: sound.components | 1 << 18, ..sound.clone() };
    assert!(matches!(guest.vcpu.restore(&amx), Err(Error::State(StateError::Lacks(_)))));
    let wild = VcpuState { fs_base: 1 << 63, ..sound.clone() };
    assert!(matches!(guest.vcpu.restore(&wild), Err(Error::State(StateError::Base(_)))));
    // Flags that are the monitor's are not the state's to set.
    let registers = Registers { rflags: !(traps::TF | ID), ..sound.registers };
    guest.vcpu.restore(&VcpuState { registers, ..sound }).unwrap();
    assert_eq!(guest.run_to_fault().vector, 6);
    assert_same(&guest.registers(), &Registers { rflags: 0x4_0cd7, ..registers });
}
