//! What was read of the file system's own data, in units; the newest are kept.

use super::{Device, Error, modest_buffer};
use crate::block::{Buffer, SECTOR};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// Bytes of a unit where the device can read so many at once; the read-ahead, too.
const UNIT: usize = 32 * 1024;
/// Most bytes kept while operations go on: what one of them may need at once.
const BUSY_MAX: usize = 4 << 20;
/// Most bytes kept in between.
const IDLE_MAX: usize = 256 * 1024;

/// Units of the device.
pub(super) struct Cache {
    /// Bytes of a unit: a power of two.
    unit: usize,
    device_bytes: u64,
    units: RefCell<Vec<Unit>>,
    users: Cell<usize>,
    /// Counts uses, so that the oldest is known.
    uses: Cell<u64>,
    /// What the last read lacked.
    missing: Cell<Option<u64>>,
}

struct Unit {
    number: u64,
    used: u64,
    bytes: Buffer,
}

/// An operation that goes on: as long as one exists, the cache is large.
pub(super) struct User(Rc<Cache>);

impl Drop for User {
    fn drop(&mut self) {
        self.0.users.set(self.0.users.get() - 1);
        if self.0.users.get() == 0 {
            self.0.shrink(IDLE_MAX);
        }
    }
}

/// Why bytes are not in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacking {
    /// They were not read, or are forgotten.
    Unit,
    /// The device has no such bytes.
    OutOfRange,
}

impl Cache {
    pub(super) fn new(device: &impl Device) -> Self {
        let most = device.transfer_max().clamp(SECTOR as usize, UNIT);
        Self {
            unit: 1 << most.ilog2(),
            device_bytes: device.bytes(),
            units: RefCell::new(Vec::new()),
            users: Cell::new(0),
            uses: Cell::new(0),
            missing: Cell::new(None),
        }
    }

    /// Says that an operation begins, until what this returns is dropped.
    pub(super) fn user(self: &Rc<Self>) -> User {
        self.users.set(self.users.get() + 1);
        User(Rc::clone(self))
    }

    /// Copies bytes that are there. What is lacking is remembered for [`Cache::fetch_missing`].
    pub(super) fn copy(&self, position: u64, to: &mut [u8]) -> Result<(), Lacking> {
        let end = position.checked_add(to.len() as u64).ok_or(Lacking::OutOfRange)?;
        if end > self.device_bytes {
            return Err(Lacking::OutOfRange);
        }
        let mut units = self.units.borrow_mut();
        let mut at = position;
        let mut rest = to;
        while !rest.is_empty() {
            let number = at / self.unit as u64;
            let offset = (at % self.unit as u64) as usize;
            let Some(unit) = units.iter_mut().find(|unit| unit.number == number) else {
                self.missing.set(Some(number));
                return Err(Lacking::Unit);
            };
            self.uses.set(self.uses.get() + 1);
            unit.used = self.uses.get();
            let part = rest.len().min(self.unit - offset);
            let bytes = unit.bytes.get(offset..offset + part).ok_or(Lacking::OutOfRange)?;
            let (now, later) = rest.split_at_mut(part);
            now.copy_from_slice(bytes);
            rest = later;
            at += part as u64;
        }
        Ok(())
    }

    /// Whether the last read lacked something.
    pub(super) fn lacks(&self) -> bool {
        self.missing.get().is_some()
    }

    /// Reads what the last [`Cache::copy`] lacked.
    pub(super) async fn fetch_missing(&self, device: &impl Device) -> Result<(), Error> {
        let Some(number) = self.missing.take() else { return Ok(()) };
        let start = number * self.unit as u64;
        let len = (self.device_bytes - start).min(self.unit as u64) as usize;
        let buffer = modest_buffer(len).or_else(|| {
            self.shrink(IDLE_MAX);
            modest_buffer(len)
        });
        let buffer = buffer.ok_or(Error::OutOfMemory)?;
        let bytes = device.read(start, buffer).await.map_err(Error::Device)?;
        self.shrink(BUSY_MAX - self.unit);
        let mut units = self.units.borrow_mut();
        // Another task may have asked for the same.
        units.retain(|unit| unit.number != number);
        self.uses.set(self.uses.get() + 1);
        units.push(Unit { number, used: self.uses.get(), bytes });
        Ok(())
    }

    /// Copies bytes, which are read if they are not there.
    pub(super) async fn read(
        &self,
        device: &impl Device,
        position: u64,
        to: &mut [u8],
    ) -> Result<(), Error> {
        // Each round brings a unit; others may push out one that was there.
        for _ in 0..ROUNDS {
            match self.copy(position, to) {
                Ok(()) => return Ok(()),
                Err(Lacking::OutOfRange) => return Err(Error::Corrupt),
                Err(Lacking::Unit) => self.fetch_missing(device).await?,
            }
        }
        Err(Error::TooLarge)
    }

    /// Forgets the oldest until at most so many bytes are kept.
    fn shrink(&self, bytes: usize) {
        let mut units = self.units.borrow_mut();
        while units.len() * self.unit > bytes {
            let oldest = units.iter().enumerate().min_by_key(|(_, unit)| unit.used);
            let Some((index, _)) = oldest else { break };
            units.swap_remove(index);
        }
    }
}

/// Most times that an operation is begun anew: more than the units one may need.
pub(super) const ROUNDS: usize = 2 * BUSY_MAX / UNIT;
