//! The memory of a guest as the monitor maps it, guarded by the guest's own address space.
//!
//! | file | its job |
//! |---|---|
//! | `access` | what devices may do: what the guest may |
//! | `image` | the parts and copies of the image |
//! | `base` | memory that starts as a file has it: copies of a guest |
//! | `bare` | memory that is mapped before there is a guest |
//! | `resident` | which pages take memory of the guest's own |
//! | `originals` | what a page was before the guest changed it |
//! | `pages` | pages that leave memory and come back |
//! | `sparse` | where a file has data |
//!
//! Pages are named by their numbers: guest address / 4096.

mod access;
mod bare;
mod base;
mod image;
mod originals;
mod pages;
mod resident;
mod sparse;
#[cfg(test)]
mod tests;

pub use bare::BareRam;
pub use image::{ImageCopy, ImagePart};
pub use originals::Original;
pub use resident::open_account;

use crate::Error;
use crate::mapping::{create_memfd, map_at, map_with_front, unmap};
use base::Base;
use denali_abi::layout::{RAM_START, VIRTUAL_REGISTERS};
use denali_abi::registers::VirtualRegisters;
use denali_arch::space::AddressSpace;
use image::Image;
use pages::advise_small_pages;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use vm_memory::guest_memory::{Error as AccessError, Result};
use vm_memory::{GuestAddress, VolatileSlice};

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

/// Guest RAM from [`RAM_START`] to the end of memory.
///
/// As a [`GuestMemory`](vm_memory::GuestMemory) it grants what the guest itself may do: a queue that points a device at text
/// or at the null guard gets an error, as the guest's own store there would fault.
#[derive(Debug)]
pub struct GuestRam {
    base: NonNull<u8>,
    /// Bytes mapped in front of `base`: [`RAM_START`] or none.
    front: usize,
    space: AddressSpace,
    backing: Backing,
    memfd: Option<OwnedFd>,
    image: Option<Image>,
    /// What RAM was at first, if that is neither the image nor nothing.
    original: Option<Base>,
    /// The host's account of this process's pages, once it has been opened.
    pagemap: Option<OwnedFd>,
}

impl GuestRam {
    /// Maps zeroed memory for `space`; no page takes host memory before it is touched.
    ///
    /// # Errors
    /// When the host refuses the mapping.
    pub fn new(space: AddressSpace, backing: Backing) -> std::result::Result<Self, Error> {
        let length = (space.memory_size() - RAM_START) as usize;
        let memfd = match backing {
            Backing::Private => {
                let memory = BareRam::new(space.memory_size())?;
                return Self::in_place(space, memory);
            }
            Backing::Shared | Backing::Exported => create_memfd(length as u64)?,
        };
        let (base, front) = if backing.has_front() {
            map_with_front(length, Some(memfd.as_fd()))?
        } else {
            (map_at(None, length, Some((memfd.as_fd(), 0)), true)?, 0)
        };
        advise_small_pages(base, length);
        Ok(Self::new_at(base, front, space, (backing, Some(memfd))))
    }

    /// The same of [`Backing::Private`] memory that was mapped before.
    ///
    /// # Errors
    /// When it has another size.
    pub fn in_place(space: AddressSpace, memory: BareRam) -> std::result::Result<Self, Error> {
        if memory.memory_size() != space.memory_size() {
            return Err(Error::Misuse("memory was mapped for a guest of another size"));
        }
        let (base, front) = (memory.into_base(), RAM_START as usize);
        Ok(Self::new_at(base, front, space, (Backing::Private, None)))
    }

    fn new_at(
        base: NonNull<u8>,
        front: usize,
        space: AddressSpace,
        (backing, memfd): (Backing, Option<OwnedFd>),
    ) -> Self {
        let (image, original, pagemap) = (None, None, None);
        Self { base, front, space, backing, memfd, image, original, pagemap }
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
}

impl Drop for GuestRam {
    fn drop(&mut self) {
        let length = (self.space.memory_size() - RAM_START) as usize;
        // SAFETY: the mapping was made by `new` with this front and length, and nothing that borrows
        // from `self` is left.
        unsafe { unmap(self.base.sub(self.front), self.front + length) };
    }
}
