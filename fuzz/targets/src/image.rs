//! Images of guests: ELF files with a Denali note, and their symbols.

use crate::memory::bounded;
use denali_abi::layout::{IMAGE_START, MEMORY_MAX, PAGE_SIZE};
use denali_abi::note::{ElfNote, ImageNote, WantedDevice};
use denali_arch::image::{Image, SEGMENTS_MAX};
use denali_arch::symbols::Symbols;

/// Addresses at which symbols are looked up.
const LOOKUPS: [u64; 4] = [0, IMAGE_START, IMAGE_START + 0x1008, u64::MAX];

/// An ELF file.
pub fn image(bytes: &[u8]) {
    bounded(4 * bytes.len() + (64 << 10), || {
        for place in LOOKUPS.iter().filter_map(|&address| Symbols::new(bytes).lookup(address)) {
            assert!(place.name.len() <= 240 && !place.name.contains(char::is_control));
        }
        if let Ok(image) = Image::parse(bytes) {
            check(&image, bytes.len() as u64);
        }
    });
}

/// All that the image says can be, and it fits into the memory that it asks for.
fn check(image: &Image, length: u64) {
    assert!((1..=SEGMENTS_MAX).contains(&image.segments.len()));
    let mut end = IMAGE_START;
    for segment in &image.segments {
        assert!(segment.address >= end && segment.end() <= MEMORY_MAX);
        assert!(segment.file_size <= segment.memory_size);
        assert!(segment.file_offset + segment.file_size <= length);
        end = segment.end();
    }
    assert!(image.segments.iter().any(|part| (part.address..part.end()).contains(&image.entry)));
    let stack = image.stack();
    assert!(stack.start < stack.end && image.stack_guard().end == stack.start);
    for part in image.file_parts() {
        assert!(part.start < part.end && part.start % PAGE_SIZE == 0 && part.end % PAGE_SIZE == 0);
        assert!(part.file_offset % PAGE_SIZE == 0 && part.file_offset < length);
        assert!(
            image
                .segments
                .iter()
                .any(|s| s.pages().start <= part.start && part.end <= s.pages().end)
        );
    }
    for copy in image.copies() {
        assert!(copy.length > 0 && copy.file_offset + copy.length <= length);
        let inside = |part: &denali_arch::image::FilePart| {
            copy.address < part.end && part.start < copy.address + copy.length
        };
        assert!(!image.file_parts().iter().any(inside), "what is mapped is not copied");
    }
    let needed = image.memory_needed();
    assert!(image.address_space(needed - 1).is_err());
    if needed <= MEMORY_MAX {
        image.address_space(needed).expect("what it needs is enough");
    }
    let _ = image.missing_devices(&[(1, "net"), (2, "disk"), (2, "")]);
}

/// A small image, and the same with a stack and devices of its own.
#[must_use]
pub fn image_seeds() -> Vec<Vec<u8>> {
    let default = ImageNote::DEFAULT;
    let mut devices = default.devices;
    devices[0] = WantedDevice::any(1);
    let wanting = ImageNote {
        device_count: 1,
        memory_min: 8 << 20,
        stack_size: 0x4000,
        stack_top: 0x60_0000,
        devices,
        ..default
    };
    [default, wanting].map(elf).to_vec()
}

/// An ELF file with text and data, 64 bytes each, and this note.
fn elf(note: ImageNote) -> Vec<u8> {
    let note = ElfNote::new(note);
    // SAFETY: the structure is made of bytes and 32-bit numbers, without padding.
    let note =
        unsafe { std::slice::from_raw_parts((&raw const note).cast::<u8>(), size_of::<ElfNote>()) };
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend((IMAGE_START + 0x200).to_le_bytes());
    bytes.extend(64_u64.to_le_bytes());
    bytes.extend([0; 14]);
    bytes.extend([56, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    let at = 0x200_u64;
    let parts = [
        (1_u32, 5_u32, at, IMAGE_START + at, 64_u64, 64_u64),
        (1, 6, at + 64, IMAGE_START + 0x1240, 64, 0x1000),
        (4, 4, 64 + 3 * 56, 0, note.len() as u64, note.len() as u64),
    ];
    for (kind, flags, offset, address, file_size, memory_size) in parts {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        for number in [offset, address, address, file_size, memory_size, 4] {
            bytes.extend(number.to_le_bytes());
        }
    }
    bytes.extend(note);
    bytes.resize(0x280, 0xcc);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_images() {
        image_seeds().iter().for_each(|seed| drop(Image::parse(seed).unwrap()));
    }
}
