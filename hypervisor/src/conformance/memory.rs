//! Memory: rights by region, the same bytes on both sides.

use super::{Backend, CONSTANTS, DATA, GUARD, Guest, TEXT, assemble, entry};
use crate::{Fault, GuestRam};
use denali_abi::layout::{MEMORY_MAX, STACK_TOP_DEFAULT, VIRTUAL_REGISTERS};
use denali_arch::space::{Access, AddressSpace};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use vm_memory::{Bytes, GuestAddress};

fn page_fault(error_code: u64, address: u64) -> Fault {
    Fault { vector: 14, error_code, address }
}

pub fn text_and_constants_are_not_writable(backend: &Backend) {
    let code = assemble!("mov edx, 0xd03", "mov eax, [rdi]", "out dx, eax", "mov [rdi], eax");
    for address in [TEXT, CONSTANTS] {
        let mut guest = Guest::new(backend, code);
        guest.ram.load(CONSTANTS, b"lava").unwrap();
        guest.change(|registers| registers.gpr[5] = address);
        let mut bytes = [0; 4];
        guest.ram.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        assert_eq!(guest.run_to_out(), u32::from_le_bytes(bytes), "it can be read");
        assert_eq!(guest.run_to_fault(), page_fault(7, address));
        let mut after = [0; 4];
        guest.ram.read_slice(&mut after, GuestAddress(address)).unwrap();
        assert_eq!(after, bytes);
    }
}

pub fn data_is_not_executable(backend: &Backend) {
    for address in [DATA, CONSTANTS, VIRTUAL_REGISTERS, STACK_TOP_DEFAULT - 16] {
        let mut guest = Guest::new(backend, assemble!("jmp rdi"));
        guest.ram.load(address, &[0x0f, 0x0b]).unwrap();
        guest.change(|registers| registers.gpr[5] = address);
        assert_eq!(guest.run_to_fault(), page_fault(0x15, address));
    }
}

pub fn guards_have_no_access(backend: &Backend) {
    // A stack that grows without end meets its guard page.
    let mut guest = Guest::new(backend, assemble!("5:", "push rax", "jmp 5b"));
    assert_eq!(guest.run_to_fault(), page_fault(6, GUARD + 0xff8));
    assert_eq!(guest.registers().rsp(), GUARD + 0x1000);
}

pub fn memory_is_shared_with_the_monitor(backend: &Backend) {
    let code = assemble!(
        "mov edx, 0xd03",
        "5:",
        "inc dword ptr [rdi]",
        "mov eax, [0x100010]",
        "out dx, eax",
        "jmp 5b",
    );
    let mut guest = Guest::new(backend, code);
    guest.change(|registers| registers.gpr[5] = DATA);
    for round in 1..=5_u32 {
        guest.ram.registers().generation.store(u64::from(round) * 3, Ordering::Release);
        assert_eq!(guest.run_to_out(), round * 3, "the guest sees what the monitor writes");
        let count: u32 = guest.ram.read_obj(GuestAddress(DATA)).unwrap();
        assert_eq!(count, round, "the monitor sees what the guest writes");
        let bit = 1 << round;
        guest.ram.registers().pending.fetch_or(bit, Ordering::Release);
    }
}

pub fn exported_memory_is_what_the_guest_sees(backend: &Backend) {
    let code = assemble!(
        "mov edx, 0xd03",
        "5:",
        "inc dword ptr [rdi]",
        "mov eax, [rdi + 4]",
        "out dx, eax",
        "jmp 5b",
    );
    let mut guest = Guest::new(backend, code);
    let ram = Rc::clone(&guest.ram);
    let Some(region) = ram.exported() else { return };
    let at = (DATA - region.guest_address + region.offset) as i64;
    guest.change(|registers| registers.gpr[5] = DATA);
    for round in 1..=5_u32 {
        nix::sys::uio::pwrite(region.file, &(round * 7).to_le_bytes(), at + 4).unwrap();
        assert_eq!(guest.run_to_out(), round * 7, "the guest sees what others write");
        let mut count = [0; 4];
        nix::sys::uio::pread(region.file, &mut count, at).unwrap();
        assert_eq!(u32::from_le_bytes(count), round, "others see what the guest writes");
    }
}

pub fn large_memory_is_reached_to_its_end(backend: &Backend) {
    let code = assemble!(
        "mov edx, 0xd03",
        "mov dword ptr [rdi], 0x55",
        "mov eax, [rdi]",
        "out dx, eax",
        "mov [rdi + 4], eax",
    );
    let mut space = AddressSpace::new(MEMORY_MAX).unwrap();
    space.set("text", TEXT, TEXT + 0x1000, Some(Access::ReadExecute)).unwrap();
    let ram = Rc::new(GuestRam::new(space, backend.backing).unwrap());
    ram.load(TEXT, code).unwrap();
    let mut registers = entry();
    registers.gpr[5] = MEMORY_MAX - 4;
    let mut vm = (backend.make)(Rc::clone(&ram)).unwrap();
    let vcpu = vm.create_vcpu(&registers).unwrap();
    let mut guest = Guest { vcpu, vm, ram };
    assert_eq!(guest.run_to_out(), 0x55);
    assert_eq!(guest.run_to_fault(), page_fault(6, MEMORY_MAX));
}
