//! Guest RAM: who may do what there, and what it is made of.

mod base;
mod pages;

use super::*;
use denali_arch::space::Access;
use vm_memory::{Bytes, GuestMemory, Permissions};

fn ram() -> GuestRam {
    let mut space = AddressSpace::new(16 << 20).unwrap();
    space.set("text", 0x20_0000, 0x20_2000, Some(Access::ReadExecute)).unwrap();
    space.set("guard", 0x1b_f000, 0x1c_0000, None).unwrap();
    GuestRam::new(space, Backing::Private).unwrap()
}

#[test]
fn devices_may_do_what_the_guest_may_do() {
    let ram = ram();
    let at = |address| GuestAddress(address);
    ram.write_slice(&[1, 2, 3], at(0x30_0000)).unwrap();
    let mut back = [0; 3];
    ram.read_slice(&mut back, at(0x30_0000)).unwrap();
    assert_eq!(back, [1, 2, 3]);
    assert!(ram.read_slice(&mut back, at(0x20_0000)).is_ok(), "text can be read");
    assert!(ram.write_slice(&back, at(0x20_0000)).is_err(), "text cannot be written");
    assert!(ram.write_slice(&back, at(0x1f_fffe)).is_err(), "nor across its border");
    assert!(ram.read_slice(&mut back, at(0x1b_ffff)).is_err(), "the guard has no access");
    assert!(ram.read_slice(&mut back, at(0)).is_err());
    assert!(ram.read_slice(&mut back, at((16 << 20) - 2)).is_err());
    assert!(ram.read_slice(&mut back, at(u64::MAX - 1)).is_err());
}

#[test]
fn ranges_cross_regions_that_both_grant() {
    let ram = ram();
    let crossing = GuestAddress(0x20_1ffe);
    assert!(ram.check_range(crossing, 4, Permissions::Read));
    assert!(!ram.check_range(crossing, 4, Permissions::Write));
    assert!(!ram.check_range(GuestAddress(u64::MAX), 2, Permissions::Read));
}

#[test]
fn the_loader_writes_anywhere_in_ram() {
    let ram = ram();
    ram.load(0x20_0000, b"code").unwrap();
    assert!(ram.load(0xf_ffff, b"code").is_err());
    assert!(ram.load((16 << 20) - 1, b"code").is_err());
    let mut back = [0; 4];
    ram.read_slice(&mut back, GuestAddress(0x20_0000)).unwrap();
    assert_eq!(&back, b"code");
}

#[test]
fn private_memory_has_a_front_of_its_own() {
    let ram = ram();
    let front = ram.front().unwrap();
    assert_eq!(front.len() as u64, RAM_START);
    assert_eq!(front.cast::<u8>().as_ptr() as u64 + RAM_START, ram.host_base());
    assert!(ram.read_slice(&mut [0], GuestAddress(RAM_START - 1)).is_err());
    let space = AddressSpace::new(16 << 20).unwrap();
    assert!(GuestRam::new(space, Backing::Shared).unwrap().front().is_none());
}

#[test]
fn shared_memory_is_seen_through_its_descriptor() {
    for backing in [Backing::Shared, Backing::Exported] {
        let space = AddressSpace::new(16 << 20).unwrap();
        let ram = GuestRam::new(space, backing).unwrap();
        ram.load(RAM_START + 5, b"hello").unwrap();
        let mut back = [0; 5];
        nix::sys::uio::pread(ram.memfd().unwrap(), &mut back, 5).unwrap();
        assert_eq!(&back, b"hello");
    }
}

#[test]
fn exported_memory_holds_the_image_and_not_the_front() {
    let file = create_memfd(0x3000).unwrap();
    nix::sys::uio::pwrite(&file, b"read-only", 0x1000).unwrap();
    let mut space = AddressSpace::new(16 << 20).unwrap();
    space.set("text", 0x20_0000, 0x20_2000, Some(Access::ReadExecute)).unwrap();
    let mut ram = GuestRam::new(space, Backing::Exported).unwrap();
    let part = ImagePart { start: 0x20_0000, end: 0x20_2000, file_offset: 0x1000 };
    ram.map_image(file, vec![part]).unwrap();
    let region = ram.exported().unwrap();
    assert_eq!(region.guest_address + region.size, 16 << 20);
    assert_eq!((region.host_address, region.offset), (ram.host_base(), 0));
    let size = nix::sys::stat::fstat(region.file).unwrap().st_size;
    assert_eq!(size as u64, region.size, "the front is not in it");
    let mut back = [0; 9];
    nix::sys::uio::pread(region.file, &mut back, 0x10_0000).unwrap();
    assert_eq!(&back, b"read-only");
    assert_eq!(ram.image().unwrap().1, []);
    assert!(ram.front().is_some());
}

#[test]
fn nobody_can_cut_memory_that_is_shared() {
    let space = AddressSpace::new(16 << 20).unwrap();
    let ram = GuestRam::new(space, Backing::Exported).unwrap();
    assert!(nix::unistd::ftruncate(ram.memfd().unwrap(), 4096).is_err());
    let space = AddressSpace::new(16 << 20).unwrap();
    assert!(GuestRam::new(space, Backing::Shared).unwrap().exported().is_none());
}
