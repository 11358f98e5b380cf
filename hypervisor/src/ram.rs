//! The memory of a guest as the monitor maps it, guarded by the guest's own address space.

use crate::Error;
use crate::mapping::{create_memfd, map_at, map_with_front, read_file, unmap};
use denali_abi::layout::{RAM_START, VIRTUAL_REGISTERS};
use denali_abi::registers::VirtualRegisters;
use denali_arch::space::{Access, AddressSpace};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use vm_memory::guest_memory::{Error as AccessError, GuestMemorySliceIterator, Result};
use vm_memory::{Address, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

/// What guest memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Anonymous memory of the monitor alone.
    Private,
    /// A memfd, so that the guest's own process can map it too; the image's parts stay in their file.
    Shared,
    /// A memfd that holds all of RAM, parts of the image included, so that whoever is given it sees
    /// what the guest sees: device back ends in processes of their own.
    Exported,
}

impl Backing {
    /// Whether there is memory in front of RAM, which KVM needs.
    fn has_front(self) -> bool {
        self != Self::Shared
    }
}

/// Guest RAM as another process can map it: one range of guest addresses, and where it lies in a file.
#[derive(Clone, Copy, Debug)]
pub struct ExportedRegion<'a> {
    /// First guest address.
    pub guest_address: u64,
    /// Bytes.
    pub size: u64,
    /// Where the monitor has mapped `guest_address`.
    pub host_address: u64,
    /// The memfd; its size is sealed.
    pub file: BorrowedFd<'a>,
    /// Where `guest_address` lies in it.
    pub offset: u64,
}

/// A part of the image that is mapped from its file, not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePart {
    /// First guest address, page aligned.
    pub start: u64,
    /// End, exclusive, page aligned.
    pub end: u64,
    /// Where `start` lies in the file, page aligned.
    pub file_offset: u64,
}

/// Guest RAM from [`RAM_START`] to the end of memory.
///
/// As a [`GuestMemory`] it grants what the guest itself may do: a queue that points a device at text
/// or at the null guard gets an error, as the guest's own store there would fault.
#[derive(Debug)]
pub struct GuestRam {
    base: NonNull<u8>,
    /// Bytes mapped in front of `base`: [`RAM_START`] or none.
    front: usize,
    space: AddressSpace,
    backing: Backing,
    memfd: Option<OwnedFd>,
    image: Option<(OwnedFd, Vec<ImagePart>)>,
}

impl GuestRam {
    /// Maps zeroed memory for `space`; no page takes host memory before it is touched.
    ///
    /// # Errors
    /// When the host refuses the mapping.
    pub fn new(space: AddressSpace, backing: Backing) -> std::result::Result<Self, Error> {
        let length = (space.memory_size() - RAM_START) as usize;
        let memfd = match backing {
            Backing::Private => None,
            Backing::Shared | Backing::Exported => Some(create_memfd(length as u64)?),
        };
        let file = memfd.as_ref().map(AsFd::as_fd);
        let (base, front) = if backing.has_front() {
            map_with_front(length, file)?
        } else {
            (map_at(None, length, file.map(|file| (file, 0)), true)?, 0)
        };
        let ram = Self { base, front, space, backing, memfd, image: None };
        // SAFETY: the range is the mapping made above. Huge pages would make an idle guest's few
        // touched pages cost megabytes; the advice may fail harmlessly where there are none.
        unsafe { libc::madvise(ram.base.as_ptr().cast(), length, libc::MADV_NOHUGEPAGE) };
        Ok(ram)
    }

    /// Maps page-aligned parts of the image's file copy-on-write over the RAM there, so that guests of
    /// one image share its pages through the page cache; or copies them into [`Backing::Exported`] RAM.
    /// Called once, before the guest exists.
    ///
    /// # Errors
    /// When the host refuses, or a part is not aligned or outside the memory.
    pub fn map_image(
        &mut self,
        file: OwnedFd,
        parts: Vec<ImagePart>,
    ) -> std::result::Result<(), Error> {
        for part in &parts {
            let aligned = [part.start, part.end, part.file_offset].iter().all(|n| n % 4096 == 0);
            let inside = RAM_START <= part.start
                && part.start < part.end
                && part.end <= self.space.memory_size();
            if !aligned || !inside {
                return Err(Error::Misuse("an image part is not aligned or outside the memory"));
            }
            let at = self.pointer(part.start);
            let length = (part.end - part.start) as usize;
            if self.backing == Backing::Exported {
                // SAFETY: the part was checked to lie inside RAM, which is mapped writable and to
                // which no Rust reference exists.
                unsafe { read_file(file.as_fd(), part.file_offset, at, length)? };
            } else {
                map_at(Some(at), length, Some((file.as_fd(), part.file_offset)), false)?;
            }
        }
        let mapped = if self.backing == Backing::Exported { Vec::new() } else { parts };
        self.image = Some((file, mapped));
        Ok(())
    }

