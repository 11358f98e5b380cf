//! Tests of image parsing, on ELF files made by hand and then damaged.

use super::elf::PT_NOTE;
use super::*;
use denali_abi::note::ElfNote;
use proptest::prelude::*;

const TEXT: u64 = 0x20_0000;
const DATA: u64 = 0x20_2000;
const RX: u32 = PF_R | PF_X;
const RW: u32 = PF_R | PF_W;

/// A program header to be written.
#[derive(Clone, Copy)]
struct Part {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
}

fn load(flags: u32, offset: u64, address: u64, file_size: u64, memory_size: u64) -> Part {
    Part { kind: PT_LOAD, flags, offset, address, file_size, memory_size }
}

/// An ELF file: headers and the note in its first page, then `pages` pages of 0xcc.
struct Builder {
    parts: Vec<Part>,
    note: Option<Vec<u8>>,
    notes: usize,
    entry: u64,
    pages: usize,
}

impl Builder {
    /// One page of text, one of data with one more page of zeros behind it.
    fn new() -> Self {
        let parts =
            vec![load(RX, 0x1000, TEXT, 0x1000, 0x1000), load(RW, 0x2000, DATA, 0x10, 0x1800)];
        let note = Some(note(|_| ()));
        Self { parts, note, notes: 1, entry: TEXT + 8, pages: 2 }
    }

    fn with(parts: &[Part]) -> Self {
        Self { parts: parts.to_vec(), ..Self::new() }
    }

