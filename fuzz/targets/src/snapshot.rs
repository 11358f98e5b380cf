//! Snapshot files, with digests that are wrong or right.

use crate::input::{BLOCK, Input, put_piece};
use crate::memory::bounded;
use denali_swap::PageNumber;
use denali_swap::snapshot::{Contents, Section, Snapshot, SnapshotError, SnapshotWriter};
use nix::sys::memfd::{MFdFlags, memfd_create};
use ring::digest::{Context, SHA256};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of the header that its digest covers, and of a digest.
const COVERED: usize = 128;
const DIGEST: usize = 32;
/// Where the digest of the memory is in the header.
const MEMORY_DIGEST: usize = COVERED - DIGEST;
/// Most blocks of a file.
const BLOCKS_MAX: u8 = 64;
/// The first page of a guest's memory.
const FIRST_PAGE: u32 = 0x100;

/// The input: whether digests are made right (bit 0: of the header, bit 1: of the memory), how many blocks the
/// file has, then pieces of it.
pub fn snapshot(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (choice, blocks) = (input.byte(), input.byte() % BLOCKS_MAX + 1);
    let mut content = vec![0; usize::from(blocks) * BLOCK];
    while let Some((block, bytes)) = input.piece() {
        let at = block as usize * BLOCK;
        if let Some(place) = content.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    if choice & 1 != 0 {
        make_digest(&mut content);
    }
    let file = file_of(&content);
    let Some(mut snapshot) = read(&file, content.len()) else { return };
    if choice & 2 != 0 {
        make_memory_digest(&mut content, &snapshot);
        make_digest(&mut content);
        file.write_all_at(&content, 0).expect("memory does not fail");
        snapshot = read(&file, content.len()).expect("only its digests have changed");
        snapshot.verify(&file).expect("its digest is right");
    }
    check(&snapshot, &file, &content);
    if snapshot.verify(&file).is_ok() {
        copy(&snapshot, &content);
    }
}

fn file_of(content: &[u8]) -> File {
    let file = memfd_create(c"snapshot", MFdFlags::MFD_CLOEXEC).expect("the host has memory");
    let file = File::from(file);
    file.write_all_at(content, 0).expect("memory does not fail");
    file
}

/// Reads a snapshot in no more memory than its file has, and what it takes to check it.
fn read(file: &File, length: usize) -> Option<Snapshot> {
    bounded(2 * length + (64 << 10), || match Snapshot::read(file) {
        Ok(snapshot) => Some(snapshot),
        Err(SnapshotError::Host(error)) => panic!("a section that is not there is read: {error}"),
        Err(_) => None,
    })
}

/// Where a section is, as the header says it, if that is in the file.
fn section(content: &[u8], index: usize) -> Option<&[u8]> {
    let mut field = Input(&content[16 + 16 * index..]);
    let (offset, length) = (field.u64() as usize, field.u64() as usize);
    content.get(offset..offset.checked_add(length)?)
}

/// Makes the header's digest what it should be, if the header's sections are in the file.
fn make_digest(content: &mut [u8]) {
    let mut context = Context::new(&SHA256);
    context.update(&content[..COVERED]);
    for index in [0, 1, 2, 4] {
        let Some(bytes) = section(content, index) else { return };
        context.update(bytes);
    }
    content[COVERED..COVERED + DIGEST].copy_from_slice(context.finish().as_ref());
}

fn make_memory_digest(content: &mut [u8], snapshot: &Snapshot) {
    let mut context = Context::new(&SHA256);
    for page in snapshot.runs.iter().flat_map(|run| run.pages()) {
        context.update(page_of(snapshot, content, page));
    }
    content[MEMORY_DIGEST..COVERED].copy_from_slice(context.finish().as_ref());
}

fn page_of<'a>(snapshot: &Snapshot, content: &'a [u8], page: PageNumber) -> &'a [u8] {
    let at = snapshot.position(page).expect("pages of the map are in the memory") as usize;
    &content[at..at + BLOCK]
}

