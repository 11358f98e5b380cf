//! Checks of the clock and of idling.

use crate::{Checked, Failed, check, instructions};
use core::sync::atomic::Ordering;
use ilwaco::abi::doorbell;
use ilwaco::abi::registers::{NO_DEADLINE, PENDING_STOP, PENDING_TIMER};
use ilwaco::clock::{Instant, realtime_ns};
use ilwaco::println;
use ilwaco::registers::virtual_registers;

const MS: u64 = 1_000_000;

/// How far monotonic and real time may drift apart while a check runs.
const DRIFT_MAX: u64 = 5 * MS;

/// What an immediate return may take on a busy host.
const AT_ONCE: u64 = 2_000 * MS;

/// Status of a guest that was asked to stop.
const STOPPED: u32 = 3;

/// IDLE until a deadline, once; the bits that were pending.
pub fn idle_once(deadline_ns: u64) -> u64 {
    let registers = virtual_registers();
    registers.idle_deadline_ns.store(deadline_ns, Ordering::SeqCst);
    instructions::out(doorbell::IDLE, 0);
    registers.pending.swap(0, Ordering::SeqCst)
}

/// Idles until a moment; how much later it was.
fn idle_until(deadline_ns: u64) -> Result<u64, Failed> {
    while idle_once(deadline_ns) & 1 << PENDING_TIMER == 0 {}
    let late = Instant::now().as_ns().checked_sub(deadline_ns);
    late.ok_or(Failed("the timer came before the deadline"))
}

/// Reads the clock for a while, with doorbells in between.
pub fn clock() -> Checked {
    let (start, real_start) = (Instant::now(), realtime_ns());
    let mut last = start;
    for round in 0..200_000_u64 {
        let now = Instant::now();
        check(now >= last, "the clock went backwards")?;
        last = now;
        if round % 2_000 == 0 {
            instructions::out(doorbell::FLUSH, 0);
        }
    }
    let elapsed = start.elapsed().as_nanos() as u64;
    let real = realtime_ns().wrapping_sub(real_start);
    check(elapsed > 0, "the clock stands still")?;
    check(elapsed.abs_diff(real) < DRIFT_MAX, "monotonic and real time drift apart")?;
    println!("monotonic={}", Instant::now().as_ns());
    println!("realtime={}", realtime_ns());
    Ok(())
}

/// Idles for some milliseconds.
pub fn idle(ms: u64) -> Checked {
    let start = Instant::now();
    idle_until(start.as_ns() + ms * MS)?;
    println!("slept={}", start.elapsed().as_micros());
    Ok(())
}

/// Idles for a millisecond, many times.
pub fn idle_many(count: u64) -> Checked {
    let mut latest = 0;
    for _ in 0..count {
        latest = latest.max(idle_until(Instant::now().as_ns() + MS)?);
    }
    println!("latest={}", latest / 1_000);
    Ok(())
}

/// IDLE does not sleep when there is something to do.
pub fn idle_pending() -> Checked {
    let registers = virtual_registers();
    let start = Instant::now();
    let bit = 1 << 61;
    registers.pending.fetch_or(bit, Ordering::SeqCst);
    check(idle_once(NO_DEADLINE) == bit, "other bits than the pending one")?;
    let past = Instant::now().as_ns() - 1;
    check(idle_once(past) == 1 << PENDING_TIMER, "a deadline in the past")?;
    check(idle_once(0) == 1 << PENDING_TIMER, "a deadline long past")?;
    check((start.elapsed().as_nanos() as u64) < AT_ONCE, "IDLE slept")
}

/// Waits to be asked to stop.
pub fn wait_stop() -> Checked {
    println!("ready");
    while idle_once(NO_DEADLINE) & 1 << PENDING_STOP == 0 {}
    instructions::terminate(STOPPED)
}

/// Computes for ever.
pub fn spin() -> Checked {
    println!("ready");
    loop {
        core::hint::spin_loop();
    }
}
