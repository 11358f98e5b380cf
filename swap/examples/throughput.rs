//! Measures what the store costs beside the disks it is on: pages out and in, and plain writes and reads.
//!
//! `cargo run --release -p denali-swap --example throughput -- MIB direct|cached FILE...`
//!
//! The files are made, and removed at the end.

use denali_devices::block::{BlockBackend, Operation};
use denali_devices::virtio::HostSlice;
use denali_disk::{Access, Disk, DiskOptions, open};
use denali_swap::{GuestId, Key, Options, PAGE, PageNumber, Store, region_size};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Pages of one write or read.
const CLUSTER: usize = 64;
/// Writes or reads in flight.
const DEPTH: usize = 4;
/// Pages that a wake brings in.
const WAKE: usize = 75;
/// Wakes that are timed.
const WAKES: usize = 200;

/// Memory aligned to pages, as memory of guests is.
#[derive(Clone)]
#[repr(align(4096))]
struct Page([u8; PAGE]);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mib, how, paths @ ..] = &arguments[..] else {
        eprintln!("usage: throughput MIB direct|cached FILE...");
        std::process::exit(2);
    };
    let pages = mib.parse::<u32>().expect("a number of MiB") * 256;
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let direct = how == "direct";
    for encrypt in [true, false] {
        let options = Options { capacity: pages, state_max: 4096, encrypt };
        let unit = DiskOptions::default().stripe_unit;
        let size = region_size(&options).div_ceil(paths.len() as u64).next_multiple_of(unit);
        paths.iter().for_each(|path| reserve(path, size));
        println!("{}", if encrypt { "encrypted" } else { "authenticated only" });
        measure(&paths, direct, &options);
    }
    paths.iter().for_each(|path| std::fs::remove_file(path).expect("a file to remove"));
}

/// A file whose space is written already, so that it is the disk that is measured.
fn reserve(path: &Path, size: u64) {
    let mut file = File::create(path).expect("a file");
    std::io::copy(&mut std::io::Read::take(std::io::repeat(1), size), &mut file).expect("space");
    file.sync_all().expect("a disk");
}

fn disk(paths: &[PathBuf], direct: bool) -> Disk {
    let access = Access { read_only: false, direct };
    let files = paths.iter().map(|path| open(path, access).expect("a disk")).collect();
    Disk::new(files, &DiskOptions { direct, ..DiskOptions::default() }).expect("a disk")
}

fn measure(paths: &[PathBuf], direct: bool, options: &Options) {
    let pages = options.capacity as usize;
    let mut memory: Vec<Page> = vec![Page([0; PAGE]); pages];
    for (index, page) in memory.iter_mut().enumerate() {
        let words = page.0.iter_mut().zip(0_usize..);
        words.for_each(|(byte, at)| *byte = (index * 31 + at * 7) as u8);
    }
    let bytes = (pages * PAGE) as f64;
    let report = |what: &str, begun: Instant| {
        println!("  {what:<12} {:.2} GB/s", bytes / begun.elapsed().as_secs_f64() / 1e9);
    };

    let mut raw = disk(paths, direct);
    let begun = Instant::now();
    transfer(&mut raw, &mut memory, |offset| Operation::Write { offset, durable: false });
    report("plain write", begun);
    let begun = Instant::now();
    transfer(&mut raw, &mut memory, |offset| Operation::Read { offset });
    report("plain read", begun);
    drop(raw);

    let key = Key::random().expect("a key");
    let guest = GuestId::random().expect("random bytes");
    let mut store = Store::format(disk(paths, direct), guest, key, options, None).expect("a store");
    let begun = Instant::now();
    for (number, page) in (0..).zip(&memory) {
        store.put(PageNumber(number), &page.0).expect("room");
    }
    store.flush().expect("a disk");
    report("put, flush", begun);
    let all: Vec<PageNumber> = (0..options.capacity).map(PageNumber).collect();
    let begun = Instant::now();
    store.read(&all, as_bytes(&mut memory)).expect("what was put");
    report("read", begun);

    let mut times: Vec<f64> = (0..WAKES)
        .map(|wake| {
            let first = wake * 977 % (pages - WAKE);
            let begun = Instant::now();
            let into = as_bytes(&mut memory[..WAKE]);
            store.read(&all[first..first + WAKE], into).expect("what was put");
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "  {WAKE} pages     {:.0} µs, 99 %: {:.0} µs",
        times[WAKES / 2],
        times[WAKES * 99 / 100]
    );
    let begun = Instant::now();
    store.commit(&[0; 4096], &all[..WAKE]).expect("a disk");
    println!("  commit       {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
}

/// Does one operation for each cluster of memory, some at a time.
fn transfer(disk: &mut Disk, memory: &mut [Page], operation: impl Fn(u64) -> Operation) {
    let mut offset = 0;
    let mut free: Vec<u16> = (0..DEPTH as u16).collect();
    for cluster in memory.chunks_mut(CLUSTER) {
        while free.is_empty() {
            disk.wait();
            disk.completed(&mut |id, outcome| {
                outcome.expect("a disk");
                free.push(id);
            });
        }
        let (address, length) = (cluster.as_mut_ptr() as usize, cluster.len() * PAGE);
        let id = free.pop().expect("one that is free");
        // SAFETY: the memory outlives the operation, which is waited for below.
        unsafe { disk.submit(id, operation(offset), &[HostSlice { address, length }]) };
        disk.start();
        offset += length as u64;
    }
    while !disk.drain() {}
    disk.completed(&mut |_, outcome| outcome.expect("a disk"));
}

fn as_bytes(pages: &mut [Page]) -> &mut [u8] {
    // SAFETY: a page is an array of bytes without padding, so the pages are so many bytes in a row.
    unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), pages.len() * PAGE) }
}
