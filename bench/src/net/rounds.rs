//! The measurement: in each round every server once in each network and direction, so that what
//! disturbs the machine disturbs all.

use super::client::{self, Measured, Way};
use super::place::{Kind, Place};
use super::server::{self, Counted};
use crate::backend::Backend;
use crate::figures::Figures;
use crate::options::NetOptions;
use crate::programs::Programs;
use crate::summary::Series;
use anyhow::{Context, Result};

/// Who the data goes to or comes from: a guest, or the native server.
type Who = Option<Backend>;

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Run {
    kind: Kind,
    way: Way,
    who: Who,
    measured: Measured,
    counted: Counted,
}

/// All measurements, in their order.
#[derive(Debug, Default)]
pub(super) struct Rounds(Vec<Run>);

impl Rounds {
    /// Measures all rounds, after one short one that does not count.
    pub(super) fn measure(
        places: &[Place],
        backends: &[Backend],
        programs: &Programs,
        options: &NetOptions,
    ) -> Result<Self> {
        let mut warm_up = Self::default();
        warm_up.round(places, backends, programs, 1)?;
        let mut rounds = Self::default();
        for number in 1..=options.runs {
            eprintln!("round {number} of {}", options.runs);
            rounds.round(places, backends, programs, options.seconds)?;
        }
        Ok(rounds)
    }

    fn round(
        &mut self,
        places: &[Place],
        backends: &[Backend],
        programs: &Programs,
        seconds: u32,
    ) -> Result<()> {
        for place in places {
            for way in Way::ALL {
                for who in std::iter::once(None).chain(backends.iter().copied().map(Some)) {
                    let run = measure(place, way, who, programs, seconds);
                    self.0
                        .push(run.with_context(|| format!("{:?}, {way:?}, {who:?}", place.kind))?);
                }
            }
        }
        Ok(())
    }

    fn runs(&self, kind: Kind, way: Way, who: Who) -> impl Iterator<Item = &Run> {
        self.0.iter().filter(move |run| run.kind == kind && run.way == way && run.who == who)
    }

    fn median(&self, kind: Kind, way: Way, who: Who, of: fn(&Run) -> f64) -> Option<f64> {
        self.runs(kind, way, who).map(of).collect::<Series>().median()
    }

    /// Throughput as a part of native's in the same round: median of the rounds.
    fn ratio(&self, kind: Kind, way: Way, backend: Backend) -> Option<f64> {
        let guest = self.runs(kind, way, Some(backend));
        let pairs = guest.zip(self.runs(kind, way, None));
        let ratios = pairs.map(|(guest, native)| guest.measured.mbit_s / native.measured.mbit_s);
        ratios.collect::<Series>().median()
    }

    /// Sets the figures.
    pub(super) fn fill(&self, figures: &mut Figures) {
        let backends = Backend::ALL.into_iter();
        let measured = |backend: &Backend| self.0.iter().any(|run| run.who == Some(*backend));
        for backend in backends.filter(measured) {
            let mut set = |name: String, value: Option<f64>| {
                figures.set(format!("{name}{}", backend.suffix()), value);
            };
            for (kind, shape) in [(Kind::Direct, ""), (Kind::Shaped, "_10g")] {
                for (way, direction) in [(Way::To, ""), (Way::From, "_reverse")] {
                    let end = format!("{direction}{shape}");
                    let of = |who, of| self.median(kind, way, who, of);
                    for (name, who) in [("guest", Some(backend)), ("native", None)] {
                        set(format!("tcp_{name}_mbit_s{end}"), of(who, |run| run.measured.mbit_s));
                        let cpu = of(who, |run| run.measured.cpu_ns_per_kib);
                        set(format!("{name}_cpu_ns_per_kib{end}"), cpu);
                    }
                    let index = usize::from(way == Way::From);
                    let per_exit: [fn(&Run) -> f64; 4] = [
                        |run| run.counted.packets[0] / run.counted.exits,
                        |run| run.counted.packets[1] / run.counted.exits,
                        |run| run.counted.frames[0] / run.counted.exits,
                        |run| run.counted.frames[1] / run.counted.exits,
                    ];
                    let guest = Some(backend);
                    set(format!("packets_per_exit{end}"), of(guest, per_exit[index]));
                    set(format!("segments_per_exit{end}"), of(guest, per_exit[2 + index]));
                    set(
                        format!("ratio{direction}{}", ratio_end(kind)),
                        self.ratio(kind, way, backend),
                    );
                }
            }
            set_worst(figures, backend);
        }
    }
}

fn ratio_end(kind: Kind) -> &'static str {
    match kind {
        Kind::Direct => "_unshaped",
        Kind::Shaped => "_10g",
    }
}

/// The bounds hold for either direction: the figures that have one are the worse direction's.
fn set_worst(figures: &mut Figures, backend: Backend) {
    let suffix = backend.suffix();
    for end in ["_unshaped", "_10g"] {
        let both = ["to", "reverse"].map(|way| format!("ratio_{way}{end}{suffix}"));
        let forward = figures.get(&format!("ratio{end}{suffix}"));
        let reverse = figures.get(&both[1]);
        figures.set(both[0].clone(), forward);
        let worst = forward.zip(reverse).map(|(forward, reverse)| forward.min(reverse));
        figures.set(format!("ratio{end}{suffix}"), worst);
    }
}

fn measure(place: &Place, way: Way, who: Who, programs: &Programs, seconds: u32) -> Result<Run> {
    let (_, client, address) = place.ends(who.is_some());
    let server = match who {
        Some(backend) => server::guest("iperf", backend, place, programs)?,
        None => server::native(place)?,
    };
    let measured = client::run(client, address, way, seconds)?;
    let counted = if who.is_some() { server.counted()? } else { Counted::default() };
    Ok(Run { kind: place.kind, way, who, measured, counted })
}
