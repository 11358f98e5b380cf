//! The guest's clock: the time-stamp counter, kept in step with the host's boot time.
//!
//! The guest reads time without an exit; the monitor uses the same formula for the guest's deadlines,
//! so that both always mean the same moment, and spares itself the system call. Corrections are made
//! at entry when the last is older than a second: forwards at once, backwards only by running slower.

use denali_abi::registers::{ClockReading, VirtualRegisters};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;

const SHIFT: u32 = 32;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// A clock that is ahead runs slower by at most this many ns each second.
const SLEW_MAX_NS: u64 = 500_000;
/// No guest's clock shows that much: 146 years.
const MONOTONIC_END_NS: u64 = 1 << 62;
/// Tries to read host time and counter without anything coming between.
const SAMPLE_TRIES: usize = 4;

/// Host time and counter at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    tsc: u64,
    boot_ns: u64,
    real_ns: u64,
    /// Host time without the time it was suspended.
    awake_ns: u64,
}

/// Keeps the clock in the virtual registers.
#[derive(Debug)]
pub struct GuestClock {
    reading: ClockReading,
    last: Sample,
    /// Nanoseconds per tick times 2^32, as last measured.
    rate: u64,
    ticks_per_second: u64,
    seq: u32,
    tsc_offset: u64,
    /// The guest's monotonic time less the host's boot time (wrapping): not 0 for a guest that was saved on
    /// another boot of the host.
    ahead_ns: u64,
}

/// A guest's clock as it is saved with the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedClock {
    /// The guest's monotonic time in ns.
    pub monotonic_ns: u64,
    /// The guest's monotonic time less the host's boot time, wrapping, in ns.
    pub ahead_ns: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub real_ns: u64,
    /// The host's boot, as it names it.
    pub boot_id: String,
    /// The count in the virtual registers, which goes on.
    pub seq: u32,
}

impl SavedClock {
    /// Whether a guest's clock can have shown it, and can go on for another century.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.monotonic_ns < MONOTONIC_END_NS
    }

    /// By how much the guest's time is ahead of the host's boot time, on a boot with this name, `now`: its
    /// monotonic time goes on as real time has, and never back.
    fn ahead_ns(&self, boot_id: &str, now: &Sample) -> u64 {
        let same_boot = !boot_id.is_empty() && self.boot_id == boot_id;
        // What the state says of this boot may be false, or a moment off.
        let since_saved = now.boot_ns.wrapping_add(self.ahead_ns).checked_sub(self.monotonic_ns);
        let passed = since_saved
            .filter(|&passed| same_boot && passed <= now.boot_ns)
            .unwrap_or_else(|| now.real_ns.saturating_sub(self.real_ns));
        self.monotonic_ns.saturating_add(passed).wrapping_sub(now.boot_ns)
    }
}

impl GuestClock {
    /// A clock for a guest whose counter is `tsc_offset` ticks ahead of the host's. The counter's
    /// frequency is measured against `start`, taken earlier, where KVM does not tell it.
    #[must_use]
    pub fn new(start: ClockStart, tsc_khz: Option<u32>, tsc_offset: u64) -> Self {
        let now = Sample::take();
        let rate = match tsc_khz {
            Some(khz) if khz > 0 => (1_000_000 << SHIFT) / u64::from(khz),
            _ => measured_rate(&start.0, &now).unwrap_or(1 << SHIFT),
        };
        let ticks_per_second = ((u128::from(NS_PER_SECOND) << SHIFT) / u128::from(rate)) as u64;
        let mut clock = Self {
            reading: ClockReading {
                shift: SHIFT,
                tsc_base: now.tsc,
                mult: rate,
                monotonic_base_ns: now.boot_ns,
                realtime_offset_ns: 0,
            },
            last: now,
            rate,
            ticks_per_second,
            seq: 0,
            tsc_offset,
            ahead_ns: 0,
        };
        clock.adjust(now);
        clock
    }

    /// The clock of a guest that was saved: its time has gone on meanwhile. `boot_id` names this boot of the
    /// host; empty = unknown.
    #[must_use]
    pub fn resumed(self, saved: &SavedClock, boot_id: &str) -> Self {
        let mut now = self.last;
        let ahead_ns = saved.ahead_ns(boot_id, &now);
        now.boot_ns = now.boot_ns.wrapping_add(ahead_ns);
        let reading = ClockReading { monotonic_base_ns: now.boot_ns, ..self.reading };
        let mut clock = Self { reading, last: now, seq: saved.seq, ahead_ns, ..self };
        clock.adjust(now);
        clock
    }

    /// What [`GuestClock::resumed`] needs, at this moment.
    #[must_use]
    pub fn save(&self, boot_id: &str) -> SavedClock {
        SavedClock {
            monotonic_ns: self.now_ns(),
            ahead_ns: self.ahead_ns,
            real_ns: read(ClockId::CLOCK_REALTIME),
            boot_id: boot_id.to_owned(),
            seq: self.seq,
        }
    }

