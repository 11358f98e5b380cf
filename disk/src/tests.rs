//! Tests of disks against real files.

use crate::{Access, Disk, DiskOptions, Issuer, Method, OpenError, SetupError, open};
use denali_devices::block::{BlockBackend, Failed, Operation, RequestId, Wake};
use denali_devices::virtio::HostSlice;
use proptest::prelude::*;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tempfile::TempDir;

mod flush;

/// A set of files, and the disk made of them.
struct Bench {
    folder: TempDir,
    disk: Disk,
}

const METHODS: [Method; 2] = [Method::Auto, Method::Plain];

fn path(folder: &TempDir, number: usize) -> PathBuf {
    folder.path().join(format!("disk{number}"))
}

impl Bench {
    fn new(files: usize, size: u64, options: DiskOptions) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for number in 0..files {
            File::create(path(&folder, number)).unwrap().set_len(size).unwrap();
        }
        let access = Access { read_only: false, direct: options.direct };
        let opened = (0..files).map(|number| open(&path(&folder, number), access).unwrap());
        let disk = Disk::new(opened.collect(), &options).unwrap();
        Self { folder, disk }
    }

    fn one(method: Method) -> Self {
        Self::new(1, 1 << 20, DiskOptions { method, ..DiskOptions::default() })
    }

    fn content(&self, number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        File::open(path(&self.folder, number)).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Does the operations at the same time; their outcomes by number.
    fn run(&mut self, operations: &[(Operation, Vec<HostSlice>)]) -> Vec<Result<(), Failed>> {
        for (id, (operation, slices)) in operations.iter().enumerate() {
            // SAFETY: the tests keep the buffers until the operations have completed.
            unsafe { self.disk.submit(id as RequestId, *operation, slices) };
        }
        let mut outcomes = vec![None; operations.len()];
        let mut left = operations.len();
        while left > 0 {
            self.disk.start();
            self.disk.completed(&mut |id, outcome| {
                assert_eq!(outcomes[usize::from(id)].replace(outcome), None, "completed once");
                left -= 1;
            });
            if left > 0 {
                self.disk.wake(Wake::AtNext);
                wait_readable(self.disk.descriptor().expect("something is in flight"));
            }
        }
        outcomes.into_iter().map(Option::unwrap).collect()
    }

    fn run_one(&mut self, operation: Operation, buffer: &mut [u8]) -> Result<(), Failed> {
        let slices = slices_of(buffer, &[buffer.len()]);
        self.run(&[(operation, slices)])[0]
    }
}

/// Waits until a descriptor is readable; a minute without that is a hang.
fn wait_readable(descriptor: i32) {
    let mut polled = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: the structure is valid during the call.
    assert_eq!(unsafe { libc::poll(&raw mut polled, 1, 60_000) }, 1, "hangs");
}

/// A buffer cut into pieces of these lengths.
fn slices_of(buffer: &mut [u8], lengths: &[usize]) -> Vec<HostSlice> {
    let mut address = buffer.as_mut_ptr() as usize;
    let mut slice = |&length: &usize| {
        address += length;
        HostSlice { address: address - length, length }
    };
    lengths.iter().map(&mut slice).collect()
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|index| (index as u8).wrapping_mul(31) ^ (index >> 8) as u8 ^ seed).collect()
}

#[test]
fn what_is_written_is_read_back_and_is_in_the_file() {
    for method in METHODS {
        let mut bench = Bench::one(method);
        assert_eq!(bench.disk.geometry().sectors, 2048);
        let mut written = pattern(8192, 7);
        for durable in [false, true] {
            let write = Operation::Write { offset: 4608, durable };
            assert_eq!(bench.run_one(write, &mut written), Ok(()));
        }
        assert_eq!(bench.run_one(Operation::Flush, &mut []), Ok(()));
        assert_eq!(bench.content(0)[4608..4608 + 8192], written);
        let mut read = vec![0; 8192];
        let slices = slices_of(&mut read, &[512, 7000, 680]);
        assert_eq!(bench.run(&[(Operation::Read { offset: 4608 }, slices)]), [Ok(())]);
        assert_eq!(read, written);
    }
}

#[test]
fn the_host_here_has_io_uring_or_auto_does_without() {
    let bench = Bench::one(Method::Auto);
    assert_eq!(bench.disk.uses_io_uring(), bench.disk.descriptor().is_some());
    assert!(!Bench::one(Method::Plain).disk.uses_io_uring());
    assert_eq!(Bench::one(Method::Plain).disk.descriptor(), None);
}

