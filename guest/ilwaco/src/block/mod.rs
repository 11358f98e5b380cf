//! Block devices: sectors that outlive the guest, read and written by many tasks at once.
//!
//! What tasks ask for is given to the device when all of them wait, and goes out with one exit; what the
//! device has done is taken in before tasks run.

mod buffer;
mod disk;
mod requests;
#[cfg(test)]
mod tests;

pub use buffer::Buffer;

use crate::registers;
use core::fmt;
use denali_abi::boot::KIND_BLOCK;
use disk::{Disk, Kind, Request};

/// Bytes of a sector: positions and lengths are multiples of it.
pub const SECTOR: u64 = denali_abi::virtio::BLOCK_SECTOR;

/// Why a block device did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There is no such device, or it does not work.
    NoDevice,
    /// A position or length is not a multiple of a sector, or outside the device.
    OutOfRange,
    /// More bytes than one request can have ([`Block::transfer_max`]).
    TooLarge,
    /// The device cannot be written.
    ReadOnly,
    /// The device does not offer this.
    Unsupported,
    /// The device failed.
    Failed,
    /// There is too little memory.
    OutOfMemory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDevice => "no such block device is attached, or it does not work",
            Self::OutOfRange => "not whole sectors inside the block device",
            Self::TooLarge => "more bytes than one request can have",
            Self::ReadOnly => "the block device is read-only",
            Self::Unsupported => "the block device does not offer this",
            Self::Failed => "input or output failed",
            Self::OutOfMemory => "too little memory",
        })
    }
}

impl core::error::Error for Error {}

/// A block device. Copies are the same device; any number of tasks may use it at once.
#[derive(Clone, Copy)]
pub struct Block {
    disk: &'static Disk,
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} sectors)", self.sectors())
    }
}

impl Block {
    /// The device that the configuration calls `name`. It is started the first time it is opened.
    ///
    /// # Errors
    /// [`Error::NoDevice`], [`Error::OutOfMemory`].
    pub fn open(name: &str) -> Result<Self, Error> {
        let mut devices = registers::devices(KIND_BLOCK);
        let entry = devices.find(|device| device.name() == name).ok_or(Error::NoDevice)?;
        Ok(Self { disk: disk::open(entry.number)? })
    }

    /// The first device.
    ///
    /// # Errors
    /// As [`Block::open`].
    pub fn first() -> Result<Self, Error> {
        let entry = registers::devices(KIND_BLOCK).next().ok_or(Error::NoDevice)?;
        Ok(Self { disk: disk::open(entry.number)? })
    }

    /// Sectors of the device.
    #[must_use]
    pub fn sectors(self) -> u64 {
        self.disk.limits().sectors
    }

    /// Bytes of the device.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.sectors().saturating_mul(SECTOR)
    }

    /// Bytes of the smallest piece that the device reads or writes well: at least a sector.
    #[must_use]
    pub fn block_size(self) -> u32 {
        self.disk.limits().block_size
    }

    /// Whether nothing can be written.
    #[must_use]
    pub fn is_read_only(self) -> bool {
        self.disk.limits().read_only
    }

    /// Most bytes of one read or write.
    #[must_use]
    pub fn transfer_max(self) -> usize {
        self.disk.limits().transfer_max
    }

    /// Reads as many bytes as `buffer` has from `position` on; gives the buffer back. If this is not
    /// awaited to its end, the device keeps the buffer as long as it needs it.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::TooLarge`], [`Error::Failed`]; the buffer is then freed.
    pub async fn read(self, position: u64, buffer: Buffer) -> Result<Buffer, Error> {
        self.transfer(Kind::Read, position, buffer).await
    }

    /// Writes `buffer` to `position`; gives it back. It is on the disk for certain only after a
    /// [`Block::flush`] that begins later.
    ///
    /// # Errors
    /// As [`Block::read`], and [`Error::ReadOnly`].
    pub async fn write(self, position: u64, buffer: Buffer) -> Result<Buffer, Error> {
        self.transfer(Kind::Write, position, buffer).await
    }

    async fn transfer(self, kind: Kind, position: u64, buffer: Buffer) -> Result<Buffer, Error> {
        let (first, _) = self.range(position, buffer.len() as u64)?;
        if buffer.len() > self.transfer_max() {
            return Err(Error::TooLarge);
        }
        let request = Request { kind, sector: first, sectors: 0, unmap: false };
        let buffer = self.disk.submit(request, Some(buffer)).await?;
        buffer.ok_or(Error::Failed)
    }

    /// Everything whose write has completed before is on the disk when this completes.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub async fn flush(self) -> Result<(), Error> {
        if !self.disk.limits().flushes {
            // Without a cache to flush every write is on the disk when it completes.
            return Ok(());
        }
        let request = Request { kind: Kind::Flush, sector: 0, sectors: 0, unmap: false };
        self.disk.submit(request, None).await.map(drop)
    }

    /// Says that `length` bytes from `position` on are of no more use; they may read as anything.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::ReadOnly`], [`Error::Unsupported`], [`Error::Failed`].
    pub async fn discard(self, position: u64, length: u64) -> Result<(), Error> {
        self.clear(Kind::Discard, (position, length), false).await
    }

    /// Has `length` bytes from `position` on read as zeroes; with `unmap`, the space may be given back.
    ///
    /// # Errors
    /// As [`Block::discard`].
    pub async fn write_zeroes(self, position: u64, length: u64, unmap: bool) -> Result<(), Error> {
        self.clear(Kind::WriteZeroes, (position, length), unmap).await
    }

    async fn clear(self, kind: Kind, range: (u64, u64), unmap: bool) -> Result<(), Error> {
        let (mut sector, mut left) = self.range(range.0, range.1)?;
        let most = self.disk.limits().range_max(kind);
        if most == 0 {
            return Err(if self.is_read_only() { Error::ReadOnly } else { Error::Unsupported });
        }
        while left > 0 {
            let sectors = left.min(u64::from(most)) as u32;
            self.disk.submit(Request { kind, sector, sectors, unmap }, None).await?;
            sector += u64::from(sectors);
            left -= u64::from(sectors);
        }
        Ok(())
    }

    /// The name that the device has on the host: 20 bytes, padded with zeros.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::Failed`], [`Error::OutOfMemory`].
    pub async fn id(self) -> Result<[u8; denali_abi::virtio::BLOCK_ID], Error> {
        let buffer = Buffer::zeroed(denali_abi::virtio::BLOCK_ID).ok_or(Error::OutOfMemory)?;
        let request = Request { kind: Kind::GetId, sector: 0, sectors: 0, unmap: false };
        let buffer = self.disk.submit(request, Some(buffer)).await?.ok_or(Error::Failed)?;
        Ok(core::array::from_fn(|index| buffer[index]))
    }

    /// First sector and number of sectors of a range of bytes, checked.
    fn range(self, position: u64, length: u64) -> Result<(u64, u64), Error> {
        let end = position.checked_add(length).ok_or(Error::OutOfRange)?;
        let whole = position.is_multiple_of(SECTOR) && length.is_multiple_of(SECTOR);
        if !whole || end > self.bytes() || length == 0 {
            return Err(Error::OutOfRange);
        }
        Ok((position / SECTOR, length / SECTOR))
    }
}
