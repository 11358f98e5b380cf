//! What a supervisor says at a time, and how fast its numbers grow.

use crate::fleet::{natural, now_ms};
use crate::output::Failure;
use denali_client::{Client, GuestView, HostView};
use std::collections::HashMap;
use std::time::Instant;

/// A guest at a time.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    /// What the supervisor says.
    pub(super) view: GuestView,
    /// Packets per second since the sample before; `None` if it was not in that.
    pub(super) rate: Option<f64>,
}

/// All of it at a time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// The host.
    pub(super) host: HostView,
    /// The guests, by name in the order in which people count.
    pub(super) guests: Vec<Guest>,
    /// Guests that came back, per second since the sample before.
    pub(super) wakes: Option<f64>,
    /// Guests that were parked, likewise.
    pub(super) parks: Option<f64>,
    /// When, in ms since 1970-01-01 UTC.
    pub(super) at_ms: u64,
}

/// Takes samples.
#[derive(Debug)]
pub(super) struct Sampler {
    client: Client,
    patterns: Vec<String>,
    before: Option<Before>,
}

/// What is remembered of a sample.
#[derive(Debug)]
struct Before {
    at: Instant,
    wakes: u64,
    parks: u64,
    packets: HashMap<String, u64>,
}

impl Sampler {
    /// Of the guests that the patterns name; of all without any.
    pub(super) fn new(client: Client, patterns: Vec<String>) -> Self {
        Self { client, patterns, before: None }
    }

    /// Asks the supervisor.
    pub(super) fn sample(&mut self) -> Result<Sample, Failure> {
        let host = self.client.host()?;
        let views: Result<Vec<GuestView>, _> = self.client.list(&self.patterns)?.collect();
        let views = views?;
        let at = Instant::now();
        let seconds = self.before.as_ref().map_or(0.0, |before| (at - before.at).as_secs_f64());
        let sample = compare(self.before.as_ref(), host, views, seconds);
        let packets =
            sample.guests.iter().map(|guest| (guest.view.name.clone(), guest.view.packets));
        self.before = Some(Before {
            at,
            wakes: sample.host.wakes,
            parks: sample.host.parks,
            packets: packets.collect(),
        });
        Ok(sample)
    }
}

/// A sample, compared with the one `seconds` before.
fn compare(before: Option<&Before>, host: HostView, views: Vec<GuestView>, seconds: f64) -> Sample {
    // A counter that is smaller than it was has begun anew.
    let rate = |now: u64, then: u64| {
        (seconds > 0.0).then(|| now.checked_sub(then).unwrap_or(now) as f64 / seconds)
    };
    let of_guest = |view: GuestView| {
        let then = before.and_then(|before| before.packets.get(&view.name));
        Guest { rate: then.and_then(|&then| rate(view.packets, then)), view }
    };
    let mut guests: Vec<Guest> = views.into_iter().map(of_guest).collect();
    guests.sort_by(|one, other| natural(&one.view.name, &other.view.name));
    Sample {
        wakes: before.and_then(|before| rate(host.wakes, before.wakes)),
        parks: before.and_then(|before| rate(host.parks, before.parks)),
        guests,
        host,
        at_ms: now_ms(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use denali_client::{Counts, Desired, Gate, GuestState, Memory, PoolView, SwapView};

    /// A guest that has had so many packets.
    pub(crate) fn view(name: &str, state: GuestState, packets: u64) -> GuestView {
        GuestView {
            name: name.into(),
            id: "0".repeat(32),
            tenant: "default".into(),
            state,
            desired: Desired::Running,
            address: Some([10, 77, 0, 1].into()),
            image: "web".into(),
            pid: None,
            memory_bytes: 16 << 20,
            stored_bytes: 1 << 20,
            wakes: 2,
            restarts: 0,
            since_ms: 1000,
            active_ms: Some(2000),
            packets,
            note: None,
        }
    }

    /// A host with these guests.
    pub(crate) fn host(guests: &[GuestView]) -> HostView {
        let mut counts = Counts::new();
        for guest in guests {
            *counts.entry(guest.state).or_default() += 1;
        }
        HostView {
            version: "0.1.0".into(),
            since_ms: 0,
            guests: counts,
            memory: Memory {
                total: 24 << 30,
                available: 6 << 30,
                minimum_free: 1 << 30,
                budget: 0,
                charged: 10 << 30,
            },
            swap: vec![SwapView {
                folder: "/var/swap".into(),
                total: 100 << 30,
                free: 75 << 30,
                problem: None,
            }],
            pool: PoolView { size: 8, ready: 7, missed: 1 },
            gate: Gate {
                queued: 2,
                admitted: 10,
                evicted: 3,
                max_running: 9,
                last: "room for all".into(),
            },
            wakes: 110,
            parks: 55,
            restarts: 4,
            wake_us: [2100, 9800],
            switch: true,
            drains: false,
        }
    }

    /// A sample of these guests, each with as many packets in the second before as its place says.
    pub(crate) fn sample(guests: Vec<GuestView>) -> Sample {
        let then = guests.iter().enumerate();
        let packets = then
            .map(|(place, guest)| (guest.name.clone(), guest.packets.saturating_sub(place as u64)));
        let before =
            Before { at: Instant::now(), wakes: 100, parks: 50, packets: packets.collect() };
        Sample { at_ms: 10_000, ..compare(Some(&before), host(&guests), guests, 1.0) }
    }

    #[test]
    fn rates_are_of_the_time_between_two_samples() {
        let guests = vec![
            view("web-10", GuestState::Running, 500),
            view("web-2", GuestState::Running, 30),
            view("web-3", GuestState::Parked, 7),
        ];
        let packets = [("web-10".to_owned(), 100), ("web-2".to_owned(), 50)];
        let before = Before { at: Instant::now(), wakes: 100, parks: 60, packets: packets.into() };
        let found = compare(Some(&before), host(&guests), guests.clone(), 2.0);
        let rates: Vec<_> =
            found.guests.iter().map(|guest| (guest.view.name.as_str(), guest.rate)).collect();
        // Of a guest that has been made anew only what it has had since then is known.
        assert_eq!(rates, [("web-2", Some(15.0)), ("web-3", None), ("web-10", Some(200.0))]);
        assert_eq!((found.wakes, found.parks), (Some(5.0), Some(27.5)));
        let first = compare(None, host(&guests), guests, 0.0);
        assert_eq!((first.wakes, first.guests[0].rate), (None, None));
    }
}
