//! Rounds, in each of which everybody reads once, one after the other.

use super::file::TestFile;
use super::fio;
use super::load::{Came, LOADS, Load};
use super::reader::{self, Source};
use super::storage_daemon::StorageDaemon;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::options::BlockOptions;
use crate::programs::Programs;
use crate::summary::Series;
use anyhow::Result;

/// What one reader of one load came to, in all rounds.
#[derive(Debug, Default)]
struct Results {
    requests_per_s: Series,
    latency_us: Series,
    /// Part of fio's rate in the same round.
    ratio: Series,
    exits_per_request: Series,
}

impl Results {
    fn push(&mut self, came: Came, fio: Came, load: Load) {
        self.requests_per_s.push(came.requests_per_s);
        self.latency_us.push(came.latency_us(load));
        self.ratio.push(came.requests_per_s / fio.requests_per_s);
        if let Some(exits) = came.exits_per_request {
            self.exits_per_request.push(exits);
        }
    }
}

/// One load: fio, then each back end with its file and with the daemon.
#[derive(Debug)]
struct OfLoad {
    load: Load,
    fio: Results,
    guests: Vec<(Backend, Results, Results)>,
}

/// Everything that was measured.
#[derive(Debug)]
pub(super) struct Rounds(Vec<OfLoad>);

impl Rounds {
    /// Measures everybody, round after round.
    pub(super) fn measure(
        file: &TestFile,
        daemon: Option<&StorageDaemon>,
        backends: &[Backend],
        programs: &Programs,
        options: &BlockOptions,
    ) -> Result<Self> {
        let guests = || backends.iter().map(|&it| (it, Results::default(), Results::default()));
        let of_load = |load| OfLoad { load, fio: Results::default(), guests: guests().collect() };
        let mut loads: Vec<OfLoad> = LOADS.into_iter().map(of_load).collect();
        let socket = daemon.map(StorageDaemon::socket);
        for round in 1..=options.runs {
            eprintln!("round {round} of {}", options.runs);
            for OfLoad { load, fio, guests } in &mut loads {
                let (load, seconds) = (*load, options.seconds);
                let native = fio::read(file, load, seconds)?;
                fio.push(native, native, load);
                for (backend, own, daemons) in guests {
                    let read = |source, results: &mut Results| -> Result<()> {
                        let came = reader::read(source, *backend, load, seconds, programs)?;
                        results.push(came, native, load);
                        Ok(())
                    };
                    read(Source::File(file.path()), own)?;
                    if let Some(socket) = &socket {
                        read(Source::VhostUser(socket), daemons)?;
                    }
                }
            }
        }
        Ok(Self(loads))
    }

    /// Enters the figures.
    pub(super) fn fill(&self, figures: &mut Figures) {
        for OfLoad { load, fio, guests } in &self.0 {
            let name = load.name;
            for (backend, own, daemon) in guests {
                let suffix = backend.suffix();
                let mut set = |what: &str, series: &Series| {
                    figures.set(format!("{name}_{what}{suffix}"), series.median());
                };
                set("fio_per_s", &fio.requests_per_s);
                set("fio_us", &fio.latency_us);
                set("per_s", &own.requests_per_s);
                set("us", &own.latency_us);
                set("ratio", &own.ratio);
                set("exits_per_request", &own.exits_per_request);
                set("daemon_per_s", &daemon.requests_per_s);
                set("daemon_ratio", &daemon.ratio);
            }
        }
        for backend in Backend::ALL {
            let suffix = backend.suffix();
            let exits = figures.get(&format!("rand_read_exits_per_request{suffix}"));
            if exits.is_some() {
                figures.set(format!("exits_per_request{suffix}"), exits);
            }
        }
    }
}
