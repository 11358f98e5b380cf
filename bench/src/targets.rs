//! The bounds that the project has set itself, in one place.

use crate::backend::Backend;
use crate::figures::Figures;
use crate::table::number;

/// Which side of a bound is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Good {
    AtMost,
    AtLeast,
}
use Good::{AtLeast, AtMost};

/// Figures (without the back end's suffix) that have a bound, on either back end.
const BOTH: &[(&str, Good, f64)] = &[
    ("first_byte_ms", AtMost, 2.5),
    ("first_byte_128mib_ms", AtMost, 2.5),
    ("first_byte_exec_ms", AtMost, 2.5),
    ("first_byte_exec_128mib_ms", AtMost, 2.5),
    ("first_http_ms", AtMost, 6.0),
    ("first_http_exec_ms", AtMost, 6.0),
    ("exit_ms", AtMost, 2.0),
    ("exit_128mib_ms", AtMost, 2.0),
    ("exit_exec_ms", AtMost, 2.0),
    ("exit_exec_128mib_ms", AtMost, 2.0),
    ("monitor_pss_kib", AtMost, 200.0),
    ("monitor_pss_run_kib", AtMost, 200.0),
    ("total_per_guest_kib", AtMost, 900.0),
    ("total_per_guest_run_kib", AtMost, 900.0),
    ("binary_kib", AtMost, 1536.0),
    ("idle_switches_per_10s", AtMost, 0.0),
    ("idle_switches_run_per_10s", AtMost, 0.0),
    ("threads", AtMost, 1.0),
    ("threads_run", AtMost, 1.0),
    ("switches_no_timers", AtMost, 0.0),
    ("cpu_percent_1hz", AtMost, 10.0),
    ("wake-parked/http_ms_p50", AtMost, 3.0),
    ("wake-parked/http_ms_p99", AtMost, 15.0),
    ("wake-parked/resident_bytes_per_parked_guest", AtMost, 4096.0),
    ("swap/out_raw_ratio", AtLeast, 0.8),
    ("swap/in_raw_ratio", AtLeast, 0.8),
    ("stripes/out_factor_2", AtLeast, 1.8),
    ("stripes/in_factor_2", AtLeast, 1.8),
    ("stripes/out_factor_4", AtLeast, 3.6),
    ("stripes/in_factor_4", AtLeast, 3.6),
    ("start_all_s", AtMost, 60.0),
    ("host_kib_per_guest", AtMost, 1024.0),
    ("throughput_ratio_to_100", AtLeast, 0.8),
    ("fleet/alpha-0/p99_ms", AtMost, 10.0),
    ("fleet/alpha-0.8/p99_ms", AtMost, 10.0),
    ("fleet/alpha-1.2/p99_ms", AtMost, 10.0),
    ("fleet-registered/alpha-0/p99_ms", AtMost, 50.0),
    ("fleet-registered/alpha-0.8/p99_ms", AtMost, 50.0),
    ("fleet-registered/alpha-1.2/p99_ms", AtMost, 50.0),
];

/// The same for KVM alone.
const KVM: &[(&str, Good, f64)] = &[
    ("ratio", AtLeast, 0.6),
    ("p99_ratio", AtMost, 2.0),
    ("exits_per_request", AtMost, 0.2),
    ("ratio_10g", AtLeast, 0.94),
    ("ratio_unshaped", AtLeast, 0.4),
    ("packets_per_exit", AtLeast, 8.0),
    ("packets_per_exit_reverse", AtLeast, 8.0),
    ("packets_per_exit_10g", AtLeast, 8.0),
    ("packets_per_exit_reverse_10g", AtLeast, 8.0),
    ("rand_read_ratio", AtLeast, 0.8),
    ("seq_read_ratio", AtLeast, 0.8),
    ("rand_read_exits_per_request", AtMost, 0.2),
    ("tick_jitter_us_p99_ratio_beside_hogs", AtMost, 2.0),
    ("input_to_snapshot_ms_p99_ratio_beside_hogs", AtMost, 2.0),
    ("gain_percent_second", AtLeast, 30.0),
    ("gain_factor", AtLeast, 2.0),
];

fn find(name: &str, backend: Backend) -> Option<(Good, f64)> {
    let kvm = if backend == Backend::Kvm { KVM } else { &[] };
    let found = BOTH.iter().chain(kvm).find(|(known, ..)| *known == name);
    found.map(|&(_, good, bound)| (good, bound))
}

/// The bound of a figure as people read it; empty where there is none.
pub(crate) fn bound(name: &str) -> String {
    match find(name, Backend::Kvm) {
        Some((AtMost, bound)) => format!("≤ {}", number(Some(bound))),
        Some((AtLeast, bound)) => format!("≥ {}", number(Some(bound))),
        None => String::new(),
    }
}

/// The figures that miss their bound, one line each.
pub(crate) fn missed(figures: &Figures) -> Vec<String> {
    let mut lines = Vec::new();
    for backend in Backend::ALL {
        for &(name, good, bound) in BOTH.iter().chain(KVM) {
            let Some(value) = figures.get(&format!("{name}{}", backend.suffix())) else { continue };
            let met = match good {
                AtMost => value <= bound,
                AtLeast => value >= bound,
            };
            if !met && find(name, backend).is_some() {
                let (value, bound) = (number(Some(value)), self::bound(name));
                lines.push(format!("{name}, {}: {value}, wanted {bound}", backend.title()));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misses_its_bound_is_named() {
        let mut figures = Figures::default();
        figures.set("first_byte_ms", Some(2.4));
        figures.set("first_byte_ms_process", Some(2.6));
        figures.set("ratio", Some(0.5));
        figures.set("ratio_process", Some(0.1));
        figures.set("exit_ms", None);
        let expected =
            ["ratio, KVM: 0.50, wanted ≥ 0.60", "first_byte_ms, process: 2.60, wanted ≤ 2.50"];
        assert_eq!(missed(&figures), expected);
        assert_eq!(bound("no_such_figure"), "");
    }
}