    fn build(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(16, &2_u16.to_le_bytes());
        put(18, &62_u16.to_le_bytes());
        put(24, &self.entry.to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        let mut parts = self.parts.clone();
        if let Some(note) = &self.note {
            let size = note.len() as u64;
            let (kind, flags, address) = (PT_NOTE, PF_R, 0);
            let part =
                Part { kind, flags, offset: 2048, address, file_size: size, memory_size: size };
            parts.extend(vec![part; self.notes]);
            put(2048, note);
        }
        put(56, &(parts.len() as u16).to_le_bytes());
        for (index, part) in parts.iter().enumerate() {
            let at = 64 + index * 56;
            put(at, &part.kind.to_le_bytes());
            put(at + 4, &part.flags.to_le_bytes());
            put(at + 8, &part.offset.to_le_bytes());
            put(at + 16, &part.address.to_le_bytes());
            put(at + 32, &part.file_size.to_le_bytes());
            put(at + 40, &part.memory_size.to_le_bytes());
        }
        bytes.resize(4096 * (1 + self.pages), 0xcc);
        bytes
    }

    fn parse(&self) -> Result<Image, ImageError> {
        Image::parse(&self.build())
    }

    fn error(&self) -> ImageError {
        self.parse().expect_err("the image should be refused")
    }
}

/// The bytes of an ELF note whose description was changed.
fn note(change: impl FnOnce(&mut ImageNote)) -> Vec<u8> {
    let mut image_note = ImageNote::DEFAULT;
    change(&mut image_note);
    let elf = ElfNote::new(image_note);
    // SAFETY: `ElfNote` is `repr(C)` of integers and byte arrays without padding (its size is
    // asserted where it is defined), so all its bytes are initialised.
    unsafe { std::mem::transmute::<ElfNote, [u8; 340]>(elf) }.to_vec()
}

fn with_note(change: impl FnOnce(&mut ImageNote)) -> Builder {
    Builder { note: Some(note(change)), ..Builder::new() }
}

#[test]
fn a_good_image_is_understood() {
    let image = Builder::new().parse().unwrap();
    assert_eq!(image.entry, TEXT + 8);
    assert_eq!((image.start(), image.end()), (TEXT, DATA + 0x2000));
    assert_eq!(image.stack(), 0x1c_0000..0x20_0000);
    assert_eq!(image.segments.len(), 2);
    assert_eq!(image.segments[1].access, Access::ReadWrite);
    let space = image.address_space(16 << 20).unwrap();
    assert_eq!(space.access_at(TEXT), Some(Access::ReadExecute));
    assert_eq!(space.access_at(DATA), Some(Access::ReadWrite));
    assert_eq!(space.access_at(0x1b_ffff), None, "the guard");
    assert_eq!(space.access_at(0x1b_efff), Some(Access::ReadWrite), "RAM below it");
}

#[test]
fn code_is_mapped_and_data_is_copied() {
    let image = Builder::new().parse().unwrap();
    let part = FilePart { start: TEXT, end: TEXT + 0x1000, file_offset: 0x1000 };
    assert_eq!(image.file_parts(), [part]);
    let copy = FileCopy { address: DATA, file_offset: 0x2000, length: 0x10 };
    assert_eq!(image.copies(), [copy]);
}

#[test]
fn ends_with_other_bytes_around_them_are_copied() {
    let text = load(RX, 0x1010, TEXT + 0x10, 0x2000, 0x2000);
    let image = Builder { entry: TEXT + 0x10, pages: 4, ..Builder::with(&[text]) }.parse().unwrap();
    let part = FilePart { start: TEXT + 0x1000, end: TEXT + 0x2000, file_offset: 0x2000 };
    assert_eq!(image.file_parts(), [part]);
    let copy = |address, file_offset, length| FileCopy { address, file_offset, length };
    let expected = [copy(TEXT + 0x10, 0x1010, 0xff0), copy(TEXT + 0x2000, 0x3000, 0x10)];
    assert_eq!(image.copies(), expected);
}

#[test]
fn ends_with_zeros_around_them_are_mapped() {
    let text = load(RX, 0x1010, TEXT + 0x10, 0x1800, 0x1800);
    let mut bytes = Builder { entry: TEXT + 0x10, ..Builder::with(&[text]) }.build();
    bytes[0x1000..0x1010].fill(0);
    bytes[0x2810..].fill(0);
    bytes.truncate(0x2900);
    let image = Image::parse(&bytes).unwrap();
    let part = FilePart { start: TEXT, end: TEXT + 0x2000, file_offset: 0x1000 };
    assert_eq!(image.file_parts(), [part]);
    assert_eq!(image.copies(), []);
}

#[test]
fn segments_that_share_a_page_are_copied_there() {
    let first = load(RX, 0x1000, TEXT, 0x800, 0x800);
    let second = load(RX, 0x1800, TEXT + 0x800, 0x800, 0x800);
    let image = Builder::with(&[second, first]).parse().unwrap();
    assert_eq!(image.file_parts(), []);
    assert_eq!(image.copies().len(), 2);
}

#[test]
fn bytes_out_of_step_with_their_address_are_copied() {
    let text = load(RX, 0x1010, TEXT, 0x1ff0, 0x1ff0);
    let image = Builder::with(&[text]).parse().unwrap();
    assert_eq!(image.file_parts(), []);
    assert_eq!(image.copies(), [FileCopy { address: TEXT, file_offset: 0x1010, length: 0x1ff0 }]);
}

#[test]
fn other_files_are_refused_by_name() {
    assert_eq!(Image::parse(b"#!/bin/sh\n"), Err(ImageError::NotElf));
    assert_eq!(Image::parse(b""), Err(ImageError::NotElf));
    assert!(matches!(Image::parse(b"\x7fELF\x02\x01"), Err(ImageError::Truncated { .. })));
    let changed = |at: usize, value: u8| {
        let mut bytes = Builder::new().build();
        bytes[at] = value;
        Image::parse(&bytes).unwrap_err()
    };
    assert_eq!(changed(4, 1), ImageError::NotElf64);
    assert_eq!(changed(5, 2), ImageError::NotElf64);
    assert_eq!(changed(18, 183), ImageError::WrongMachine(183));
    assert!(changed(18, 183).to_string().contains("AArch64"));
    assert_eq!(changed(16, 3), ImageError::Dynamic);
    assert_eq!(changed(16, 1), ImageError::NotExecutable(1));
    assert_eq!(changed(54, 8), ImageError::Malformed("program headers are too short"));
    assert_eq!(changed(56, 0), ImageError::NoSegment);
    assert!(matches!(changed(57, 1), ImageError::TooMany { .. }));
    assert!(matches!(changed(33, 0xff), ImageError::Truncated { .. }));
}

#[test]
fn dynamic_executables_are_refused() {
    for kind in [PT_DYNAMIC, PT_INTERP] {
        let mut builder = Builder::new();
        builder.parts.push(Part { kind, ..builder.parts[0] });
        assert_eq!(builder.error(), ImageError::Dynamic);
    }
}

#[test]
fn bad_segments_are_refused() {
    let text = load(RX, 0x1000, TEXT, 0x1000, 0x1000);
    let error = |part| Builder::with(&[text, part]).error();
    assert_eq!(Builder::with(&[]).error(), ImageError::NoSegment);
    assert_eq!(error(load(RW, 0x2000, TEXT + 8, 8, 8)), ImageError::Overlap(TEXT, TEXT + 8));
    let shared = load(RW, 0x2000, TEXT + 0x1800, 8, 8);
    let long = load(RX, 0x1000, TEXT, 0x1000, 0x1700);
    assert_eq!(Builder::with(&[long, shared]).error(), ImageError::SharedPage(TEXT, TEXT + 0x1800));
    for address in [0, 0x10_0000, 0x1f_ffff, (1 << 32) - 8, 1 << 32, u64::MAX - 8, u64::MAX] {
        let outside = ImageError::OutsideMemory { address, size: 16 };
        assert_eq!(error(load(RW, 0x2000, address, 8, 16)), outside);
    }
    assert!(matches!(error(load(RW, 0x2fff, DATA, 2, 2)), ImageError::OutsideFile { .. }));
    assert!(matches!(error(load(RW, u64::MAX, DATA, 2, 2)), ImageError::OutsideFile { .. }));
    assert_eq!(error(load(RW, 0x2000, DATA, 9, 8)), ImageError::FileLarger(DATA));
    assert_eq!(error(load(RX | RW, 0x2000, DATA, 8, 8)), ImageError::WriteExecute(DATA));
    assert_eq!(error(load(0, 0x2000, DATA, 8, 8)), ImageError::NoAccess(DATA));
    let many: Vec<_> = (0..17).map(|n| load(RW, 0, DATA + n * 0x1000, 8, 8)).collect();
    assert!(matches!(Builder::with(&many).error(), ImageError::TooMany { found: 17, .. }));
}

#[test]
fn the_entry_must_be_code() {
    for entry in [0, TEXT - 1, TEXT + 0x1000, DATA, u64::MAX] {
        assert_eq!(Builder { entry, ..Builder::new() }.error(), ImageError::Entry(entry));
    }
}

#[test]
fn the_note_must_be_there_once_and_well_formed() {
    assert_eq!(Builder { note: None, ..Builder::new() }.error(), ImageError::NoNote);
    assert_eq!(Builder { notes: 2, ..Builder::new() }.error(), ImageError::SeveralNotes);
    let bad = |builder: Builder| assert!(matches!(builder.error(), ImageError::BadNote(_)));
    bad(with_note(|note| note.abi_version = 0));
    bad(with_note(|note| note.device_count = 9));
    bad(with_note(|note| note.device_count = 1));
    bad(with_note(|note| note.memory_min = (1 << 32) + 1));
    bad(with_note(|note| {
        note.device_count = 1;
        note.devices[0] = WantedDevice { kind: 1, name: [b'\n'; 28] };
    }));
    let cut = |bytes: usize| {
        let mut note = note(|_| ());
        note.truncate(bytes);
        Builder { note: Some(note), ..Builder::new() }
    };
    bad(cut(339));
    bad(cut(20));
    assert_eq!(cut(8).error(), ImageError::NoNote);
    let mut foreign = note(|_| ());
    foreign[12] = b'X';
    assert_eq!(
        Builder { note: Some(foreign), ..Builder::new() }.error(),
        ImageError::NoNote,
        "somebody else's note"
    );
}

#[test]
fn a_note_behind_another_is_found() {
    let mut notes = vec![4, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0];
    notes.extend(b"GNU\0abcde\0\0\0");
    notes.extend(note(|note| note.memory_min = 8 << 20));
    let image = Builder { note: Some(notes), ..Builder::new() }.parse().unwrap();
    assert_eq!(image.note.memory_min, 8 << 20);
}

#[test]
fn a_newer_image_is_told_apart_from_a_broken_one() {
    let error = with_note(|note| note.abi_version = 7).error();
    let text = "needs ABI version 7, this monitor speaks 1: update Denali";
    assert_eq!(error.to_string(), text);
}

#[test]
fn bad_stacks_are_refused() {
    let stack = |top, size| {
        with_note(|note| {
            note.stack_top = top;
            note.stack_size = size;
        })
    };
    for (top, size) in [
        (0x1f_f008, 0x1000),       // not whole pages
        (0x1f_f000, 0x1008),       // nor this
        (0x10_4000, 0x1000),       // no room for the guard
        (0x1000, 0x2000),          // below zero
        (0, 0x10_0000),            // below memory
        (1 << 33, 0x1000),         // above memory
        (TEXT + 0x1000, 0x1000),   // in the image
        (DATA + 0x3000, 0x1000),   // guard in the image
        (u64::MAX - 4095, 0x1000), // far above
    ] {
        let error = stack(top, size).error();
        assert!(matches!(error, ImageError::BadStack { .. }), "{top:#x} {size:#x}: {error}");
    }
    assert!(stack(0x10_5000, 0x1000).parse().is_ok(), "as low as can be");
    let high = stack(DATA + 0x4000, 0x1000).parse().unwrap();
    assert_eq!(high.memory_needed(), DATA + 0x4000);
}

#[test]
fn too_little_memory_names_how_much_is_needed() {
    let image = Builder::new().parse().unwrap();
    let error = image.address_space(0x20_3000).unwrap_err().to_string();
    assert_eq!(
        error,
        "needs 2064 KiB of memory (it ends there), the guest has 2060 KiB: raise \"memory\""
    );
    assert!(image.address_space(image.memory_needed()).is_ok());
    let greedy = with_note(|note| note.memory_min = 64 << 20).parse().unwrap();
    let error = greedy.address_space(16 << 20).unwrap_err().to_string();
    assert!(error.starts_with("needs 64 MiB of memory (its note asks"), "{error}");
    assert!(matches!(image.address_space((16 << 20) + 1), Err(ImageError::Space(_))));
}

#[test]
fn wanted_devices_are_matched_one_to_one() {
    let named = |kind, name: &str| {
        let mut wanted = WantedDevice::any(kind);
        wanted.name[..name.len()].copy_from_slice(name.as_bytes());
        wanted
    };
    let image = with_note(|note| {
        note.device_count = 3;
        note.devices[..3].copy_from_slice(&[
            WantedDevice::any(1),
            named(1, "uplink"),
            named(2, "data"),
        ]);
    });
    let image = image.parse().unwrap();
    assert_eq!(image.missing_devices(&[(1, "uplink"), (1, "lan"), (2, "data")]), []);
    assert_eq!(image.missing_devices(&[(1, "uplink"), (2, "data")]), [WantedDevice::any(1)]);
    assert_eq!(
        image.missing_devices(&[(1, "lan"), (2, "uplink")]),
        [named(1, "uplink"), named(2, "data")]
    );
}

/// What callers rely on without checking.
fn check(image: &Image, bytes: &[u8]) -> Result<(), TestCaseError> {
    for segment in &image.segments {
        prop_assert!(IMAGE_START <= segment.address && segment.end() <= MEMORY_MAX);
        prop_assert!(segment.file_offset + segment.file_size <= bytes.len() as u64);
        prop_assert!(segment.file_size <= segment.memory_size);
    }
    prop_assert!(image.segments.windows(2).all(|pair| pair[0].end() <= pair[1].address));
    let stack = image.stack();
    prop_assert!(RAM_FREE_START < stack.start && stack.end <= MEMORY_MAX);
    let space = image.address_space(image.memory_needed());
    prop_assert!(space.is_ok(), "{space:?}");
    check_plan(image, bytes)
}

/// Loads the image as the plan says into one buffer, and as the segments say into another.
fn check_plan(image: &Image, bytes: &[u8]) -> Result<(), TestCaseError> {
    let size = image.end() - image.start();
    if size > 1 << 20 {
        return Ok(());
    }
    let (mut planned, mut expected) = (vec![0; size as usize], vec![0; size as usize]);
    let put = |buffer: &mut Vec<u8>, address: u64, offset: u64, length: u64| {
        let at = (address - image.start()) as usize;
        let source = &bytes[offset as usize..(offset + length) as usize];
        buffer[at..at + source.len()].copy_from_slice(source);
    };
    for part in image.file_parts() {
        let length = (part.end - part.start).min(bytes.len() as u64 - part.file_offset);
        put(&mut planned, part.start, part.file_offset, length);
    }
    for copy in image.copies() {
        put(&mut planned, copy.address, copy.file_offset, copy.length);
    }
    for segment in &image.segments {
        put(&mut expected, segment.address, segment.file_offset, segment.file_size);
    }
    prop_assert_eq!(planned, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn arbitrary_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Image::parse(&tail);
        let mut bytes = Builder::new().build();
        bytes.truncate(64);
        bytes.extend(&tail);
        let _ = Image::parse(&bytes);
    }

    #[test]
    fn damaged_images_are_refused_or_sound(
        changes in prop::collection::vec((0_usize..64 + 56 * 3, any::<u8>()), 1..4),
        in_note in prop::collection::vec((0_usize..84, any::<u8>()), 0..2),
        cut in 0_usize..0x3000,
    ) {
        let mut bytes = Builder::new().build();
        changes.iter().for_each(|&(at, value)| bytes[at] = value);
        in_note.iter().for_each(|&(at, value)| bytes[2048 + at] = value);
        if cut < 0x800 {
            bytes.truncate(bytes.len() - cut);
        }
        if let Ok(image) = Image::parse(&bytes) {
            check(&image, &bytes)?;
        }
    }

    #[test]
    fn whatever_is_accepted_loads_as_its_segments_say(
        text in (0_u64..0x2800, 0_u64..0x1400, 0_u64..0x1400, 0_u64..0x1400),
        more in (0_u64..0x2800, 0x1000_u64..0x4000, 0_u64..0x1400, 0_u64..0x1400),
        flags in prop::sample::select(vec![PF_R, RX, RW]),
        in_step: bool,
        zeros: bool,
    ) {
        let part = |(offset, at, file, more): (u64, u64, u64, u64), flags| {
            let at = if in_step { (at & !0xfff) | (offset & 0xfff) } else { at };
            load(flags, offset, TEXT + at, file, file + more)
        };
        let builder = Builder { pages: 4, ..Builder::with(&[part(text, RX), part(more, flags)]) };
        let mut bytes = Builder { entry: builder.parts[0].address, ..builder }.build();
        if zeros {
            bytes[0x1000..0x1400].fill(0);
            bytes[0x1800..0x2400].fill(0);
        }
        if let Ok(image) = Image::parse(&bytes) {
            check(&image, &bytes)?;
        }
    }
}
