//! The front end's memory: mapped from its descriptors, with its own addresses translated.

use std::fs::File;
use std::io;
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// Guest memory as devices see it.
pub type Memory = GuestMemoryMmap<()>;

/// A memory table of the front end.
#[derive(Debug)]
pub struct Table {
    memory: Memory,
    regions: Vec<Region>,
}

/// Where a region lies in the front end's own address space, in which it gives the rings' places.
#[derive(Clone, Copy, Debug)]
struct Region {
    user: u64,
    size: u64,
    guest: u64,
}

impl Table {
    /// Maps the regions of a table, one from each file.
    ///
    /// # Errors
    /// When a region is not in its file or cannot be mapped, or regions overlap.
    pub fn map(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> io::Result<Self> {
        let mut mapped = Vec::new();
        let mut known = Vec::new();
        for (region, file) in regions.iter().zip(files) {
            check_size(region, &file)?;
            let mapping: MmapRegion<()> = region.mmap_region(file).map_err(io::Error::other)?;
            let guest = GuestAddress(region.guest_phys_addr);
            let mapping = GuestRegionMmap::new(mapping, guest)
                .ok_or_else(|| invalid("a memory region ends above the highest address"))?;
            mapped.push(mapping);
            known.push(Region {
                user: region.user_addr,
                size: region.memory_size,
                guest: region.guest_phys_addr,
            });
        }
        known.sort_by_key(|region| region.guest);
        mapped.sort_by_key(|region| vm_memory::GuestMemoryRegion::start_addr(region).0);
        let memory = Memory::from_regions(mapped)
            .map_err(|error| invalid(&format!("the memory table cannot be used: {error}")))?;
        Ok(Self { memory, regions: known })
    }

    /// The memory.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The guest's address for an address of the front end, if that is in the table.
    #[must_use]
    pub fn guest_address(&self, user: u64) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let offset = user.checked_sub(region.user)?;
            (offset < region.size).then(|| region.guest + offset)
        })
    }
}

/// Refuses a region that is not in its file, of which the first use would end this process.
fn check_size(region: &VhostUserMemoryRegion, file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let (offset, size) = (region.mmap_offset, region.memory_size);
    let end = offset.checked_add(size);
    if metadata.is_file() && end.is_none_or(|end| end > metadata.len()) {
        return Err(invalid("a memory region is larger than its file"));
    }
    Ok(())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(guest: u64, size: u64, user: u64, offset: u64) -> VhostUserMemoryRegion {
        VhostUserMemoryRegion::new(guest, size, user, offset)
    }

    fn file(size: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        file
    }

    #[test]
    fn addresses_are_translated_inside_regions_only() {
        let regions = [region(0x10_0000, 0x1000, 0x7000_0000, 0), region(0, 0x1000, 0x5000, 0)];
        let table = Table::map(&regions, vec![file(0x1000), file(0x1000)]).unwrap();
        assert_eq!(table.guest_address(0x7000_0010), Some(0x10_0010));
        assert_eq!(table.guest_address(0x5fff), Some(0xfff));
        for outside in [0, 0x4fff, 0x6000, 0x7000_1000, u64::MAX] {
            assert_eq!(table.guest_address(outside), None);
        }
    }

    #[test]
    fn regions_that_are_not_in_their_file_or_overlap_are_refused() {
        let short = Table::map(&[region(0, 0x2000, 0, 0)], vec![file(0x1000)]);
        assert!(short.unwrap_err().to_string().contains("larger than its file"));
        let beyond = Table::map(&[region(0, 0x1000, 0, 0x1000)], vec![file(0x1000)]);
        assert!(beyond.is_err());
        let twice = [region(0, 0x1000, 0, 0), region(0x800, 0x1000, 0, 0)];
        assert!(Table::map(&twice, vec![file(0x1000), file(0x1000)]).is_err());
        let high = region(u64::MAX - 0x7ff, 0x1000, 0, 0);
        assert!(Table::map(&[high], vec![file(0x1000)]).is_err());
    }
}
