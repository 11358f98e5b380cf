//! What the child has to do between its fork and the guest's first instruction, worked out before the
//! fork: the child itself must neither allocate nor fail in ways nobody sees.

use super::pages::SharedPages;
use super::stub;
use crate::{Error, GuestRam};
use denali_abi::layout::{PAGE_SIZE, RAM_START};
use denali_arch::space::{Access, Region, page_up};
use libc::{c_int, pid_t};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, AtomicU32};

/// End of what a process can map (with four-level page tables, beyond which nobody maps unasked).
const USER_END: u64 = 0x7fff_ffff_f000;

/// Where the signal stack may lie in the child: far from the guest's memory below, from programs at
/// 0x55…, and from libraries and stacks at 0x7f….
const SIGNAL_STACK_PLACES: std::ops::Range<u64> = 0x1000_0000_0000..0x5000_0000_0000;

/// One mapping of the guest's memory in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where.
    pub region: Region,
    /// The descriptor of what is mapped.
    pub fd: c_int,
    /// Where in it.
    pub offset: u64,
    /// True: stores are seen by all who map the file; false: copy-on-write.
    pub shared: bool,
}

/// The page through which parent and child talk until the guest runs.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// 1 when the child is traced and may go on.
    pub go: AtomicU32,
    /// The [`Step`](super::child::Step) at which the child failed; 0 = none.
    pub failed_step: AtomicU32,
    /// The error number it failed with.
    pub errno: AtomicI32,
    /// The filter the child installs.
    pub filter: libc::sock_filter,
    /// And its length and address.
    pub program: libc::sock_fprog,
    /// What the child unmaps: start and length of each gap, ended by a length of 0.
    pub gaps: [[u64; 2]; GAPS_MAX],
}

/// Most gaps between mappings the control page has room for, the end mark included.
pub const GAPS_MAX: usize = 250;

const _: () = assert!(size_of::<Control>() <= PAGE_SIZE as usize);

/// Everything the child needs to know.
#[derive(Debug)]
pub struct Plan {
    /// The guest's memory.
    pub mappings: Vec<Mapping>,
    /// End of the guest's memory.
    pub memory_size: u64,
    /// Two pages for the set-up, unmapped at its end: the stub's code, and [`Control`].
    pub setup: SharedPages,
    /// The stack on which the kernel puts signal frames, as the monitor maps it.
    pub signal_stack: SharedPages,
    /// Where the child maps it.
    pub signal_stack_start: u64,
    /// The monitor.
    pub parent: pid_t,
}

impl Plan {
    /// Works everything out for a guest in `ram`.
    ///
    /// # Errors
    /// When `ram` is not shared, or the host lacks memory.
    pub fn new(ram: &GuestRam) -> Result<Self, Error> {
        let setup = SharedPages::new(2)?;
        let signal_stack = SharedPages::new(signal_stack_pages())?;
        let plan = Self {
            mappings: mappings(ram)?,
            memory_size: ram.space().memory_size(),
            setup,
            signal_stack,
            signal_stack_start: random_place()?,
            // SAFETY: a plain system call.
            parent: unsafe { libc::getpid() },
        };
        plan.setup.write(stub::code())?;
        plan.fill_control()?;
        plan.setup.make_first_page_text()?;
        Ok(plan)
    }

    /// The control page.
    #[must_use]
    pub fn control(&self) -> &Control {
        let page = self.setup.start() + PAGE_SIZE;
        // SAFETY: the set-up pages are two, so the second is inside them and aligned; `Control` fits a
        // page (asserted) and any bytes are a valid one; what the child changes is atomic.
        unsafe { &*std::ptr::with_exposed_provenance::<Control>(page as usize) }
    }

    fn fill_control(&self) -> Result<(), Error> {
        let mut gaps = [[0; 2]; GAPS_MAX];
        let kept = self.mappings.iter().map(|mapping| (mapping.region.start, mapping.region.end));
        let own = [
            (self.signal_stack_start, self.signal_stack_start + self.signal_stack.length()),
            (self.setup.start(), self.setup.start() + self.setup.length()),
        ];
        let found = gaps_between(kept.chain(own).collect());
        if found.len() >= GAPS_MAX {
            return Err(Error::Misuse("the guest's memory is in too many pieces"));
        }
        gaps[..found.len()].copy_from_slice(&found);
        let place = self
            .setup
            .pointer::<Control>(PAGE_SIZE as usize)
            .ok_or(Error::Misuse("the control page is too small"))?;
        // SAFETY: the place is inside the set-up pages and aligned (checked by `pointer`); the child
        // does not exist yet, so nobody else looks.
        unsafe {
            let filter = &raw mut (*place.as_ptr()).filter;
            place.as_ptr().write(Control {
                go: AtomicU32::new(0),
                failed_step: AtomicU32::new(0),
                errno: AtomicI32::new(0),
                filter: TRACE_EVERYTHING,
                program: libc::sock_fprog { len: 1, filter },
                gaps,
            });
        }
        Ok(())
    }
}

/// The whole filter: every system call, of whatever architecture, stops for the tracer, and fails
/// with ENOSYS where there is none.
const TRACE_EVERYTHING: libc::sock_filter = libc::sock_filter {
    code: (libc::BPF_RET | libc::BPF_K) as u16,
    jt: 0,
    jf: 0,
    k: libc::SECCOMP_RET_TRACE,
};

