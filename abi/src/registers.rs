//! The virtual registers: a page that guest and monitor share, so that reading or writing one never
//! exits (OSDI 2002 paper, section 3.2).

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bit of [`VirtualRegisters::pending`]: the monitor asks the guest to stop.
pub const PENDING_STOP: u32 = 62;

/// Bit of [`VirtualRegisters::pending`]: the idle deadline, or the deadline while running, has passed.
pub const PENDING_TIMER: u32 = 63;

/// The page at [`VIRTUAL_REGISTERS`](crate::layout::VIRTUAL_REGISTERS).
///
/// All fields are little-endian and naturally aligned. Each cache line has one writer, but for
/// `pending`, which both sides change with atomic operations.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct VirtualRegisters {
    // 0x000: constants, written by the monitor.
    /// [`ABI_VERSION`](crate::ABI_VERSION) of the monitor.
    pub abi_version: AtomicU32,
    /// Frequency of the time-stamp counter in kHz.
    pub cpu_khz: AtomicU32,
    /// End of RAM: bytes from address 0.
    pub memory_size: AtomicU64,
    /// Changes whenever this guest is a copy, or has come back from swap or a snapshot.
    pub generation: AtomicU64,
    /// 32 random bytes, fresh with each `generation`.
    pub entropy: [AtomicU64; 4],
    reserved_constants: u64,

    // 0x040: the clock, written by the monitor.
    /// How time is computed from the time-stamp counter.
    pub clock: Clock,

    // 0x080: interrupts, written by both.
    /// Set of pending interrupts: bit = device number, 62 = please stop, 63 = timer.
    pub pending: AtomicU64,
    reserved_pending: [u64; 7],

    // 0x0c0: the guest's orders, written by the guest.
    /// Monotonic time in ns at which IDLE returns at the latest; [`NO_DEADLINE`] = never.
    pub idle_deadline_ns: AtomicU64,
    /// Address of the bytes the CONSOLE doorbell writes.
    pub console_addr: AtomicU64,
    /// Number of bytes the CONSOLE doorbell writes, at most [`CONSOLE_MAX`].
    pub console_len: AtomicU64,
    /// Address at which upcalls enter the guest; 0 = none.
    pub upcall_entry: AtomicU64,
    /// Non-zero: upcalls may be delivered. The monitor clears it when it delivers one.
    pub upcall_enabled: AtomicU64,
    /// Address at which faults enter the guest; 0 = a fault ends the guest.
    pub fault_entry: AtomicU64,
    /// Monotonic time in ns at which the timer's bit is set though the guest runs; 0 = never.
    pub run_deadline_ns: AtomicU64,
    reserved_orders: u64,

    // 0x100: counters, written by the monitor.
    /// Times the guest has left guest mode for the monitor.
    pub exits: AtomicU64,
    /// Interrupts raised by devices and timers.
    pub interrupts_raised: AtomicU64,
    /// Interrupts posted to `pending`; several raised on one line before a post count as one.
    pub interrupts_delivered: AtomicU64,
    /// Times at least one interrupt was posted: each is one batch.
    pub batches: AtomicU64,
    reserved_counters: [u64; 4],
}

/// Value of [`VirtualRegisters::idle_deadline_ns`] that means: no timer.
pub const NO_DEADLINE: u64 = u64::MAX;

/// Most bytes one CONSOLE doorbell writes; a longer request is cut to this.
pub const CONSOLE_MAX: u64 = 64 * 1024;

/// The clock: `ns = monotonic_base_ns + ((tsc - tsc_base) * mult >> shift)`, the product taken in
/// 128 bits, read while `seq` is even and the same before and after.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Clock {
    /// Even when the fields below are stable; odd while the monitor changes them.
    pub seq: AtomicU32,
    /// Right shift of the product, 0 to 63.
    pub shift: AtomicU32,
    /// Time-stamp counter at `monotonic_base_ns`.
    pub tsc_base: AtomicU64,
    /// Nanoseconds per tick, times 2^`shift`.
    pub mult: AtomicU64,
    /// Monotonic time, in ns since the host's boot (time asleep included), at `tsc_base`.
    pub monotonic_base_ns: AtomicU64,
    /// What to add to monotonic time for nanoseconds since 1970-01-01 UTC.
    pub realtime_offset_ns: AtomicU64,
    reserved: [u64; 3],
}

/// One consistent reading of [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// See [`Clock::shift`].
    pub shift: u32,
    /// See [`Clock::tsc_base`].
    pub tsc_base: u64,
    /// See [`Clock::mult`].
    pub mult: u64,
    /// See [`Clock::monotonic_base_ns`].
    pub monotonic_base_ns: u64,
    /// See [`Clock::realtime_offset_ns`].
    pub realtime_offset_ns: u64,
}

