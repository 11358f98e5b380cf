//! Interrupts, idling and the share of the processor, checked.

use crate::error::FieldError;
use crate::values::{Span, Window};
use crate::written::{CpuConfig, GuestConfig, IdleConfig, InterruptsConfig};

/// When a guest is interrupted, how it idles, and its share of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// How long what arrives for a guest that computes is gathered.
    pub window: Window,
    /// Arrivals after which the guest is interrupted in any case; 0 = any number.
    pub count: u32,
    /// Whether a guest that idles sleeps.
    pub sleep: bool,
    /// The longest a guest is awaited before it sleeps, in ns.
    pub spin_ns: u64,
    /// After how much sleep it is deeply idle, in ns; `None` = never.
    pub deep_after_ns: Option<u64>,
    /// Share of the processor beside others; 100 is an ordinary process's.
    pub weight: u32,
    /// Length of a quantum in ns.
    pub quantum_ns: u64,
}

const WINDOW_MAX: Span = Span(100_000_000);
const COUNT_MAX: u64 = 65_535;
const SPIN_MAX: Span = Span(10_000_000);
const DEEP_AFTER_MAX: Span = Span(86_400_000_000_000);
const WEIGHT_MAX: u64 = 10_000;
const QUANTUM_MIN: Span = Span(100_000);
const QUANTUM_MAX: Span = Span(100_000_000);

pub(super) fn resolve(config: &GuestConfig) -> Result<Cpu, FieldError> {
    let InterruptsConfig { window, count } = config.interrupts;
    let IdleConfig { sleep, spin, deep_after } = config.idle;
    let CpuConfig { weight, quantum } = config.cpu;
    if let Window::Fixed(window) = window {
        at_most("interrupts.window", window, WINDOW_MAX)?;
    }
    if window == Window::Adaptive && count > 0 {
        let message = "needs a window of its own; write e.g. \"window\": \"200us\" beside it";
        return Err(FieldError::new("interrupts.count", message));
    }
    at_most("idle.spin", spin, SPIN_MAX)?;
    at_most("idle.deep_after", deep_after, DEEP_AFTER_MAX)?;
    at_most("cpu.quantum", quantum, QUANTUM_MAX)?;
    if quantum < QUANTUM_MIN {
        let message = format!("{quantum} is less than {QUANTUM_MIN}");
        return Err(FieldError::new("cpu.quantum", message));
    }
    Ok(Cpu {
        window,
        count: within("interrupts.count", count, 0, COUNT_MAX)?,
        sleep,
        spin_ns: spin.0,
        deep_after_ns: Some(deep_after.0).filter(|&ns| ns > 0),
        weight: within("cpu.weight", weight, 1, WEIGHT_MAX)?,
        quantum_ns: quantum.0,
    })
}

fn at_most(field: &str, span: Span, most: Span) -> Result<(), FieldError> {
    if span > most {
        return Err(FieldError::new(field, format!("{span} is more than {most}")));
    }
    Ok(())
}

fn within(field: &str, number: u64, least: u64, most: u64) -> Result<u32, FieldError> {
    match u32::try_from(number) {
        Ok(number) if (least..=most).contains(&u64::from(number)) => Ok(number),
        _ => Err(FieldError::new(field, format!("{number} is not from {least} to {most}"))),
    }
}
