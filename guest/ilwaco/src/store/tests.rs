//! Tests on images that `mke2fs` made: one with extents and checksums (ext4), one with indirect blocks
//! (ext2), of the same folder. `fixtures/make.sh` says how.

use super::*;
use core::cell::Cell;
use core::future::{Future, ready};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use proptest::prelude::*;
use std::string::{String, ToString};

const EXT4: &[u8] = include_bytes!("fixtures/ext4.img");
const EXT2: &[u8] = include_bytes!("fixtures/ext2.img");

/// An image in memory, whose reads are counted.
#[derive(Clone)]
struct Image {
    bytes: Rc<Vec<u8>>,
    reads: Rc<Cell<usize>>,
    transfer_max: usize,
    fails: bool,
}

impl Image {
    fn new(bytes: &[u8]) -> Self {
        let bytes = Rc::new(bytes.to_vec());
        Self { bytes, reads: Rc::new(Cell::new(0)), transfer_max: 1 << 20, fails: false }
    }
}

impl Device for Image {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn transfer_max(&self) -> usize {
        self.transfer_max
    }

    fn read(
        &self,
        position: u64,
        mut buffer: Buffer,
    ) -> impl Future<Output = Result<Buffer, block::Error>> {
        assert!(position.is_multiple_of(block::SECTOR) && buffer.len().is_multiple_of(512));
        assert!(buffer.len() <= self.transfer_max);
        self.reads.set(self.reads.get() + 1);
        let (start, len) = (position as usize, buffer.len());
        buffer.copy_from_slice(&self.bytes[start..start + len]);
        ready(if self.fails { Err(block::Error::Failed) } else { Ok(buffer) })
    }
}

/// Runs what never has to wait.
fn run<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a device in memory lets nobody wait"),
    }
}

fn open(image: &Image) -> Result<Store<Image>, Error> {
    run(Store::open(image.clone()))
}

/// All of a file, and how many pieces that took.
fn contents(store: &Store<Image>, path: &str) -> Result<(Vec<u8>, usize), Error> {
    run(async {
        let file = store.file(path.as_bytes()).await?;
        let (mut bytes, mut pieces) = (Vec::new(), 0);
        let mut buffer = file.buffer()?;
        loop {
            let piece = file.read(bytes.len() as u64, buffer).await?;
            if piece.is_empty() {
                return Ok((bytes, pieces));
            }
            pieces += 1;
            assert!(piece.len() as u64 <= file.metadata().bytes - bytes.len() as u64);
            bytes.extend_from_slice(&piece);
            buffer = piece.into_buffer();
        }
    })
}

fn text(store: &Store<Image>, path: &str) -> Result<String, Error> {
    contents(store, path).map(|(bytes, _)| String::from_utf8(bytes).unwrap())
}

/// What `holes.bin` has: every eighth KiB is a letter, the rest was never written.
fn holes() -> Vec<u8> {
    let mut bytes = vec![0; 8 * 8192 + 100];
    for n in 0..8 {
        bytes[n * 8192..n * 8192 + 1024].fill(b'A' + n as u8);
    }
    bytes
}

#[test]
fn files_are_read_whatever_their_block_map() {
    for bytes in [EXT4, EXT2] {
        let store = open(&Image::new(bytes)).unwrap();
        assert_eq!(text(&store, "/index.html").unwrap(), "index of the fixture\n");
        assert_eq!(text(&store, "/empty").unwrap(), "");
        assert_eq!(text(&store, "//sub/./deeper/../deeper/deep.txt").unwrap(), "deep\n");
        let numbers: String = (1..=3000).map(|n: u32| n.to_string() + "\n").collect();
        assert_eq!(text(&store, "/sub/numbers.txt").unwrap(), numbers);
        assert_eq!(contents(&store, "/holes.bin").unwrap().0, holes());
        let metadata = run(store.metadata(b"/sub/file-007")).unwrap();
        assert_eq!(metadata, Metadata { kind: Kind::File, bytes: 7, modified: 1_700_000_000 });
    }
}

#[test]
fn any_offset_is_read_alike() {
    for bytes in [EXT4, EXT2] {
        let store = open(&Image::new(bytes)).unwrap();
        let expected = holes();
        let file = run(store.file(b"/holes.bin")).unwrap();
        for offset in (0..expected.len() as u64 + 600).step_by(257) {
            let piece = run(file.read(offset, file.buffer().unwrap())).unwrap();
            let rest = expected.get(offset as usize..).unwrap_or_default();
            assert!(rest.starts_with(&piece), "at {offset}");
            assert_eq!(piece.is_empty(), rest.is_empty(), "at {offset}");
        }
        assert!(run(file.read(u64::MAX, file.buffer().unwrap())).unwrap().is_empty());
    }
}

#[test]
fn links_are_followed_inside_the_store_and_not_for_ever() {
    for bytes in [EXT4, EXT2] {
        let store = open(&Image::new(bytes)).unwrap();
        assert_eq!(text(&store, "/sub/link").unwrap(), "index of the fixture\n");
        assert_eq!(text(&store, "/abs/deep.txt").unwrap(), "deep\n");
        assert_eq!(text(&store, "/abs/../../../sub/deeper/deep.txt").unwrap(), "deep\n");
        assert_eq!(text(&store, "/loop"), Err(Error::TooLarge));
        assert_eq!(text(&store, "/dangling"), Err(Error::NotFound));
    }
}

