//! What a parked guest costs its keeper in memory.

use super::keep::{Keep, Kind};
use super::subject::Subject;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::proc;
use anyhow::{Result, bail};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The figure's name.
pub(super) const FIGURE: &str = "wake-parked/resident_bytes_per_parked_guest";

/// Guests of the keeper that others are compared with.
const FEW: usize = 1;

/// What the keeper's allocator may have at the end of its heap for nobody, in KiB: two keepers of the same guests
/// may differ by as much.
const UNCERTAIN_KIB: f64 = 128.0;

/// What many guests cost must be so many times what is uncertain.
const CERTAIN: f64 = 4.0;

/// How long a keeper's memory must be the same until it has settled, and how long that may take.
const STEADY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// A keeper's memory, all its guests being parked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    guests: usize,
    kib: f64,
}

impl Footprint {
    /// Measures, once the keeper's memory is the same for a while.
    pub(super) fn of(keep: &Keep) -> Result<Self> {
        keep.seen().await_parked()?;
        let (begun, mut since) = (Instant::now(), Instant::now());
        let mut kib = proc::own_pss_kib(keep.pid())?;
        while since.elapsed() < STEADY {
            if begun.elapsed() > PATIENCE {
                bail!("the keeper's memory does not settle");
            }
            sleep(STEADY / 10);
            let now = proc::own_pss_kib(keep.pid())?;
            if now != kib {
                (kib, since) = (now, Instant::now());
            }
        }
        Ok(Self { guests: keep.count(), kib })
    }

    /// The same of another keeper that has hardly any guests.
    pub(super) fn of_few(subject: Subject<'_>) -> Result<Self> {
        let Subject { backend, place, programs, .. } = subject;
        let keep = Keep::start(Kind::parked(backend), ("few", FEW), place, programs)?;
        Self::of(&keep)
    }

    /// Bytes of each guest that this keeper has more than the other; where they are too few to tell, why.
    pub(super) fn bytes_of_each(self, few: Self) -> Result<f64, String> {
        let (more, kib) = (self.guests.saturating_sub(few.guests), self.kib - few.kib);
        let least = CERTAIN * UNCERTAIN_KIB;
        if more == 0 || kib < least {
            return Err(format!(
                "{} guests are too few: they take {kib} KiB, and it takes {least} to tell",
                self.guests
            ));
        }
        Ok(kib * 1024.0 / more as f64)
    }
}

/// Sets the figure, or names why there is none.
pub(super) fn fill(backend: Backend, of_each: Result<f64, String>, figures: &mut Figures) {
    if let Err(problem) = &of_each {
        figures.skip(&format!("{}, memory of a parked guest", backend.title()), problem);
    }
    figures.set(format!("{FIGURE}{}", backend.suffix()), of_each.ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_that_are_too_few_are_named_and_not_measured() {
        let of = |guests, kib| Footprint { guests, kib };
        let few = of(1, 650.0);
        assert_eq!(of(1025, 3722.0).bytes_of_each(few), Ok(3072.0));
        for (guests, kib) in [(101, 640.0), (101, 1161.0), (1, 5000.0)] {
            let problem = of(guests, kib).bytes_of_each(few).unwrap_err();
            assert!(problem.starts_with(&format!("{guests} guests are too few")), "{problem}");
        }
    }
}
