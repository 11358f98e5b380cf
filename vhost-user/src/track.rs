//! Which requests of a queue a back end has not returned yet, so that another one can take them over.
//!
//! The rings alone do not say: a back end returns requests in any order, and an entry of the available
//! ring may be overwritten while an older request is still out. So both rings are read as they grow.
//! Reading is often enough if no more than a ring's size of entries come between two readings;
//! where it was not, that is known, until all requests that were out then have been returned.

use crate::ring::Rings;
use denali_devices::virtio::QueueError;
use vm_memory::GuestMemory;

/// The requests of one queue that are out.
#[derive(Debug)]
pub(crate) struct Track {
    rings: Rings,
    /// How far the rings were read.
    available: u16,
    used: u16,
    /// For each head: how often it is out, and when it was last made available.
    heads: Vec<Head>,
    /// Number of the next request.
    next: u64,
    /// Entries were overwritten unread, or made no sense; requests that were out then may still be.
    lost: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    out: u16,
    number: u64,
}

/// What came since the rings were last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Requests the driver made available.
    pub available: u16,
    /// Requests the back end returned.
    pub used: u16,
}

impl Track {
    /// A queue that has just been set up: nothing was made available or returned yet.
    pub(crate) fn new(rings: Rings) -> Self {
        let heads = vec![Head::default(); usize::from(rings.size)];
        Self { rings, available: 0, used: 0, heads, next: 0, lost: false }
    }

    /// Where the rings are.
    pub(crate) fn rings(&self) -> Rings {
        self.rings
    }

    /// How many requests were made available in all, modulo 2¹⁶, when the rings were last read.
    pub(crate) fn available(&self) -> u16 {
        self.available
    }

    /// How many requests were returned in all, modulo 2¹⁶, when the rings were last read.
    pub(crate) fn used(&self) -> u16 {
        self.used
    }

    /// Reads what is new in both rings. The driver does not run meanwhile; the back end may.
    ///
    /// # Errors
    /// When more requests are out than the queue has entries, or an entry is outside of it.
    pub(crate) fn observe<M: GuestMemory>(&mut self, memory: &M) -> Result<Growth, QueueError> {
        let available = self.rings.available_index(memory)?;
        let used = self.rings.used_index(memory)?;
        if available.wrapping_sub(used) > self.rings.size {
            return Err(QueueError::AvailableIndex);
        }
        let growth = Growth {
            available: available.wrapping_sub(self.available),
            used: used.wrapping_sub(self.used),
        };
        if growth.available > self.rings.size || growth.used > self.rings.size {
            self.lose();
        } else {
            for step in 0..growth.available {
                self.made_available(memory, self.available.wrapping_add(step))?;
            }
            for step in 0..growth.used {
                self.returned(memory, self.used.wrapping_add(step))?;
            }
        }
        (self.available, self.used) = (available, used);
        if self.lost {
            // No head is ever thought to be out that is not: when as many are known as are out, it is all.
            let known: u32 = self.heads.iter().map(|head| u32::from(head.out)).sum();
            self.lost = known != u32::from(available.wrapping_sub(used));
        }
        Ok(growth)
    }

    fn made_available<M: GuestMemory>(&mut self, memory: &M, index: u16) -> Result<(), QueueError> {
        let head = self.rings.available_head(memory, index)?;
        let entry = self.heads.get_mut(usize::from(head)).ok_or(QueueError::DescriptorIndex)?;
        entry.out = entry.out.saturating_add(1);
        entry.number = self.next;
        self.next += 1;
        Ok(())
    }

    /// What is out now is not known. What is made available from here on is.
    fn lose(&mut self) {
        self.heads.fill(Head::default());
        self.lost = true;
    }

    /// What returns though it is not known to be out was so before knowledge was lost; if it was not, the
    /// back end has made its own record useless, and no more.
    fn returned<M: GuestMemory>(&mut self, memory: &M, index: u16) -> Result<(), QueueError> {
        let head = self.rings.used_head(memory, index)?;
        let entry = usize::try_from(head).ok().and_then(|head| self.heads.get_mut(head));
        match entry {
            Some(entry) if entry.out > 0 => entry.out -= 1,
            _ if self.lost => {}
            _ => self.lose(),
        }
        Ok(())
    }

    /// The heads that are out, oldest first, as of the last reading; `None` when that is not known.
    pub(crate) fn outstanding(&self) -> Option<Vec<u16>> {
        let wanted = usize::from(self.available.wrapping_sub(self.used));
        let mut out: Vec<(u64, u16)> = Vec::with_capacity(wanted);
        for (index, head) in self.heads.iter().enumerate().filter(|(_, head)| head.out > 0) {
            // There are few, and rarely: no sorting is worth its code.
            let place = out.partition_point(|&(number, _)| number < head.number);
            out.insert(place, (head.number, index as u16));
        }
        (!self.lost && out.len() == wanted).then(|| out.into_iter().map(|(_, head)| head).collect())
    }

    /// Puts the requests that are out into the available ring behind those that were returned, where a
    /// back end that starts from the used index finds exactly them; their number, or `None`
    /// when they are not known. The driver does not read that ring.
    ///
    /// # Errors
    /// When the ring cannot be written.
    pub(crate) fn offer_again<M: GuestMemory>(
        &self,
        memory: &M,
    ) -> Result<Option<u16>, QueueError> {
        let Some(heads) = self.outstanding() else { return Ok(None) };
        for (step, &head) in heads.iter().enumerate() {
            self.rings.replace_head(memory, self.used.wrapping_add(step as u16), head)?;
        }
        Ok(Some(heads.len() as u16))
    }

    /// Takes the entries behind those that were returned for the requests that are out, as is true of
    /// a back end that returns them in order.
    ///
    /// # Errors
    /// When an entry is outside the queue.
    pub(crate) fn assume_order<M: GuestMemory>(&mut self, memory: &M) -> Result<(), QueueError> {
        self.heads.fill(Head::default());
        self.lost = false;
        for step in 0..self.available.wrapping_sub(self.used) {
            self.made_available(memory, self.used.wrapping_add(step))?;
        }
        Ok(())
    }
}