/// All that it says can be.
fn check(snapshot: &Snapshot, file: &File, content: &[u8]) {
    let Section { offset, length } = snapshot.memory;
    assert!(length > 0 && length % BLOCK as u64 == 0 && offset + length <= content.len() as u64);
    let pages = (length / BLOCK as u64) as u32;
    let end = PageNumber(FIRST_PAGE + pages);
    assert_eq!(snapshot.position(end), None);
    assert!(!snapshot.contains(end) && !snapshot.contains(PageNumber(FIRST_PAGE - 1)));
    let mut after = FIRST_PAGE;
    for run in &snapshot.runs {
        assert!(run.count > 0 && run.first.0 >= after, "runs ascend");
        run.pages().for_each(|page| assert!(snapshot.contains(page)));
        after = run.first.0 + run.count;
        assert!(!snapshot.contains(PageNumber(after)), "runs are apart");
    }
    let image = snapshot.read_image(file).expect("the image is in the file");
    assert_eq!(Some(&image[..]), section(content, 2));
    assert_eq!(Some(&snapshot.state[..]), section(content, 0));
    assert_eq!(Some(&snapshot.configuration[..]), section(content, 1));
    let counted = snapshot.runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
    let mut again = counted.to_le_bytes().to_vec();
    for run in &snapshot.runs {
        again.extend(run.first.0.to_le_bytes());
        again.extend(run.count.to_le_bytes());
    }
    assert_eq!(section(content, 4), Some(&again[..]), "a map says nothing that is not heard");
    assert_eq!(content[8..16], 1_u64.to_le_bytes(), "nor does the header");
}

/// Written again from what was read, it is the same guest; pages that are all zeroes are left out.
fn copy(snapshot: &Snapshot, content: &[u8]) {
    let file = file_of(&[]);
    let image = section(content, 2).unwrap_or_default();
    let contents = Contents {
        state: &snapshot.state,
        configuration: &snapshot.configuration,
        image,
        memory_size: snapshot.memory_size(),
    };
    let mut writer = SnapshotWriter::new(&file, contents).expect("it was one before");
    for page in snapshot.runs.iter().flat_map(|run| run.pages()) {
        let bytes = page_of(snapshot, content, page);
        writer.pages(page, bytes).expect("pages ascend");
    }
    writer.finish().expect("memory does not fail");
    let again = Snapshot::read(&file).expect("what is written is read");
    again.verify(&file).expect("its pages as well");
    assert_eq!((&again.state, &again.configuration), (&snapshot.state, &snapshot.configuration));
    assert_eq!(again.memory.length, snapshot.memory.length);
    for page in snapshot.runs.iter().flat_map(|run| run.pages()) {
        let zero = page_of(snapshot, content, page).iter().all(|&byte| byte == 0);
        assert_eq!(again.contains(page), !zero);
    }
}

/// Snapshots of small guests, as they are written.
#[must_use]
pub fn snapshot_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (pages, present) in [(1, &[][..]), (4, &[0_u32]), (9, &[1, 2, 5, 8])] {
        let file = file_of(&[]);
        let memory_size = u64::from(FIRST_PAGE + pages) * BLOCK as u64;
        let contents =
            Contents { state: b"{}", configuration: b"{}", image: b"\x7fELF", memory_size };
        let mut writer = SnapshotWriter::new(&file, contents).expect("the file is empty");
        for &page in present {
            let mut content = [0; BLOCK];
            content[0] = 1 + page as u8;
            writer.pages(PageNumber(FIRST_PAGE + page), &content).expect("pages ascend");
        }
        writer.finish().expect("memory does not fail");
        for choice in [0, 3] {
            seeds.push(written_down(choice, &file));
        }
    }
    seeds
}

fn written_down(choice: u8, file: &File) -> Vec<u8> {
    let length = file.metadata().expect("it is open").len() as usize;
    let mut content = vec![0; length.next_multiple_of(BLOCK)];
    file.read_exact_at(&mut content[..length], 0).expect("memory does not fail");
    let mut bytes = vec![choice, (content.len() / BLOCK - 1) as u8];
    for (number, block) in content.chunks(BLOCK).enumerate() {
        if block.iter().any(|&byte| byte != 0) {
            put_piece(&mut bytes, number as u8, block);
        }
    }
    bytes
}
