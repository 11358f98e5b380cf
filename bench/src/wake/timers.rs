//! How late a guest's timers are, by its own clock.

use super::guests::{Guests, Kind, as_server};
use crate::backend::Backend;
use crate::figures::Figures;
use crate::programs::Programs;
use crate::table::Table;
use anyhow::{Context, Result};

/// Periods in ms, what names of figures have in them, and what people call them.
const PERIODS: [(u64, &str, &str); 3] =
    [(1, "1ms", "1 ms"), (10, "10ms", "10 ms"), (1000, "1s", "1 s")];

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
    let kind = Kind::probe(format!("timers {seconds}"), None).silent();
    let text = as_server(|| Guests::start(kind, backend, 1, programs)?.finish())?;
    for (period_ms, period, _) in PERIODS {
        for (share, _) in SHARES {
            let late = find(&text, period_ms, share);
            let late = late.with_context(|| format!("the guest does not say how late: {text}"))?;
            figures.set(format!("{}{}", name(period, share), backend.suffix()), Some(late));
        }
    }
    Ok(())
}

/// What the guest says of one timer, in µs.
fn find(text: &str, period_ms: u64, share: &str) -> Option<f64> {
    let start = format!("timer period_ms={period_ms} ");
    let line = text.lines().find(|line| line.starts_with(&start))?;
    let (_, rest) = line.split_once(&format!(" late_us_{share}="))?;
    rest.split(' ').next()?.parse().ok()
}

/// The table.
pub(super) fn table(figures: &Figures) -> Table {
    let mut table = Table::new(&["timers: how late, µs", "KVM", "process"]);
    for (_, period, title) in PERIODS {
        for (share, called) in SHARES {
            let cells = [format!("each {title}, {called}")];
            let values = figures.of_backends(&[name(period, share)]);
            table.row(cells.into_iter().chain(values));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_says_is_understood() {
        let text = "timer period_ms=1 count=9 late_us_p50=5.0 late_us_p99=7.5 late_us_p999=8 \
                    late_us_max=9.25\ntimer period_ms=10 count=1 late_us_p50=50 late_us_max=90\n";
        assert_eq!((find(text, 1, "p99"), find(text, 1, "max")), (Some(7.5), Some(9.25)));
        assert_eq!((find(text, 10, "max"), find(text, 10, "p999")), (Some(90.0), None));
        assert_eq!(find(text, 1000, "p50"), None);
    }
}
