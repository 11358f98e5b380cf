//! Guest memory as a back end is told of it.

use std::os::fd::OwnedFd;

/// A range of guest memory in a file that a back end can map.
///
/// The file's size must be sealed: whoever is given it could otherwise cut it, and the monitor would
/// die of its next access to what is gone.
#[derive(Debug)]
pub struct MemoryRegion {
    /// First guest address.
    pub guest_address: u64,
    /// Bytes.
    pub size: u64,
    /// Where this process has mapped `guest_address`; back ends are told addresses of queues so.
    pub host_address: u64,
    /// The file, mapped shared.
    pub file: OwnedFd,
    /// Where `guest_address` lies in the file.
    pub offset: u64,
}

/// The host address of a guest address, if one of the regions has it.
pub(crate) fn host_address(regions: &[MemoryRegion], guest: u64) -> Option<u64> {
    let region = regions.iter().find(|region| {
        guest.checked_sub(region.guest_address).is_some_and(|offset| offset < region.size)
    })?;
    Some(region.host_address + (guest - region.guest_address))
}
