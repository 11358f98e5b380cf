//! Commits: a state that whoever opens the region finds again, whole.

use crate::error::StoreError;
use crate::key::{KEY, Purpose, Seed, TAG, derive_sealing, fill_random, seal};
use crate::manifest::{Contents, EPOCHS_MAX, used_epochs};
use crate::memory::Mapping;
use crate::region::{Commit, PAGE, PageNumber};
use crate::sparse::Sparse;
use crate::store::Store;
use crate::superblock::Superblock;
use denali_devices::block::BlockBackend;
use ring::digest::{SHA256, digest};

/// Pages that are written anew at a time.
const REWRITTEN: usize = 64;

impl<B: BlockBackend> Store<B> {
    /// Makes the pages that are in the store, and a state, what is found when the region is opened next.
    /// It is durable when this returns; until then the commit before is. Of the working set those pages
    /// are kept that are in the store, each once, in their order.
    ///
    /// What is returned is to be remembered outside the region before the next commit.
    ///
    /// # Errors
    /// When the state is too long, when pages of old epochs are to be written anew and are damaged, or
    /// when a disk fails. The commit before is still there then; if it is not certain that it will be
    /// what is found, nothing more can be put or committed ([`StoreError::ReadOnly`]).
    pub fn commit(
        &mut self,
        state: &[u8],
        working_set: &[PageNumber],
    ) -> Result<Commit, StoreError> {
        if self.read_only {
            return Err(StoreError::ReadOnly);
        }
        if state.len() > self.options.state_max as usize {
            let max = self.options.state_max;
            return Err(StoreError::StateTooLong { length: state.len(), max });
        }
        self.flush()?;
        self.renew_epochs()?;
        let superblock = self.write_manifest(state, working_set)?;
        self.finish(&superblock).inspect_err(|_| self.read_only = true)?;
        self.slots.commit();
        self.last = superblock.commit;
        Ok(self.last)
    }

    /// Has few enough epochs: those with the fewest pages are given up, their pages written anew.
    fn renew_epochs(&mut self) -> Result<(), StoreError> {
        let used = used_epochs(&self.entries);
        let mut epochs: Vec<usize> = (0..used.len()).filter(|&epoch| used[epoch] > 0).collect();
        epochs.retain(|&epoch| epoch != usize::from(self.sealer.epoch()));
        // One is left for what is written now.
        let surplus = epochs.len().saturating_sub(EPOCHS_MAX - 1);
        epochs.sort_by_key(|&epoch| used[epoch]);
        epochs.truncate(surplus);
        if epochs.is_empty() {
            return Ok(());
        }
        let old = self
            .entries
            .iter()
            .filter(|(_, entry)| epochs.contains(&usize::from(entry.stamp.epoch())));
        let old: Vec<PageNumber> = old.map(|(page, _)| PageNumber(page)).collect();
        self.rewrite(&old)
    }

    /// Writes pages anew. There are slots for them even where there is no room: their old slots are held by
    /// the committed state as well.
    fn rewrite(&mut self, pages: &[PageNumber]) -> Result<(), StoreError> {
        let mut buffer = Mapping::new(REWRITTEN * PAGE)?;
        for pages in pages.chunks(REWRITTEN) {
            let contents = &mut buffer.bytes_mut()[..pages.len() * PAGE];
            self.read(pages, contents).inspect_err(|_| self.abandon())?;
            for (&page, content) in pages.iter().zip(contents.chunks(PAGE)) {
                self.put_one(page, content).inspect_err(|_| self.abandon())?;
            }
        }
        self.flush()
    }

