//! Interrupts, idling and the share of the processor as the monitor is told of them.

use denali_config::{Cpu, Window};
use serde::{Deserialize, Serialize};

/// When a guest is interrupted, how it idles, and its share of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuSpec {
    /// How long what arrives for a guest that computes is gathered, in ns; `None` = adaptive, 0 = not at
    /// all.
    pub window_ns: Option<u64>,
    /// Arrivals after which the guest is interrupted in any case; 0 = any number.
    pub count: u32,
    /// Whether a guest that idles sleeps.
    pub sleep: bool,
    /// The longest a guest is awaited before it sleeps, in ns.
    pub spin_ns: u64,
    /// After how much sleep it is deeply idle, in ns; `None` = never.
    pub deep_after_ns: Option<u64>,
    /// Share of the processor beside others: steps of niceness to add to the process's own.
    pub niceness: i32,
    /// Length of a quantum in ns.
    pub quantum_ns: u64,
}

impl From<Cpu> for CpuSpec {
    fn from(cpu: Cpu) -> Self {
        let Cpu { window, count, sleep, spin_ns, deep_after_ns, weight, quantum_ns } = cpu;
        let window_ns = match window {
            Window::Adaptive => None,
            Window::Fixed(window) => Some(window.0),
        };
        let niceness = niceness(weight);
        Self { window_ns, count, sleep, spin_ns, deep_after_ns, niceness, quantum_ns }
    }
}

/// The weight of an ordinary process.
const ORDINARY_WEIGHT: u32 = 100;

/// How much more of the processor one step of niceness is than the next, on Linux.
const NICE_STEP: f64 = 1.25;

/// Steps of niceness that come nearest to `weight`.
fn niceness(weight: u32) -> i32 {
    let share = f64::from(weight) / f64::from(ORDINARY_WEIGHT);
    (-share.ln() / NICE_STEP.ln()).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_become_steps_of_niceness() {
        for (weight, steps) in
            [(100, 0), (80, 1), (125, -1), (50, 3), (10, 10), (1, 21), (10_000, -21)]
        {
            assert_eq!(niceness(weight), steps, "{weight}");
        }
    }
}
