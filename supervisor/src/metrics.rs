//! The host as Prometheus reads it: names, units, and no label that grows with the number of guests.

use crate::limits::FOLDERS;
use denali_client::{GuestState, HostView};
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Media type of Prometheus' text format.
pub(crate) const MEDIA: &str = "text/plain; version=0.0.4; charset=utf-8";

/// States as the label `state` has them.
const STATES: [(GuestState, &str); 7] = [
    (GuestState::Stopped, "stopped"),
    (GuestState::Queued, "queued"),
    (GuestState::Waking, "waking"),
    (GuestState::Running, "running"),
    (GuestState::Parking, "parking"),
    (GuestState::Parked, "parked"),
    (GuestState::Failed, "failed"),
];

/// What the interface counts of itself.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Answers by the first digit of their HTTP status, from 1 on.
    answers: [AtomicU64; 5],
    /// Connections that are open.
    pub(crate) connections: AtomicU64,
    /// Connections of users who may not ask.
    pub(crate) strangers: AtomicU64,
    /// Connections that there was no place for.
    pub(crate) crowded_out: AtomicU64,
}

impl Counters {
    /// An answer of this HTTP status was given.
    pub(crate) fn answered(&self, code: u16) {
        let class = usize::from(code / 100).wrapping_sub(1);
        if let Some(count) = self.answers.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Everything there is to measure.
pub(crate) fn text(host: &HostView, counters: &Counters) -> String {
    let mut page = Page(String::new());
    page.host(host);
    page.memory(host);
    page.gate_and_pool(host);
    page.swap(host);
    page.interface(counters);
    page.0
}

/// The text as far as it is written.
struct Page(String);

impl Page {
    fn host(&mut self, host: &HostView) {
        self.family("denali_info", "gauge", "Version of the supervisor.");
        self.sample("denali_info", &[("version", &host.version)], 1);
        let started = host.since_ms as f64 / 1e3;
        self.gauge(
            "denali_start_time_seconds",
            "When the supervisor started, since 1970.",
            started,
        );
        self.gauge("denali_draining", "Whether the supervisor stops.", u8::from(host.drains));
        self.gauge("denali_switch_up", "Whether there is a switch.", u8::from(host.switch));
        self.family("denali_guests", "gauge", "Guests by what they do.");
        for (state, label) in STATES {
            let count = host.guests.get(&state).copied().unwrap_or_default();
            self.sample("denali_guests", &[("state", label)], count);
        }
        self.counter("denali_wakes_total", "Guests that came back from their regions.", host.wakes);
        self.counter("denali_parks_total", "Guests that were parked.", host.parks);
        let help = "Guests that were started anew because their monitors had ended.";
        self.counter("denali_restarts_total", help, host.restarts);
        let help = "Time to a guest's first instruction, of the last 1,024 that came back.";
        self.family("denali_wake_seconds", "gauge", help);
        for (quantile, micros) in [("0.5", host.wake_us[0]), ("0.99", host.wake_us[1])] {
            self.sample("denali_wake_seconds", &[("quantile", quantile)], micros as f64 / 1e6);
        }
    }

    fn memory(&mut self, host: &HostView) {
        let memory = &host.memory;
        for (name, help, value) in [
            ("total", "The host's memory.", memory.total),
            ("available", "Memory that programs can have.", memory.available),
            ("minimum_free", "Memory that the gatekeeper leaves free.", memory.minimum_free),
            ("budget", "Memory that guests may use in all; 0 = no limit.", memory.budget),
            ("charged", "Memory that guests with monitors are counted for.", memory.charged),
        ] {
            self.gauge(&format!("denali_memory_{name}_bytes"), help, value);
        }
    }

    fn gate_and_pool(&mut self, host: &HostView) {
        let gate = &host.gate;
        self.gauge("denali_gate_queued", "Guests that wait to be admitted.", gate.queued);
        self.counter("denali_gate_admitted_total", "Guests admitted.", gate.admitted);
        let help = "Guests that were made to leave for others.";
        self.counter("denali_gate_evicted_total", help, gate.evicted);
        let help = "Guests that may have monitors at a time.";
        self.gauge("denali_gate_max_running", help, gate.max_running);
        let pool = &host.pool;
        self.gauge("denali_pool_size", "Monitors that are to wait for guests.", pool.size);
        self.gauge("denali_pool_ready", "Monitors that do.", pool.ready);
        self.counter("denali_pool_missed_total", "Times that no monitor waited.", pool.missed);
    }

    fn swap(&mut self, host: &HostView) {
        for (name, help) in [
            ("denali_swap_total_bytes", "Size of the folder's file system."),
            ("denali_swap_free_bytes", "What is free of it."),
            ("denali_swap_problem", "Whether something is wrong with the folder."),
        ] {
            self.family(name, "gauge", help);
            for swap in host.swap.iter().take(FOLDERS) {
                let value = match name {
                    "denali_swap_total_bytes" => swap.total,
                    "denali_swap_free_bytes" => swap.free,
                    _ => u64::from(swap.problem.is_some()),
                };
                self.sample(name, &[("folder", &swap.folder)], value);
            }
        }
    }

    fn interface(&mut self, counters: &Counters) {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.family("denali_api_answers_total", "counter", "Answers by class of HTTP status.");
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        for (class, count) in classes.into_iter().zip(&counters.answers) {
            self.sample("denali_api_answers_total", &[("class", class)], now(count));
        }
        let help = "Connections that are open.";
        self.gauge("denali_api_connections", help, now(&counters.connections));
        let help = "Connections of users who may not ask.";
        self.counter("denali_api_strangers_total", help, now(&counters.strangers));
        let help = "Connections that there was no place for.";
        self.counter("denali_api_crowded_out_total", help, now(&counters.crowded_out));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Texts in memory take everything.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"{}\"", escaped(text));
        }
        self.0.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.0, "{value}");
    }
}

