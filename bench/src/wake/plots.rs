//! The plots: which part of the events takes longer than how long.

use super::computing::WINDOWS;
use super::latencies::Latencies;
use super::rounds::Rounds;
use crate::backend::Backend;
use crate::plot::{Axis, Chart, Line, Scale};
use anyhow::Result;

/// Points of each line.
const POINTS: u32 = 24;

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
    Line { name, points: exceeding(&latencies.sorted()) }
}

/// Pairs of a latency and the part of all that exceeds it, evenly on a logarithmic axis of parts.
fn exceeding(sorted: &[f64]) -> Vec<(f64, f64)> {
    let count = sorted.len() as f64;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for number in 0..POINTS {
        let part = count.powf(-f64::from(number) / f64::from(POINTS - 1));
        // So many are longer, one at least, except that of the whole the shortest is shown.
        let longer = ((part * count).round() as usize).clamp(1, sorted.len().max(2) - 1);
        let Some(&latency) = sorted.get(sorted.len().wrapping_sub(longer + 1)) else { continue };
        let point = (latency, longer as f64 / count);
        if points.last() != Some(&point) {
            points.push(point);
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fall_as_latencies_rise() {
        let sorted: Vec<f64> = (1..=1000).map(f64::from).collect();
        let points = exceeding(&sorted);
        assert_eq!((points[0], points[points.len() - 1]), ((1.0, 0.999), (999.0, 0.001)));
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1));
        for (latency, part) in points {
            let longer = sorted.iter().filter(|it| **it > latency).count();
            assert_eq!(longer as f64 / 1000.0, part);
        }
        assert!(exceeding(&[]).is_empty() && exceeding(&[1.0]).is_empty());
    }
}
