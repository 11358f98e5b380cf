//! All registers a program can see, as memory that assembly loads them from and stores them to.

use core::cell::UnsafeCell;
use ilwaco::abi::frame::{Frame, GPR_RSP, RFLAGS_VISIBLE};

/// Words of the red zone.
pub const RED_ZONE_WORDS: usize = 16;

/// The visible state of the processor. Offsets are used by the assembly in `exercise` and `handlers`.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// In the order of a frame; RSP is not loaded.
    pub gpr: [u64; 16],
    /// The red zone, from RSP - 128 up.
    pub red_zone: [u64; RED_ZONE_WORDS],
    /// Flags.
    pub rflags: u64,
    /// The number in the x87 register ST0.
    pub x87: u64,
    /// SSE control and status.
    pub mxcsr: u32,
    /// x87 control word.
    pub fcw: u16,
    reserved: u16,
    padding: [u64; 5],
    /// YMM registers; the upper halves are 0 where there is no AVX.
    pub ymm: [[u64; 4]; 16],
}

/// Offset of [`State::red_zone`].
pub const RED_ZONE: usize = 128;
/// Offset of [`State::rflags`].
pub const RFLAGS: usize = 256;
/// Offset of [`State::x87`].
pub const X87: usize = 264;
/// Offset of [`State::mxcsr`].
pub const MXCSR: usize = 272;
/// Offset of [`State::fcw`].
pub const FCW: usize = 276;
/// Offset of [`State::ymm`].
pub const YMM: usize = 320;

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(State, red_zone) == RED_ZONE);
    assert!(offset_of!(State, rflags) == RFLAGS);
    assert!(offset_of!(State, x87) == X87);
    assert!(offset_of!(State, mxcsr) == MXCSR);
    assert!(offset_of!(State, fcw) == FCW);
    assert!(offset_of!(State, ymm) == YMM);
};

impl State {
    /// All zero.
    pub const ZERO: Self = Self {
        gpr: [0; 16],
        red_zone: [0; RED_ZONE_WORDS],
        rflags: 0,
        x87: 0,
        mxcsr: 0,
        fcw: 0,
        reserved: 0,
        padding: [0; 5],
        ymm: [[0; 4]; 16],
    };

    /// A state in which every register differs from every other, the flags (the direction flag too)
    /// are set, and the control words are not the usual ones.
    pub fn pattern(seed: u64) -> Self {
        let mut state = Self::ZERO;
        let mut next = seed | 1;
        let mut number = || {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0xda3e_39cb_94b9_5bdb);
            next ^ next >> 29
        };
        state.gpr.fill_with(&mut number);
        state.red_zone.fill_with(&mut number);
        let lanes = if avx() { 4 } else { 2 };
        for register in &mut state.ymm {
            register[..lanes].fill_with(&mut number);
        }
        // ID, OF, DF, SF, ZF, AF, PF, CF and the fixed bit.
        state.rflags = 0x20_0cd7;
        state.x87 = 1.25_f64.to_bits();
        // All exceptions masked; rounding towards zero (SSE) and down (x87), no 80-bit precision.
        state.mxcsr = 0x7f80;
        state.fcw = 0x067f;
        state
    }

    /// The same with what no program can compare left out: the stack pointer and hidden flags.
    pub fn comparable(mut self) -> Self {
        self.gpr[GPR_RSP] = 0;
        self.rflags &= RFLAGS_VISIBLE;
        // Exception flags of SSE are not part of what is set.
        self.mxcsr &= !0x3f;
        self
    }
}

/// Whether there is AVX, and its registers are enabled.
pub fn avx() -> bool {
    use core::arch::x86_64::__cpuid;
    const OSXSAVE_AND_AVX: u32 = 1 << 27 | 1 << 28;
    if __cpuid(1).ecx & OSXSAVE_AND_AVX != OSXSAVE_AND_AVX {
        return false;
    }
    let enabled: u32;
    // SAFETY: OSXSAVE says that XGETBV exists; XCR0 always does.
    unsafe { core::arch::asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _) }
    enabled & 0b110 == 0b110
}

/// Memory that assembly reads and writes by name.
#[repr(transparent)]
pub struct Shared<T>(UnsafeCell<T>);

// SAFETY: a guest has one processor and the probe no threads; handlers and exercises run only inside
// calls to assembly, never while `get` or `set` copy.
unsafe impl<T: Copy> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub fn get(&self) -> T {
        // SAFETY: nothing else accesses it meanwhile (see `Sync`). Volatile, because assembly that
        // the compiler does not see has written it.
        unsafe { self.0.get().read_volatile() }
    }

    pub fn set(&self, value: T) {
        // SAFETY: as for `get`.
        unsafe { self.0.get().write_volatile(value) }
    }
}

/// What an exercise loads into the registers.
pub static INPUT: Shared<State> = Shared::new(State::ZERO);
/// What an exercise found in the registers afterwards.
pub static OUTPUT: Shared<State> = Shared::new(State::ZERO);
/// Not 0 where there is AVX.
pub static HAS_AVX: Shared<u64> = Shared::new(0);
/// RSP while an exercise runs.
pub static STACK: Shared<u64> = Shared::new(0);
/// Where the next fault is to be resumed.
pub static RESUME_AT: Shared<u64> = Shared::new(0);
/// Where the next fault is expected.
pub static FAULT_AT: Shared<u64> = Shared::new(0);
/// General registers and flags with which the handler of the last fault or upcall was entered.
pub static ENTERED: Shared<State> = Shared::new(State::ZERO);
/// The frame of the last fault or upcall.
pub static FRAME: Shared<Frame> = Shared::new(EMPTY_FRAME);
/// Faults that were handled.
pub static FAULTS: Shared<u64> = Shared::new(0);
/// Upcalls that were handled.
pub static UPCALLS: Shared<u64> = Shared::new(0);

const EMPTY_FRAME: Frame =
    Frame { vector: 0, error_code: 0, address: 0, resume_rsp: 0, gpr: [0; 16], rip: 0, rflags: 0 };
