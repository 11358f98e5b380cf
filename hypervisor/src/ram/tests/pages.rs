//! Pages that leave and come back, and what they were at first.

use super::*;
use crate::ram::pages::PAGE;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::pwrite;
use proptest::prelude::*;

const MEMORY: u64 = 16 << 20;

fn plain(backing: Backing) -> GuestRam {
    let mut ram = GuestRam::new(AddressSpace::new(MEMORY).unwrap(), backing).unwrap();
    ram.watch_pages().unwrap();
    ram
}

fn file(bytes: &[u8]) -> OwnedFd {
    let file = memfd_create("image", MFdFlags::empty()).unwrap();
    assert_eq!(pwrite(&file, bytes, 0).unwrap(), bytes.len());
    file
}

/// Memory with an image: two pages of text at page 0x200, mapped; data in pages 0x202 to 0x204, of which
/// the second has two pieces, and the third ends behind the end of the file.
fn with_image(backing: Backing, load: bool) -> GuestRam {
    let mut space = AddressSpace::new(MEMORY).unwrap();
    space.set("text", 0x20_0000, 0x20_2000, Some(Access::ReadExecute)).unwrap();
    let mut ram = GuestRam::new(space, backing).unwrap();
    ram.watch_pages().unwrap();
    let bytes: Vec<u8> = (0..0x4800_u32).map(|n| (n % 251) as u8 + 1).collect();
    let part = ImagePart { start: 0x20_0000, end: 0x20_2000, file_offset: 0 };
    ram.map_image(file(&bytes), vec![part]).unwrap();
    let copies = vec![
        ImageCopy { address: 0x20_3800, length: 0x1000, file_offset: 0x3c00 },
        ImageCopy { address: 0x20_2010, length: 0x1100, file_offset: 0x2000 },
    ];
    let copied = if load { ram.load_copies(copies) } else { ram.remember_copies(copies) };
    copied.unwrap();
    ram
}

fn content(ram: &GuestRam, page: u32) -> [u8; PAGE] {
    ram.with_page(page, |content| *content).unwrap()
}

const SWAPPING: [Backing; 2] = [Backing::Private, Backing::Shared];

#[test]
fn pages_that_were_written_are_resident() {
    for backing in SWAPPING {
        let ram = plain(backing);
        assert!(ram.resident_pages().unwrap().is_empty());
        ram.registers().generation.store(1, std::sync::atomic::Ordering::Relaxed);
        ram.load(0x30_0ffe, b"over a border").unwrap();
        ram.load(MEMORY - 1, &[1]).unwrap();
        let last = (MEMORY / 4096) as u32 - 1;
        assert_eq!(ram.resident_pages().unwrap(), [0x100, 0x300, 0x301, last], "{backing:?}");
    }
}

#[test]
fn the_image_is_not_the_guests_own_until_it_is_copied() {
    for backing in SWAPPING {
        let ram = with_image(backing, true);
        let mut text = [0; 2];
        ram.read_slice(&mut text, GuestAddress(0x20_1000)).unwrap();
        assert_eq!(text, [(0x1000 % 251) as u8 + 1, (0x1001 % 251) as u8 + 1]);
        assert_eq!(ram.resident_pages().unwrap(), [0x202, 0x203, 0x204], "{backing:?}");
        assert!(with_image(backing, false).resident_pages().unwrap().is_empty());
    }
}

#[test]
fn released_pages_are_gone_and_can_be_filled() {
    for backing in SWAPPING {
        let ram = plain(backing);
        ram.load(0x30_0000, &[7; 3 * PAGE]).unwrap();
        ram.release(0x300..0x302).unwrap();
        assert_eq!(ram.resident_pages().unwrap(), [0x302], "{backing:?}");
        ram.fill_page(0x301, &[9; PAGE]).unwrap();
        assert_eq!(ram.resident_pages().unwrap(), [0x301, 0x302]);
        assert_eq!(content(&ram, 0x300), [0; PAGE]);
        assert_eq!(content(&ram, 0x301), [9; PAGE]);
        assert_eq!(content(&ram, 0x302), [7; PAGE]);
        ram.release(0x100..(MEMORY / 4096) as u32).unwrap();
        assert!(ram.resident_pages().unwrap().is_empty());
    }
}

#[test]
fn the_image_shows_again_where_it_is_mapped() {
    let ram = with_image(Backing::Private, true);
    let before = content(&ram, 0x201);
    ram.release(0x200..0x205).unwrap();
    assert_eq!(content(&ram, 0x201), before);
    assert_eq!(content(&ram, 0x202), [0; PAGE], "but for what was copied");
}