#[test]
fn many_requests_are_in_flight_at_once() {
    for (method, issuer) in [
        (Method::Auto, Issuer::ThisThread),
        (Method::Auto, Issuer::AnyThread),
        (Method::Plain, Issuer::ThisThread),
    ] {
        let mut bench =
            Bench::new(1, 1 << 20, DiskOptions { method, issuer, ..DiskOptions::default() });
        let mut buffers: Vec<_> = (0..256).map(|id| pattern(4096, id as u8)).collect();
        let position = |id: usize| (id as u64 * 97 % 256) * 4096;
        let writes = |(id, buffer): (usize, &mut Vec<u8>)| {
            let write = Operation::Write { offset: position(id), durable: false };
            (write, slices_of(buffer, &[4096]))
        };
        let writes: Vec<_> = buffers.iter_mut().enumerate().map(writes).collect();
        assert!(bench.run(&writes).iter().all(Result::is_ok));
        let content = bench.content(0);
        for (id, buffer) in buffers.iter().enumerate() {
            assert_eq!(content[position(id) as usize..][..4096], buffer[..], "{id}");
        }
    }
}

#[test]
fn ranges_are_zeroed_and_discarded() {
    for method in METHODS {
        let mut bench = Bench::one(method);
        let mut written = pattern(1 << 20, 3);
        assert!(
            bench.run_one(Operation::Write { offset: 0, durable: false }, &mut written).is_ok()
        );
        for (unmap, offset) in [(false, 512), (true, 65_536)] {
            let zero = Operation::WriteZeroes { offset, length: 12_800, unmap };
            assert_eq!(bench.run_one(zero, &mut []), Ok(()));
            written[offset as usize..][..12_800].fill(0);
            assert_eq!(bench.content(0), written);
        }
        let discard = Operation::Discard { offset: 131_072, length: 65_536 };
        assert_eq!(bench.run_one(discard, &mut []), Ok(()));
        let content = bench.content(0);
        assert_eq!(content.len(), 1 << 20, "the size stays");
        assert_eq!(content[..131_072], written[..131_072]);
        assert_eq!(content[196_608..], written[196_608..]);
    }
}

#[test]
fn a_file_that_was_cut_fails_reads_behind_its_end() {
    for method in METHODS {
        let mut bench = Bench::one(method);
        File::options().write(true).open(path(&bench.folder, 0)).unwrap().set_len(4096).unwrap();
        let mut buffer = vec![1; 4096];
        assert_eq!(bench.run_one(Operation::Read { offset: 8192 }, &mut buffer), Err(Failed));
        assert_eq!(bench.run_one(Operation::Read { offset: 2048 }, &mut buffer), Err(Failed));
        assert_eq!(bench.run_one(Operation::Read { offset: 0 }, &mut buffer), Ok(()));
        assert!(bench.disk.counters().contains(&("io_errors", 2)));
    }
}

#[test]
fn a_disk_opened_for_reading_says_so_and_fails_writes() {
    let bench = Bench::one(Method::Plain);
    drop(bench.disk);
    let access = Access { read_only: true, direct: false };
    let file = open(&path(&bench.folder, 0), access).unwrap();
    let disk = Disk::new(vec![file], &DiskOptions::default()).unwrap();
    let mut bench = Bench { disk, ..bench };
    assert!(bench.disk.geometry().read_only);
    let write = Operation::Write { offset: 0, durable: false };
    assert_eq!(bench.run_one(write, &mut [1; 512]), Err(Failed));
    assert_eq!(bench.run_one(Operation::Flush, &mut []), Ok(()));
}

#[test]
fn no_two_users_have_a_disk_that_one_of_them_writes() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(&folder, 0);
    File::create(&file).unwrap().set_len(512).unwrap();
    let read = Access { read_only: true, direct: false };
    let write = Access { read_only: false, direct: false };
    let readers = [open(&file, read).unwrap(), open(&file, read).unwrap()];
    assert!(matches!(open(&file, write), Err(OpenError::InUse(_))));
    drop(readers);
    let writer: OwnedFd = open(&file, write).unwrap();
    assert!(matches!(open(&file, write), Err(OpenError::InUse(_))));
    assert!(matches!(open(&file, read), Err(OpenError::InUse(_))));
    drop(writer);
    assert!(open(&file, write).is_ok());
}

