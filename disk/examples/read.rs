//! Measures what a disk costs without a guest: random reads of 4 KiB, past the page cache.
//!
//! `cargo run --release -p denali-disk --example read -- FILE DEPTH SECONDS`

use denali_devices::block::{BlockBackend, Operation, RequestId, Wake};
use denali_devices::virtio::HostSlice;
use denali_disk::{Access, Disk, DiskOptions, open};
use std::path::Path;
use std::time::{Duration, Instant};

const BYTES: usize = 4096;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, depth, seconds] = &arguments[..] else {
        eprintln!("usage: read FILE DEPTH SECONDS");
        std::process::exit(2);
    };
    let depth: u16 = depth.parse().expect("a depth");
    let time = Duration::from_secs(seconds.parse().expect("a number of seconds"));
    let access = Access { read_only: true, direct: true };
    let file = open(Path::new(file), access).expect("a disk");
    let options = DiskOptions { direct: true, ..DiskOptions::default() };
    let mut disk = Disk::new(vec![file], &options).expect("a disk");
    let blocks = disk.geometry().sectors / 8;

    let mut memory = vec![0_u8; (usize::from(depth) + 1) * BYTES];
    let start = memory.as_mut_ptr() as usize;
    let start = start.next_multiple_of(BYTES);
    let (mut state, mut done, mut sweeps) = (1_u64, 0_u64, 0_u64);
    let mut ready: Vec<RequestId> = (0..depth).collect();
    let begun = Instant::now();
    while begun.elapsed() < time {
        for id in ready.drain(..) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let offset = (state >> 20) % blocks * BYTES as u64;
            let slice = HostSlice { address: start + usize::from(id) * BYTES, length: BYTES };
            // SAFETY: the memory outlives the disk, which is dropped first, and waits.
            unsafe { disk.submit(id, Operation::Read { offset }, &[slice]) };
        }
        disk.start();
        disk.completed(&mut |id, outcome| {
            assert!(outcome.is_ok());
            ready.push(id);
        });
        sweeps += 1;
        done += ready.len() as u64;
        if ready.is_empty() {
            disk.wake(if depth < 8 { Wake::AtNext } else { Wake::After(50_000) });
            wait(disk.descriptor());
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    drop(disk);
    println!("{:.0} requests/s, {:.1} a sweep", done as f64 / elapsed, done as f64 / sweeps as f64);
}

fn wait(descriptor: Option<i32>) {
    let Some(fd) = descriptor else { return };
    let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: the structure is valid during the call.
    unsafe { libc::poll(&raw mut polled, 1, 1000) };
}
