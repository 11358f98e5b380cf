//! Memory that starts as a snapshot has it.

use super::*;
use crate::ram::pages::PAGE;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::pwrite;

const MEMORY: u64 = 16 << 20;
const OFFSET: u64 = 0x3000;

/// A snapshot with something before and behind RAM, and data in pages 0x100, 0x202 and 0x300 to 0x301.
fn snapshot() -> OwnedFd {
    let file = memfd_create("snapshot", MFdFlags::empty()).unwrap();
    let end = OFFSET + MEMORY - RAM_START;
    nix::unistd::ftruncate(&file, (end + 0x1000) as i64).unwrap();
    for (at, byte) in [
        (0, 0xff),
        (OFFSET, 1),
        (OFFSET + 0x10_2000, 2),
        (OFFSET + 0x20_0000, 3),
        (OFFSET + 0x20_1000, 4),
        (end, 0xff),
    ] {
        assert_eq!(pwrite(&file, &[byte; PAGE], at as i64).unwrap(), PAGE);
    }
    file
}

fn clone(file: &OwnedFd, backing: Backing) -> GuestRam {
    let mut space = AddressSpace::new(MEMORY).unwrap();
    space.set("text", 0x20_0000, 0x20_2000, Some(Access::ReadExecute)).unwrap();
    let mut ram = GuestRam::new(space, backing).unwrap();
    ram.watch_pages().unwrap();
    ram.map_base(file.try_clone().unwrap(), OFFSET).unwrap();
    let image = memfd_create("image", MFdFlags::empty()).unwrap();
    pwrite(&image, &[8; 0x2000], 0).unwrap();
    let part = ImagePart { start: 0x20_0000, end: 0x20_2000, file_offset: 0 };
    ram.map_image(image, vec![part]).unwrap();
    ram
}

fn content(ram: &GuestRam, page: u32) -> u8 {
    let content = ram.with_page(page, |content| *content).unwrap();
    assert!(content.iter().all(|byte| *byte == content[0]));
    content[0]
}

const CONTENT: [(u32, u8); 8] = [
    (0x100, 1),
    (0x101, 0),
    (0x200, 8),
    (0x202, 2),
    (0x2ff, 0),
    (0x300, 3),
    (0x301, 4),
    (0xfff, 0),
];

#[test]
fn every_clone_has_what_the_snapshot_has() {
    let file = snapshot();
    for backing in [Backing::Private, Backing::Shared, Backing::Exported] {
        let [one, other] = [clone(&file, backing), clone(&file, backing)];
        assert!(one.has_base());
        for (page, byte) in CONTENT {
            assert_eq!(content(&one, page), byte, "page {page:#x} in {backing:?}");
        }
        one.load(0x30_0000, &[9; PAGE]).unwrap();
        assert_eq!((content(&one, 0x300), content(&other, 0x300)), (9, 3));
        assert_eq!(content(&clone(&file, backing), 0x300), 3, "the file is as it was");
    }
}

#[test]
fn what_is_the_snapshots_is_not_the_guests_own() {
    let file = snapshot();
    let ram = clone(&file, Backing::Private);
    for (page, _) in CONTENT {
        content(&ram, page);
    }
    assert!(ram.resident_pages().unwrap().is_empty());
    ram.load(0x30_0000, &[9]).unwrap();
    ram.load(0x40_0000, &[9]).unwrap();
    assert_eq!(ram.resident_pages().unwrap(), [0x300, 0x400]);
    ram.release(0x300..0x401).unwrap();
    assert!(ram.resident_pages().unwrap().is_empty());
    assert_eq!((content(&ram, 0x300), content(&ram, 0x400)), (3, 0), "the snapshot again");
    // A memfd has a copy of the data, and of nothing else.
    let ram = clone(&snapshot(), Backing::Shared);
    assert_eq!(ram.resident_pages().unwrap(), [0x100, 0x202, 0x300, 0x301]);
}

#[test]
fn originals_are_the_snapshots() {
    let file = snapshot();
    for backing in [Backing::Private, Backing::Shared] {
        let mut ram = clone(&file, backing);
        let copy = ImageCopy { address: 0x20_2000, length: 0x1000, file_offset: 0 };
        ram.remember_copies(vec![copy]).unwrap();
        assert_eq!(ram.pages_with_originals().collect::<Vec<_>>(), [0x100, 0x202, 0x300, 0x301]);
        for (page, byte) in CONTENT {
            let original = ram.original_of(page).unwrap();
            assert_eq!(original.content(), &[byte; PAGE], "page {page:#x}");
            assert_eq!(original.is_zero(), byte == 0);
        }
        // A guest that starts from the image has other originals, where the snapshot has data and elsewhere.
        assert_eq!(ram.pages_with_originals_in_image().collect::<Vec<_>>(), [0x202]);
        assert!(ram.original_in_image(0x300).unwrap().is_zero());
        let (image, _) = ram.image().unwrap();
        let mut first = [0; PAGE];
        nix::sys::uio::pread(image, &mut first, 0).unwrap();
        assert_eq!(ram.original_in_image(0x202).unwrap().content(), &first);
        assert!(ram.original_in_image(0x10).is_err());
    }
}

#[test]
fn a_detached_range_is_memory_of_its_own() {
    let file = snapshot();
    let ram = clone(&file, Backing::Private);
    ram.load(0x30_0000, &[9; PAGE]).unwrap();
    ram.detach_base(0x300..0x301).unwrap();
    assert_eq!((content(&ram, 0x300), content(&ram, 0x301)), (0, 4));
    ram.fill_page(0x300, &[5; PAGE]).unwrap();
    ram.release(0x300..0x302).unwrap();
    assert_eq!((content(&ram, 0x300), content(&ram, 0x301)), (0, 4), "no file behind it");
    assert_eq!(ram.original_of(0x300).unwrap().content(), &[3; PAGE]);
    assert!(ram.detach_base(0x1ff..0x201).is_err(), "parts of the image stay");
    ram.detach_base(0x202..0x1000).unwrap();
    assert_eq!(content(&ram, 0x202), 0);
    assert!(clone(&file, Backing::Shared).detach_base(0x300..0x301).is_err());
}

#[test]
fn a_snapshot_that_does_not_fit_is_refused() {
    let attempt = |length: u64, offset| {
        let file = snapshot();
        nix::unistd::ftruncate(&file, length as i64).unwrap();
        let space = AddressSpace::new(MEMORY).unwrap();
        GuestRam::new(space, Backing::Private).unwrap().map_base(file, offset)
    };
    let whole = MEMORY - RAM_START;
    assert!(attempt(whole, 0).is_ok());
    assert!(attempt(whole - 1, 0).is_err());
    assert!(attempt(whole + 0x1000, 0x2000).is_err());
    assert!(attempt(whole + 0x1000, 0x800).is_err(), "not at a page");
    assert!(attempt(whole, u64::MAX - 0xfff).is_err());
    let mut late = clone(&snapshot(), Backing::Private);
    assert!(matches!(late.map_base(snapshot(), 0), Err(Error::Misuse(_))));
}