#[test]
fn what_cannot_be_a_disk_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let access = Access { read_only: true, direct: false };
    assert!(matches!(open(folder.path(), access), Err(OpenError::Kind)));
    assert!(matches!(open(&path(&folder, 0), access), Err(OpenError::Open(_))));
    for size in [0, 511, 513] {
        File::create(path(&folder, 1)).unwrap().set_len(size).unwrap();
        let refused = open(&path(&folder, 1), access);
        assert!(matches!(refused, Err(OpenError::Size(found)) if found == size));
    }
    let options = DiskOptions { stripe_unit: 3000, ..DiskOptions::default() };
    assert!(matches!(Disk::new(Vec::new(), &options), Err(SetupError::Stripes(_))));
}

#[test]
fn unaligned_memory_is_bounced_where_the_page_cache_is_passed_by() {
    for method in METHODS {
        let options = DiskOptions { direct: true, method, ..DiskOptions::default() };
        let mut bench = Bench::new(1, 4 << 20, options);
        let mut memory = pattern(2 << 20, 9);
        // Two requests that both need the buffer, several times.
        let (first, second) = memory.split_at_mut(1 << 20);
        let (one, two) =
            (slices_of(&mut first[1..], &[4096, 512 << 10]), slices_of(&mut second[3..], &[8192]));
        let writes = [
            (Operation::Write { offset: 0, durable: false }, one),
            (Operation::Write { offset: 2 << 20, durable: false }, two),
        ];
        assert_eq!(bench.run(&writes), [Ok(()), Ok(())]);
        let content = bench.content(0);
        assert_eq!(content[..4096 + (512 << 10)], memory[1..][..4096 + (512 << 10)]);
        assert_eq!(content[2 << 20..][..8192], memory[(1 << 20) + 3..][..8192]);
        let mut read = vec![0; (1 << 20) + 1];
        let slices = slices_of(&mut read[1..], &[100, (1 << 20) - 100]);
        assert_eq!(bench.run(&[(Operation::Read { offset: 0 }, slices)]), [Ok(())]);
        assert_eq!(read[1..], content[..1 << 20]);
    }
}

#[test]
fn wake_ups_by_time_come_once() {
    let mut bench = Bench::one(Method::Auto);
    let Some(descriptor) = bench.disk.descriptor() else { return };
    let mut buffer = vec![0; 4096];
    let slices = slices_of(&mut buffer, &[4096]);
    // SAFETY: the buffer outlives the request, which is waited for.
    unsafe { bench.disk.submit(0, Operation::Read { offset: 0 }, &slices) };
    bench.disk.start();
    bench.disk.wake(Wake::After(1_000_000));
    wait_readable(descriptor);
    let mut completed = 0;
    while completed == 0 {
        bench.disk.start();
        bench.disk.completed(&mut |_, _| completed += 1);
    }
    let mut polled = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: the structure is valid during the call.
    assert_eq!(unsafe { libc::poll(&raw mut polled, 1, 0) }, 0, "nothing is left to wake for");
}

#[test]
fn waiting_ends_when_something_has_completed() {
    for method in METHODS {
        let mut bench = Bench::one(method);
        let mut buffers = [vec![1; 4096], vec![2; 4096]];
        for (id, buffer) in (0..).zip(&mut buffers) {
            let write = Operation::Write { offset: u64::from(id) * 4096, durable: false };
            // SAFETY: the buffers outlive the requests, which are waited for.
            unsafe { bench.disk.submit(id, write, &slices_of(buffer, &[4096])) };
        }
        let mut completed = 0;
        while completed < 2 {
            bench.disk.wait();
            bench.disk.completed(&mut |_, outcome| completed += usize::from(outcome.is_ok()));
        }
        bench.disk.wait();
        assert_eq!(bench.content(0)[..8192], buffers.concat());
    }
}