impl ClockReading {
    /// Monotonic time in ns when the time-stamp counter reads `tsc`. A counter read before
    /// `tsc_base` (on another CPU, a moment ago) counts as `tsc_base`.
    #[must_use]
    pub fn monotonic_ns(&self, tsc: u64) -> u64 {
        let ticks = tsc.saturating_sub(self.tsc_base);
        let elapsed = (u128::from(ticks) * u128::from(self.mult)) >> (self.shift & 63);
        self.monotonic_base_ns.wrapping_add(elapsed as u64)
    }
}

impl Clock {
    /// Reads all fields of one moment; spins while the monitor changes them.
    #[must_use]
    pub fn read(&self) -> ClockReading {
        loop {
            let before = self.seq.load(Ordering::Acquire);
            let reading = ClockReading {
                shift: self.shift.load(Ordering::Relaxed),
                tsc_base: self.tsc_base.load(Ordering::Relaxed),
                mult: self.mult.load(Ordering::Relaxed),
                monotonic_base_ns: self.monotonic_base_ns.load(Ordering::Relaxed),
                realtime_offset_ns: self.realtime_offset_ns.load(Ordering::Relaxed),
            };
            core::sync::atomic::fence(Ordering::Acquire);
            if before & 1 == 0 && self.seq.load(Ordering::Relaxed) == before {
                return reading;
            }
            core::hint::spin_loop();
        }
    }

    /// Publishes a reading; `seq` is the writer's own count, never read back from shared memory,
    /// so that a guest which scribbles over it harms itself alone.
    pub fn write(&self, seq: &mut u32, reading: &ClockReading) {
        *seq = seq.wrapping_add(1) | 1;
        self.seq.store(*seq, Ordering::Relaxed);
        core::sync::atomic::fence(Ordering::Release);
        self.shift.store(reading.shift, Ordering::Relaxed);
        self.tsc_base.store(reading.tsc_base, Ordering::Relaxed);
        self.mult.store(reading.mult, Ordering::Relaxed);
        self.monotonic_base_ns.store(reading.monotonic_base_ns, Ordering::Relaxed);
        self.realtime_offset_ns.store(reading.realtime_offset_ns, Ordering::Relaxed);
        *seq = seq.wrapping_add(1);
        self.seq.store(*seq, Ordering::Release);
    }
}

const _: () = {
    assert!(size_of::<Clock>() == 0x40);
    assert!(size_of::<VirtualRegisters>() == 0x140);
    assert!(offset_of!(VirtualRegisters, generation) == 0x10);
    assert!(offset_of!(VirtualRegisters, entropy) == 0x18);
    assert!(offset_of!(VirtualRegisters, clock) == 0x40);
    assert!(offset_of!(VirtualRegisters, pending) == 0x80);
    assert!(offset_of!(VirtualRegisters, idle_deadline_ns) == 0xc0);
    assert!(offset_of!(VirtualRegisters, fault_entry) == 0xe8);
    assert!(offset_of!(VirtualRegisters, run_deadline_ns) == 0xf0);
    assert!(offset_of!(VirtualRegisters, exits) == 0x100);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn zeroed() -> VirtualRegisters {
        // SAFETY: every field is an integer or an atomic integer, for which all-zero is valid.
        unsafe { core::mem::zeroed() }
    }

    #[test]
    fn clock_converts_ticks_to_nanoseconds() {
        let reading = ClockReading {
            shift: 32,
            tsc_base: 1_000,
            mult: 1 << 31, // half a nanosecond a tick: 2 GHz
            monotonic_base_ns: 500,
            realtime_offset_ns: 0,
        };
        assert_eq!(reading.monotonic_ns(1_000), 500);
        assert_eq!(reading.monotonic_ns(1_000 + 2_000_000_000), 500 + 1_000_000_000);
        assert_eq!(
            reading.monotonic_ns(0),
            500,
            "a counter behind the base does not run backwards"
        );
    }

    #[test]
    fn a_century_does_not_overflow() {
        let reading = ClockReading {
            shift: 32,
            tsc_base: 0,
            mult: 1 << 32,
            monotonic_base_ns: 0,
            realtime_offset_ns: 0,
        };
        let century = 100 * 365 * 24 * 3600 * 1_000_000_000_u64;
        assert_eq!(reading.monotonic_ns(century), century);
    }

    #[test]
    fn what_is_written_is_read() {
        let registers = zeroed();
        let reading = ClockReading {
            shift: 7,
            tsc_base: 1,
            mult: 2,
            monotonic_base_ns: 3,
            realtime_offset_ns: 4,
        };
        let mut seq = 0;
        registers.clock.write(&mut seq, &reading);
        assert_eq!(registers.clock.read(), reading);
        assert_eq!(seq, 2);
    }
}
