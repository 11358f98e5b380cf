//! Guest RAM as devices see it: with the guest's own rights.

use super::GuestRam;
use denali_arch::space::Access;
use vm_memory::guest_memory::{Error as AccessError, GuestMemorySliceIterator, Result};
use vm_memory::{Address, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

impl GuestRam {
    /// Bytes from `address` on, at most `wanted`, that all grant `access`.
    fn granted(&self, address: u64, wanted: usize, access: Permissions) -> Option<usize> {
        let regions = self.space.regions();
        let mut index = regions.partition_point(|region| region.end <= address);
        let mut reached = address;
        let end = address.checked_add(wanted as u64)?;
        while reached < end {
            let Some(region) = regions.get(index) else { break };
            if region.start > reached || !permissions(region.access).allow(access) {
                break;
            }
            reached = region.end.min(end);
            index += 1;
        }
        Some((reached - address) as usize)
    }
}

/// One run of granted memory, then an error if more was asked for.
struct Slices<'a> {
    first: Option<Result<VolatileSlice<'a, ()>>>,
    then: Option<AccessError>,
}

impl<'a> Iterator for Slices<'a> {
    type Item = Result<VolatileSlice<'a, ()>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.first.take().or_else(|| self.then.take().map(Err))
    }
}

impl std::iter::FusedIterator for Slices<'_> {}
impl<'a> GuestMemorySliceIterator<'a, ()> for Slices<'a> {}

impl GuestMemory for GuestRam {
    type PhysicalMemory = GuestMemoryMmap<()>;
    type Bitmap = ();

    fn check_range(&self, address: GuestAddress, count: usize, access: Permissions) -> bool {
        self.granted(address.raw_value(), count, access) == Some(count)
    }

    fn get_slices<'a>(
        &'a self,
        address: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ()>> {
        let start = address.raw_value();
        let granted =
            self.granted(start, count, access).ok_or(AccessError::GuestAddressOverflow)?;
        let first = (granted > 0 || count == 0).then(|| self.slice(start, granted));
        let missing = AccessError::InvalidGuestAddress(GuestAddress(start + granted as u64));
        let first = if count == 0 { None } else { first };
        Ok(Slices { first, then: (granted < count).then_some(missing) })
    }
}

fn permissions(access: Access) -> Permissions {
    match access {
        Access::Read | Access::ReadExecute => Permissions::Read,
        Access::ReadWrite => Permissions::ReadWrite,
    }
}
