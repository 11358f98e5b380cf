//! A read-only store of files on a block device: an ext2 or ext4 file system, as `denali image pack` or
//! `mke2fs -d` make it.
//!
//! The crate `ext4-view` reads names, inodes and what guards them (checksums, features). It reads
//! synchronously, which a guest cannot: so it reads from a cache, and where that lacks something the
//! operation fails, the device is asked, and the operation is done again. Contents do not go that way:
//! the store follows a file's block map itself and reads piece by piece from the device, as large as
//! blocks lie in a row. So a piece costs one request however large the file is, and memory is bounded.
//!
//! An image is untrusted: whatever is in it, operations end, with an error if need be.

mod blocks;
mod cache;
mod device;
mod layout;
mod resolve;
#[cfg(test)]
mod tests;
mod view;

pub use device::Device;

use crate::block::{self, Block, Buffer};
use crate::memory;
use alloc::rc::Rc;
use alloc::vec::Vec;
use blocks::Map;
use cache::Cache;
use core::fmt;
use core::ops::Deref;
use layout::{Inode, Layout};
use view::View;

/// Most bytes of a piece that [`File::read`] gives.
pub const PIECE: usize = 64 * 1024;

/// Memory that the store's buffers leave to everything else.
const SPARE_ROOM: usize = 256 * 1024;

/// A buffer, if it leaves enough memory.
fn modest_buffer(len: usize) -> Option<Buffer> {
    memory::has_room(len + SPARE_ROOM).then(|| Buffer::zeroed(len)).flatten()
}

/// Why a store, or a file in it, could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There is no ext2 or ext4 file system on the device.
    NotAStore,
    /// The file system was not left in order: `e2fsck` repairs it.
    Unclean,
    /// The file system, or this file, uses what the store does not know.
    Unsupported,
    /// What the device holds contradicts itself.
    Corrupt,
    /// A limit of the store is exceeded: folders of 3 MiB, 40 symbolic links in a path, 16,384 groups of blocks.
    TooLarge,
    /// There is nothing of this name.
    NotFound,
    /// A folder, or neither a file nor a folder.
    NotAFile,
    /// No folder.
    NotAFolder,
    /// The device did not give what it was asked for.
    Device(block::Error),
    /// There is too little memory.
    OutOfMemory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAStore => "no ext2 or ext4 file system",
            Self::Unclean => "the file system was not left in order; e2fsck repairs it",
            Self::Unsupported => "the file system uses what is not supported here",
            Self::Corrupt => "the file system is corrupt",
            Self::TooLarge => "a limit is exceeded",
            Self::NotFound => "no such file",
            Self::NotAFile => "not a file",
            Self::NotAFolder => "not a folder",
            Self::Device(error) => return error.fmt(f),
            Self::OutOfMemory => "too little memory",
        })
    }
}

impl core::error::Error for Error {}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; only in lists.
    Link,
    /// A device, a pipe or a socket, which stores hold but do not read.
    Other,
}

/// What is known about a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Bytes of its contents.
    pub bytes: u64,
    /// When it was changed last: seconds after 1970 began, nothing earlier.
    pub modified: u64,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name: any bytes but `/` and 0.
    pub name: Vec<u8>,
    /// What it stands for.
    pub kind: Kind,
}

/// The files on a device. Copies are the same store; any number of tasks may use it at once.
pub struct Store<D: Device = Block> {
    shared: Rc<Shared<D>>,
}

struct Shared<D: Device> {
    device: D,
    cache: Rc<Cache>,
    layout: Layout,
    view: View,
}

impl<D: Device> Clone for Store<D> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared) }
    }
}

impl<D: Device> Store<D> {
    /// The store on `device`, which takes about 600 KiB of memory.
    ///
    /// # Errors
    /// [`Error::NotAStore`], and whatever else is wrong with the file system or the device.
    pub async fn open(device: D) -> Result<Self, Error> {
        let cache = Rc::new(Cache::new(&device));
        let user = cache.user();
        let layout = Layout::read(&cache, &device).await?;
        let view = View::load(&cache, &device).await?;
        drop(user);
        let store = Self { shared: Rc::new(Shared { device, cache, layout, view }) };
        store.metadata(b"/").await?;
        Ok(store)
    }

