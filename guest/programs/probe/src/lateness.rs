//! How late timers are.

use crate::Checked;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;
use ilwaco::clock::Instant;
use ilwaco::println;
use ilwaco::time::{interval, sleep};

/// The timers that run at once: periods in µs.
const PERIODS_US: [u64; 3] = [1_000, 10_000, 1_000_000];

/// Time for the last ticks to come: more than the longest period.
const SLACK: Duration = Duration::from_secs(2);

/// Has three timers at once for so many seconds; prints of each how late its ticks were, in ns, as
/// `period_us=1000 ticks=… p50_ns=… p99_ns=… p999_ns=… max_ns=…`.
pub fn run(seconds: u64) -> Checked {
    println!("measuring");
    ilwaco::block_on(async move {
        let time = Duration::from_secs(seconds);
        let timers = PERIODS_US.map(|period| (period, Rc::new(RefCell::new(Vec::new()))));
        for (period, late) in &timers {
            ilwaco::spawn(watch(*period, time, Rc::clone(late)));
        }
        sleep(time + SLACK).await;
        for (period, late) in timers {
            tell(period, &mut late.borrow_mut());
        }
    });
    Ok(())
}

fn tell(period: u64, late: &mut [u64]) {
    late.sort_unstable();
    let share = |thousandths: usize| {
        let rank = (late.len() * thousandths).div_ceil(1000).max(1);
        late.get(rank - 1).copied().unwrap_or(0)
    };
    let ticks = late.len();
    let [p50, p99, p999, max] = [500, 990, 999, 1000].map(share);
    println!(
        "period_us={period} ticks={ticks} p50_ns={p50} p99_ns={p99} p999_ns={p999} max_ns={max}"
    );
}

/// Notes how late each tick of a timer is, in ns.
async fn watch(period_us: u64, time: Duration, late: Rc<RefCell<Vec<u64>>>) {
    late.borrow_mut().reserve((time.as_micros() as u64 / period_us) as usize + 2);
    let mut ticks = interval(Duration::from_micros(period_us));
    let start = Instant::now();
    while start.elapsed() < time {
        let due = ticks.tick().await;
        late.borrow_mut().push(due.elapsed().as_nanos() as u64);
    }
}
