//! Makes regions, and opens them at the state that is known or follows from it.

use crate::error::StoreError;
use crate::key::{KEY, Key, Purpose, TAG, WrappedKey, derive_sealing, open};
use crate::locked::Locked;
use crate::manifest::{Manifest, size_max};
use crate::memory::Mapping;
use crate::region::{Commit, GuestId, Options, PAGE, PageNumber, region_size};
use crate::seal::PageSealer;
use crate::sparse::Sparse;
use crate::store::Store;
use crate::superblock::Superblock;
use crate::transfer::Transfers;
use denali_devices::block::BlockBackend;
use denali_devices::virtio::HostSlice;
use ring::digest::{SHA256, digest};
use ring::hmac;

/// A region that was opened.
pub struct Opened<B: BlockBackend> {
    /// The pages that were out.
    pub store: Store<B>,
    /// Which state it is: the one that was known, or its successor, which is then to be remembered.
    pub commit: Commit,
    /// The state, as it was given to [`Store::commit`].
    pub state: Vec<u8>,
    /// Pages that were in use, in the order in which they were needed.
    pub working_set: Vec<PageNumber>,
}

/// What a region says of itself to those who have no key. It may be false until the region is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    /// Whose region it is.
    pub guest: GuestId,
    /// What it was made for.
    pub options: Options,
    /// Its newest commit; number 0 if there is none.
    pub commit: Commit,
    /// Whether all of it says that nothing was ever committed, or that its guest has ended. A region that is
    /// damaged does not.
    pub blank: bool,
    /// Root of the commit before.
    pub parent: [u8; 32],
    /// The guest's key, wrapped by its host.
    pub wrapped_key: Option<WrappedKey>,
}

impl Label {
    /// The commit that follows the one that is known; the first one, if none is. `None` if there is none.
    #[must_use]
    pub fn successor_of(&self, known: Option<Commit>) -> Option<Commit> {
        let known = known.unwrap_or(Commit { sequence: 0, root: [0; 32] });
        let follows = self.commit.sequence.checked_sub(1) == Some(known.sequence);
        (follows && self.parent == known.root).then_some(self.commit)
    }
}

/// Reads what a region says of itself.
///
/// # Errors
/// When it cannot be read, or there is no region that this program understands.
pub fn peek<B: BlockBackend>(backend: B) -> Result<Label, StoreError> {
    let mut transfers = Transfers::new(backend);
    if !transfers.fits(2 * PAGE as u64) {
        return Err(StoreError::Unusable);
    }
    let blocks = read_superblocks(&mut transfers)?;
    let [first, second] = blocks.each_ref().map(Superblock::parse);
    // Nothing is written twice over, to the letter; whatever byte of a commit is damaged, the blocks differ.
    let says_nothing = matches!(&first, Ok(first) if first.commit.sequence == 0);
    let blank = says_nothing && blocks[0] == blocks[1];
    let newest = match (first, second) {
        (Ok(first), Ok(second)) if second.commit.sequence > first.commit.sequence => second,
        (Ok(superblock), _) | (Err(_), Ok(superblock)) => superblock,
        (Err(StoreError::NoRegion), Err(error)) | (Err(error), Err(_)) => return Err(error),
    };
    Ok(Label {
        guest: newest.guest,
        options: newest.options,
        commit: newest.commit,
        blank,
        parent: newest.parent,
        wrapped_key: newest.wrapped,
    })
}

impl<B: BlockBackend> Store<B> {
    /// Makes a region in a back end of at least [`region_size`] bytes. Nothing is committed to it yet.
    /// `wrapped` is the guest's key as [`peek`] is to show it.
    ///
    /// # Errors
    /// When the options or the back end are not usable, the host has no locked memory, or the disk fails.
    pub fn format(
        backend: B,
        guest: GuestId,
        key: Key,
        options: &Options,
        wrapped: Option<WrappedKey>,
    ) -> Result<Self, StoreError> {
        let transfers = usable(backend, options)?;
        let root = Locked::new(key.root())?;
        let superblock = Superblock {
            guest,
            options: *options,
            commit: Commit { sequence: 0, root: [0; 32] },
            seed: [0; KEY],
            length: 0,
            parent: [0; 32],
            wrapped,
        };
        let sealer = PageSealer::new(&key, Vec::new(), options.encrypt)?;
        drop(key);
        let mut store = Self::assemble(transfers, root, sealer, &superblock, Sparse::default());
        store.write_nothing()?;
        Ok(store)
    }

