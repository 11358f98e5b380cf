//! A disk in memory that is zeroes where nothing was written, and says whether anything was.

use crate::input::BLOCK;
use denali_devices::block::{BlockBackend, Failed, Geometry, Operation, RequestId, Wake};
use denali_devices::virtio::HostSlice;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// A disk. Copies of it are the same disk.
#[derive(Clone)]
pub(crate) struct Disk {
    size: u64,
    blocks: Rc<RefCell<BTreeMap<u64, Box<[u8; BLOCK]>>>>,
    /// Whether anything was written, or was to be.
    written: Rc<Cell<bool>>,
    done: Vec<(RequestId, Result<(), Failed>)>,
}

impl Disk {
    pub(crate) fn new(size: u64) -> Self {
        Self { size, blocks: Rc::default(), written: Rc::default(), done: Vec::new() }
    }

    /// Puts bytes where they belong, whatever is there; those outside go nowhere.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) {
        for (at, &byte) in (offset..self.size).zip(bytes) {
            let mut blocks = self.blocks.borrow_mut();
            let block = blocks.entry(at / BLOCK as u64).or_insert_with(|| Box::new([0; BLOCK]));
            block[(at % BLOCK as u64) as usize] = byte;
        }
    }

    /// A block.
    pub(crate) fn block(&self, number: u64) -> [u8; BLOCK] {
        self.blocks.borrow().get(&number).map_or([0; BLOCK], |block| **block)
    }

    /// The blocks that have been written, in order.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.blocks.borrow().keys().copied().collect()
    }

    pub(crate) fn is_written(&self) -> bool {
        self.written.get()
    }

    /// The pieces of blocks that an operation's slices are, which lie inside the disk.
    fn each(&self, offset: u64, slices: &[HostSlice], mut each: impl FnMut(u64, HostSlice)) {
        assert!(offset.is_multiple_of(SECTOR), "an operation at {offset:#x}");
        let mut at = offset;
        for slice in slices {
            let end = at.checked_add(slice.length as u64);
            assert!(end.is_some_and(|end| end <= self.size), "{slice:?} at {at:#x}");
            let mut done = 0;
            while done < slice.length {
                let room = BLOCK - ((at + done as u64) % BLOCK as u64) as usize;
                let length = room.min(slice.length - done);
                each(at + done as u64, HostSlice { address: slice.address + done, length });
                done += length;
            }
            at += slice.length as u64;
        }
    }
}

impl BlockBackend for Disk {
    fn geometry(&self) -> Geometry {
        let (sectors, block_size) = (self.size / SECTOR, SECTOR as u32);
        Geometry { sectors, block_size, read_only: false, discard: true, write_zeroes: true }
    }

    unsafe fn submit(&mut self, id: RequestId, operation: Operation, slices: &[HostSlice]) {
        match operation {
            Operation::Read { offset } => self.each(offset, slices, |at, slice| {
                let block = self.block(at / BLOCK as u64);
                // SAFETY: the slices are mapped and writable, as the caller promises.
                unsafe { slice.copy_from(&block[(at % BLOCK as u64) as usize..]) };
            }),
            Operation::Write { offset, .. } => {
                self.written.set(true);
                self.each(offset, slices, |at, slice| {
                    let mut bytes = vec![0; slice.length];
                    // SAFETY: the slices are mapped, as the caller promises.
                    unsafe { slice.copy_to(&mut bytes) };
                    self.put(at, &bytes);
                });
            }
            Operation::Flush => self.written.set(true),
            Operation::Discard { offset, length }
            | Operation::WriteZeroes { offset, length, .. } => {
                self.written.set(true);
                assert!(offset.checked_add(length).is_some_and(|end| end <= self.size));
            }
        }
        self.done.push((id, Ok(())));
    }

    fn start(&mut self) {}

    fn completed(&mut self, done: &mut dyn FnMut(RequestId, Result<(), Failed>)) {
        self.done.drain(..).for_each(|(id, outcome)| done(id, outcome));
    }

    fn wake(&mut self, _when: Wake) {}

    fn drain(&mut self) -> bool {
        true
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
