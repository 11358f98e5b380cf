//! Back ends for tests: real disks and one in memory, and around either, faults.

use crate::{Options, region_size};
use denali_devices::block::{BlockBackend, Failed, Geometry, Operation, RequestId, Wake};
use denali_devices::virtio::HostSlice;
use denali_disk::{Access, Disk, DiskOptions, OpenError, open};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::rc::Rc;
use tempfile::TempDir;

/// Something that keeps a region while no store has it.
pub(crate) trait Medium {
    type Backend: BlockBackend;

    /// A back end of what is kept.
    fn backend(&self) -> Self::Backend;

    /// Faults that the back ends are to have.
    fn faults(&self) -> &Rc<Faults>;

    /// A back end with faults.
    fn attach(&self) -> Faulty<Self::Backend> {
        Faulty { inner: self.backend(), faults: self.faults().clone(), under_way: Vec::new() }
    }
}

/// What goes wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// Writes that succeed before some fail.
    pub(crate) writes_before: Cell<u32>,
    /// Writes that fail then, with half of their bytes written.
    pub(crate) writes_failing: Cell<u32>,
    /// Reads that fail.
    pub(crate) reads_failing: Cell<u32>,
    /// Flushes that fail.
    pub(crate) flushes_failing: Cell<u32>,
    /// Reads whose second half is zeroes.
    pub(crate) reads_cut: Cell<u32>,
    /// Reads with one wrong bit in their last byte.
    pub(crate) reads_wrong: Cell<u32>,
}

impl Faults {
    pub(crate) fn none(&self) {
        for count in [
            &self.writes_before,
            &self.writes_failing,
            &self.reads_failing,
            &self.flushes_failing,
            &self.reads_cut,
            &self.reads_wrong,
        ] {
            count.set(0);
        }
    }
}

fn counted(count: &Cell<u32>) -> bool {
    let left = count.get();
    count.set(left.saturating_sub(1));
    left > 0
}

/// What is to happen when an operation is done.
#[derive(Clone, Copy, PartialEq)]
enum Mishap {
    Fails,
    Cut,
    Wrong,
}

/// A back end that fails as it is told.
pub(crate) struct Faulty<B> {
    inner: B,
    faults: Rc<Faults>,
    under_way: Vec<(RequestId, Mishap, Vec<HostSlice>)>,
}

impl<B> Faulty<B> {
    fn mishap(&self, operation: Operation) -> Option<Mishap> {
        let faults = &self.faults;
        match operation {
            Operation::Read { .. } if counted(&faults.reads_failing) => Some(Mishap::Fails),
            Operation::Read { .. } if counted(&faults.reads_cut) => Some(Mishap::Cut),
            Operation::Read { .. } if counted(&faults.reads_wrong) => Some(Mishap::Wrong),
            Operation::Write { .. } if counted(&faults.writes_before) => None,
            Operation::Write { .. } if counted(&faults.writes_failing) => Some(Mishap::Fails),
            Operation::Flush if counted(&faults.flushes_failing) => Some(Mishap::Fails),
            _ => None,
        }
    }
}

/// The first half of some slices, in whole sectors; nothing of the smallest.
fn half(slices: &[HostSlice]) -> Vec<HostSlice> {
    let mut left = slices.iter().map(|slice| slice.length).sum::<usize>() / 8192 * 4096;
    let mut half = Vec::new();
    for slice in slices {
        let length = slice.length.min(left);
        if length > 0 {
            half.push(HostSlice { length, ..*slice });
        }
        left -= length;
    }
    half
}

impl<B: BlockBackend> BlockBackend for Faulty<B> {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    unsafe fn submit(&mut self, id: RequestId, operation: Operation, slices: &[HostSlice]) {
        let mishap = self.mishap(operation);
        let mut slices = slices.to_vec();
        if let Some(mishap) = mishap {
            self.under_way.push((id, mishap, slices.clone()));
            if matches!(operation, Operation::Write { .. }) {
                slices = half(&slices);
            }
        }
        // SAFETY: the slices are the caller's, or parts of them.
        unsafe { self.inner.submit(id, operation, &slices) };
    }

