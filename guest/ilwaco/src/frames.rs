//! The entries at which the monitor enters a guest for a fault or an upcall.
//!
//! The frame the monitor pushed holds the general registers; the vector registers still belong to
//! the interrupted code, so they are saved around the handler with XSAVE, up to those of AVX-512. The
//! handler finds them as a program does at its start.

use core::arch::x86_64::CpuidResult;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use denali_abi::frame::{Frame, GPR_RSP, RESUME_DISTANCE};

/// x87, SSE, AVX and the three parts of AVX-512: the state components of the contract. Others may be enabled without
/// CPUID saying so, and have no room in the area.
const COMPONENTS: u32 = 0b1110_0111;
/// Those that are not part of every XSAVE area, which holds x87 and SSE.
const EXTENDED: core::ops::Range<u32> = 2..8;
/// Bytes of the smallest XSAVE area.
const LEAST_BYTES: u32 = 576;

/// Bytes of the XSAVE area; 0 = not known yet.
static XSAVE_BYTES: AtomicU64 = AtomicU64::new(0);
/// The components that are saved.
static XSAVE_COMPONENTS: AtomicU32 = AtomicU32::new(0);

/// What XRSTOR takes for registers as they are at the start: no component is there, so that each gets its initial
/// state, and MXCSR, which is always there.
#[repr(C, align(64))]
struct InitialState([u64; 72]);

static INITIAL_STATE: InitialState = InitialState({
    const MXCSR_WORD: usize = 24 / 8;
    let mut area = [0; 72];
    area[MXCSR_WORD] = 0x1f80;
    area
});

/// Address of the entry that calls the fault handler.
pub(crate) fn fault_entry() -> u64 {
    entries::fault as *const () as u64
}

/// Address of the entry that calls the upcall handler.
pub(crate) fn upcall_entry() -> u64 {
    entries::upcall as *const () as u64
}

/// Learns how large the processor's vector state is. False if it cannot be saved: no XSAVE.
pub(crate) fn prepare() -> bool {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let components = __cpuid_count(0xd, 0).eax & COMPONENTS;
    let bytes = xsave_bytes(components, |component| __cpuid_count(0xd, component));
    XSAVE_BYTES.store(u64::from(bytes), Ordering::Relaxed);
    XSAVE_COMPONENTS.store(components, Ordering::Relaxed);
    true
}

/// Bytes of an XSAVE area for these components, of which `describe` tells the size in EAX and the offset in EBX.
fn xsave_bytes(components: u32, describe: impl Fn(u32) -> CpuidResult) -> u32 {
    let there = EXTENDED.filter(|component| components & 1 << component != 0);
    let ends = there.map(|component| describe(component).eax + describe(component).ebx);
    ends.fold(LEAST_BYTES, u32::max)
}

/// Makes the words at which `popfq; ret 128` looks agree with the frame, which a handler may have
/// changed.
fn complete(frame: &mut Frame) {
    frame.resume_rsp = frame.gpr[GPR_RSP].wrapping_sub(RESUME_DISTANCE);
    let words = frame.resume_rsp as *mut [u64; 2];
    // SAFETY: the two words lie below the red zone of the interrupted code, where the monitor has
    // already written the same words; if a handler moved RSP, it answers for the stack there.
    unsafe { words.write([frame.rflags, frame.rip]) };
}

/// Called by the fault entry.
#[cfg_attr(not(guest_image), allow(dead_code, reason = "only a monitor enters here"))]
extern "C" fn on_fault(frame: &mut Frame) {
    crate::faults::handle(frame);
    complete(frame);
}

/// Called by the upcall entry.
#[cfg_attr(not(guest_image), allow(dead_code, reason = "only a monitor enters here"))]
extern "C" fn on_upcall(frame: &mut Frame) {
    crate::upcalls::handle();
    complete(frame);
}

mod entries {
    use core::arch::naked_asm;

    /// Where faults enter: RDI = RSP = address of the frame, all other general registers free.
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn fault() {
        naked_asm!("lea r12, [rip + {handler}]", "jmp {enter}", handler = sym super::on_fault,
            enter = sym enter)
    }

    /// Where upcalls enter; as for faults.
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn upcall() {
        naked_asm!("lea r12, [rip + {handler}]", "jmp {enter}", handler = sym super::on_upcall,
            enter = sym enter)
    }

