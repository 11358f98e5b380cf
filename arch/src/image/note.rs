//! Finding and checking the Denali note of an image.

use super::ImageError;
use super::elf::{PT_NOTE, ProgramHeader, slice, u32_at, u64_at};
use denali_abi::ABI_VERSION;
use denali_abi::layout::MEMORY_MAX;
use denali_abi::note::{ImageNote, NOTE_NAME, NOTE_TYPE, WANTED_MAX, WantedDevice};

/// Most bytes of notes that are searched in one PT_NOTE segment.
const NOTES_MAX: u64 = 64 * 1024;

/// Bytes of the note's description, and where its reserved words and its devices lie in it.
const DESCRIPTION_SIZE: u64 = size_of::<ImageNote>() as u64;
const RESERVED: core::ops::Range<usize> = 32..64;
const DEVICES: u64 = 64;
const DEVICE_SIZE: u64 = size_of::<WantedDevice>() as u64;

/// The one Denali note among all notes of the image.
pub fn find(bytes: &[u8], headers: &[ProgramHeader]) -> Result<ImageNote, ImageError> {
    let mut found = None;
    for header in headers.iter().filter(|header| header.kind == PT_NOTE) {
        let notes = slice(bytes, header.file_offset, header.file_size)
            .ok_or(ImageError::BadNote("its segment lies outside the file"))?;
        if header.file_size > NOTES_MAX {
            return Err(ImageError::BadNote("its segment is larger than 64 KiB"));
        }
        let align = if header.align == 8 { 8 } else { 4 };
        for description in (Notes { notes, at: 0, align }) {
            if found.replace(description?).is_some() {
                return Err(ImageError::SeveralNotes);
            }
        }
    }
    parse(found.ok_or(ImageError::NoNote)?)
}

/// The descriptions of the Denali notes in a run of ELF notes.
struct Notes<'a> {
    notes: &'a [u8],
    at: u64,
    align: u64,
}

impl<'a> Notes<'a> {
    /// Reads the note at `self.at` and moves past it: whose it is, its type, its description.
    fn read(&mut self) -> Option<(&'a [u8], u32, &'a [u8])> {
        let name_size = u64::from(u32_at(self.notes, self.at)?);
        let description_size = u64::from(u32_at(self.notes, self.at + 4)?);
        let kind = u32_at(self.notes, self.at + 8)?;
        let name = slice(self.notes, self.at + 12, name_size)?;
        let description_at = (self.at + 12 + name_size).next_multiple_of(self.align);
        let description = slice(self.notes, description_at, description_size)?;
        self.at = (description_at + description_size).next_multiple_of(self.align);
        Some((name, kind, description))
    }
}

impl<'a> Iterator for Notes<'a> {
    type Item = Result<&'a [u8], ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Fewer bytes than a note's header are padding.
        while self.at + 12 <= self.notes.len() as u64 {
            let Some((name, kind, description)) = self.read() else {
                self.at = self.notes.len() as u64;
                return Some(Err(ImageError::BadNote("it runs past the end of its segment")));
            };
            if name == NOTE_NAME && kind == NOTE_TYPE {
                return Some(Ok(description));
            }
        }
        None
    }
}

/// Checks the note's description. The version comes first: a newer note may have another size.
fn parse(description: &[u8]) -> Result<ImageNote, ImageError> {
    let short = ImageError::BadNote("its description is not 320 bytes");
    match u32_at(description, 0).ok_or_else(|| short.clone())? {
        0 => return Err(ImageError::BadNote("its ABI version is 0")),
        version if version > ABI_VERSION => return Err(ImageError::TooNew(version)),
        _ => {}
    }
    if description.len() as u64 != DESCRIPTION_SIZE {
        return Err(short);
    }
    if description[RESERVED].iter().any(|&byte| byte != 0) {
        return Err(ImageError::BadNote("its reserved words are not 0"));
    }
    read(description).ok_or(short).and_then(check)
}

/// Reads the fields, whatever they are.
fn read(description: &[u8]) -> Option<ImageNote> {
    let mut note = ImageNote::DEFAULT;
    note.abi_version = u32_at(description, 0)?;
    note.device_count = u32_at(description, 4)?;
    note.memory_min = u64_at(description, 8)?;
    note.stack_size = u64_at(description, 16)?;
    note.stack_top = u64_at(description, 24)?;
    for (index, device) in (0..).zip(&mut note.devices) {
        let at = DEVICES + index * DEVICE_SIZE;
        device.kind = u32_at(description, at)?;
        device.name.copy_from_slice(slice(description, at + 4, DEVICE_SIZE - 4)?);
    }
    Some(note)
}

/// Refuses fields that mean nothing. The stack is checked with the segments.
fn check(note: ImageNote) -> Result<ImageNote, ImageError> {
    if note.device_count as usize > WANTED_MAX {
        return Err(ImageError::BadNote("it wants more than 8 devices"));
    }
    if note.memory_min > MEMORY_MAX {
        return Err(ImageError::BadNote("it wants more than 4 GiB of memory"));
    }
    if note.wanted().iter().any(|device| device.kind == 0) {
        return Err(ImageError::BadNote("it wants a device of kind 0"));
    }
    if !note.wanted().iter().all(|device| is_name(&device.name)) {
        return Err(ImageError::BadNote("a device's name is not printable text padded with zeros"));
    }
    Ok(note)
}

/// Printable ASCII, then only zeros; names are shown to people and compared with a configuration's.
fn is_name(bytes: &[u8]) -> bool {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (name, padding) = bytes.split_at(end);
    name.iter().all(u8::is_ascii_graphic) && padding.iter().all(|&byte| byte == 0)
}
