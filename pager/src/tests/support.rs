//! What tests need: memory as a guest has it, stores and originals that are maps.

use crate::{Backing, Failure, HostPages, Originals, Pager, Policy, Prefetched, Setup, Uffd};
use denali_disk::{Access, Disk, DiskOptions, Issuer, open};
use denali_swap::{GuestId, Key, Options, PAGE, PageNumber, Store, region_size};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

/// The number of the first page of a test's guest.
pub(crate) const FIRST: u32 = 0x100;

/// A userfaultfd, or `None`, with the reason printed, where the host gives none.
pub(crate) fn uffd() -> Option<Uffd> {
    let device = File::options().read(true).write(true).open("/dev/userfaultfd");
    let made = device.and_then(|device| Uffd::from_device(device.as_fd()));
    made.inspect_err(|error| eprintln!("skipped: no userfaultfd here: {error}")).ok()
}

/// The same, if pages can be moved with it.
pub(crate) fn moving_uffd() -> Option<Uffd> {
    let uffd = uffd()?;
    if !uffd.has_move() {
        eprintln!("skipped: this kernel has no UFFDIO_MOVE");
        return None;
    }
    Some(uffd)
}

/// Anonymous memory, as a guest's.
pub(crate) struct Guest {
    pub start: usize,
    pub count: u32,
}

impl Guest {
    /// Zeroed memory of `count` pages; the first is page [`FIRST`].
    pub(crate) fn new(count: u32) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let length = count as usize * PAGE;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: the range is the mapping made above.
        unsafe { libc::madvise(start, length, libc::MADV_NOHUGEPAGE) };
        Self { start: start as usize, count }
    }

    pub(crate) fn pages(&self) -> HostPages {
        // SAFETY: it is such memory; tests keep the guest for longer than the pager, and make no
        // references into it.
        unsafe { HostPages::new(self.start as u64, PageNumber(FIRST), self.count).unwrap() }
    }

    pub(crate) fn all(&self) -> Vec<std::ops::Range<PageNumber>> {
        vec![self.pages().all()]
    }

    /// The address of a word of page number `index` of this guest.
    pub(crate) fn word(&self, index: u32, word: usize) -> *mut u64 {
        assert!(index < self.count && word < PAGE / 8);
        (self.start + index as usize * PAGE + word * 8) as *mut u64
    }

    pub(crate) fn read(&self, index: u32, word: usize) -> u64 {
        // SAFETY: the word lies in the mapping, and nobody refers to it.
        unsafe { self.word(index, word).read_volatile() }
    }

    pub(crate) fn write(&self, index: u32, word: usize, value: u64) {
        // SAFETY: as in `read`.
        unsafe { self.word(index, word).write_volatile(value) };
    }

    /// Whether every word of a page is `value`.
    pub(crate) fn is(&self, index: u32, value: u64) -> bool {
        (0..PAGE / 8).all(|word| self.read(index, word) == value)
    }

    /// Writes every word of a page.
    pub(crate) fn set(&self, index: u32, value: u64) {
        (0..PAGE / 8).for_each(|word| self.write(index, word, value));
    }

    /// Pages in memory, by their numbers in this guest.
    pub(crate) fn resident(&self) -> Vec<u32> {
        let runs = self.pages().resident(&self.pages().all()).unwrap();
        runs.into_iter().flat_map(|run| run.start.0 - FIRST..run.end.0 - FIRST).collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length.
        unsafe { libc::munmap(self.start as *mut libc::c_void, self.count as usize * PAGE) };
    }
}

/// The page that is number `index` of a test's guest.
pub(crate) fn page(index: u32) -> PageNumber {
    PageNumber(FIRST + index)
}

/// A page whose every word is `value`.
pub(crate) fn filled(value: u64) -> Box<[u8; PAGE]> {
    let mut bytes = Box::new([0; PAGE]);
    bytes.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&value.to_ne_bytes()));
    bytes
}

/// A store in memory.
#[derive(Debug, Default)]
pub(crate) struct MapStore {
    pub pages: BTreeMap<PageNumber, Box<[u8; PAGE]>>,
    /// Pages that do not open.
    pub broken: BTreeSet<PageNumber>,
    /// How many pages it holds at most.
    pub capacity: Option<usize>,
    /// How many more pages can be written before the disk fails.
    pub writable: Option<usize>,
    /// How long a read takes.
    pub slow: Duration,
    /// How many pages each read was for.
    pub reads: Vec<usize>,
    pub unflushed: usize,
}

impl MapStore {
    /// Pages by their numbers in a test's guest, filled with a word each.
    pub(crate) fn of(pages: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let pages = pages.into_iter().map(|(index, value)| (page(index), filled(value)));
        Self { pages: pages.collect(), ..Self::default() }
    }
}

impl Backing for MapStore {
    type Error = String;