#[test]
fn a_ring_takes_nothing_but_what_a_disk_needs() {
    use io_uring::{IoUring, opcode, register::Restriction, squeue, types};
    // The same restrictions as the disk's ring has, on a ring of the test's own.
    let Ok(ring) = IoUring::builder().setup_r_disabled().build(4) else { return };
    let fixed = squeue::Flags::FIXED_FILE.bits();
    let file = File::open("/dev/zero").unwrap();
    ring.submitter().register_files(&[file.as_raw_fd()]).unwrap();
    let mut list = crate::ring::restrictions();
    assert!(list.len() > 2 && fixed != 0);
    ring.submitter().register_restrictions(&mut list[..] as &mut [Restriction]).unwrap();
    ring.submitter().register_enable_rings().unwrap();
    let mut ring: IoUring = ring;
    let path = c"/etc/passwd".as_ptr();
    let mut byte = [1_u8];
    let entries = [
        opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path).build(),
        opcode::Read::new(types::Fd(file.as_raw_fd()), byte.as_mut_ptr(), 1).build(),
        opcode::Read::new(types::Fixed(0), byte.as_mut_ptr(), 1).build(),
    ];
    let mut results = Vec::new();
    for entry in entries {
        // SAFETY: path and buffer outlive the calls, which are waited for.
        unsafe { ring.submission().push(&entry) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        results.push(ring.completion().next().unwrap().result());
    }
    assert_eq!(results, [-libc::EACCES, -libc::EACCES, 1]);
    assert!(ring.submitter().unregister_files().is_err(), "nor are other files registered");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// A striped set behaves as one disk, and its files hold what RAID-0 puts there.
    #[test]
    fn stripes_are_one_disk(
        files in 2..4_usize,
        unit in (12..15_u32).prop_map(|bits| 1_u64 << bits),
        writes in prop::collection::vec((0..250_u64, 1..120_u64, any::<u8>()), 1..12),
        plain in any::<bool>(),
    ) {
        let method = if plain { Method::Plain } else { Method::Auto };
        let mut bench = Bench::new(files, 65_536, DiskOptions { method, stripe_unit: unit, ..DiskOptions::default() });
        let size = bench.disk.geometry().sectors as usize * 512;
        prop_assert_eq!(size, 65_536 * files);
        let mut expected = vec![0; size];
        for (sector, sectors, seed) in writes {
            let offset = (sector as usize * 512).min(size - 512);
            let length = (sectors as usize * 512).min(size - offset);
            let mut bytes = pattern(length, seed);
            expected[offset..offset + length].copy_from_slice(&bytes);
            let write = Operation::Write { offset: offset as u64, durable: false };
            let slices = slices_of(&mut bytes, &[100, length - 100]);
            prop_assert_eq!(bench.run(&[(write, slices)]), vec![Ok(())]);
        }
        prop_assert_eq!(bench.run_one(Operation::Flush, &mut []), Ok(()));
        let mut read = vec![0; size];
        prop_assert_eq!(bench.run_one(Operation::Read { offset: 0 }, &mut read), Ok(()));
        prop_assert_eq!(&read, &expected);
        let zero = Operation::WriteZeroes { offset: 512, length: size as u64 - 1024, unmap: false };
        prop_assert_eq!(bench.run_one(zero, &mut []), Ok(()));
        expected[512..size - 512].fill(0);
        let mut dealt = vec![0; size];
        for (index, chunk) in dealt.chunks_mut(unit as usize).enumerate() {
            let file = File::open(path(&bench.folder, index % files)).unwrap();
            file.read_exact_at(chunk, (index / files) as u64 * unit).unwrap();
        }
        prop_assert_eq!(dealt, expected);
    }
}

#[test]
fn requests_in_flight_end_before_the_disk_does() {
    let mut bench = Bench::one(Method::Auto);
    let mut buffer = vec![0; 1 << 20];
    File::options()
        .write(true)
        .open(path(&bench.folder, 0))
        .unwrap()
        .write_all(&pattern(1 << 20, 5))
        .unwrap();
    let slices = slices_of(&mut buffer, &[1 << 20]);
    // SAFETY: the buffer outlives the disk, which waits for the request.
    unsafe { bench.disk.submit(0, Operation::Read { offset: 0 }, &slices) };
    bench.disk.start();
    drop(bench.disk);
    assert_eq!(buffer, pattern(1 << 20, 5));
}

#[test]
fn others_may_use_a_disk_once_it_is_unlocked() {
    for method in METHODS {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let mine = file.reopen().unwrap();
        crate::lock(mine.as_fd()).unwrap();
        let disk = Disk::new(vec![mine.into()], &DiskOptions { method, ..DiskOptions::default() });
        let (disk, other) = (disk.unwrap(), file.reopen().unwrap());
        assert!(crate::lock(other.as_fd()).is_err());
        disk.unlock();
        crate::lock(other.as_fd()).unwrap();
    }
}
