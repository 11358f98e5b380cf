//! The measurement: in each round every server once, so that what disturbs the machine disturbs all.

use super::GuestServer;
use super::load::{self, Measured};
use super::server::Server;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::options::HttpOptions;
use crate::summary::Series;
use anyhow::Result;
use std::time::Instant;

/// What one server did in each round.
#[derive(Debug, Default)]
struct Results {
    measured: Vec<Measured>,
    exits_per_request: Series,
    processor_percent: Series,
}

impl Results {
    fn series(&self, part: fn(&Measured) -> f64) -> Series {
        self.measured.iter().map(part).collect()
    }

    fn median(&self, part: fn(&Measured) -> f64) -> Option<f64> {
        self.series(part).median()
    }

    /// The median over the rounds of a figure relative to another server's in the same round.
    fn relative(&self, to: &Self, part: fn(&Measured) -> f64) -> Series {
        self.measured.iter().zip(&to.measured).map(|(own, other)| part(own) / part(other)).collect()
    }

    fn take(&mut self, server: &Server, is_guest: bool, seconds: u32) -> Result<()> {
        let counted = |server: &Server| is_guest.then(|| server.exits_and_requests()).transpose();
        let (before, processor, start) =
            (counted(server)?, server.processor_seconds()?, Instant::now());
        self.measured.push(load::run(server.address, seconds)?);
        let processor = server.processor_seconds()? - processor;
        self.processor_percent.push(100.0 * processor / start.elapsed().as_secs_f64());
        if let (Some((exits, requests)), Some(after)) = (before, counted(server)?) {
            self.exits_per_request.push((after.0 - exits) / (after.1 - requests));
        }
        Ok(())
    }
}

/// What all servers did.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    native: Results,
    nginx: Results,
    guests: Vec<(Backend, Results)>,
}

impl Rounds {
    /// Measures every server once in each round, after one short round that does not count.
    pub(super) fn measure(
        native: &Server,
        guests: &[GuestServer],
        nginx: Option<&Server>,
        options: &HttpOptions,
    ) -> Result<Self> {
        let new = || guests.iter().map(|(backend, _)| (*backend, Results::default())).collect();
        let mut rounds = Self { guests: new(), ..Self::default() };
        rounds.round(native, guests, nginx, 1)?;
        rounds = Self { guests: new(), ..Self::default() };
        for number in 1..=options.runs {
            eprintln!("round {number} of {}", options.runs);
            rounds.round(native, guests, nginx, options.seconds)?;
        }
        Ok(rounds)
    }

    fn round(
        &mut self,
        native: &Server,
        guests: &[GuestServer],
        nginx: Option<&Server>,
        seconds: u32,
    ) -> Result<()> {
        self.native.take(native, false, seconds)?;
        for ((_, results), (_, server)) in self.guests.iter_mut().zip(guests) {
            results.take(server, true, seconds)?;
        }
        nginx.map_or(Ok(()), |nginx| self.nginx.take(nginx, false, seconds))
    }

    /// Sets the figures.
    pub(super) fn fill(&self, figures: &mut Figures) {
        let per_second = |it: &Measured| it.requests_per_s;
        for (backend, guest) in &self.guests {
            let mut set = |name: &str, value: Option<f64>| {
                figures.set(format!("{name}{}", backend.suffix()), value);
            };
            set("guest_requests_per_s", guest.median(per_second));
            set("native_requests_per_s", self.native.median(per_second));
            let ratio = guest.relative(&self.native, per_second).summary();
            set("ratio", ratio.map(|it| it.median));
            set("ratio_min", ratio.map(|it| it.min));
            set("ratio_p90", ratio.map(|it| it.p90));
            set("guest_p50_ms", guest.median(|it| it.p50_ms));
            set("native_p50_ms", self.native.median(|it| it.p50_ms));
            set("guest_p99_ms", guest.median(|it| it.p99_ms));
            set("native_p99_ms", self.native.median(|it| it.p99_ms));
            set("p99_ratio", guest.relative(&self.native, |it| it.p99_ms).median());
            set("exits_per_request", guest.exits_per_request.median());
            set("guest_cpu_percent", guest.processor_percent.median());
            set("native_cpu_percent", self.native.processor_percent.median());
        }
        figures.set("nginx_requests_per_s", self.nginx.median(per_second));
        figures.set("nginx_p50_ms", self.nginx.median(|it| it.p50_ms));
        figures.set("nginx_p99_ms", self.nginx.median(|it| it.p99_ms));
        figures.set("nginx_cpu_percent", self.nginx.processor_percent.median());
    }
}