    /// Monotonic time of the guest in ns.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.reading.monotonic_ns(rdtsc())
    }

    /// The ns that so many ticks of the counter take.
    #[must_use]
    pub fn ns_of(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.rate)) >> SHIFT) as u64
    }

    /// Writes clock and frequency into the virtual registers for the first time.
    pub fn publish_first(&mut self, registers: &VirtualRegisters) {
        registers.cpu_khz.store((self.ticks_per_second / 1_000) as u32, Ordering::Relaxed);
        self.publish(registers);
    }

    /// Corrects and publishes the clock if the last correction is older than a second.
    pub fn refresh_if_old(&mut self, registers: &VirtualRegisters) {
        if rdtsc().wrapping_sub(self.last.tsc) > self.ticks_per_second {
            self.adjust(self.sample());
            self.publish(registers);
        }
    }

    /// This moment, in the guest's monotonic time.
    fn sample(&self) -> Sample {
        let now = Sample::take();
        Sample { boot_ns: now.boot_ns.wrapping_add(self.ahead_ns), ..now }
    }

    fn publish(&mut self, registers: &VirtualRegisters) {
        let for_guest = ClockReading {
            tsc_base: self.reading.tsc_base.wrapping_add(self.tsc_offset),
            ..self.reading
        };
        registers.clock.write(&mut self.seq, &for_guest);
    }

    fn adjust(&mut self, now: Sample) {
        let long_enough = now.tsc.saturating_sub(self.last.tsc) > self.ticks_per_second / 2;
        if let Some(rate) = measured_rate(&self.last, &now).filter(|_| long_enough) {
            self.rate = rate;
        }
        let shown = self.reading.monotonic_ns(now.tsc);
        let ahead = shown.saturating_sub(now.boot_ns);
        let slower = u128::from(self.rate) * u128::from(ahead.min(SLEW_MAX_NS));
        self.reading = ClockReading {
            shift: SHIFT,
            tsc_base: now.tsc,
            mult: self.rate - (slower / u128::from(NS_PER_SECOND)) as u64,
            monotonic_base_ns: shown.max(now.boot_ns),
            realtime_offset_ns: now.real_ns.wrapping_sub(now.boot_ns),
        };
        self.last = now;
    }
}

/// The moment from which the counter's frequency is measured: taken early, costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct ClockStart(Sample);

impl ClockStart {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self(Sample::take())
    }

    /// Host boot time at that moment, in ns.
    #[must_use]
    pub fn boot_ns(&self) -> u64 {
        self.0.boot_ns
    }
}

impl Sample {
    /// The tightest of a few readings: the first may fault in the pages it needs.
    fn take() -> Self {
        let mut best: Option<(u64, u64, u64)> = None;
        for _ in 0..SAMPLE_TRIES {
            let before = rdtsc();
            let boot_ns = read(ClockId::CLOCK_BOOTTIME);
            let took = rdtsc().saturating_sub(before);
            if best.is_none_or(|(least, ..)| took < least) {
                best = Some((took, before + took / 2, boot_ns));
            }
        }
        let (_, tsc, boot_ns) = best.unwrap_or_default();
        let real_ns = read(ClockId::CLOCK_REALTIME);
        Self { tsc, boot_ns, real_ns, awake_ns: read(ClockId::CLOCK_MONOTONIC) }
    }

    /// Nanoseconds the host was suspended before this moment, to a few microseconds, and how far the guest's
    /// time is ahead.
    fn suspended_ns(&self) -> u64 {
        self.boot_ns.wrapping_sub(self.awake_ns)
    }
}

/// Nanoseconds a tick times 2^32 between two moments; none where the host slept in between.
fn measured_rate(from: &Sample, to: &Sample) -> Option<u64> {
    const SLEPT_NS: u64 = 1_000_000;
    if to.suspended_ns().abs_diff(from.suspended_ns()) > SLEPT_NS {
        return None;
    }
    let ticks = to.tsc.checked_sub(from.tsc).filter(|&ticks| ticks > 0)?;
    let elapsed = to.boot_ns.checked_sub(from.boot_ns)?;
    u64::try_from((u128::from(elapsed) << SHIFT) / u128::from(ticks)).ok().filter(|&rate| rate > 0)
}

fn read(clock: ClockId) -> u64 {
    // These clocks exist on every kernel that runs this; 0 would only make the guest's clock wait.
    clock_gettime(clock).map_or(0, |time| {
        (time.tv_sec() as u64).wrapping_mul(NS_PER_SECOND).wrapping_add(time.tv_nsec() as u64)
    })
}

