//! The plots: which part of the events takes longer than how long.

use super::computing::WINDOWS;
use super::rounds::Rounds;
use crate::backend::Backend;
use crate::latencies::Latencies;
use crate::plot::{Axis, Chart, Line, Scale};
use anyhow::Result;

/// Writes all of them.
pub(super) fn write(rounds: &Rounds, computing: &[(Backend, Vec<Latencies>)]) -> Result<()> {
    let mut idle = Vec::new();
    for (backend, woken) in &rounds.guests {
        idle.push(line(format!("{}: first instruction", backend.title()), &woken.ran));
        idle.push(line(format!("{}: reply", backend.title()), &woken.answered));
    }
    idle.push(line("native: program".into(), &rounds.native.ran));
    idle.push(line("native: reply".into(), &rounds.native.answered));
    chart("From an event to a guest that idles", idle).write("wake-idle")?;
    // The first back end there is, the real one: lines of two would be too many to tell apart.
    let Some((_, windows)) = computing.first() else { return Ok(()) };
    let lines = WINDOWS.iter().zip(windows);
    let lines = lines.map(|((.., title), latencies)| line(format!("window {title}"), latencies));
    chart("From an event to a guest that computes", lines.collect()).write("wake-computing")
}

fn chart(title: &str, lines: Vec<Line>) -> Chart<'_> {
    Chart {
        title,
        x: Axis { title: "µs", scale: Scale::Log },
        y: Axis { title: "part of the events that takes longer", scale: Scale::Log },
        lines,
    }
}

fn line(name: String, latencies: &Latencies) -> Line {
    Line { name, points: latencies.exceeding() }
}
