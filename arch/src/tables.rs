//! The processor's tables behind a guest, in supervisor-only memory below the null guard's end: page
//! tables that grant exactly the address space, a GDT, an IDT, a TSS and the exception stubs.
//!
//! The guest runs at CPL 3 and cannot see any of it. An exception enters a CPL 0 stub on the stack
//! that the TSS names, whatever the guest's RSP is; the stub's only instruction is an OUT, which brings
//! the monitor in. All tables are complete before the first entry and never change afterwards: under
//! shadow paging a later change might go unseen.
//!
//! | address | content |
//! |---|---|
//! | `0x0000` | nothing: not mapped, so that a supervisor access to 0 would fault too |
//! | `0x1000` | GDT, IDT, the exception stack, and at the page's end the TSS |
//! | `0x2000` | the TSS's I/O bitmap, which opens every port: two pages of zeros that nobody touches |
//! | `0x4000` | the bitmap's final byte, then the exception stubs, 16 bytes for each vector |
//! | `0x5000` | PML4, then the other page tables |
//!
//! So a guest of few regions costs seven pages here.

use crate::space::{Access, AddressSpace, Region};
use denali_abi::layout::{PAGE_SIZE, RAM_START};

/// Address of the GDT.
pub const GDT: u64 = 0x1000;
/// Bytes of the GDT: five descriptors and the TSS's double one.
pub const GDT_SIZE: usize = 7 * 8;
/// Address of the IDT.
pub const IDT: u64 = 0x1040;
/// Bytes of the IDT: one gate for each of the processor's own vectors.
pub const IDT_SIZE: usize = VECTORS * 16;
/// Address of the TSS: it ends with its page, and its I/O bitmap begins with the next.
pub const TSS: u64 = 0x2000 - TSS_SIZE as u64;
/// Limit of the TSS: its I/O bitmap of 8 KiB and the final byte of ones.
pub const TSS_LIMIT: u32 = (TSS_SIZE + IO_BITMAP_SIZE) as u32;
/// Address of the first page table, for CR3.
pub const PML4: u64 = 0x5000;

/// Selector of 64-bit code at CPL 3.
pub const USER_CODE: u16 = 0x23;
/// Selector of data at CPL 3.
pub const USER_DATA: u16 = 0x1b;
/// Selector of the TSS.
pub const TSS_SELECTOR: u16 = 0x28;
/// Where SYSCALL leads on hosts that let it through although it is off (shadow-paging KVM does, without
/// leaving CPL 3): behind the stubs, where fetching an instruction faults.
pub const SYSCALL_TARGET: u64 = STUBS + VECTORS as u64 * STUB_SIZE;
/// Port of the stubs' OUT; only meaningful when RIP lies in a stub.
pub const STUB_PORT: u8 = 0xF4;

const VECTORS: usize = 32;
const STUBS_PAGE: u64 = 0x4000;
const STUBS: u64 = STUBS_PAGE + 0x10;
const STUB_SIZE: u64 = 16;
/// A multiple of 16, as the processor would make it.
const STACK_TOP: u64 = TSS & !15;
const TSS_SIZE: usize = 104;
const IO_BITMAP: u64 = 0x2000;
const IO_BITMAP_SIZE: usize = 8192;
const KERNEL_CODE: u16 = 0x08;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const LARGE_PAGE: u64 = 2 << 20;
const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

/// Why the tables cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address space needs more page tables than fit below 1 MiB")]
pub struct TooManyTables;

/// What an exception left on the exception stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExceptionFrame {
    /// Exception vector.
    pub vector: u8,
    /// The processor's error code, 0 where the vector has none.
    pub error_code: u64,
    /// RIP of the interrupted code.
    pub rip: u64,
    /// CS of the interrupted code.
    pub cs: u64,
    /// RFLAGS of the interrupted code.
    pub rflags: u64,
    /// RSP of the interrupted code.
    pub rsp: u64,
}