    fn start(&mut self) {
        self.inner.start();
    }

    fn completed(&mut self, done: &mut dyn FnMut(RequestId, Result<(), Failed>)) {
        let under_way = &mut self.under_way;
        self.inner.completed(&mut |id, outcome| {
            let Some(index) = under_way.iter().position(|entry| entry.0 == id) else {
                return done(id, outcome);
            };
            let (_, mishap, slices) = under_way.swap_remove(index);
            match mishap {
                Mishap::Fails => return done(id, Err(Failed)),
                Mishap::Cut => {
                    for slice in &slices[slices.len() / 2..] {
                        // SAFETY: the slices are mapped until the operation is reported.
                        unsafe { slice.copy_from(&vec![0; slice.length]) };
                    }
                }
                Mishap::Wrong => {
                    let slice = slices[slices.len() - 1];
                    let last = HostSlice { address: slice.address + slice.length - 1, length: 1 };
                    let mut byte = [0];
                    // SAFETY: as above.
                    unsafe {
                        last.copy_to(&mut byte);
                        last.copy_from(&[byte[0] ^ 4]);
                    }
                }
            }
            done(id, outcome);
        });
    }

    fn wake(&mut self, when: Wake) {
        self.inner.wake(when);
    }

    fn drain(&mut self) -> bool {
        self.inner.drain()
    }

    fn wait(&mut self) {
        self.inner.wait();
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.inner.counters()
    }
}

/// Files of a folder that goes away at the end.
pub(crate) struct Files {
    folder: TempDir,
    count: usize,
    options: DiskOptions,
    faults: Rc<Faults>,
}

impl Files {
    /// A striped set for a region.
    pub(crate) fn new(count: usize, disk: DiskOptions, region: &Options) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let size = region_size(region).div_ceil(count as u64).next_multiple_of(disk.stripe_unit);
        for number in 0..count {
            File::create(folder.path().join(number.to_string())).unwrap().set_len(size).unwrap();
        }
        Self { folder, count, options: disk, faults: Rc::default() }
    }
}

impl Medium for Files {
    type Backend = Disk;

    fn backend(&self) -> Disk {
        let access = Access { read_only: false, direct: self.options.direct };
        let reopen = |number: usize| loop {
            // The kernel may take its time to let go of the files of the last ring.
            match open(&self.folder.path().join(number.to_string()), access) {
                Err(OpenError::InUse(_)) => std::thread::yield_now(),
                outcome => return outcome.unwrap(),
            }
        };
        let files = (0..self.count).map(reopen);
        Disk::new(files.collect(), &self.options).unwrap()
    }

    fn faults(&self) -> &Rc<Faults> {
        &self.faults
    }
}

/// A disk in memory that remembers what was not flushed, and may lose it.
#[derive(Clone)]
pub(crate) struct Memory {
    state: Rc<RefCell<State>>,
    faults: Rc<Faults>,
}

struct State {
    /// What is read.
    bytes: Vec<u8>,
    /// What survives in any case.
    durable: Vec<u8>,
    /// What was written since the last flush.
    unflushed: Vec<(usize, Vec<u8>)>,
    /// Writes and flushes that are still done.
    power: u32,
}

impl Memory {
    pub(crate) fn new(options: &Options) -> Self {
        let bytes = vec![0; region_size(options) as usize];
        let state = State { durable: bytes.clone(), bytes, unflushed: Vec::new(), power: u32::MAX };
        Self { state: Rc::new(RefCell::new(state)), faults: Rc::default() }
    }

    /// What is on the disk.
    pub(crate) fn copy(&self) -> Vec<u8> {
        self.state.borrow().bytes.clone()
    }

    /// Puts something else on the disk.
    pub(crate) fn replace(&self, bytes: Vec<u8>) {
        let mut state = self.state.borrow_mut();
        state.unflushed.clear();
        state.durable.clone_from(&bytes);
        state.bytes = bytes;
    }

    /// Changes what is on the disk.
    pub(crate) fn change(&self, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.copy();
        change(&mut bytes);
        self.replace(bytes);
    }

