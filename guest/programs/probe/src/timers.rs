//! Timers of tasks: how late they are, that none is early, and their order; and the clock while the monitor is moved
//! and stopped.

use crate::{Checked, check, instructions, time};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::sync::atomic::Ordering;
use core::time::Duration;
use ilwaco::abi::doorbell;
use ilwaco::abi::registers::{NO_DEADLINE, PENDING_STOP, PENDING_TIMER};
use ilwaco::clock::{Instant, realtime_ns};
use ilwaco::registers::virtual_registers;
use ilwaco::time::{interval, interval_at, sleep_until};
use ilwaco::{generation, println, stop};

const MS: u64 = 1_000_000;

/// Periods of the timers that run at once.
const PERIODS_MS: [u64; 3] = [1, 10, 1000];

/// How far ahead the first of all timers is, so that all are set before it is due.
const START: Duration = Duration::from_millis(100);

/// Timers of 1 ms, 10 ms and 1 s at once, for some seconds. Prints for each period how often the timer came, and
/// percentiles of how late it was.
pub fn periods(seconds: u64) -> Checked {
    let first = Instant::now() + START;
    let early = Rc::new(RefCell::new(0));
    ilwaco::block_on({
        let early = Rc::clone(&early);
        async move {
            let done = Rc::new(RefCell::new(0));
            for ms in PERIODS_MS {
                let (early, done) = (Rc::clone(&early), Rc::clone(&done));
                ilwaco::spawn(async move {
                    *early.borrow_mut() += measure(first, ms, seconds).await;
                    *done.borrow_mut() += 1;
                });
            }
            while *done.borrow() < PERIODS_MS.len() {
                ilwaco::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    check(*early.borrow() == 0, "a timer came too early")
}

/// One timer; how often it was too early, or not the next one.
async fn measure(first: Instant, ms: u64, seconds: u64) -> u64 {
    let mut ticks = interval_at(first, Duration::from_millis(ms));
    let count = (seconds * 1000 / ms).max(1);
    let (mut late, mut wrong) = (Vec::with_capacity(count as usize), 0);
    let mut last = None;
    for _ in 0..count {
        let due = ticks.tick().await;
        let now = Instant::now();
        late.push(now.since(due).as_nanos() as u64);
        // A host that lets the guest wait for a second has left ticks out.
        let of_schedule = due.since(first).as_nanos().is_multiple_of(u128::from(ms * MS));
        wrong += u64::from(now < due || !of_schedule || Some(due) <= last);
        last = Some(due);
    }
    late.sort_unstable();
    let at = |permille: usize| late[(late.len() - 1) * permille / 1000] as f64 / 1000.0;
    println!(
        "timer period_ms={ms} count={count} late_us_p50={:.1} late_us_p99={:.1} late_us_p999={:.1} \
         late_us_max={:.1}",
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    wrong
}

/// Has an interval with a tick every so many milliseconds, until asked to stop. Prints at each, times in ns:
/// `tick due=… monotonic=… missed=… generation=…`, where `missed` is how many ticks of the schedule were left out before
/// this one.
pub fn report(ms: u64) -> Checked {
    ilwaco::block_on(async move {
        let period = Duration::from_millis(ms.max(1));
        ilwaco::spawn(async move {
            let mut ticks = interval(period);
            let mut last = None;
            loop {
                let (due, now) = (ticks.tick().await, Instant::now());
                let periods = last.map_or(1, |last| due.since(last).as_nanos() / period.as_nanos());
                println!(
                    "tick due={} monotonic={} missed={} generation={}",
                    due.as_ns(),
                    now.as_ns(),
                    periods.saturating_sub(1),
                    generation()
                );
                last = Some(due);
            }
        });
        stop::requested().await;
        Ok(())
    })
}

/// Timers set in any order come in the order of their deadlines, each once, and none is early.
pub fn order(count: u64) -> Checked {
    let start = Instant::now() + START;
    let came = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&came);
    ilwaco::block_on(async move {
        for number in 0..count {
            let seen = Rc::clone(&seen);
            let after = number.wrapping_mul(0x9e37_79b9) % 50_000;
            let due = start + Duration::from_micros(after);
            ilwaco::spawn(async move {
                sleep_until(due).await;
                seen.borrow_mut().push((due, Instant::now()));
            });
        }
        while (seen.borrow().len() as u64) < count {
            ilwaco::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let came = came.borrow();
    check(came.len() as u64 == count, "a timer came twice")?;
    check(came.iter().all(|(due, now)| now >= due), "a timer came too early")?;
    check(came.is_sorted_by_key(|(due, _)| *due), "timers out of order")
}

/// Reads the clock, computing and idling in turns, until asked to stop; prints `ready` first.
pub fn watch() -> Checked {
    println!("ready");
    let (mut last, mut readings, mut gap) = (Instant::now(), 0_u64, 0);
    loop {
        for _ in 0..20_000 {
            let now = Instant::now();
            check(now >= last, "the clock went backwards")?;
            gap = gap.max(now.since(last).as_nanos());
            last = now;
            readings += 1;
        }
        let deadline = last.as_ns() + MS;
        let bits = time::idle_once(deadline);
        let now = Instant::now();
        check(now >= last, "the clock went backwards across IDLE")?;
        let due = now.as_ns() >= deadline;
        check(due || bits & 1 << PENDING_TIMER == 0, "the timer came before the deadline")?;
        last = now;
        if bits & 1 << PENDING_STOP != 0 {
            println!("readings={readings}");
            println!("longest_gap_us={}", gap / 1000);
            println!("realtime={}", realtime_ns());
            return Ok(());
        }
    }
}

/// Sets a deadline, prints `ready`, and idles, while somebody stops and continues the monitor; the deadline passes
/// meanwhile, and raises its bit once. Prints the time before and after.
pub fn stopped(ms: u64) -> Checked {
    let registers = virtual_registers();
    let start = Instant::now();
    let deadline = start.as_ns() + ms * MS;
    println!("ready");
    let mut fired = 0;
    while Instant::now().as_ns() < deadline || fired == 0 {
        let bits = time::idle_once(if fired == 0 { deadline } else { NO_DEADLINE });
        if bits & 1 << PENDING_TIMER != 0 {
            check(Instant::now().as_ns() >= deadline, "the timer came before the deadline")?;
            fired += 1;
        }
    }
    // For a while nothing else may come of it, idling or running.
    registers.idle_deadline_ns.store(NO_DEADLINE, Ordering::SeqCst);
    for _ in 0..100 {
        instructions::out(doorbell::FLUSH, 0);
    }
    let again = registers.pending.load(Ordering::SeqCst) & 1 << PENDING_TIMER != 0;
    check(fired == 1 && !again, "the timer came twice")?;
    println!("passed_us={}", start.elapsed().as_micros());
    println!("realtime={}", realtime_ns());
    Ok(())
}