/// The text as a label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use denali_client::{Gate, Memory, PoolView, SwapView};
    use std::collections::BTreeSet;

    fn host() -> HostView {
        HostView {
            version: "0.1.0 \"x\"\n\\".into(),
            since_ms: 1_500,
            guests: [(GuestState::Running, 3), (GuestState::Parked, 9_997)].into(),
            memory: Memory { total: 24 << 30, ..Memory::default() },
            swap: (0..100)
                .map(|number| SwapView {
                    folder: format!("/swap/{number}"),
                    total: 10,
                    free: 4,
                    problem: (number == 1).then(|| "lost".into()),
                })
                .collect(),
            pool: PoolView { size: 2, ready: 1, missed: 7 },
            gate: Gate { queued: 5, ..Gate::default() },
            wakes: 11,
            parks: 12,
            restarts: 13,
            wake_us: [2_500, 10_000],
            switch: true,
            drains: false,
        }
    }

    #[test]
    fn samples_follow_their_families_and_are_few() {
        let counters = Counters::default();
        counters.answered(200);
        counters.answered(404);
        counters.answered(999);
        counters.answered(0);
        let text = text(&host(), &counters);
        let mut families = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                family = kind.split(' ').next().unwrap().to_owned();
                assert!(families.insert(family.clone()), "{family} is there twice");
                assert_eq!(kind.ends_with(" counter"), family.ends_with("_total"), "{family}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(name.split('{').next().unwrap(), family);
                value.parse::<f64>().unwrap();
            }
        }
        assert!(text.lines().count() < 64 * 3 + 130, "{} lines", text.lines().count());
        for line in [
            "denali_guests{state=\"parked\"} 9997",
            "denali_guests{state=\"failed\"} 0",
            "denali_info{version=\"0.1.0 \\\"x\\\"\\n\\\\\"} 1",
            "denali_start_time_seconds 1.5",
            "denali_wake_seconds{quantile=\"0.5\"} 0.0025",
            "denali_swap_problem{folder=\"/swap/1\"} 1",
            "denali_swap_free_bytes{folder=\"/swap/63\"} 4",
            "denali_api_answers_total{class=\"4xx\"} 1",
            "denali_gate_queued 5",
        ] {
            assert!(text.lines().any(|is| is == line), "{line}\n{text}");
        }
        assert!(!text.contains("/swap/64\""));
    }
}