    /// The guest's address space.
    #[must_use]
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// The descriptor behind RAM that is not private; its offset 0 is [`RAM_START`].
    #[must_use]
    pub fn memfd(&self) -> Option<BorrowedFd<'_>> {
        self.memfd.as_ref().map(AsFd::as_fd)
    }

    /// What a back end in another process maps; only with [`Backing::Exported`].
    #[must_use]
    pub fn exported(&self) -> Option<ExportedRegion<'_>> {
        let file = self.memfd().filter(|_| self.backing == Backing::Exported)?;
        Some(ExportedRegion {
            guest_address: RAM_START,
            size: self.space.memory_size() - RAM_START,
            host_address: self.host_base(),
            file,
            offset: 0,
        })
    }

    /// The image's file and what is mapped from it.
    #[must_use]
    pub fn image(&self) -> Option<(BorrowedFd<'_>, &[ImagePart])> {
        self.image.as_ref().map(|(file, parts)| (file.as_fd(), parts.as_slice()))
    }

    /// Where the monitor has mapped [`RAM_START`].
    #[must_use]
    pub fn host_base(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// The memory that lies where guest addresses 0 to [`RAM_START`] would be, with RAM behind it in one
    /// range of host addresses: zeroed, not the guest's, and in no memfd. Not with [`Backing::Shared`].
    #[must_use]
    pub fn front(&self) -> Option<NonNull<[u8]>> {
        // SAFETY: `front` bytes before `base` belong to the same mapping.
        let start = unsafe { self.base.sub(self.front) };
        (self.front > 0).then(|| NonNull::slice_from_raw_parts(start, self.front))
    }

    /// The virtual registers, shared with the guest: everything in them is atomic.
    #[must_use]
    pub fn registers(&self) -> &VirtualRegisters {
        let page = self.pointer(VIRTUAL_REGISTERS);
        // SAFETY: the page is inside the mapping, which lives as long as `self`; it is aligned to a
        // page; the structure holds only atomics and padding words, for which any bytes are valid,
        // and atomics may be changed by others at any time.
        unsafe { page.cast::<VirtualRegisters>().as_ref() }
    }

    /// Writes bytes wherever they fall in RAM, whatever the guest may do there: for the loader, before
    /// the guest runs.
    ///
    /// # Errors
    /// When the range is not inside RAM.
    pub fn load(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.slice(address, bytes.len())?.copy_from(bytes);
        Ok(())
    }

    fn pointer(&self, address: u64) -> NonNull<u8> {
        debug_assert!((RAM_START..=self.space.memory_size()).contains(&address));
        // SAFETY: callers pass addresses inside RAM (asserted), so the result is inside the mapping
        // or one past its end.
        unsafe { self.base.add((address - RAM_START) as usize) }
    }

    fn slice(&self, address: u64, length: usize) -> Result<VolatileSlice<'_, ()>> {
        let end = address.checked_add(length as u64);
        if address < RAM_START || end.is_none_or(|end| end > self.space.memory_size()) {
            return Err(AccessError::InvalidGuestAddress(GuestAddress(address)));
        }
        // SAFETY: the range was checked to be inside the mapping, which lives as long as `self`, and
        // `VolatileSlice` is made for memory that others change.
        Ok(unsafe { VolatileSlice::new(self.pointer(address).as_ptr(), length) })
    }

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

