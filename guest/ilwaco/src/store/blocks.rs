//! Where the contents of a file are: trees of extents (ext4) and indirect blocks (ext2).

use super::cache::Cache;
use super::layout::{Inode, Layout, u16_at, u32_at};
use super::{Device, Error};
use alloc::vec;
use alloc::vec::Vec;

const FLAG_COMPRESSED: u32 = 0x4;
const FLAG_ENCRYPTED: u32 = 0x800;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INLINE: u32 = 0x1000_0000;

const EXTENT_MAGIC: u16 = 0xf30a;
/// Bytes of a node's header, and of each entry behind it.
const EXTENT_ENTRY: usize = 12;
const DEPTH_MAX: u16 = 5;
/// An extent that is longer than this was reserved but never written: it reads as zeroes.
const EXTENT_WRITTEN_MAX: u16 = 32768;

/// Blocks that an inode names itself.
const DIRECT: u64 = 12;

/// Where the contents of a file are.
pub(super) struct Map {
    root: [u8; 60],
    extents: bool,
}

/// Blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where the first is on the device; `None` = they were never written, and read as zeroes.
    pub(super) first: Option<u64>,
    /// At least one.
    pub(super) blocks: u32,
}

impl Map {
    pub(super) fn new(inode: &Inode, layout: &Layout) -> Result<Self, Error> {
        if inode.flags & (FLAG_COMPRESSED | FLAG_ENCRYPTED | FLAG_INLINE) != 0 {
            return Err(Error::Unsupported);
        }
        if inode.bytes.div_ceil(layout.block_size.into()) > 1 << 32 {
            return Err(Error::Corrupt);
        }
        Ok(Self { root: inode.root, extents: inode.flags & FLAG_EXTENTS != 0 })
    }

    /// The blocks in a row that begin with block `index` of the file, at most `most`.
    pub(super) async fn find(
        &self,
        index: u64,
        most: u32,
        layout: &Layout,
        cache: &Cache,
        device: &impl Device,
    ) -> Result<Run, Error> {
        let reader = Reader { layout, cache, device };
        let run = if self.extents {
            let index = u32::try_from(index).map_err(|_| Error::Corrupt)?;
            self.find_extent(index, most, &reader).await?
        } else {
            self.find_block(index, most, &reader).await?
        };
        let end = run.first.map(|first| first.checked_add(run.blocks.into()));
        match end {
            Some(end) if end.is_none_or(|end| end > layout.blocks) => Err(Error::Corrupt),
            _ => Ok(run),
        }
    }

    /// Goes down the tree of extents.
    async fn find_extent<D: Device>(
        &self,
        index: u32,
        most: u32,
        reader: &Reader<'_, D>,
    ) -> Result<Run, Error> {
        let mut node = self.root.to_vec();
        let mut depth = None;
        // Where something that is not looked at begins: holes end there.
        let mut limit = u32::MAX;
        loop {
            let found = node_depth(&node, depth)?;
            let entries = node[EXTENT_ENTRY..].chunks_exact(EXTENT_ENTRY);
            let entries = entries.take(u16_at(&node, 2).into());
            if found == 0 {
                return Ok(in_leaf(entries, index, most, limit));
            }
            let mut child = None;
            for entry in entries {
                let start = u32_at(entry, 0);
                if start > index {
                    limit = limit.min(start);
                } else {
                    child = Some(u64::from(u32_at(entry, 4)) | u64::from(u16_at(entry, 8)) << 32);
                }
            }
            let Some(block) = child else {
                return Ok(Run { first: None, blocks: most.min(limit - index).max(1) });
            };
            node = reader.block(block).await?;
            depth = Some(found - 1);
        }
    }

    /// Goes down the indirect blocks.
    async fn find_block<D: Device>(
        &self,
        index: u64,
        most: u32,
        reader: &Reader<'_, D>,
    ) -> Result<Run, Error> {
        if index < DIRECT {
            let blocks = self.root.chunks_exact(4).take(DIRECT as usize);
            return Ok(in_table(blocks.skip(index as usize), most));
        }
        let per_block = u64::from(reader.layout.block_size / 4);
        let (mut rest, mut span, mut level) = (index - DIRECT, per_block, 1_usize);
        while rest >= span {
            rest -= span;
            span *= per_block;
            level += 1;
            if level > 3 {
                return Err(Error::Corrupt);
            }
        }
        let mut block = u64::from(u32_at(&self.root, (DIRECT as usize + level - 1) * 4));
        loop {
            if block == 0 {
                let left = u32::try_from(span - rest).unwrap_or(u32::MAX);
                return Ok(Run { first: None, blocks: most.min(left) });
            }
            span /= per_block;
            let slot = (rest / span) as usize;
            rest %= span;
            let table = reader.block(block).await?;
            if span == 1 {
                return Ok(in_table(table.chunks_exact(4).skip(slot), most));
            }
            block = u64::from(u32_at(&table, slot * 4));
        }
    }
}

/// How many levels are below a node, which must be one less than above.
fn node_depth(node: &[u8], expected: Option<u16>) -> Result<u16, Error> {
    let (entries, depth) = (u16_at(node, 2), u16_at(node, 6));
    let room = node.len() / EXTENT_ENTRY - 1;
    let sound = u16_at(node, 0) == EXTENT_MAGIC
        && usize::from(entries) <= room
        && expected.map_or(depth <= DEPTH_MAX, |expected| depth == expected);
    if sound { Ok(depth) } else { Err(Error::Corrupt) }
}

/// The run at `index` in a leaf; what is there begins before `limit`.
fn in_leaf<'a>(
    entries: impl Iterator<Item = &'a [u8]>,
    index: u32,
    most: u32,
    mut limit: u32,
) -> Run {
    for entry in entries {
        let (start, len) = (u32_at(entry, 0), u16_at(entry, 4));
        let written = len <= EXTENT_WRITTEN_MAX;
        let len = u32::from(if written { len } else { len - EXTENT_WRITTEN_MAX });
        if start > index {
            limit = limit.min(start);
        } else if index - start < len {
            let physical = u64::from(u32_at(entry, 8)) | u64::from(u16_at(entry, 6)) << 32;
            let offset = index - start;
            return Run {
                first: written.then_some(physical + u64::from(offset)),
                blocks: most.min(len - offset),
            };
        }
    }
    Run { first: None, blocks: most.min(limit - index).max(1) }
}

/// The run at the beginning of a table of block numbers.
fn in_table<'a>(blocks: impl Iterator<Item = &'a [u8]>, most: u32) -> Run {
    let mut run = Run { first: None, blocks: 0 };
    for entry in blocks.take(most as usize) {
        let block = u64::from(u32_at(entry, 0));
        let expected = run.first.map_or(0, |first: u64| first + u64::from(run.blocks));
        if run.blocks == 0 {
            run.first = (block != 0).then_some(block);
        } else if block != expected {
            break;
        }
        run.blocks += 1;
    }
    run
}

/// Reads blocks of the map.
struct Reader<'a, D: Device> {
    layout: &'a Layout,
    cache: &'a Cache,
    device: &'a D,
}

impl<D: Device> Reader<'_, D> {
    async fn block(&self, number: u64) -> Result<Vec<u8>, Error> {
        if number == 0 || number >= self.layout.blocks {
            return Err(Error::Corrupt);
        }
        let size = self.layout.block_size;
        let mut bytes = vec![0; size as usize];
        self.cache.read(self.device, number * u64::from(size), &mut bytes).await?;
        Ok(bytes)
    }
}
