//! The guest's address space: which addresses it may touch, and how; the same for every back end.

use denali_abi::layout::{
    ARGUMENTS, BOOT_INFORMATION, MEMORY_MAX, MEMORY_MIN, PAGE_SIZE, RAM_FREE_START, RAM_START,
    VIRTUAL_REGISTERS,
};

/// What a guest may do with a region; never both write and execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

/// A run of pages with one kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address, page aligned.
    pub start: u64,
    /// End address, exclusive, page aligned.
    pub end: u64,
    /// What the guest may do there.
    pub access: Access,
}

/// All regions a guest may touch, sorted and disjoint; what is not in one faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    regions: Vec<Region>,
    memory_size: u64,
}

/// Why an address space cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// Memory is not whole pages, too little or too much.
    #[error("memory of {0} bytes is not whole pages between {MEMORY_MIN} and {MEMORY_MAX} bytes")]
    MemorySize(u64),
    /// Something lies outside the memory there is.
    #[error(
        "{what} at {start:#x}..{end:#x} does not fit into memory that ends at {memory_size:#x}"
    )]
    Outside {
        /// What it is.
        what: &'static str,
        /// Its first address.
        start: u64,
        /// Its end.
        end: u64,
        /// End of memory.
        memory_size: u64,
    },
}

impl AddressSpace {
    /// The space of a guest with `memory_size` bytes before its image and stack are placed.
    ///
    /// # Errors
    /// [`SpaceError::MemorySize`].
    pub fn new(memory_size: u64) -> Result<Self, SpaceError> {
        if !(MEMORY_MIN..=MEMORY_MAX).contains(&memory_size)
            || !memory_size.is_multiple_of(PAGE_SIZE)
        {
            return Err(SpaceError::MemorySize(memory_size));
        }
        let region = |start, end, access| Region { start, end, access };
        let regions = vec![
            region(VIRTUAL_REGISTERS, BOOT_INFORMATION, Access::ReadWrite),
            region(BOOT_INFORMATION, RAM_FREE_START, Access::Read),
            region(RAM_FREE_START, memory_size, Access::ReadWrite),
        ];
        const { assert!(ARGUMENTS == BOOT_INFORMATION + PAGE_SIZE && RAM_START == VIRTUAL_REGISTERS) };
        Ok(Self { regions, memory_size })
    }

    /// Gives the pages that `start..end` touches the access `access`, or none.
    ///
    /// # Errors
    /// [`SpaceError::Outside`] when the range is not within free RAM; `what` names it there.
    pub fn set(
        &mut self,
        what: &'static str,
        start: u64,
        end: u64,
        access: Option<Access>,
    ) -> Result<(), SpaceError> {
        let outside = SpaceError::Outside { what, start, end, memory_size: self.memory_size };
        if start < RAM_FREE_START || end > self.memory_size || start > end {
            return Err(outside);
        }
        let (start, end) = (page_down(start), page_up(end));
        if end > self.memory_size {
            return Err(outside);
        }
        if start == end {
            return Ok(());
        }
        self.regions = self.regions.iter().flat_map(|region| carve(*region, start, end)).collect();
        self.regions.extend(access.map(|access| Region { start, end, access }));
        self.regions.sort_by_key(|region| region.start);
        Ok(())
    }

    /// The regions, sorted by address and disjoint.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// End of RAM.
    #[must_use]
    pub fn memory_size(&self) -> u64 {
        self.memory_size
    }

    /// What the guest may do at `address`.
    #[must_use]
    pub fn access_at(&self, address: u64) -> Option<Access> {
        let after = self.regions.partition_point(|region| region.start <= address);
        let region = self.regions[..after].last()?;
        (address < region.end).then_some(region.access)
    }
}

/// The parts of `region` outside `start..end`.
fn carve(region: Region, start: u64, end: u64) -> impl Iterator<Item = Region> {
    let before = Region { end: region.end.min(start), ..region };
    let after = Region { start: region.start.max(end), ..region };
    [before, after].into_iter().filter(|part| part.start < part.end)
}

/// The start of the page that holds `address`.
#[must_use]
pub fn page_down(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// The first page boundary at or after `address`, which must be below 2^64 - 4096.
#[must_use]
pub fn page_up(address: u64) -> u64 {
    page_down(address + (PAGE_SIZE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: u64 = 16 << 20;

    #[test]
    fn a_bare_space_guards_address_zero_and_ends_with_memory() {
        let space = AddressSpace::new(MEMORY).unwrap();
        assert_eq!(space.access_at(0), None);
        assert_eq!(space.access_at(RAM_START - 1), None);
        assert_eq!(space.access_at(VIRTUAL_REGISTERS), Some(Access::ReadWrite));
        assert_eq!(space.access_at(BOOT_INFORMATION), Some(Access::Read));
        assert_eq!(space.access_at(MEMORY - 1), Some(Access::ReadWrite));
        assert_eq!(space.access_at(MEMORY), None);
        assert_eq!(space.access_at(u64::MAX), None);
    }

    #[test]
    fn setting_carves_what_was_there() {
        let mut space = AddressSpace::new(MEMORY).unwrap();
        space.set("text", 0x20_0000, 0x20_1001, Some(Access::ReadExecute)).unwrap();
        space.set("guard", 0x1c_0000, 0x1c_1000, None).unwrap();
        assert_eq!(space.access_at(0x20_1fff), Some(Access::ReadExecute));
        assert_eq!(space.access_at(0x20_2000), Some(Access::ReadWrite));
        assert_eq!(space.access_at(0x1c_0000), None);
        assert!(space.regions().windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    #[test]
    fn nothing_is_placed_outside_free_ram() {
        let mut space = AddressSpace::new(MEMORY).unwrap();
        for (start, end) in
            [(0, 0x1000), (0x10_0000, 0x10_1000), (MEMORY - 1, MEMORY + 1), (8192, 4096)]
        {
            assert!(space.set("x", start, end, None).is_err(), "{start:#x}..{end:#x}");
        }
    }

    #[test]
    fn odd_memory_sizes_are_refused() {
        for size in [0, 4096, MEMORY_MIN - 4096, MEMORY + 1, MEMORY_MAX + 4096, u64::MAX] {
            assert!(AddressSpace::new(size).is_err(), "{size}");
        }
        assert!(AddressSpace::new(MEMORY_MAX).is_ok());
    }
}