/// Builds the tables in `memory`, which is supervisor memory from address 0 on, zeroed, of at least
/// `PML4` bytes and at most 1 MiB; returns how many bytes of it are used, in whole pages.
///
/// # Errors
/// [`TooManyTables`] for a space with very many small regions, or for too little memory.
pub fn build(space: &AddressSpace, memory: &mut [u8]) -> Result<usize, TooManyTables> {
    let mut memory = SupervisorMemory { bytes: memory, used: PML4 as usize };
    let pml4 = memory.allocate()?;
    debug_assert_eq!(pml4, PML4);
    memory.write_descriptors();
    memory.write_gates_and_stubs();
    memory.write_tss();
    for (page, flags) in [
        (GDT, WRITABLE | NO_EXECUTE),
        (IO_BITMAP, NO_EXECUTE),
        (IO_BITMAP + PAGE_SIZE, NO_EXECUTE),
        (STUBS_PAGE, 0),
    ] {
        memory.map_page(page, flags)?;
    }
    for region in space.regions() {
        memory.map_region(*region)?;
    }
    Ok(memory.used)
}

/// The exception a stub reports, if `rip` lies in a stub; `memory` is supervisor memory from address 0.
#[must_use]
pub fn exception_at(rip: u64, memory: &[u8]) -> Option<ExceptionFrame> {
    let offset = rip.checked_sub(STUBS)?;
    let vector = u8::try_from(offset / STUB_SIZE).ok().filter(|&v| usize::from(v) < VECTORS)?;
    let word = |below_top: u64| {
        let at = (STACK_TOP - below_top) as usize;
        u64::from_le_bytes(memory[at..at + 8].try_into().unwrap_or_default())
    };
    let error_code = if has_error_code(vector) { word(48) & 0xffff_ffff } else { 0 };
    Some(ExceptionFrame {
        vector,
        error_code,
        rip: word(40),
        cs: word(32),
        rflags: word(24),
        rsp: word(16),
    })
}

/// Whether the processor pushes an error code for this vector (Intel SDM volume 3, table 6-1).
fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