    fn put(&mut self, page: PageNumber, bytes: &[u8; PAGE]) -> Result<(), String> {
        match &mut self.writable {
            Some(0) => return Err("the disk is gone".into()),
            Some(left) => *left -= 1,
            None => {}
        }
        assert!(self.pages.insert(page, Box::new(*bytes)).is_none(), "{page:?} is put twice");
        self.unflushed += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        self.unflushed = 0;
        Ok(())
    }

    fn read(&mut self, pages: &[PageNumber], into: &mut [u8]) -> Result<(), String> {
        assert_eq!((pages.len() * PAGE, self.unflushed), (into.len(), 0));
        std::thread::sleep(self.slow);
        self.reads.push(pages.len());
        for (page, into) in pages.iter().zip(into.chunks_exact_mut(PAGE)) {
            if self.broken.contains(page) {
                return Err("it does not open".into());
            }
            into.copy_from_slice(&self.pages.get(page).ok_or("it is not here")?[..]);
        }
        Ok(())
    }

    fn forget(&mut self, page: PageNumber) {
        self.pages.remove(&page);
    }

    fn contains(&self, page: PageNumber) -> bool {
        self.pages.contains_key(&page)
    }

    fn pages(&self) -> Vec<PageNumber> {
        self.pages.keys().rev().copied().collect()
    }

    fn count(&self) -> usize {
        self.pages.len()
    }

    fn cluster(&self, page: PageNumber, most: usize) -> Vec<PageNumber> {
        self.pages.range(page..).map(|(page, _)| *page).take(most).collect()
    }

    fn room(&self) -> usize {
        self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(self.pages.len()))
    }
}

/// A real region, striped over two files.
pub(crate) struct Files {
    folder: TempDir,
    options: Options,
}

impl Files {
    /// For so many pages.
    pub(crate) fn new(capacity: u32) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let options = Options { capacity, state_max: 4096, encrypt: true };
        let size = region_size(&options).next_multiple_of(4 << 20) / 2;
        for name in ["0", "1"] {
            File::create(folder.path().join(name)).unwrap().set_len(size).unwrap();
        }
        Self { folder, options }
    }

    /// Changes every byte of its slots.
    pub(crate) fn damage(&self) {
        for name in ["0", "1"] {
            let path = self.folder.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.iter_mut().for_each(|byte| *byte ^= 1);
            std::fs::write(&path, bytes).unwrap();
        }
    }

    /// An empty store in it.
    pub(crate) fn store(&self) -> Store<Disk> {
        let access = Access { read_only: false, direct: true };
        let file = |name| open(&self.folder.path().join(name), access).unwrap();
        let issuer = Issuer::AnyThread;
        let disk = DiskOptions { direct: true, issuer, ..DiskOptions::default() };
        let disk = Disk::new(["0", "1"].map(file).into(), &disk).unwrap();
        let (guest, key) = (GuestId::random().unwrap(), Key::random().unwrap());
        Store::format(disk, guest, key, &self.options, None).unwrap()
    }
}

/// Originals in memory.
#[derive(Default)]
pub(crate) struct MapOriginals(pub BTreeMap<PageNumber, Box<[u8; PAGE]>>);

impl MapOriginals {
    pub(crate) fn of(pages: impl IntoIterator<Item = (u32, u64)>) -> Box<Self> {
        Box::new(Self(MapStore::of(pages).pages))
    }
}

impl Originals for MapOriginals {
    fn read(&mut self, page: PageNumber, into: &mut [u8; PAGE]) -> io::Result<bool> {
        let found = self.0.get(&page);
        if let Some(bytes) = found {
            *into = **bytes;
        }
        Ok(found.is_some())
    }

    fn next(&self, from: PageNumber) -> Option<PageNumber> {
        self.0.range(from..).next().map(|(page, _)| *page)
    }
}

/// A setup of all of the guest's memory without anything special, and where its failure is told.
pub(crate) fn setup<S>(uffd: Uffd, guest: &Guest, store: S) -> (Setup<S>, Receiver<Failure>) {
    let (failed, failure) = channel();
    let setup = Setup {
        uffd,
        pages: guest.pages(),
        store,
        originals: Box::new(()),
        missing: guest.all(),
        policy: Policy { complete_after: None, read_ahead: 0 },
        limit: None,
        growth: None,
        prefetched: Prefetched::default(),
        failed: Box::new(move |failure| drop(failed.send(failure))),
    };
    (setup, failure)
}

/// Waits until everything is in memory.
pub(crate) fn wait_until_done<S>(pager: &Pager<S>) {
    while !pager.is_done() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a test in a process of its own, which nothing else runs in; true in that process.
pub(crate) fn alone(test: &str) -> bool {
    const ALONE: &str = "DENALI_PAGER_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        // As in a monitor, one heap for all threads: to give back others the C library opens files.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    let blamed = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{}: {told}{blamed}", run.status);
    assert!(told.contains("1 passed"), "{told}");
    false
}

/// Numbers that look random, and are the same each time.
pub(crate) struct Scattered(pub u64);

impl Scattered {
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(bound)) as u32
    }
}