    /// Writes the manifest where the one before the last was; the superblock that goes with it.
    fn write_manifest(
        &mut self,
        state: &[u8],
        working_set: &[PageNumber],
    ) -> Result<Superblock, StoreError> {
        let working_set = self.in_store_once(working_set);
        let (epochs, entries) = (self.sealer.epochs(), &self.entries);
        let contents = Contents { epochs, entries, working_set: &working_set, state };
        let size = contents.size();
        let mut buffer = Mapping::new(size + TAG)?;
        contents.encode(&mut buffer.bytes_mut()[..size]);

        let mut seed: Seed = [0; KEY];
        fill_random(&mut seed)?;
        let sequence = self.last.sequence + 1;
        let mut superblock = self.superblock(Commit { sequence, root: [0; 32] }, seed);
        superblock.length = (size + TAG) as u64;
        superblock.parent = self.last.root;
        let key = derive_sealing(&self.root, Purpose::Manifest, &seed);
        let tag = seal(&key, [0; 12], &superblock.head(), &mut buffer.bytes_mut()[..size]);
        buffer.bytes_mut()[size..size + TAG].copy_from_slice(&tag);
        let root = digest(&SHA256, &buffer.bytes()[..size + TAG]);
        superblock.commit.root.copy_from_slice(root.as_ref());

        let offset = self.options.manifest_offset(sequence);
        self.transfers.write(offset, buffer.bytes()).map_err(|_| StoreError::Write)?;
        Ok(superblock)
    }

    /// Has everything kept that the superblock stands for, then the superblock.
    fn finish(&mut self, superblock: &Superblock) -> Result<(), StoreError> {
        self.transfers.flush().map_err(|_| StoreError::ReadOnly)?;
        self.write_superblock(superblock, superblock.commit.sequence % 2)?;
        self.transfers.flush().map_err(|_| StoreError::ReadOnly)
    }

    /// Writes a superblock to block 0 or 1.
    pub(crate) fn write_superblock(
        &mut self,
        superblock: &Superblock,
        block: u64,
    ) -> Result<(), StoreError> {
        let mut buffer = Mapping::new(PAGE)?;
        buffer.bytes_mut().copy_from_slice(&superblock.encode(&self.root));
        let offset = block * PAGE as u64;
        self.transfers.write(offset, buffer.bytes()).map_err(|_| StoreError::ReadOnly)
    }

    /// Has nothing committed any more, as after [`Store::format`]: the guest has ended, and does not go on from
    /// here. The store is not used afterwards.
    ///
    /// # Errors
    /// When it cannot be written; the last state may be there still.
    pub fn retire(mut self) -> Result<(), StoreError> {
        self.write_nothing()?;
        self.transfers.flush().map_err(|_| StoreError::Write)
    }

    /// Writes both superblocks of a region to which nothing is committed, at one go. Others find them there; that a
    /// failure of power leaves them is not waited for: there is nothing yet to be lost with them, and the first
    /// commit waits for all that was written before it.
    pub(crate) fn write_nothing(&mut self) -> Result<(), StoreError> {
        let superblock = self.superblock(Commit { sequence: 0, root: [0; 32] }, [0; KEY]);
        let mut buffer = Mapping::new(2 * PAGE)?;
        for block in buffer.bytes_mut().chunks_exact_mut(PAGE) {
            block.copy_from_slice(&superblock.encode(&self.root));
        }
        self.transfers.write(0, buffer.bytes()).map_err(|_| StoreError::Write)
    }

    /// A superblock of this region that says nothing of a manifest yet.
    pub(crate) fn superblock(&self, commit: Commit, seed: Seed) -> Superblock {
        Superblock {
            guest: self.guest,
            options: self.options,
            commit,
            seed,
            length: 0,
            parent: [0; 32],
            wrapped: self.wrapped,
        }
    }

    /// The pages that are in the store, each once.
    fn in_store_once(&self, pages: &[PageNumber]) -> Vec<PageNumber> {
        let mut seen = Sparse::default();
        let is_new =
            |page: &&PageNumber| self.contains(**page) && seen.insert(page.0, ()).is_none();
        pages.iter().filter(is_new).copied().collect()
    }
}