struct SupervisorMemory<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl SupervisorMemory<'_> {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        self.bytes[address as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn word(&self, address: u64) -> u64 {
        let bytes = &self.bytes[address as usize..][..8];
        u64::from_le_bytes(bytes.try_into().unwrap_or_default())
    }

    fn write_descriptors(&mut self) {
        let tss_low = u64::from(TSS_LIMIT & 0xffff)
            | (TSS & 0xff_ffff) << 16
            | 0x8b << 40
            | u64::from(TSS_LIMIT >> 16) << 48
            | (TSS >> 24 & 0xff) << 56;
        let descriptors = [
            0,
            0x00af_9b00_0000_ffff, // CPL 0 code, 64 bits
            0x00cf_9300_0000_ffff, // CPL 0 data
            0x00cf_f300_0000_ffff, // CPL 3 data
            0x00af_fb00_0000_ffff, // CPL 3 code, 64 bits
            tss_low,
            TSS >> 32,
        ];
        for (index, descriptor) in descriptors.iter().enumerate() {
            self.put(GDT + 8 * index as u64, &descriptor.to_le_bytes());
        }
    }

    /// Interrupt gates to CPL 0. INT3 and INTO may be executed at CPL 3 (DPL 3); any other INT n from
    /// there is a general protection fault, as on every system.
    fn write_gates_and_stubs(&mut self) {
        for vector in 0..VECTORS as u64 {
            let stub = STUBS + vector * STUB_SIZE;
            let dpl: u64 = if vector == 3 || vector == 4 { 3 } else { 0 };
            let low = stub & 0xffff
                | u64::from(KERNEL_CODE) << 16
                | (0x8e | dpl << 5) << 40
                | (stub >> 16 & 0xffff) << 48;
            self.put(IDT + vector * 16, &low.to_le_bytes());
            self.put(IDT + vector * 16 + 8, &(stub >> 32).to_le_bytes());
            // out STUB_PORT, al; jmp to itself
            self.put(stub, &[0xe6, STUB_PORT, 0xeb, 0xfc]);
        }
    }

    /// The bitmap's zeros open every port to CPL 3 at IOPL 0, so that `cli` and `sti` still fault.
    fn write_tss(&mut self) {
        self.put(TSS + 4, &STACK_TOP.to_le_bytes());
        self.put(TSS + 102, &(TSS_SIZE as u16).to_le_bytes());
        self.put(IO_BITMAP + IO_BITMAP_SIZE as u64, &[0xff]);
    }

    fn allocate(&mut self) -> Result<u64, TooManyTables> {
        let table = self.used;
        let end = table + PAGE_SIZE as usize;
        if end > self.bytes.len() || end as u64 > RAM_START {
            return Err(TooManyTables);
        }
        self.used = end;
        Ok(table as u64)
    }

    fn map_region(&mut self, region: Region) -> Result<(), TooManyTables> {
        let flags = USER
            | match region.access {
                Access::Read => NO_EXECUTE,
                Access::ReadWrite => WRITABLE | NO_EXECUTE,
                Access::ReadExecute => 0,
            };
        let mut address = region.start;
        while address < region.end {
            if address.is_multiple_of(LARGE_PAGE) && region.end - address >= LARGE_PAGE {
                let entry = self.entry(address, 2)?;
                self.set(entry, address | flags | LARGE);
                address += LARGE_PAGE;
            } else {
                self.map_page(address, flags)?;
                address += PAGE_SIZE;
            }
        }
        Ok(())
    }

    fn map_page(&mut self, address: u64, flags: u64) -> Result<(), TooManyTables> {
        let entry = self.entry(address, 1)?;
        self.set(entry, address | flags);
        Ok(())
    }

    /// Accessed and dirty are set in advance: nobody reads them, and the processor need not write.
    fn set(&mut self, entry: u64, value: u64) {
        self.put(entry, &(value | PRESENT | ACCESSED | DIRTY).to_le_bytes());
    }

    /// Where the entry for `address` lies in the table of `level` (4 = PML4, 2 = page directory, 1 =
    /// page table); the tables above it are made as needed and grant everything.
    fn entry(&mut self, address: u64, level: u32) -> Result<u64, TooManyTables> {
        let mut table = PML4;
        for above in (level + 1..=4).rev() {
            let entry = table + index(address, above) * 8;
            table = match self.word(entry) & ADDRESS_MASK {
                0 => {
                    let fresh = self.allocate()?;
                    self.put(entry, &(fresh | PRESENT | WRITABLE | USER | ACCESSED).to_le_bytes());
                    fresh
                }
                existing => existing,
            };
        }
        Ok(table + index(address, level) * 8)
    }
}

