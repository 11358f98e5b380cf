//! Swapping: pages that are taken from under a guest, and given back.

use super::{Backend, DATA, Guest, MEMORY, TEXT, assemble, entry};
use crate::{Backing, GuestRam, ImagePart};
use denali_abi::layout::{PAGE_SIZE, RAM_START};
use denali_arch::space::{Access, AddressSpace};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::rc::Rc;

const PAGE: usize = PAGE_SIZE as usize;
const FIRST: u32 = (DATA / PAGE_SIZE) as u32;

/// Code that again and again tells the word where RDI points.
fn tell() -> &'static [u8] {
    assemble!("mov edx, 0xd03", "5:", "mov eax, [rdi]", "out dx, eax", "jmp 5b")
}

/// What the guest finds at `address`.
fn seen(guest: &mut Guest, address: u64) -> u32 {
    guest.change(|registers| registers.gpr[5] = address);
    guest.run_to_out()
}

/// A page of one word.
fn page_of(word: u32) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    page.as_chunks_mut().0.fill(word.to_le_bytes());
    page
}

fn can_swap(backend: &Backend) -> bool {
    backend.backing != Backing::Exported
}

pub fn a_page_that_was_released_is_zeroes_and_can_be_filled(backend: &Backend) {
    if !can_swap(backend) {
        return;
    }
    let mut guest = Guest::new(backend, tell());
    for round in 1..20 {
        for page in 0..3 {
            guest.ram.fill_page(FIRST + page, &page_of(round * 10 + page)).unwrap();
            let address = DATA + u64::from(page) * PAGE_SIZE + 8;
            assert_eq!(seen(&mut guest, address), round * 10 + page);
        }
        guest.ram.release(FIRST..FIRST + 2).unwrap();
        assert_eq!(seen(&mut guest, DATA), 0);
        assert_eq!(seen(&mut guest, DATA + 2 * PAGE_SIZE), round * 10 + 2);
        guest.ram.fill_page(FIRST, &page_of(round)).unwrap();
        // One that the guest has looked at since, and one that it has not.
        guest.ram.fill_page(FIRST + 1, &page_of(round + 1)).unwrap();
        assert_eq!(seen(&mut guest, DATA), round);
        assert_eq!(seen(&mut guest, DATA + PAGE_SIZE), round + 1);
    }
}

pub fn what_the_guest_writes_to_a_released_page_stays(backend: &Backend) {
    if !can_swap(backend) {
        return;
    }
    let code = assemble!("mov edx, 0xd03", "5:", "add [rdi], ebx", "out dx, eax", "jmp 5b");
    let mut guest = Guest::new(backend, code);
    guest.change(|registers| (registers.gpr[5], registers.gpr[1]) = (DATA, 3));
    guest.run_to_out();
    guest.run_to_out();
    let first = |guest: &Guest| guest.ram.with_page(FIRST, |content| content[0]).unwrap();
    assert_eq!(first(&guest), 6);
    guest.ram.release(FIRST..FIRST + 1).unwrap();
    guest.run_to_out();
    assert_eq!(first(&guest), 3);
    // All of memory goes, the virtual registers, stack and text included; what is brought back is there.
    let text = guest.ram.with_page((TEXT / PAGE_SIZE) as u32, |content| *content).unwrap();
    guest.ram.release((RAM_START / PAGE_SIZE) as u32..0x1000).unwrap();
    guest.ram.fill_page((TEXT / PAGE_SIZE) as u32, &text).unwrap();
    guest.ram.fill_page(FIRST, &page_of(100)).unwrap();
    guest.run_to_out();
    assert_eq!(first(&guest), 103);
}

/// A guest with text from a file, in memory that starts as a snapshot has it: a page of 7s at [`DATA`].
fn clone(backend: &Backend) -> Guest {
    let mut space = AddressSpace::new(MEMORY).unwrap();
    space.set("text", TEXT, TEXT + PAGE_SIZE, Some(Access::ReadExecute)).unwrap();
    let file = |name| memfd_create(name, MFdFlags::empty()).unwrap();
    let (snapshot, image) = (file("snapshot"), file("image"));
    nix::unistd::ftruncate(&snapshot, (MEMORY - RAM_START) as i64).unwrap();
    nix::sys::uio::pwrite(&snapshot, &page_of(7), (DATA - RAM_START) as i64).unwrap();
    nix::sys::uio::pwrite(&image, tell(), 0).unwrap();
    let mut ram = GuestRam::new(space, backend.backing).unwrap();
    ram.map_base(snapshot, 0).unwrap();
    let part = ImagePart { start: TEXT, end: TEXT + PAGE_SIZE, file_offset: 0 };
    ram.map_image(image, vec![part]).unwrap();
    let ram = Rc::new(ram);
    let mut vm = (backend.make)(Rc::clone(&ram)).unwrap();
    let vcpu = vm.create_vcpu(&entry()).unwrap();
    Guest { vcpu, vm, ram }
}

pub fn a_guest_starts_as_its_snapshot_has_it(backend: &Backend) {
    let mut guest = clone(backend);
    assert_eq!(seen(&mut guest, DATA + 16), 7);
    assert_eq!(seen(&mut guest, DATA + PAGE_SIZE), 0);
    guest.ram.fill_page(FIRST, &page_of(8)).unwrap();
    assert_eq!(seen(&mut guest, DATA + 16), 8);
    if backend.backing == Backing::Private {
        guest.ram.release(FIRST..FIRST + 1).unwrap();
        assert_eq!(seen(&mut guest, DATA + 16), 7, "the snapshot shows again");
        guest.ram.detach_base(FIRST..FIRST + 8).unwrap();
        assert_eq!(seen(&mut guest, DATA + 16), 0, "the guest sees what took its place");
        guest.ram.fill_page(FIRST, &page_of(9)).unwrap();
        assert_eq!(seen(&mut guest, DATA + 16), 9);
    }
}
