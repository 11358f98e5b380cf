//! Where inodes are: the parts of superblock, group descriptors and inodes that reading contents takes.
//!
//! Fields are at the offsets that the kernel's documentation gives (`Documentation/filesystems/ext4`).

use super::cache::Cache;
use super::{Device, Error};

const SUPERBLOCK: u64 = 1024;
const MAGIC: u16 = 0xef53;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_64BIT: u32 = 0x80;
/// Most groups of blocks, so that their descriptors, which are kept, are few.
const GROUPS_MAX: u64 = 16 * 1024;
const RO_COMPAT_BIGALLOC: u32 = 0x200;

/// Bytes at a fixed offset of a structure that is long enough.
pub(super) fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut word = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        word.copy_from_slice(found);
    }
    word
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(word(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(word(bytes, at))
}

/// The file system's measures.
pub(super) struct Layout {
    /// Bytes of a block: 1 KiB to 64 KiB, a power of two.
    pub(super) block_size: u32,
    pub(super) blocks: u64,
    /// From the UUID.
    pub(super) identity: u64,
    inodes: u32,
    inodes_per_group: u32,
    inode_size: u32,
    descriptor_size: u32,
}

impl Layout {
    /// Reads the superblock, and refuses what would take too much memory or time.
    pub(super) async fn read(cache: &Cache, device: &impl Device) -> Result<Self, Error> {
        let mut bytes = [0; 1024];
        cache.read(device, SUPERBLOCK, &mut bytes).await.map_err(|error| match error {
            Error::Corrupt => Error::NotAStore,
            other => other,
        })?;
        Self::parse(&bytes, device.bytes())
    }

    fn parse(bytes: &[u8], device_bytes: u64) -> Result<Self, Error> {
        if u16_at(bytes, 0x38) != MAGIC {
            return Err(Error::NotAStore);
        }
        let incompatible = u32_at(bytes, 0x60);
        if incompatible & INCOMPAT_RECOVER != 0 {
            return Err(Error::Unclean);
        }
        if u32_at(bytes, 0x64) & RO_COMPAT_BIGALLOC != 0 {
            return Err(Error::Unsupported);
        }
        let wide = incompatible & INCOMPAT_64BIT != 0;
        let shift = u32_at(bytes, 0x18);
        if shift > 6 {
            return Err(Error::Corrupt);
        }
        // `ext4-view` counts this half in any case.
        let high = u32_at(bytes, 0x150);
        let blocks = u64::from(u32_at(bytes, 0x4)) | u64::from(high) << 32;
        let old = u32_at(bytes, 0x4c) == 0;
        let uuid: [u8; 16] = word(bytes, 0x68);
        let layout = Self {
            block_size: 1024 << shift,
            blocks,
            identity: identity(&uuid),
            inodes: u32_at(bytes, 0x0),
            inodes_per_group: u32_at(bytes, 0x28),
            inode_size: if old { 128 } else { u16_at(bytes, 0x58).into() },
            descriptor_size: if wide { u16_at(bytes, 0xfe).into() } else { 32 },
        };
        layout.check(u32_at(bytes, 0x20), device_bytes)?;
        Ok(layout)
    }

    fn check(&self, blocks_per_group: u32, device_bytes: u64) -> Result<(), Error> {
        let fits = self.blocks.checked_mul(self.block_size.into());
        let sizes = [self.inode_size, self.descriptor_size];
        let sound = fits.is_some_and(|bytes| bytes <= device_bytes)
            && self.inodes_per_group > 0
            && blocks_per_group > 0
            && sizes.iter().all(|size| size.is_power_of_two() && *size <= self.block_size)
            && self.inode_size >= 128
            && self.descriptor_size >= 32;
        if !sound {
            return Err(Error::Corrupt);
        }
        let groups = self.blocks.div_ceil(blocks_per_group.into());
        if groups > GROUPS_MAX { Err(Error::TooLarge) } else { Ok(()) }
    }

    /// Where an inode is.
    async fn position(
        &self,
        cache: &Cache,
        device: &impl Device,
        number: u32,
    ) -> Result<u64, Error> {
        if number == 0 || number > self.inodes {
            return Err(Error::Corrupt);
        }
        let (group, index) =
            ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        // Descriptors begin in the block behind the superblock's.
        let table = if self.block_size == 1024 { 2048 } else { u64::from(self.block_size) };
        let mut descriptor = [0; 64];
        let size = self.descriptor_size.min(64) as usize;
        let at = table + u64::from(group) * u64::from(self.descriptor_size);
        cache.read(device, at, &mut descriptor[..size]).await?;
        let low = u64::from(u32_at(&descriptor, 0x8));
        let first = low | u64::from(u32_at(&descriptor, 0x28)) << 32;
        let offset = u64::from(index) * u64::from(self.inode_size);
        let start = first.checked_mul(self.block_size.into());
        start.and_then(|start| start.checked_add(offset)).ok_or(Error::Corrupt)
    }
}

/// FNV-1a of a UUID.
fn identity(uuid: &[u8; 16]) -> u64 {
    uuid.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What of an inode says where contents are.
pub(super) struct Inode {
    pub(super) bytes: u64,
    pub(super) flags: u32,
    /// The root of the block map.
    pub(super) root: [u8; 60],
}

impl Inode {
    pub(super) async fn read(
        layout: &Layout,
        cache: &Cache,
        device: &impl Device,
        number: u32,
    ) -> Result<Self, Error> {
        let position = layout.position(cache, device, number).await?;
        let mut bytes = [0; 128];
        cache.read(device, position, &mut bytes).await?;
        let size = u64::from(u32_at(&bytes, 0x4)) | u64::from(u32_at(&bytes, 0x6c)) << 32;
        Ok(Self { bytes: size, flags: u32_at(&bytes, 0x20), root: word(&bytes, 0x28) })
    }
}