fn index(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * (level - 1)) & 511
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the tables as the processor does: the leaf's flags and where it leads.
    fn walk(memory: &[u8], address: u64) -> Option<(u64, u64)> {
        let mut table = PML4;
        let mut user = USER;
        for level in (1..=4).rev() {
            let at = (table + index(address, level) * 8) as usize;
            let entry = u64::from_le_bytes(memory[at..at + 8].try_into().unwrap());
            if entry & PRESENT == 0 {
                return None;
            }
            user &= entry;
            let size = PAGE_SIZE << (9 * (level - 1));
            if level == 1 || entry & LARGE != 0 {
                let base = entry & ADDRESS_MASK & !(size - 1);
                return Some((base + address % size, entry & !USER | user));
            }
            table = entry & ADDRESS_MASK;
        }
        None
    }

    fn built(space: &AddressSpace) -> Result<Vec<u8>, TooManyTables> {
        let mut memory = vec![0; RAM_START as usize];
        let used = build(space, &mut memory)?;
        memory.truncate(used);
        Ok(memory)
    }

    fn sample() -> AddressSpace {
        let mut space = AddressSpace::new(70 << 20).unwrap();
        space.set("text", 0x20_0000, 0x21_2345, Some(Access::ReadExecute)).unwrap();
        space.set("rodata", 0x21_3000, 0x45_0000, Some(Access::Read)).unwrap();
        space.set("guard", 0x1b_f000, 0x1c_0000, None).unwrap();
        space
    }

    #[test]
    fn the_tables_grant_exactly_the_space() {
        let space = sample();
        let memory = built(&space).unwrap();
        for page in 0..(72 << 20) / PAGE_SIZE {
            let address = page * PAGE_SIZE + 0x123;
            let granted = walk(&memory, address).filter(|(_, flags)| flags & USER != 0);
            let expected = space.access_at(address);
            assert_eq!(granted.is_some(), expected.is_some(), "{address:#x}");
            let (Some((leads_to, flags)), Some(access)) = (granted, expected) else { continue };
            assert_eq!(leads_to, address, "identity");
            assert_eq!(flags & WRITABLE != 0, access == Access::ReadWrite, "{address:#x}");
            assert_eq!(flags & NO_EXECUTE == 0, access == Access::ReadExecute, "{address:#x}");
        }
    }

    #[test]
    fn supervisor_pages_are_mapped_for_the_supervisor_alone() {
        let memory = built(&sample()).unwrap();
        assert_eq!(walk(&memory, 0), None);
        for (page, writable, executable) in [
            (GDT, true, false),
            (TSS, true, false),
            (STACK_TOP - 8, true, false),
            (IO_BITMAP, false, false),
            (IO_BITMAP + 0x1fff, false, false),
            (STUBS, false, true),
        ] {
            let (leads_to, flags) = walk(&memory, page).unwrap();
            assert_eq!(leads_to, page);
            assert_eq!(flags & USER, 0, "{page:#x}");
            assert_eq!(flags & WRITABLE != 0, writable, "{page:#x}");
            assert_eq!(flags & NO_EXECUTE == 0, executable, "{page:#x}");
        }
        assert_eq!(walk(&memory, PML4), None, "page tables are not mapped");
    }

    #[test]
    fn every_port_is_open_and_the_bitmap_ends_as_it_must() {
        let memory = built(&sample()).unwrap();
        let bitmap = TSS as usize + TSS_SIZE;
        assert_eq!(bitmap as u64, IO_BITMAP);
        assert!(memory[bitmap..bitmap + IO_BITMAP_SIZE].iter().all(|&byte| byte == 0));
        assert_eq!(memory[TSS as usize + TSS_LIMIT as usize], 0xff);
    }

    #[test]
    fn four_gibibytes_take_few_tables() {
        let memory = built(&AddressSpace::new(4 << 30).unwrap()).unwrap();
        assert!(memory.len() <= 16 * 4096, "{}", memory.len());
        assert_eq!(walk(&memory, u64::from(u32::MAX)).unwrap().0, u64::from(u32::MAX));
        assert_eq!(walk(&memory, 1 << 32), None);
    }

    #[test]
    fn a_space_of_splinters_is_refused() {
        let mut space = AddressSpace::new(4 << 30).unwrap();
        for n in 1..400 {
            space.set("splinter", n * 0x40_0000 + 4096, n * 0x40_0000 + 8192, None).unwrap();
        }
        assert_eq!(built(&space), Err(TooManyTables));
        let too_little = &mut [0; PML4 as usize];
        assert_eq!(build(&sample(), too_little), Err(TooManyTables));
    }

    #[test]
    fn stubs_tell_their_vector() {
        let mut memory = built(&sample()).unwrap();
        for (slot, value) in [(48, 7_u64), (40, 0x1234), (32, 0x23), (24, 2), (16, 0x5678)] {
            let at = (STACK_TOP - slot) as usize;
            memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let fault = exception_at(STUBS + 14 * 16 + 2, &memory).unwrap();
        assert_eq!((fault.vector, fault.error_code), (14, 7));
        assert_eq!((fault.rip, fault.cs, fault.rflags, fault.rsp), (0x1234, 0x23, 2, 0x5678));
        assert_eq!(exception_at(STUBS + 6 * 16, &memory).unwrap().error_code, 0);
        assert_eq!(exception_at(STUBS + 32 * 16, &memory), None);
        assert_eq!(exception_at(0x20_0000, &memory), None);
        assert_eq!(exception_at(0, &memory), None);
    }
}