    /// A number that tells this file system from others: made from its UUID.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.shared.layout.identity
    }

    /// What `path` stands for, symbolic links followed. Paths begin at the store's root.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::TooLarge`], [`Error::Corrupt`], [`Error::Device`].
    pub async fn metadata(&self, path: &[u8]) -> Result<Metadata, Error> {
        let _user = self.shared.cache.user();
        Ok(self.resolve(path).await?.metadata)
    }

    /// What is in the folder `path`, in no order; without itself and the one above.
    ///
    /// # Errors
    /// As [`Store::metadata`], and [`Error::NotAFolder`].
    pub async fn list(&self, path: &[u8]) -> Result<Vec<Entry>, Error> {
        let _user = self.shared.cache.user();
        let found = self.resolve(path).await?;
        if found.metadata.kind != Kind::Folder {
            return Err(Error::NotAFolder);
        }
        let Shared { view, cache, device, .. } = &*self.shared;
        view.run(cache, device, |files| view::list(files, found.path())).await
    }

    /// Opens the file `path`.
    ///
    /// # Errors
    /// As [`Store::metadata`], and [`Error::NotAFile`].
    pub async fn file(&self, path: &[u8]) -> Result<File<D>, Error> {
        let _user = self.shared.cache.user();
        let found = self.resolve(path).await?;
        if found.metadata.kind != Kind::File {
            return Err(Error::NotAFile);
        }
        let Shared { view, cache, device, layout } = &*self.shared;
        let number =
            view.run(cache, device, |files| view::inode_number(files, found.path())).await?;
        let inode = Inode::read(layout, cache, device, number).await?;
        if inode.bytes != found.metadata.bytes {
            return Err(Error::Corrupt);
        }
        let map = Map::new(&inode, layout)?;
        Ok(File { shared: Rc::clone(&self.shared), metadata: found.metadata, number, map })
    }
}

/// An open file.
pub struct File<D: Device = Block> {
    shared: Rc<Shared<D>>,
    metadata: Metadata,
    number: u32,
    map: Map,
}

impl<D: Device> File<D> {
    /// What is known about it.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.metadata
    }

    /// Its number, which no other file of the store has.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// A buffer for [`File::read`], as large as the device and memory allow. Some memory is always left.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn buffer(&self) -> Result<Buffer, Error> {
        let most = PIECE.min(self.shared.device.transfer_max());
        let block = self.shared.layout.block_size as usize;
        let whole = [most / block * block, block].into_iter().filter(|&bytes| bytes > 0);
        whole.into_iter().find_map(modest_buffer).ok_or(Error::OutOfMemory)
    }

    /// Reads contents from `offset` on: as many bytes as lie in a row on the device and fit into the
    /// buffer, at least one, by at most one request; none at the end of the file.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Device`]. The buffer is then freed.
    pub async fn read(&self, offset: u64, mut buffer: Buffer) -> Result<Piece, Error> {
        let left = self.metadata.bytes.saturating_sub(offset);
        let capacity = buffer.capacity();
        buffer.set_len(capacity);
        if left == 0 {
            return Ok(Piece { buffer, start: 0, len: 0 });
        }
        let Shared { cache, device, layout, .. } = &*self.shared;
        let size = u64::from(layout.block_size);
        let room = (capacity as u64 / size).min(u64::from(u32::MAX)) as u32;
        if room == 0 {
            return Err(Error::TooLarge);
        }
        let start = (offset % size) as usize;
        let wanted = (start as u64).saturating_add(left).div_ceil(size).min(room.into()) as u32;
        let run = {
            let _user = cache.user();
            self.map.find(offset / size, wanted, layout, cache, device).await?
        };
        let bytes = run.blocks as usize * size as usize;
        buffer.set_len(bytes);
        let len = ((bytes - start) as u64).min(left) as usize;
        match run.first {
            None => buffer.fill(0),
            Some(block) => {
                buffer = device.read(block * size, buffer).await.map_err(Error::Device)?;
            }
        }
        Ok(Piece { buffer, start, len })
    }
}

/// Some bytes of a file.
#[derive(Debug)]
pub struct Piece {
    buffer: Buffer,
    start: usize,
    len: usize,
}

impl Piece {
    /// The buffer, for the next piece.
    #[must_use]
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.start..self.start + self.len).unwrap_or_default()
    }
}