fn rdtsc() -> u64 {
    // SAFETY: RDTSC has no preconditions on x86-64.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tsc: u64, boot_ns: u64) -> Sample {
        Sample { tsc, boot_ns, real_ns: boot_ns + 1_000, awake_ns: boot_ns }
    }

    /// A clock of 2 GHz at tick 0, ns 0.
    fn clock() -> GuestClock {
        let rate = 1 << (SHIFT - 1);
        let reading = ClockReading {
            shift: SHIFT,
            tsc_base: 0,
            mult: rate,
            monotonic_base_ns: 0,
            realtime_offset_ns: 0,
        };
        let ticks_per_second = 2 * NS_PER_SECOND;
        GuestClock {
            reading,
            last: at(0, 0),
            rate,
            ticks_per_second,
            seq: 0,
            tsc_offset: 0,
            ahead_ns: 0,
        }
    }

    #[test]
    fn a_clock_behind_jumps_forward() {
        let mut clock = clock();
        clock.adjust(at(2_000_000_000, 1_000_400_000));
        assert_eq!(clock.reading.monotonic_ns(2_000_000_000), 1_000_400_000);
        assert_eq!(clock.reading.realtime_offset_ns, 1_000);
    }

    #[test]
    fn a_clock_ahead_runs_slower_and_never_back() {
        let mut clock = clock();
        clock.adjust(at(2_000_000_000, 999_700_000));
        assert_eq!(clock.reading.monotonic_ns(2_000_000_000), 1_000_000_000);
        let second_later = clock.reading.monotonic_ns(4_000_000_000);
        assert!((1_999_300_000..1_999_800_000).contains(&second_later), "{second_later}");
    }

    #[test]
    fn a_night_asleep_is_not_a_rate() {
        let mut clock = clock();
        let hours = 8 * 3600 * NS_PER_SECOND;
        clock.adjust(Sample { awake_ns: 1_000_000_000, ..at(2_000_000_000, hours) });
        assert_eq!(clock.rate, 1 << (SHIFT - 1));
        assert_eq!(clock.reading.monotonic_ns(2_000_000_000), hours);
    }

    #[test]
    fn a_first_guess_that_was_wrong_is_put_right() {
        let mut clock = clock();
        clock.adjust(at(2_000_000_000, 990_000_000));
        assert_eq!(clock.rate, (1 << SHIFT) * 99 / 200, "1 % slower than 2 GHz");
    }

    /// A clock that was saved at 5 s of the guest's time, 2 s of its host's, and 100 s of real time.
    fn saved() -> SavedClock {
        SavedClock {
            monotonic_ns: 5 * NS_PER_SECOND,
            ahead_ns: 3 * NS_PER_SECOND,
            real_ns: 100 * NS_PER_SECOND,
            boot_id: "a".into(),
            seq: 8,
        }
    }

    #[test]
    fn a_saved_clock_goes_on_with_its_host() {
        let now = at(0, 4 * NS_PER_SECOND);
        let clock = GuestClock { last: now, ..clock() }.resumed(&saved(), "a");
        assert_eq!(clock.reading.monotonic_ns(0), 7 * NS_PER_SECOND);
        assert_eq!((clock.seq, clock.ahead_ns), (8, 3 * NS_PER_SECOND));
    }

    /// A state that names this boot of the host may lie about what it has to do with the guest's time.
    #[test]
    fn a_saved_clock_that_lies_neither_goes_back_nor_ahead_for_ever() {
        let now = Sample { real_ns: 107 * NS_PER_SECOND, ..at(0, 4 * NS_PER_SECOND) };
        for ahead_ns in [0, NS_PER_SECOND - 1, 6 * NS_PER_SECOND, u64::MAX] {
            let ahead = SavedClock { ahead_ns, ..saved() }.ahead_ns("a", &now);
            assert_eq!(now.boot_ns.wrapping_add(ahead), 12 * NS_PER_SECOND, "{ahead_ns}");
        }
        assert!(saved().is_possible());
        assert!(!SavedClock { monotonic_ns: u64::MAX, ..saved() }.is_possible());
    }

    #[test]
    fn on_another_boot_a_saved_clock_goes_on_with_real_time() {
        let now = Sample { real_ns: 107 * NS_PER_SECOND, ..at(0, NS_PER_SECOND) };
        let ahead = saved().ahead_ns("b", &now);
        assert_eq!(now.boot_ns.wrapping_add(ahead), 12 * NS_PER_SECOND);
        let set_back = Sample { real_ns: NS_PER_SECOND, ..at(0, 9 * NS_PER_SECOND) };
        let ahead = saved().ahead_ns("", &set_back);
        assert_eq!(set_back.boot_ns.wrapping_add(ahead), 5 * NS_PER_SECOND, "never back");
    }

    #[test]
    fn what_was_saved_is_resumed() {
        let clock = GuestClock::new(ClockStart::now(), None, 0);
        let saved = clock.save("x");
        let later = GuestClock::new(ClockStart::now(), None, 0).resumed(&saved, "y");
        let passed = later.now_ns() - saved.monotonic_ns;
        assert!(passed < NS_PER_SECOND, "{passed}");
    }

    #[test]
    fn measured_against_the_host_it_keeps_time() {
        let start = ClockStart::now();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let clock = GuestClock::new(start, None, 0);
        let host = read(ClockId::CLOCK_BOOTTIME);
        assert!(clock.now_ns().abs_diff(host) < 5_000_000);
    }
}