    /// Opens a region at the state that is known: if its monitor died while it committed the next one, at
    /// that one if it is whole, else at the one that is known. Without one that is known, at the newest.
    ///
    /// # Errors
    /// When there is no such region, when it is another guest's, was made for other options, was changed
    /// or put back by others, when the host has no locked memory, or the disk fails.
    pub fn open(
        backend: B,
        guest: GuestId,
        key: Key,
        options: &Options,
        known: Option<Commit>,
    ) -> Result<Opened<B>, StoreError> {
        Opening::begin(backend, guest, key, options, known)?.finish()
    }
}

/// A region that is being opened, while there is something else to be done.
pub struct Opening<B: BlockBackend> {
    // In front of what is being read, as it waits for that when it is dropped.
    transfers: Transfers<B>,
    head: Head,
    guest: GuestId,
    key: Key,
    root: Locked<hmac::Key>,
    options: Options,
    known: Option<Commit>,
}

impl<B: BlockBackend> Opening<B> {
    /// Begins what [`Store::open`] does, without waiting for the disks.
    ///
    /// # Errors
    /// When the options or the back end are not usable, or the host has no locked memory.
    pub fn begin(
        backend: B,
        guest: GuestId,
        key: Key,
        options: &Options,
        known: Option<Commit>,
    ) -> Result<Self, StoreError> {
        let mut transfers = usable(backend, options)?;
        let root = Locked::new(key.root())?;
        let sequence = known.map_or(0, |known| known.sequence);
        let mut head = Head::new(options, sequence)?;
        // SAFETY: the slices are of `head`, at which nobody looks before `finish` has waited for the reads, and
        // which lives behind `transfers`.
        unsafe { transfers.begin_reads(&head.reads()) };
        Ok(Self { transfers, head, guest, key, root, options: *options, known })
    }

    /// Waits for what is read, and opens the region.
    ///
    /// # Errors
    /// As of [`Store::open`].
    pub fn finish(self) -> Result<Opened<B>, StoreError> {
        let Self { mut transfers, head, guest, key, root, options, known } = self;
        transfers.finish_reads().map_err(|_| StoreError::ReadRegion)?;
        let superblocks = authentic(&head, &root, guest, &options)?;
        let (superblock, manifest) = find(&mut transfers, &head, &root, &superblocks, known)?;
        let Manifest { epochs, entries, working_set, state } = manifest;
        let sealer = PageSealer::new(&key, epochs, options.encrypt)?;
        drop(key);
        let store = Store::assemble(transfers, root, sealer, &superblock, entries);
        Ok(Opened { store, commit: superblock.commit, state, working_set })
    }
}

/// A back end that has room for the region.
fn usable<B: BlockBackend>(backend: B, options: &Options) -> Result<Transfers<B>, StoreError> {
    if !options.valid() {
        return Err(StoreError::Options);
    }
    let transfers = Transfers::new(backend);
    if transfers.fits(region_size(options)) { Ok(transfers) } else { Err(StoreError::Unusable) }
}

fn read_superblocks<B: BlockBackend>(
    transfers: &mut Transfers<B>,
) -> Result<[[u8; PAGE]; 2], StoreError> {
    let mut buffer = Mapping::new(2 * PAGE)?;
    transfers.read(0, buffer.bytes_mut()).map_err(|_| StoreError::ReadRegion)?;
    Ok(blocks(&buffer))
}

/// The first two blocks of a buffer.
fn blocks(buffer: &Mapping) -> [[u8; PAGE]; 2] {
    let mut blocks = [[0; PAGE]; 2];
    for (block, bytes) in blocks.iter_mut().zip(buffer.bytes().chunks_exact(PAGE)) {
        block.copy_from_slice(bytes);
    }
    blocks
}

/// Bytes of a manifest that are read along with the superblocks: all of a small guest's.
const AHEAD: usize = 32 << 10;

/// What is read of a region at first, at one go: a guest that wakes waits for it.
struct Head {
    superblocks: Mapping,
    /// The beginning of the manifest area of commits with this number.
    manifest: Mapping,
    area: u64,
}

impl Head {
    /// Memory for what is read of a region with these options, if commits of this number are expected.
    fn new(options: &Options, sequence: u64) -> Result<Self, StoreError> {
        let ahead = AHEAD.min(size_max(options).next_multiple_of(PAGE as u64) as usize);
        let (superblocks, manifest) = (Mapping::new(2 * PAGE)?, Mapping::new(ahead)?);
        Ok(Self { superblocks, manifest, area: options.manifest_offset(sequence) })
    }

    /// What is to be read, and where to.
    fn reads(&mut self) -> [(u64, HostSlice); 2] {
        let slice = |memory: &mut Mapping| {
            let bytes = memory.bytes_mut();
            HostSlice { address: bytes.as_mut_ptr() as usize, length: bytes.len() }
        };
        [(0, slice(&mut self.superblocks)), (self.area, slice(&mut self.manifest))]
    }

