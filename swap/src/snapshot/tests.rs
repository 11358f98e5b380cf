//! Tests of snapshots: what is written is read, and anything else is refused.

use super::header::{COVERED, DIGEST};
use super::*;
use crate::region::{PAGE, PageNumber};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

const MIB: u64 = 1 << 20;

fn contents(memory_size: u64) -> Contents<'static> {
    Contents { state: b"{\"vcpu\":1}", configuration: b"{}", image: &[7; 5000], memory_size }
}

fn page(seed: u32) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    page[..4].copy_from_slice(&seed.to_le_bytes());
    page[4095] = 1;
    page
}

/// A snapshot of a guest of 2 MiB with three pages.
fn sample() -> File {
    let file = tempfile::tempfile().unwrap();
    let mut writer = SnapshotWriter::new(&file, contents(2 * MIB)).unwrap();
    writer.pages(PageNumber(256), &page(1)).unwrap();
    writer.pages(PageNumber(300), &[page(2), [0; PAGE], page(3)].concat()).unwrap();
    writer.finish().unwrap();
    file
}

fn all(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn with(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// The bytes of a snapshot with another digest of its header: one that somebody made up.
fn forged(bytes: &mut [u8]) -> File {
    let header = |bytes: &[u8]| {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let part = |index: usize| {
            let (offset, length) = (number(16 + 16 * index), number(24 + 16 * index));
            bytes.get(offset..offset.saturating_add(length)).unwrap_or(&[])
        };
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [&bytes[..COVERED], part(0), part(1), part(2), part(4)] {
            digest.update(part);
        }
        digest.finish()
    };
    let digest = header(bytes);
    bytes[COVERED..COVERED + DIGEST].copy_from_slice(digest.as_ref());
    with(bytes)
}

#[test]
fn a_snapshot_is_read_as_it_was_written() {
    let file = sample();
    let snapshot = Snapshot::read(&file).unwrap();
    assert_eq!(snapshot.state, b"{\"vcpu\":1}");
    assert_eq!(snapshot.configuration, b"{}");
    assert_eq!(snapshot.read_image(&file).unwrap(), [7; 5000]);
    assert_eq!(snapshot.memory_size(), 2 * MIB);
    let run = |first, count| Run { first: PageNumber(first), count };
    assert_eq!(snapshot.runs, [run(256, 1), run(300, 1), run(302, 1)]);
    for (number, expected) in [(256, page(1)), (300, page(2)), (301, [0; PAGE]), (302, page(3))] {
        let position = snapshot.position(PageNumber(number)).unwrap();
        let mut found = [1; PAGE];
        file.read_exact_at(&mut found, position).unwrap();
        assert_eq!(found, expected, "{number}");
        assert_eq!(snapshot.contains(PageNumber(number)), number != 301);
        let address = u64::from(number) * 4096;
        assert_eq!(position, snapshot.memory.offset + address - 0x10_0000);
    }
    assert_eq!(snapshot.position(PageNumber(255)), None);
    assert_eq!(snapshot.position(PageNumber(512)), None);
    assert!(!snapshot.contains(PageNumber(255)) && !snapshot.contains(PageNumber(303)));
    snapshot.verify(&file).unwrap();
}

#[test]
fn memory_is_mapped_as_it_is_and_changes_stay_with_the_clone() {
    let file = sample();
    let snapshot = Snapshot::read(&file).unwrap();
    let (length, offset) = (snapshot.memory.length as usize, snapshot.memory.offset as i64);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: a new mapping at a place of the kernel's choice.
    let memory = unsafe {
        libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_PRIVATE, descriptor, offset)
    };
    assert_ne!(memory, libc::MAP_FAILED);
    // SAFETY: the mapping has so many bytes, all inside the file, and is this function's alone.
    let bytes = unsafe { std::slice::from_raw_parts_mut(memory.cast::<u8>(), length) };
    assert_eq!(bytes[..PAGE], page(1));
    assert_eq!(bytes[46 * PAGE..47 * PAGE], page(3));
    assert!(bytes[47 * PAGE..].iter().all(|&byte| byte == 0), "up to the last byte");
    bytes[..PAGE].fill(9);
    snapshot.verify(&file).unwrap();
    // SAFETY: the mapping is not used any more.
    unsafe { libc::munmap(memory, length) };
}

#[test]
fn what_was_never_written_takes_no_space() {
    let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let mut writer = SnapshotWriter::new(&file, contents(1024 * MIB)).unwrap();
    writer.pages(PageNumber(1000), &vec![0; 100 * PAGE]).unwrap();
    writer.pages(PageNumber(200_000), &page(1)).unwrap();
    writer.finish().unwrap();
    let metadata = file.metadata().unwrap();
    assert!(metadata.len() > 1000 * MIB);
    assert!(metadata.blocks() * 512 < MIB, "{} blocks", metadata.blocks());
    Snapshot::read(&file).unwrap().verify(&file).unwrap();
    let empty = tempfile::tempfile().unwrap();
    SnapshotWriter::new(&empty, contents(2 * MIB)).unwrap().finish().unwrap();
    let snapshot = Snapshot::read(&empty).unwrap();
    assert!(snapshot.runs.is_empty() && snapshot.verify(&empty).is_ok());
    assert!(empty.metadata().unwrap().len() > snapshot.memory.offset + MIB);
}

#[test]
fn a_snapshot_that_was_not_finished_is_none() {
    let file = tempfile::tempfile().unwrap();
    let mut writer = SnapshotWriter::new(&file, contents(2 * MIB)).unwrap();
    assert!(matches!(Snapshot::read(&file), Err(SnapshotError::NotASnapshot)));
    writer.pages(PageNumber(256), &page(1)).unwrap();
    drop(writer);
    assert!(matches!(Snapshot::read(&file), Err(SnapshotError::NotASnapshot)));
    assert!(matches!(
        SnapshotWriter::new(&file, contents(2 * MIB)).err(),
        Some(SnapshotError::NotEmpty)
    ));
    let nothing = tempfile::tempfile().unwrap();
    assert!(matches!(Snapshot::read(&nothing), Err(SnapshotError::NotASnapshot)));
}

#[test]
fn what_is_no_guests_memory_is_not_written() {
    let file = tempfile::tempfile().unwrap();
    for size in [0, MIB, MIB + 1, (1 << 32) + 4096] {
        let begun = SnapshotWriter::new(&file, contents(size)).err();
        assert!(matches!(begun, Some(SnapshotError::TooLarge("memory"))), "{size}");
    }
    let large = vec![0; (1 << 20) + 1];
    let large = Contents { configuration: &large, ..contents(2 * MIB) };
    let begun = SnapshotWriter::new(&file, large).err();
    assert!(matches!(begun, Some(SnapshotError::TooLarge("configuration"))));
    let mut writer = SnapshotWriter::new(&file, contents(2 * MIB)).unwrap();
    writer.pages(PageNumber(300), &page(1)).unwrap();
    for number in [0, 255, 300, 512, u32::MAX] {
        let written = writer.pages(PageNumber(number), &page(1));
        assert!(matches!(written, Err(SnapshotError::NoSuchPage(_))), "{number}");
    }
    let over_the_end = [page(1), page(2)].concat();
    assert!(writer.pages(PageNumber(511), &over_the_end).is_err());
    writer.pages(PageNumber(511), &page(1)).unwrap();
}

#[test]
fn damage_is_found() {
    let bytes = all(&sample());
    let snapshot = Snapshot::read(&with(&bytes)).unwrap();
    let at = |section: Section| section.offset as usize;
    for place in [17, COVERED, PAGE, 2 * PAGE, at(snapshot.image) + 4999, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(Snapshot::read(&with(&changed)).is_err(), "{place}");
    }
    let mut changed = bytes.clone();
    changed[at(snapshot.memory) + 44 * PAGE + 9] ^= 1;
    let file = with(&changed);
    let snapshot = Snapshot::read(&file).unwrap();
    assert!(matches!(snapshot.verify(&file), Err(SnapshotError::Damaged("memory"))));
    let mut newer = bytes.clone();
    newer[8] = 2;
    assert!(matches!(Snapshot::read(&with(&newer)), Err(SnapshotError::Version(2))));
    // All eight bytes behind the magic are the version.
    let mut much_newer = bytes.clone();
    much_newer[12] = 1;
    let outcome = Snapshot::read(&with(&much_newer));
    assert!(matches!(outcome, Err(SnapshotError::Version(0x1_0000_0001))));
    for length in [0, COVERED, PAGE, bytes.len() / 2, bytes.len() - 1] {
        assert!(Snapshot::read(&with(&bytes[..length])).is_err(), "{length}");
    }
}

/// Whatever is accepted is inside the file and consistent.
fn sound_or_refused(file: &File) -> Result<(), TestCaseError> {
    let Ok(snapshot) = Snapshot::read(file) else { return Ok(()) };
    let length = file.metadata().unwrap().len();
    for section in [snapshot.image, snapshot.memory] {
        prop_assert!(section.offset.is_multiple_of(4096));
        prop_assert!(section.offset >= 4096 && section.offset + section.length <= length);
    }
    prop_assert!(snapshot.memory.length.is_multiple_of(4096) && snapshot.memory.length > 0);
    let mut free = 256;
    for run in &snapshot.runs {
        prop_assert!(run.count > 0 && run.first.0 >= free);
        free = run.first.0 + run.count + 1;
        for page in run.pages() {
            prop_assert!(snapshot.position(page).is_some() && snapshot.contains(page));
        }
    }
    let _ = snapshot.verify(file);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_come_back_where_they_were(
        pages in prop::collection::btree_map(256..512_u32, 0..4_u32, 0..60),
        state in prop::collection::vec(any::<u8>(), 0..9000),
        image in prop::collection::vec(any::<u8>(), 0..9000),
    ) {
        let file = tempfile::tempfile().unwrap();
        let contents = Contents { state: &state, configuration: b"", image: &image, memory_size: 2 * MIB };
        let mut writer = SnapshotWriter::new(&file, contents).unwrap();
        let mut expected = BTreeMap::new();
        for (&number, &seed) in &pages {
            let content = if seed == 0 { [0; PAGE] } else { page(seed) };
            writer.pages(PageNumber(number), &content).unwrap();
            expected.insert(number, content);
        }
        writer.finish().unwrap();
        let snapshot = Snapshot::read(&file).unwrap();
        snapshot.verify(&file).unwrap();
        prop_assert_eq!(&snapshot.state, &state);
        prop_assert_eq!(snapshot.read_image(&file).unwrap(), image);
        for number in 256..512 {
            let content = expected.get(&number).copied().unwrap_or([0; PAGE]);
            let mut found = [1; PAGE];
            file.read_exact_at(&mut found, snapshot.position(PageNumber(number)).unwrap()).unwrap();
            prop_assert_eq!(found, content);
            prop_assert_eq!(snapshot.contains(PageNumber(number)), content != [0; PAGE]);
        }
        let runs: u32 = snapshot.runs.iter().map(|run| run.count).sum();
        prop_assert_eq!(runs as usize, expected.values().filter(|page| **page != [0; PAGE]).count());
    }

    #[test]
    fn damaged_snapshots_are_refused_or_sound(
        changes in prop::collection::vec((0..COVERED, any::<u8>()), 1..6),
        in_the_map in prop::collection::vec((0..32_usize, any::<u8>()), 0..4),
        forge in any::<bool>(),
    ) {
        let mut bytes = all(&sample());
        let map = bytes.len() - 32;
        for (place, value) in changes {
            bytes[place] = value;
        }
        for (place, value) in in_the_map {
            bytes[map + place] = value;
        }
        let file = if forge { forged(&mut bytes) } else { with(&bytes) };
        sound_or_refused(&file)?;
    }

    /// Somebody who can compute digests changes one number of the header or the map.
    #[test]
    fn forged_snapshots_are_refused_or_sound(
        field in 0..14_usize,
        value in prop_oneof![0..600_u64, any::<u64>(), (0..600_u64).prop_map(|pages| pages * 4096)],
    ) {
        let mut bytes = all(&sample());
        let map = bytes.len() - 32;
        let place = if field < 10 { 16 + 8 * field } else { map + 8 * (field - 10) };
        bytes[place..place + 8].copy_from_slice(&value.to_le_bytes());
        sound_or_refused(&forged(&mut bytes))?;
    }
}
