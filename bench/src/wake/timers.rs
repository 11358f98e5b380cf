//! How late a guest's timers are, by its own clock.

use super::guests::{Guests, Kind, pin_server};
use super::text::of_both;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::programs::Programs;
use crate::table::Table;
use anyhow::{Context, Result};

/// Periods in µs, what names of figures have in them, and what people call them.
const PERIODS: [(u64, &str, &str); 3] =
    [(1_000, "1ms", "1 ms"), (10_000, "10ms", "10 ms"), (1_000_000, "1s", "1 s")];

/// What the guest says of each timer, and what people call it.
const SHARES: [(&str, &str); 4] =
    [("p50", "median"), ("p99", "99th percentile"), ("p999", "99.9th percentile"), ("max", "max")];

/// The names of the figures, without the back end's suffix.
pub(super) fn names() -> Vec<String> {
    let names = PERIODS.map(|(_, period, _)| SHARES.map(|(share, _)| name(period, share)));
    names.into_iter().flatten().collect()
}

fn name(period: &str, share: &str) -> String {
    format!("timer_{period}_late_us_{share}")
}

/// Measures all three at once, in one guest.
pub(super) fn measure(
    backend: Backend,
    seconds: u32,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    eprintln!("{}: timers, for {seconds} s", backend.title());
    let kind = Kind::probe(format!("lateness {seconds}"), None);
    let guest = Guests::start(kind, backend, 1, programs)?;
    guest.pids().into_iter().try_for_each(pin_server)?;
    let text = guest.finish()?;
    for (period_us, period, _) in PERIODS {
        for (share, _) in SHARES {
            let late = find(&text, period_us, share);
            let late = late.with_context(|| format!("the guest does not say how late: {text}"))?;
            let name = format!("{}{}", name(period, share), backend.suffix());
            figures.set(name, Some(late / 1000.0));
        }
    }
    Ok(())
}

/// What the guest says of one timer, in ns.
fn find(text: &str, period_us: u64, share: &str) -> Option<f64> {
    let start = format!("period_us={period_us} ");
    let line = text.lines().find(|line| line.starts_with(&start))?;
    let (_, rest) = line.split_once(&format!(" {share}_ns="))?;
    rest.split(' ').next()?.parse().ok()
}

/// The table.
pub(super) fn table(figures: &Figures) -> Table {
    let mut table = Table::new(&["timers: how late, µs", "KVM", "process"]);
    for (_, period, title) in PERIODS {
        for (share, called) in SHARES {
            let cells = [format!("each {title}, {called}")];
            let of_both = of_both(figures, &name(period, share));
            table.row(cells.into_iter().chain(of_both));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_says_is_understood() {
        let text = "measuring\nperiod_us=1000 ticks=9 p50_ns=5 p99_ns=7 p999_ns=8 max_ns=9\n\
                    period_us=10000 ticks=1 p50_ns=50 p99_ns=70 p999_ns=80 max_ns=90\n";
        assert_eq!(find(text, 1000, "p99"), Some(7.0));
        assert_eq!(find(text, 10_000, "max"), Some(90.0));
        assert_eq!(find(text, 10_000, "p999"), Some(80.0));
        assert_eq!(find(text, 1_000_000, "p50"), None);
    }
}
