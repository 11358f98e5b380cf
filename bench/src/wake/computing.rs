//! Arrival at a guest that computes: how long until its program has what came, by the window in which
//! interrupts are gathered.

use super::client::Client;
use super::guests::{Guests, Kind, as_client, pin_server};
use super::ticks::Rate;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::latencies::{Latencies, SHARES};
use crate::options::WakeOptions;
use crate::programs::Programs;
use anyhow::{Context, Result};

/// Port of the guests.
const PORT: u16 = 7;

/// Windows as a configuration has them, what names of figures have in them, and what people call them.
pub(super) const WINDOWS: [(&str, &str, &str); 4] = [
    ("\"adaptive\"", "", "adaptive"),
    ("0", "_off", "off"),
    ("\"200us\"", "_200us", "200 µs"),
    ("\"1ms\"", "_1ms", "1 ms"),
];

/// What names of figures end with: shares in thousandths.
pub(super) fn shares() -> impl Iterator<Item = (usize, &'static str)> {
    SHARES.into_iter().chain([(1000, "max")])
}

/// Measures one back end with each window in turn.
pub(super) fn measure(
    backend: Backend,
    options: &WakeOptions,
    rate: Rate,
    programs: &Programs,
) -> Result<Vec<Latencies>> {
    let mut all = Vec::new();
    for (window, ..) in WINDOWS {
        eprintln!("{}: a guest that computes, window {window}", backend.title());
        let kind = Kind::probe("wake-computing 7", Some(PORT));
        let kind = kind.with(format!("interrupts.window={window}"));
        let guest = Guests::start(kind, backend, 1, programs)?;
        guest.pids().into_iter().try_for_each(pin_server)?;
        let address = guest.addresses()[0];
        let latencies = as_client(|| {
            let mut client = Client::connect(address, rate)?;
            let mut latencies = Latencies::default();
            for _ in 0..options.runs * options.events / 2 {
                if let Some(heard) = client.exchange()?.heard {
                    latencies.push(heard);
                }
            }
            Ok(latencies)
        });
        all.push(latencies.with_context(|| programs.last_message())?);
    }
    Ok(all)
}

/// Sets the figures of all back ends.
pub(super) fn fill(measured: &[(Backend, Vec<Latencies>)], figures: &mut Figures) {
    for (backend, windows) in measured {
        for ((_, infix, _), latencies) in WINDOWS.iter().zip(windows) {
            for (share, what) in shares() {
                let name = format!("{}{}", name(infix, what), backend.suffix());
                figures.set(name, latencies.percentile(share));
            }
        }
    }
}

/// The name of a figure, without the back end's suffix.
pub(super) fn name(infix: &str, what: &str) -> String {
    format!("event_to_computing{infix}_us_{what}")
}