#[test]
fn what_is_not_there_or_no_file_is_told() {
    let store = open(&Image::new(EXT4)).unwrap();
    let deep = "/sub".repeat(2000);
    for path in ["/none", "/index.html/x", "/index.html/", "/sub/numbers.txt/..", "/a\0b", &deep] {
        assert_eq!(text(&store, path), Err(Error::NotFound), "{path:?}");
    }
    let long = "/".to_string() + &"x".repeat(256);
    assert_eq!(text(&store, &long), Err(Error::NotFound));
    for path in ["/", "", "/sub", "/sub/", "/abs"] {
        assert_eq!(text(&store, path), Err(Error::NotAFile), "{path:?}");
        assert_eq!(run(store.metadata(path.as_bytes())).unwrap().kind, Kind::Folder);
    }
    assert_eq!(run(store.list(b"/index.html")), Err(Error::NotAFolder));
}

#[test]
fn folders_are_listed() {
    for bytes in [EXT4, EXT2] {
        let store = open(&Image::new(bytes)).unwrap();
        let mut names = run(store.list(b"/")).unwrap();
        names.retain(|entry| entry.name != b"lost+found");
        names.sort_by(|one, other| one.name.cmp(&other.name));
        let names: Vec<_> =
            names.iter().map(|entry| (str::from_utf8(&entry.name).unwrap(), entry.kind)).collect();
        assert_eq!(
            names,
            [
                ("abs", Kind::Link),
                ("dangling", Kind::Link),
                ("empty", Kind::File),
                ("holes.bin", Kind::File),
                ("index.html", Kind::File),
                ("loop", Kind::Link),
                ("sub", Kind::Folder),
            ]
        );
        assert_eq!(run(store.list(b"/sub")).unwrap().len(), 43);
    }
}

#[test]
fn numbers_tell_files_apart() {
    // The number comes from text that `ext4-view` shows for debugging: it must be the inode's.
    let store = open(&Image::new(EXT4)).unwrap();
    let number = |path: &str| run(store.file(path.as_bytes())).unwrap().number();
    assert_eq!(number("/sub/link"), number("/index.html"));
    assert_ne!(number("/empty"), number("/index.html"));
    assert_ne!(store.identity(), 0);
}

#[test]
fn blocks_in_a_row_are_one_request() {
    let image = Image::new(EXT4);
    let store = open(&image).unwrap();
    contents(&store, "/sub/numbers.txt").unwrap();
    image.reads.set(0);
    let (bytes, pieces) = contents(&store, "/sub/numbers.txt").unwrap();
    assert_eq!((bytes.len(), pieces), (13_893, 1));
    assert_eq!(image.reads.get(), 1, "names and maps are in the cache");
}

#[test]
fn a_device_with_small_transfers_is_enough() {
    for transfer_max in [1024, 3 * 512, 28 * 1024] {
        let image = Image { transfer_max, ..Image::new(EXT4) };
        let store = open(&image).unwrap();
        assert_eq!(contents(&store, "/holes.bin").unwrap().0, holes());
    }
}

#[test]
fn no_store_and_a_failing_device_are_errors() {
    assert_eq!(open(&Image::new(&[])).err(), Some(Error::NotAStore));
    assert_eq!(open(&Image::new(&[0; 512])).err(), Some(Error::NotAStore));
    assert_eq!(open(&Image::new(&[0; 65_536])).err(), Some(Error::NotAStore));
    assert_eq!(open(&Image::new(&EXT4[..81_920])).err(), Some(Error::Corrupt));
    let failing = Image { fails: true, ..Image::new(EXT4) };
    assert_eq!(open(&failing).err(), Some(Error::Device(block::Error::Failed)));
    let mut unclean = EXT2.to_vec();
    unclean[1024 + 0x60] |= 4;
    assert_eq!(open(&Image::new(&unclean)).err(), Some(Error::Unclean));
}

/// Does everything that can be done with a store; only that it ends counts.
fn use_all(image: &Image) {
    let Ok(store) = open(image) else { return };
    for path in ["/", "/sub", "/sub/deeper", "/abs"] {
        let _ = run(store.list(path.as_bytes()));
    }
    for path in ["/index.html", "/empty", "/sub/numbers.txt", "/abs/deep.txt", "/loop", "/dangling"]
    {
        look_into(&store, path);
    }
    for path in ["/holes.bin", "/sub/link", "/sub/file-039", "/none", "/sub/none"] {
        look_into(&store, path);
    }
}

/// Reads here and there in a file.
fn look_into(store: &Store<Image>, path: &str) {
    let Ok(file) = run(store.file(path.as_bytes())) else { return };
    let bytes = file.metadata().bytes;
    for offset in [0, 1, 8191, bytes / 2, bytes.saturating_sub(1), bytes, u64::MAX] {
        let Ok(buffer) = file.buffer() else { return };
        if let Ok(piece) = run(file.read(offset, buffer)) {
            assert!(piece.len() <= PIECE && piece.is_empty() == (offset >= bytes));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn corrupt_images_are_survived(
        ext4 in any::<bool>(),
        changes in proptest::collection::vec(
            // What is interesting lies in the first part: superblock, descriptors, inodes, folders.
            (prop_oneof![1024_usize..2048, 2048_usize..45_000, 0_usize..163_840], any::<u8>(), any::<bool>()),
            1..24,
        ),
    ) {
        let mut bytes = if ext4 { EXT4 } else { EXT2 }.to_vec();
        for (at, value, flip) in changes {
            bytes[at] = if flip { bytes[at] ^ (1 << (value % 8)) } else { value };
        }
        if ext4 {
            // Without checksums, so that what is behind them is reached.
            bytes[1024 + 0x65] &= !4;
        }
        use_all(&Image::new(&bytes));
    }
}
