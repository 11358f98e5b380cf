//! The manifest: which pages a committed state has in which slots, what was in use, and the state itself.

use crate::key::{KEY, Seed, TAG};
use crate::region::{Options, PAGES_MAX, PageNumber};
use crate::sparse::Sparse;

/// Epochs a manifest has at most.
pub(crate) const EPOCHS_MAX: usize = 64;

/// Bytes of the four counts.
const COUNTS: usize = 16;
/// Bytes of an entry.
const ENTRY: usize = 32;
/// Bits of a stamp that count pages; above them is the epoch.
const COUNTER_BITS: u32 = 56;

/// Which page written in which epoch: no two pages of a guest that were ever written have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// The page number `counter` of an epoch. A counter is below 2^56: no disk is written so often.
    pub(crate) fn new(epoch: u8, counter: u64) -> Self {
        Self(u64::from(epoch) << COUNTER_BITS | counter)
    }

    pub(crate) fn epoch(self) -> u8 {
        (self.0 >> COUNTER_BITS) as u8
    }

    pub(crate) fn counter(self) -> u64 {
        self.0 & ((1 << COUNTER_BITS) - 1)
    }
}

/// Where a page is, and how it is known to be the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slot: u32,
    pub(crate) stamp: Stamp,
    pub(crate) tag: [u8; TAG],
}

/// What a manifest contains, borrowed from where it is.
pub(crate) struct Contents<'a> {
    /// Seeds of the epochs, as stamps number them; unused ones are left out.
    pub(crate) epochs: &'a [Seed],
    pub(crate) entries: &'a Sparse<Entry>,
    pub(crate) working_set: &'a [PageNumber],
    pub(crate) state: &'a [u8],
}

/// A manifest that was read.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) epochs: Vec<Seed>,
    pub(crate) entries: Sparse<Entry>,
    pub(crate) working_set: Vec<PageNumber>,
    pub(crate) state: Vec<u8>,
}

/// A manifest is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Bytes of the largest manifest as stored.
pub(crate) fn size_max(options: &Options) -> u64 {
    let pages = u64::from(options.capacity) * (ENTRY + 4) as u64;
    (COUNTS + EPOCHS_MAX * KEY + TAG) as u64 + pages + u64::from(options.state_max)
}

impl Contents<'_> {
    /// Bytes of it, encoded.
    pub(crate) fn size(&self) -> usize {
        let epochs = used_epochs(self.entries).iter().filter(|&&used| used > 0).count();
        let pages = self.entries.len() * ENTRY + self.working_set.len() * 4;
        COUNTS + epochs * KEY + pages + self.state.len()
    }

    /// Writes it to the start of `bytes`, which has room for [`Contents::size`].
    pub(crate) fn encode(&self, bytes: &mut [u8]) {
        let used = used_epochs(self.entries);
        let kept = (0..self.epochs.len()).filter(|&epoch| used[epoch] > 0);
        let mut renumbered = [0; 256];
        let mut output = Output(bytes);
        output.number(kept.clone().count());
        output.number(self.entries.len());
        output.number(self.working_set.len());
        output.number(self.state.len());
        for (number, epoch) in (0..).zip(kept) {
            renumbered[epoch] = number;
            output.put(&self.epochs[epoch]);
        }
        for (page, entry) in self.entries.iter() {
            let epoch = renumbered[usize::from(entry.stamp.epoch())];
            output.put(&page.to_le_bytes());
            output.put(&entry.slot.to_le_bytes());
            output.put(&Stamp::new(epoch, entry.stamp.counter()).0.to_le_bytes());
            output.put(&entry.tag);
        }
        for page in self.working_set {
            output.put(&page.0.to_le_bytes());
        }
        output.put(self.state);
    }
}

/// Pages of each epoch.
pub(crate) fn used_epochs(entries: &Sparse<Entry>) -> [u32; 256] {
    let mut used = [0; 256];
    for (_, entry) in entries.iter() {
        used[usize::from(entry.stamp.epoch())] += 1;
    }
    used
}

impl Manifest {
    /// Reads a manifest of a region made for `options`. Nothing is allocated that its own bytes do not
    /// justify, but for a byte for each slot of the region, and indices of pages that take 256 KiB at most.
    ///
    /// # Errors
    /// When it is not exactly one manifest: pages in ascending order, each page and each slot once, in
    /// epochs there are; a working set of such pages, each once.
    pub(crate) fn decode(bytes: &[u8], options: &Options) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        let [epochs, entries, working_set, state] = input.counts(options)?;
        let epochs = (0..epochs).map(|_| input.take()).collect::<Result<Vec<Seed>, _>>()?;
        let entries = input.entries(entries, epochs.len(), options)?;
        let working_set = input.working_set(working_set, &entries)?;
        let manifest = Self { epochs, entries, working_set, state: input.0.to_vec() };
        if manifest.state.len() == state { Ok(manifest) } else { Err(Malformed) }
    }
}

/// What is left to be written.
struct Output<'a>(&'a mut [u8]);

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (now, later) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        now.copy_from_slice(bytes);
        self.0 = later;
    }

    /// A count; all are far below 2^32.
    fn number(&mut self, number: usize) {
        self.put(&(number as u32).to_le_bytes());
    }
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (now, later) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = later;
        Ok(*now)
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    /// The counts of epochs, entries, pages of the working set, and bytes of state: none larger than there
    /// may be.
    fn counts(&mut self, options: &Options) -> Result<[usize; 4], Malformed> {
        let most = [EPOCHS_MAX as u32, options.capacity, options.capacity, options.state_max];
        let mut counts = [0; 4];
        for (count, most) in counts.iter_mut().zip(most) {
            let number = self.number()?;
            if number > most {
                return Err(Malformed);
            }
            *count = number as usize;
        }
        Ok(counts)
    }

    fn entries(
        &mut self,
        count: usize,
        epochs: usize,
        options: &Options,
    ) -> Result<Sparse<Entry>, Malformed> {
        if self.0.len() / ENTRY < count {
            return Err(Malformed);
        }
        let mut slots = vec![false; options.slots() as usize];
        let mut entries = Sparse::default();
        let mut next = 0;
        for _ in 0..count {
            let (page, slot) = (self.number()?, self.number()?);
            let stamp = Stamp(u64::from_le_bytes(self.take()?));
            let tag = self.take()?;
            let taken = slots.get_mut(slot as usize).ok_or(Malformed)?;
            let known = usize::from(stamp.epoch()) < epochs;
            if page < next || page >= PAGES_MAX || std::mem::replace(taken, true) || !known {
                return Err(Malformed);
            }
            next = page + 1;
            entries.insert(page, Entry { slot, stamp, tag });
        }
        Ok(entries)
    }

    fn working_set(
        &mut self,
        count: usize,
        entries: &Sparse<Entry>,
    ) -> Result<Vec<PageNumber>, Malformed> {
        let mut left = Sparse::default();
        for (page, _) in entries.iter() {
            left.insert(page, ());
        }
        let mut pages = Vec::new();
        for _ in 0..count {
            let page = self.number()?;
            left.remove(page).ok_or(Malformed)?;
            pages.push(PageNumber(page));
        }
        Ok(pages)
    }
}

#[cfg(test)]
mod tests;