impl Drop for GuestRam {
    fn drop(&mut self) {
        let length = (self.space.memory_size() - RAM_START) as usize;
        // SAFETY: the mapping was made by `new` with this front and length, and nothing that borrows
        // from `self` is left.
        unsafe { unmap(self.base.sub(self.front), self.front + length) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    fn ram() -> GuestRam {
        let mut space = AddressSpace::new(16 << 20).unwrap();
        space.set("text", 0x20_0000, 0x20_2000, Some(Access::ReadExecute)).unwrap();
        space.set("guard", 0x1b_f000, 0x1c_0000, None).unwrap();
        GuestRam::new(space, Backing::Private).unwrap()
    }

    #[test]
    fn devices_may_do_what_the_guest_may_do() {
        let ram = ram();
        let at = |address| GuestAddress(address);
        ram.write_slice(&[1, 2, 3], at(0x30_0000)).unwrap();
        let mut back = [0; 3];
        ram.read_slice(&mut back, at(0x30_0000)).unwrap();
        assert_eq!(back, [1, 2, 3]);
        assert!(ram.read_slice(&mut back, at(0x20_0000)).is_ok(), "text can be read");
        assert!(ram.write_slice(&back, at(0x20_0000)).is_err(), "text cannot be written");
        assert!(ram.write_slice(&back, at(0x1f_fffe)).is_err(), "nor across its border");
        assert!(ram.read_slice(&mut back, at(0x1b_ffff)).is_err(), "the guard has no access");
        assert!(ram.read_slice(&mut back, at(0)).is_err());
        assert!(ram.read_slice(&mut back, at((16 << 20) - 2)).is_err());
        assert!(ram.read_slice(&mut back, at(u64::MAX - 1)).is_err());
    }

    #[test]
    fn ranges_cross_regions_that_both_grant() {
        let ram = ram();
        let crossing = GuestAddress(0x20_1ffe);
        assert!(ram.check_range(crossing, 4, Permissions::Read));
        assert!(!ram.check_range(crossing, 4, Permissions::Write));
        assert!(!ram.check_range(GuestAddress(u64::MAX), 2, Permissions::Read));
    }

    #[test]
    fn the_loader_writes_anywhere_in_ram() {
        let ram = ram();
        ram.load(0x20_0000, b"code").unwrap();
        assert!(ram.load(0xf_ffff, b"code").is_err());
        assert!(ram.load((16 << 20) - 1, b"code").is_err());
        let mut back = [0; 4];
        ram.read_slice(&mut back, GuestAddress(0x20_0000)).unwrap();
        assert_eq!(&back, b"code");
    }

    #[test]
    fn private_memory_has_a_front_of_its_own() {
        let ram = ram();
        let front = ram.front().unwrap();
        assert_eq!(front.len() as u64, RAM_START);
        assert_eq!(front.cast::<u8>().as_ptr() as u64 + RAM_START, ram.host_base());
        assert!(ram.read_slice(&mut [0], GuestAddress(RAM_START - 1)).is_err());
        let space = AddressSpace::new(16 << 20).unwrap();
        assert!(GuestRam::new(space, Backing::Shared).unwrap().front().is_none());
    }

    #[test]
    fn shared_memory_is_seen_through_its_descriptor() {
        for backing in [Backing::Shared, Backing::Exported] {
            let space = AddressSpace::new(16 << 20).unwrap();
            let ram = GuestRam::new(space, backing).unwrap();
            ram.load(RAM_START + 5, b"hello").unwrap();
            let mut back = [0; 5];
            nix::sys::uio::pread(ram.memfd().unwrap(), &mut back, 5).unwrap();
            assert_eq!(&back, b"hello");
        }
    }

    #[test]
    fn exported_memory_holds_the_image_and_not_the_front() {
        let file = create_memfd(0x3000).unwrap();
        nix::sys::uio::pwrite(&file, b"read-only", 0x1000).unwrap();
        let mut space = AddressSpace::new(16 << 20).unwrap();
        space.set("text", 0x20_0000, 0x20_2000, Some(Access::ReadExecute)).unwrap();
        let mut ram = GuestRam::new(space, Backing::Exported).unwrap();
        let part = ImagePart { start: 0x20_0000, end: 0x20_2000, file_offset: 0x1000 };
        ram.map_image(file, vec![part]).unwrap();
        let region = ram.exported().unwrap();
        assert_eq!(region.guest_address + region.size, 16 << 20);
        assert_eq!((region.host_address, region.offset), (ram.host_base(), 0));
        let size = nix::sys::stat::fstat(region.file).unwrap().st_size;
        assert_eq!(size as u64, region.size, "the front is not in it");
        let mut back = [0; 9];
        nix::sys::uio::pread(region.file, &mut back, 0x10_0000).unwrap();
        assert_eq!(&back, b"read-only");
        assert_eq!(ram.image().unwrap().1, []);
        assert!(ram.front().is_some());
    }

    #[test]
    fn nobody_can_cut_memory_that_is_shared() {
        let space = AddressSpace::new(16 << 20).unwrap();
        let ram = GuestRam::new(space, Backing::Exported).unwrap();
        assert!(nix::unistd::ftruncate(ram.memfd().unwrap(), 4096).is_err());
        let space = AddressSpace::new(16 << 20).unwrap();
        assert!(GuestRam::new(space, Backing::Shared).unwrap().exported().is_none());
    }
}