/// What to map where: each region from the memfd, but for the parts of it that the image's file holds.
fn mappings(ram: &GuestRam) -> Result<Vec<Mapping>, Error> {
    let memfd = ram
        .memfd()
        .ok_or(Error::Misuse("the process back end needs shared guest memory"))?
        .as_raw_fd();
    let (file, mut parts) =
        ram.image().map_or((-1, Vec::new()), |(file, parts)| (file.as_raw_fd(), parts.to_vec()));
    parts.sort_by_key(|part| part.start);
    let mut mappings = Vec::new();
    for region in ram.space().regions() {
        let mut at = region.start;
        for part in &parts {
            let (start, end) = (part.start.max(at), part.end.min(region.end));
            if start >= end {
                continue;
            }
            if region.access == Access::ReadWrite {
                return Err(Error::Misuse("a writable part of the image is not in shared memory"));
            }
            mappings.extend(from_memfd(*region, at, start, memfd));
            mappings.push(Mapping {
                region: Region { start, end, ..*region },
                fd: file,
                offset: part.file_offset + (start - part.start),
                shared: false,
            });
            at = end;
        }
        mappings.extend(from_memfd(*region, at, region.end, memfd));
    }
    Ok(mappings)
}

fn from_memfd(region: Region, start: u64, end: u64, fd: c_int) -> Option<Mapping> {
    let region = Region { start, end, ..region };
    (start < end).then_some(Mapping { region, fd, offset: start - RAM_START, shared: true })
}

/// What lies between `kept` ranges, as start and length, up to the end of user space.
fn gaps_between(mut kept: Vec<(u64, u64)>) -> Vec<[u64; 2]> {
    kept.sort_unstable();
    kept.push((USER_END, USER_END));
    let mut at = 0;
    let mut gaps = Vec::new();
    for (start, end) in kept {
        if start > at {
            gaps.push([at, start - at]);
        }
        at = at.max(end);
    }
    gaps
}

/// Pages for one signal frame, whose size depends on the processor's extended state.
fn signal_stack_pages() -> usize {
    // SAFETY: a look-up in the auxiliary vector; an unknown entry gives 0.
    let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) };
    (page_up(frame.clamp(1, 1 << 20)) / PAGE_SIZE) as usize + 1
}

/// A random page for the signal stack, so that a guest cannot come to rely on where it is.
fn random_place() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer is as long as said.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got != bytes.len() as isize {
        return Err(Error::last("get random bytes"));
    }
    let places = (SIGNAL_STACK_PLACES.end - SIGNAL_STACK_PLACES.start) / PAGE_SIZE;
    Ok(SIGNAL_STACK_PLACES.start + u64::from_le_bytes(bytes) % places * PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backing, ImagePart};
    use denali_arch::space::AddressSpace;

    const MEMORY: u64 = 16 << 20;

    fn ram(image: &[ImagePart], backing: Backing) -> GuestRam {
        let mut space = AddressSpace::new(MEMORY).unwrap();
        space.set("text", 0x20_0000, 0x20_4000, Some(Access::ReadExecute)).unwrap();
        space.set("guard", 0x1b_f000, 0x1c_0000, None).unwrap();
        let mut ram = GuestRam::new(space, backing).unwrap();
        let file = nix::sys::memfd::memfd_create("x", nix::sys::memfd::MFdFlags::empty()).unwrap();
        ram.map_image(file, image.to_vec()).unwrap();
        ram
    }

    #[test]
    fn mappings_cover_the_address_space_and_nothing_else() {
        let part = ImagePart { start: 0x20_1000, end: 0x20_3000, file_offset: 0x5000 };
        let ram = ram(&[part], Backing::Shared);
        let mappings = mappings(&ram).unwrap();
        for page in (0..MEMORY + 0x1000).step_by(4096) {
            let found: Vec<_> = mappings
                .iter()
                .filter(|m| (m.region.start..m.region.end).contains(&page))
                .collect();
            assert_eq!(found.first().map(|m| m.region.access), ram.space().access_at(page));
            assert!(found.len() <= 1);
            for mapping in found {
                let in_file = (part.start..part.end).contains(&page);
                assert_eq!(mapping.shared, !in_file);
                let offset = mapping.offset + (page - mapping.region.start);
                let expected = if in_file { page - 0x20_1000 + 0x5000 } else { page - RAM_START };
                assert_eq!(offset, expected);
            }
        }
    }

    #[test]
    fn memory_must_be_shared_and_writable_parts_not_private() {
        let private = ram(&[], Backing::Private);
        assert!(matches!(mappings(&private), Err(Error::Misuse(_))));
        let part = ImagePart { start: 0x20_4000, end: 0x20_5000, file_offset: 0 };
        assert!(matches!(mappings(&ram(&[part], Backing::Shared)), Err(Error::Misuse(_))));
    }

    #[test]
    fn gaps_are_everything_but_what_is_kept() {
        let gaps = gaps_between(vec![(0x3000, 0x4000), (0x1000, 0x2000), (0x2000, 0x3000)]);
        assert_eq!(gaps, [[0, 0x1000], [0x4000, USER_END - 0x4000]]);
    }

    #[test]
    fn the_signal_stack_is_clear_of_guest_and_programs() {
        for _ in 0..100 {
            let place = random_place().unwrap();
            assert!(SIGNAL_STACK_PLACES.contains(&place) && place.is_multiple_of(PAGE_SIZE));
        }
    }
}
