//! A computation in the registers of AVX-512, where the processor has them: 32 of 512 bits, and masks.

use crate::exercise::ROUNDS;
use crate::state::Shared;
use core::arch::naked_asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

/// The registers, as memory.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Wide {
    zmm: [[u64; 8]; 32],
    masks: [u64; 8],
}

impl Wide {
    const ZERO: Self = Self { zmm: [[0; 8]; 32], masks: [0; 8] };

    /// Registers that all differ.
    pub fn pattern() -> Self {
        let mut wide = Self::ZERO;
        let mut next = 5_u64;
        let words = wide.zmm.as_flattened_mut().iter_mut().chain(&mut wide.masks);
        for word in words {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *word = next;
        }
        wide
    }
}

static PLACE: Shared<Wide> = Shared::new(Wide::ZERO);

/// Whether there are these registers (AVX-512 F and BW), and they are enabled.
pub fn is_there() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const F_AND_BW: u32 = 1 << 16 | 1 << 30;
    const COMPONENTS: u32 = 0b1110_0110;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let enabled: u32;
    // SAFETY: OSXSAVE says that XGETBV exists; XCR0 always does.
    unsafe { core::arch::asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _) }
    __cpuid_count(7, 0).ebx & F_AND_BW == F_AND_BW && enabled & COMPONENTS == COMPONENTS
}

/// All registers of the kind, by their numbers.
macro_rules! registers {
    () => {
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, \
         22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
    };
}

/// Loads them and the masks.
macro_rules! load {
    () => {
        concat!(
            registers!(),
            "vmovdqu64 zmm\\i, [rip + {place} + 64*\\i]\n",
            ".endr\n",
            ".irp i, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "kmovq k\\i, [rip + {place} + 2048 + 8*\\i]\n",
            ".endr\n",
        )
    };
}

/// Stores them, and returns.
macro_rules! store {
    () => {
        concat!(
            registers!(),
            "vmovdqu64 [rip + {place} + 64*\\i], zmm\\i\n",
            ".endr\n",
            ".irp i, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "kmovq [rip + {place} + 2048 + 8*\\i], k\\i\n",
            ".endr\n",
            "vzeroupper\n",
            "ret\n",
        )
    };
}

/// Rings IDLE with a state in the registers; what is in them afterwards.
pub fn idle(state: Wide) -> Wide {
    PLACE.set(state);
    // SAFETY: as for `compute`.
    unsafe { idle_in_place() };
    PLACE.get()
}

#[unsafe(naked)]
unsafe extern "C" fn idle_in_place() {
    naked_asm!(
        load!(),
        "mov dx, 0xd00",
        "out dx, eax",
        store!(),
        place = sym PLACE,
    )
}

/// Goes round [`ROUNDS`] times from a state; the state it left.
pub fn compute(state: Wide) -> Wide {
    PLACE.set(state);
    // SAFETY: the function keeps the C calling convention, and is called where there are the registers.
    unsafe { compute_in_place() };
    PLACE.get()
}

#[unsafe(naked)]
unsafe extern "C" fn compute_in_place() {
    naked_asm!(
        load!(),
        "mov rcx, [rip + {rounds}]",
        "2:",
        ".irp i, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, \
         23, 24, 25, 26, 27, 28, 29, 30, 31",
        "vpaddq zmm\\i, zmm\\i, zmm0",
        "vpxorq zmm0, zmm0, zmm\\i",
        ".endr",
        "vprolq zmm0, zmm0, 7",
        ".irp i, 1, 2, 3, 4, 5, 6, 7",
        "kxorq k0, k0, k\\i",
        "kshiftrq k\\i, k\\i, 1",
        "kxnorq k\\i, k\\i, k0",
        ".endr",
        "dec rcx",
        "jnz 2b",
        store!(),
        place = sym PLACE,
        rounds = sym ROUNDS,
    )
}