    /// Saves the vector state, calls the handler in R12 with the frame, and resumes.
    #[unsafe(naked)]
    unsafe extern "C" fn enter() {
        naked_asm!(
            "mov rbx, rdi",
            "mov rbp, [rdi + 80]", // the interrupted RBP, for backtraces
            // The XSAVE area, aligned to 64, its header zero as XRSTOR wants it.
            "sub rsp, [rip + {bytes}]",
            "and rsp, -64",
            "xor eax, eax",
            "mov ecx, 8",
            "lea rdi, [rsp + 512]",
            "rep stosq",
            "mov eax, [rip + {components}]",
            "xor edx, edx",
            "xsave64 [rsp]",
            "xrstor64 [rip + {initial}]",
            "mov r13, rsp",
            "mov rdi, rbx",
            "call r12",
            "mov eax, [rip + {components}]",
            "xor edx, edx",
            "xrstor64 [r13]",
            // The general registers from the frame, then back as the contract says.
            "mov rsp, rbx",
            "mov rax, [rsp + 32]",
            "mov rbx, [rsp + 40]",
            "mov rcx, [rsp + 48]",
            "mov rdx, [rsp + 56]",
            "mov rsi, [rsp + 64]",
            "mov rdi, [rsp + 72]",
            "mov rbp, [rsp + 80]",
            "mov r8, [rsp + 96]",
            "mov r9, [rsp + 104]",
            "mov r10, [rsp + 112]",
            "mov r11, [rsp + 120]",
            "mov r12, [rsp + 128]",
            "mov r13, [rsp + 136]",
            "mov r14, [rsp + 144]",
            "mov r15, [rsp + 152]",
            "mov rsp, [rsp + 24]",
            "popfq",
            "ret 128",
            bytes = sym super::XSAVE_BYTES,
            components = sym super::XSAVE_COMPONENTS,
            initial = sym super::INITIAL_STATE,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::arch::asm;
    use core::cell::Cell;

    std::thread_local! {
        static SEEN: Cell<u64> = const { Cell::new(0) };
    }

    #[test]
    fn the_area_reaches_to_the_end_of_the_last_component() {
        let describe = |component| {
            let (eax, ebx) = match component {
                2 => (256, 576),
                5 => (64, 1088),
                6 => (512, 1152),
                7 => (1024, 1664),
                _ => panic!("component {component} is not saved"),
            };
            CpuidResult { eax, ebx, ecx: 0, edx: 0 }
        };
        assert_eq!(xsave_bytes(0b11, describe), 576);
        assert_eq!(xsave_bytes(0b111, describe), 832);
        assert_eq!(xsave_bytes(COMPONENTS, describe), 2688);
    }

    /// Does what a monitor does: pushes a frame below the red zone and continues at the entry; the
    /// interrupted code is this function, which goes on at the label behind the jump.
    #[test]
    fn an_entry_resumes_exactly_where_it_interrupted() {
        assert!(prepare());
        fn look(frame: &mut Frame) {
            let mut control = 0_u32;
            // SAFETY: stores a register in memory of this function.
            unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack)) };
            assert_eq!(control, 0x1f80, "the handler computes as usual");
            SEEN.set(frame.vector);
            frame.gpr[3] = 77; // RDX
        }
        // SAFETY: the handler only looks at and changes the frame.
        unsafe { crate::faults::set_handler(look) }.unwrap();
        let (changed, kept, red_zone, control): (u64, u64, u64, u64);
        let vector: f64;
        // SAFETY: the code below leaves the stack as it was, and declares what it changes; it
        // switches to a frame of its own making under RSP, beyond the red zone it uses.
        unsafe {
            asm!(
                "push rbx",
                "mov rbx, 1234",
                "push 0x7f80",
                "ldmxcsr [rsp]",
                "pop rax",
                "mov qword ptr [rsp - 8], 4321",
                "mov rax, rsp",
                "lea rdi, [rsp - 128 - 16 - 176]",
                "and rdi, -16",
                "mov qword ptr [rdi], 14",
                "mov [rdi + 40], rbx",
                "mov [rdi + 80], rbp",
                "mov [rdi + 88], rax",
                "mov [rdi + 128], r12",
                "mov [rdi + 136], r13",
                "mov [rdi + 144], r14",
                "mov [rdi + 152], r15",
                "lea rcx, [rip + 2f]",
                "mov [rdi + 160], rcx",
                "mov qword ptr [rdi + 168], 0x202",
                "mov rsp, rdi",
                "xor ebx, ebx",
                "jmp r10",
                "2:",
                "mov rcx, rbx",
                "mov rsi, [rsp - 8]",
                "push 0",
                "stmxcsr [rsp]",
                "pop rax",
                "push 0x1f80",
                "ldmxcsr [rsp]",
                "pop rbx",
                "pop rbx",
                inout("r10") fault_entry() => _,
                out("rdx") changed, out("rcx") kept, out("rsi") red_zone,
                inout("xmm7") 2.5_f64 => vector,
                out("rax") control, out("rdi") _, out("r8") _, out("r9") _, out("r11") _,
            );
        }
        assert_eq!(SEEN.get(), 14);
        assert_eq!((changed, kept, red_zone), (77, 1234, 4321));
        assert_eq!((vector.to_bits(), control), (2.5_f64.to_bits(), 0x7f80));
    }
}