    /// Fills `into` with what lies at `offset`, if that was read.
    fn give(&self, offset: u64, into: &mut [u8]) -> bool {
        let there = self.manifest.bytes().get(..into.len()).filter(|_| offset == self.area);
        there.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }
}

/// The superblocks that were written with the guest's key, the newest first: at least one.
fn authentic(
    head: &Head,
    root: &hmac::Key,
    guest: GuestId,
    options: &Options,
) -> Result<Vec<Superblock>, StoreError> {
    let [first, second] = blocks(&head.superblocks);
    let check = |block: &[u8; PAGE], number: u64| {
        let superblock = Superblock::parse(block)?;
        let sequence = superblock.commit.sequence;
        if superblock.guest != guest {
            Err(StoreError::OtherGuest(superblock.guest))
        } else if !superblock.is_authentic(block, root) || (sequence > 0 && sequence % 2 != number)
        {
            Err(StoreError::NotAuthentic)
        } else if superblock.options != *options {
            Err(StoreError::OtherOptions)
        } else {
            Ok(superblock)
        }
    };
    let mut superblocks = match (check(&first, 0), check(&second, 1)) {
        (Ok(first), Ok(second)) => vec![first, second],
        (Ok(superblock), Err(_)) | (Err(_), Ok(superblock)) => vec![superblock],
        (Err(StoreError::NoRegion), Err(error)) | (Err(error), Err(_)) => return Err(error),
    };
    superblocks.sort_by_key(|superblock| std::cmp::Reverse(superblock.commit.sequence));
    Ok(superblocks)
}

/// The state to go on from. Where one is known, its successor if that is whole, else it itself; otherwise
/// the newest.
fn find<B: BlockBackend>(
    transfers: &mut Transfers<B>,
    head: &Head,
    root: &hmac::Key,
    superblocks: &[Superblock],
    known: Option<Commit>,
) -> Result<(Superblock, Manifest), StoreError> {
    let newest = superblocks.first().map_or(0, |superblock| superblock.commit.sequence);
    let Some(known) = known else {
        let newest = superblocks.first().filter(|_| newest > 0).ok_or(StoreError::Empty)?;
        return Ok((*newest, read_manifest(transfers, head, root, newest)?));
    };
    if newest < known.sequence {
        return Err(StoreError::Replayed { found: newest, known: known.sequence });
    }
    let forked = StoreError::Forked { found: newest, known: known.sequence };
    if newest - known.sequence > 1 {
        return Err(forked);
    }
    let is_known = |superblock: &&Superblock| superblock.commit == known;
    let follows = |superblock: &&Superblock| {
        superblock.commit.sequence > known.sequence && superblock.parent == known.root
    };
    let successor = superblocks.iter().find(follows);
    if let Some(successor) = successor {
        match read_manifest(transfers, head, root, successor) {
            Err(StoreError::Manifest) => {}
            outcome => return Ok((*successor, outcome?)),
        }
    }
    let none = if successor.is_some() { StoreError::Manifest } else { forked };
    let superblock = superblocks.iter().find(is_known).ok_or(none)?;
    if superblock.commit.sequence == 0 {
        return Err(StoreError::Empty);
    }
    Ok((*superblock, read_manifest(transfers, head, root, superblock)?))
}

fn read_manifest<B: BlockBackend>(
    transfers: &mut Transfers<B>,
    head: &Head,
    root: &hmac::Key,
    superblock: &Superblock,
) -> Result<Manifest, StoreError> {
    let Superblock { options, commit, length, .. } = superblock;
    let fits = (TAG as u64..=size_max(options)).contains(length);
    let length = usize::try_from(*length).ok().filter(|_| fits).ok_or(StoreError::Manifest)?;
    let mut buffer = Mapping::new(length)?;
    let offset = options.manifest_offset(commit.sequence);
    if !head.give(offset, buffer.bytes_mut()) {
        transfers.read(offset, buffer.bytes_mut()).map_err(|_| StoreError::ReadRegion)?;
    }
    let stored = &mut buffer.bytes_mut()[..length];
    if digest(&SHA256, stored).as_ref() != commit.root {
        return Err(StoreError::Manifest);
    }
    let (content, stored_tag) = stored.split_at_mut(length - TAG);
    let mut tag = [0; TAG];
    tag.copy_from_slice(stored_tag);
    let key = derive_sealing(root, Purpose::Manifest, &superblock.seed);
    if !open(&key, [0; 12], &superblock.head(), &tag, content) {
        return Err(StoreError::Manifest);
    }
    Manifest::decode(content, options).map_err(|_| StoreError::Manifest)
}