#[test]
fn originals_are_what_the_loader_made() {
    for backing in [Backing::Private, Backing::Shared, Backing::Exported] {
        let ram = with_image(backing, true);
        assert_eq!(ram.pages_with_originals().collect::<Vec<_>>(), [0x202, 0x203, 0x204]);
        let mapped = if backing == Backing::Exported { 0x202 } else { 0x200 };
        for page in mapped..0x206 {
            let original = ram.original_of(page).unwrap();
            assert!(original.is(&content(&ram, page)), "{page:#x} in {backing:?}");
            assert_eq!(original.is_zero(), page == 0x205);
        }
        ram.load(0x20_3001, &[0]).unwrap();
        assert!(!ram.original_of(0x203).unwrap().is(&content(&ram, 0x203)));
        // Memory that never saw the image knows what it would have been.
        let bare = with_image(backing, false);
        assert_eq!(content(&bare, 0x204), [0; PAGE]);
        assert_eq!(bare.original_of(0x204).unwrap().content(), &content(&ram, 0x204));
        let end = &content(&ram, 0x204)[0x3ff..0x401];
        assert!(end[0] != 0 && end[1] == 0, "the file has ended");
    }
    assert!(plain(Backing::Private).original_of(0x200).unwrap().is_zero());
    assert_eq!(plain(Backing::Private).pages_with_originals().count(), 0);
}

#[test]
fn copies_stay_within_the_memory() {
    let mut ram = with_image(Backing::Private, false);
    for (address, length, file_offset) in
        [(RAM_START - 1, 2, 0), (MEMORY - 1, 2, 0), (MEMORY, u64::MAX, 0), (RAM_START, 1, u64::MAX)]
    {
        let copy = ImageCopy { address, length, file_offset };
        assert!(matches!(ram.load_copies(vec![copy]), Err(Error::Misuse(_))));
    }
    let copy = ImageCopy { address: MEMORY - 1, length: 1, file_offset: 0 };
    ram.load_copies(vec![copy]).unwrap();
    let copy = ImageCopy { address: RAM_START, length: 0, file_offset: 0 };
    let mut bare = plain(Backing::Private);
    assert!(bare.load_copies(vec![copy]).is_err(), "of no image");
    ram.load_copies(vec![copy]).unwrap();
    assert_eq!(ram.pages_with_originals().count(), 0);
}

#[test]
fn pages_that_are_not_the_guests_are_refused() {
    let ram = with_image(Backing::Private, true);
    let last = (MEMORY / 4096) as u32 - 1;
    for page in [0, 0xff, last + 1, u32::MAX] {
        assert!(ram.with_page(page, |_| ()).is_err());
        assert!(ram.fill_page(page, &[1; PAGE]).is_err());
        assert!(ram.original_of(page).is_err());
    }
    for pages in [0..1, 0xff..0x101, last..last + 2, 0x300..u32::MAX] {
        assert!(ram.release(pages.clone()).is_err());
        assert!(ram.detach_base(pages).is_err());
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is the point")]
    let reversed = 0x301..0x300;
    assert!(ram.release(reversed).is_err());
    assert!(ram.fill_page(0x201, &[1; PAGE]).is_err(), "the image's");
    ram.fill_page(last, &[1; PAGE]).unwrap();
    ram.release(last..last).unwrap();
    assert_eq!(content(&ram, last), [1; PAGE]);
}

#[test]
fn memory_that_devices_map_stays() {
    let ram = plain(Backing::Exported);
    assert_eq!(ram.resident_pages().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    assert_eq!(ram.release(0x300..0x301).unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    let unwatched = GuestRam::new(AddressSpace::new(MEMORY).unwrap(), Backing::Private).unwrap();
    assert!(unwatched.resident_pages().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn originals_agree_with_memory_whatever_was_copied(
        copies in prop::collection::vec((0_u64..0x4000, 0_u64..0x2100, 0_u64..0x3000), 0..4),
    ) {
        // Copies of an image are disjoint.
        let mut reached = 0x20_0000;
        let copies: Vec<_> = copies
            .into_iter()
            .map(|(gap, length, file_offset)| {
                let address = reached + gap;
                reached = address + length;
                ImageCopy { address, length, file_offset }
            })
            .collect();
        let mut ram = plain(Backing::Private);
        let bytes: Vec<u8> = (0..0x4000_u32).map(|n| (n % 253) as u8 + 1).collect();
        ram.map_image(file(&bytes), Vec::new()).unwrap();
        ram.load_copies(copies).unwrap();
        let known: Vec<_> = ram.pages_with_originals().collect();
        prop_assert!(known.is_sorted_by(|one, next| one < next));
        for page in 0x1fe..0x220 {
            let content = content(&ram, page);
            prop_assert!(ram.original_of(page).unwrap().is(&content));
            prop_assert!(known.contains(&page) || content == [0; PAGE]);
        }
    }

    #[test]
    fn what_is_written_is_what_is_resident(
        written in prop::collection::btree_set(0x100_u32..0x1000, 0..40),
        released in (0x100_u32..0x1000, 0_u32..0x400),
        shared in any::<bool>(),
    ) {
        let ram = plain(if shared { Backing::Shared } else { Backing::Private });
        for page in &written {
            ram.fill_page(*page, &[1; PAGE]).unwrap();
        }
        let all: Vec<_> = written.iter().copied().collect();
        prop_assert_eq!(ram.resident_pages().unwrap(), all);
        let gone = released.0..(released.0 + released.1).min(0x1000);
        ram.release(gone.clone()).unwrap();
        let left: Vec<_> = written.into_iter().filter(|page| !gone.contains(page)).collect();
        prop_assert_eq!(ram.resident_pages().unwrap(), left);
    }
}