    /// After so many more writes and flushes all fail, until the crash.
    pub(crate) fn cut_power_after(&self, operations: u32) {
        self.state.borrow_mut().power = operations;
    }

    /// Writes and flushes that were done since the power was last limited to `power`.
    pub(crate) fn used_of(&self, power: u32) -> u32 {
        power - self.state.borrow().power
    }

    /// The disk forgets what it was not told to keep, but for the sectors that `survives` says.
    pub(crate) fn crash(&self, mut survives: impl FnMut() -> bool) {
        let mut state = self.state.borrow_mut();
        let unflushed = std::mem::take(&mut state.unflushed);
        for (offset, bytes) in unflushed {
            for (index, sector) in bytes.chunks(512).enumerate() {
                if survives() {
                    let start = offset + index * 512;
                    state.durable[start..start + sector.len()].copy_from_slice(sector);
                }
            }
        }
        state.bytes = state.durable.clone();
        state.power = u32::MAX;
    }
}

impl Medium for Memory {
    type Backend = MemoryBackend;

    fn backend(&self) -> MemoryBackend {
        MemoryBackend { state: self.state.clone(), accepted: Vec::new(), done: Vec::new() }
    }

    fn faults(&self) -> &Rc<Faults> {
        &self.faults
    }
}

/// Does one operation each time it is waited for, the last first, and none before: so that everything that
/// may be in flight is.
pub(crate) struct MemoryBackend {
    state: Rc<RefCell<State>>,
    accepted: Vec<(RequestId, Operation, Vec<HostSlice>)>,
    done: Vec<(RequestId, Result<(), Failed>)>,
}

impl State {
    fn perform(&mut self, operation: Operation, slices: &[HostSlice]) -> Result<(), Failed> {
        let power = !matches!(operation, Operation::Read { .. });
        let dead = power && self.power == 0;
        self.power -= u32::from(power && !dead);
        match operation {
            Operation::Read { offset } => {
                let mut at = offset as usize;
                for slice in slices {
                    let bytes = self.bytes.get(at..at + slice.length).ok_or(Failed)?;
                    // SAFETY: the slices are mapped until the operation is reported.
                    unsafe { slice.copy_from(bytes) };
                    at += slice.length;
                }
            }
            Operation::Write { offset, .. } => {
                let mut at = offset as usize;
                for slice in slices {
                    let mut bytes = vec![0; slice.length];
                    // SAFETY: as above.
                    unsafe { slice.copy_to(&mut bytes) };
                    self.bytes
                        .get_mut(at..at + slice.length)
                        .ok_or(Failed)?
                        .copy_from_slice(&bytes);
                    self.unflushed.push((at, bytes));
                    at += slice.length;
                }
            }
            Operation::Flush if !dead => {
                self.unflushed.clear();
                self.durable = self.bytes.clone();
            }
            _ => {}
        }
        if dead { Err(Failed) } else { Ok(()) }
    }
}

impl BlockBackend for MemoryBackend {
    fn geometry(&self) -> Geometry {
        let sectors = self.state.borrow().bytes.len() as u64 / 512;
        Geometry { sectors, block_size: 512, read_only: false, discard: false, write_zeroes: false }
    }

    unsafe fn submit(&mut self, id: RequestId, operation: Operation, slices: &[HostSlice]) {
        assert!(self.accepted.iter().all(|accepted| accepted.0 != id), "{id} is in flight twice");
        self.accepted.push((id, operation, slices.to_vec()));
    }

    fn start(&mut self) {}

    fn completed(&mut self, done: &mut dyn FnMut(RequestId, Result<(), Failed>)) {
        self.done.drain(..).for_each(|(id, outcome)| done(id, outcome));
    }

    fn wake(&mut self, _: Wake) {}

    fn drain(&mut self) -> bool {
        while !self.accepted.is_empty() {
            self.wait();
        }
        true
    }

    fn wait(&mut self) {
        if let Some((id, operation, slices)) = self.accepted.pop() {
            let outcome = self.state.borrow_mut().perform(operation, &slices);
            self.done.push((id, outcome));
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
