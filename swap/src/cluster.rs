//! Writes pages in clusters of neighbouring slots, several at a time.

use crate::error::StoreError;
use crate::memory::Mapping;
use crate::region::{Options, PAGE};
use crate::slots::Slots;
use crate::transfer::{CLUSTERS, Transfers};
use denali_devices::block::{BlockBackend, Operation};
use denali_devices::virtio::HostSlice;
use std::ops::Range;

/// Most pages of a cluster.
const CLUSTER: u32 = Clusters::PAGES;

/// Clusters that are being filled or written. They have memory while a batch is under way.
pub(crate) struct Clusters {
    buffers: [Option<Mapping>; CLUSTERS],
    /// Buffers that are filled elsewhere.
    lent: [bool; CLUSTERS],
    filling: Option<Filling>,
    /// A cluster of this batch could not be written.
    failed: bool,
}

/// The cluster that is being filled.
struct Filling {
    /// Its buffer, and the number of its operation.
    id: usize,
    slots: Range<u32>,
    /// Pages it has.
    pages: u32,
}

impl Clusters {
    /// Most pages of a cluster.
    pub(crate) const PAGES: u32 = 64;

    pub(crate) fn new() -> Self {
        let (buffers, lent) = ([const { None }; CLUSTERS], [false; CLUSTERS]);
        Self { buffers, lent, filling: None, failed: false }
    }

    /// Writes one more page: `seal` makes of its copy in the buffer what is written. Its slot, and what
    /// `seal` says.
    ///
    /// # Errors
    /// When no slot is free, when there is no memory, or a cluster of the batch could not be written.
    pub(crate) fn put<B: BlockBackend, T>(
        &mut self,
        transfers: &mut Transfers<B>,
        slots: &mut Slots,
        options: &Options,
        seal: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<(u32, T), StoreError> {
        let mut filling = match self.filling.take() {
            Some(filling) => filling,
            None => self.begin(transfers, slots)?,
        };
        let slot = filling.slots.start + filling.pages;
        let buffer = self.buffers[filling.id].as_mut().ok_or(StoreError::Write)?;
        let sealed = seal(&mut buffer.bytes_mut()[filling.pages as usize * PAGE..][..PAGE]);
        filling.pages += 1;
        if filling.pages < filling.slots.len() as u32 {
            self.filling = Some(filling);
        } else {
            self.write(transfers, options, &filling);
        }
        Ok((slot, sealed))
    }

    /// Begins a cluster in a buffer that is not in use.
    fn begin<B: BlockBackend>(
        &mut self,
        transfers: &mut Transfers<B>,
        slots: &mut Slots,
    ) -> Result<Filling, StoreError> {
        let id = self.idle(transfers);
        if self.failed {
            return Err(StoreError::Write);
        }
        if self.buffers[id].is_none() {
            self.buffers[id] = Some(Mapping::new(CLUSTER as usize * PAGE)?);
        }
        let slots = slots.take(CLUSTER).ok_or(StoreError::Full)?;
        Ok(Filling { id, slots, pages: 0 })
    }

    /// A buffer that is not in use; waits for one.
    fn idle<B: BlockBackend>(&mut self, transfers: &mut Transfers<B>) -> usize {
        loop {
            self.note_outcomes(transfers);
            if let Some(id) = (0..CLUSTERS).find(|&id| !transfers.is_busy(id)) {
                return id;
            }
            transfers.wait_for_any(0..CLUSTERS);
        }
    }

    /// A buffer that is not in use, to be filled elsewhere, and its number; `None` if all are.
    ///
    /// # Errors
    /// When there is no memory, or a cluster of the batch could not be written.
    pub(crate) fn lend<B: BlockBackend>(
        &mut self,
        transfers: &mut Transfers<B>,
    ) -> Result<Option<(usize, Mapping)>, StoreError> {
        transfers.look();
        self.note_outcomes(transfers);
        if self.failed {
            return Err(StoreError::Write);
        }
        let is_free = |id: &usize| !self.lent[*id] && !transfers.is_busy(*id);
        let Some(id) = (0..CLUSTERS).find(is_free) else { return Ok(None) };
        let buffer = match self.buffers[id].take() {
            Some(buffer) => buffer,
            None => Mapping::populated(CLUSTER as usize * PAGE)?,
        };
        self.lent[id] = true;
        Ok(Some((id, buffer)))
    }

    /// A buffer is here again.
    pub(crate) fn give_back(&mut self, id: usize, buffer: Mapping) {
        self.lent[id] = false;
        self.buffers[id] = Some(buffer);
    }

    /// Waits until a cluster is written; one is under way.
    pub(crate) fn wait<B: BlockBackend>(&mut self, transfers: &mut Transfers<B>) {
        transfers.wait_for_any(0..CLUSTERS);
    }

    /// Writes pages that were filled in elsewhere, from this slot on.
    pub(crate) fn write_apart<B: BlockBackend>(
        &mut self,
        transfers: &mut Transfers<B>,
        options: &Options,
        id: usize,
        slot: u32,
        pages: usize,
    ) {
        if pages > 0 && !self.failed {
            let pages = pages as u32;
            self.write(transfers, options, &Filling { id, slots: slot..slot + pages, pages });
        }
    }

    fn note_outcomes<B: BlockBackend>(&mut self, transfers: &mut Transfers<B>) {
        for id in 0..CLUSTERS {
            self.failed |= transfers.take(id) == Some(Err(denali_devices::block::Failed));
        }
    }

    fn write<B: BlockBackend>(
        &mut self,
        transfers: &mut Transfers<B>,
        options: &Options,
        filling: &Filling,
    ) {
        let Some(buffer) = &self.buffers[filling.id] else { return };
        let length = filling.pages as usize * PAGE;
        let slice = HostSlice { address: buffer.start().as_ptr() as usize, length };
        let offset = options.slot_offset(filling.slots.start);
        // SAFETY: the buffer is neither filled nor given back before the operation is found done: `idle`
        // and `finish` see to that, and whoever drops it drops `transfers` first.
        unsafe {
            transfers.submit(filling.id, Operation::Write { offset, durable: false }, &[slice]);
        }
        transfers.look();
    }

    /// Writes what is left, waits for all of it, and gives the memory back; whether all of the batch was
    /// written.
    pub(crate) fn finish<B: BlockBackend>(
        &mut self,
        transfers: &mut Transfers<B>,
        slots: &mut Slots,
        options: &Options,
    ) -> bool {
        self.end(transfers, slots, options);
        transfers.settle(0..CLUSTERS);
        self.note_outcomes(transfers);
        self.buffers = [const { None }; CLUSTERS];
        !std::mem::take(&mut self.failed)
    }

    /// Begins to write the cluster that is being filled, as far as it is.
    pub(crate) fn end<B: BlockBackend>(
        &mut self,
        transfers: &mut Transfers<B>,
        slots: &mut Slots,
        options: &Options,
    ) {
        if let Some(filling) = self.filling.take() {
            slots.put_back(filling.slots.start + filling.pages..filling.slots.end);
            if filling.pages > 0 && !self.failed {
                self.write(transfers, options, &filling);
            }
        }
    }

    /// Whether it takes no memory.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.buffers.iter().all(Option::is_none)
    }
}
