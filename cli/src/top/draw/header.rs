//! The host in a few lines: its memory and disks, its guests by what they do, and how it keeps up.

use super::super::model::{Model, rank};
use super::{mark, rate};
use crate::fleet::text::{bytes, clean, count, micros, plural, span, state};
use denali_client::{GuestState, HostView, SwapView};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Width of a bar.
const BAR: u16 = 24;

/// Lines of disks where there is little room, and where there is more.
const DISKS: (usize, usize) = (2, 8);

/// The lines, for a picture of this size.
pub(super) fn lines(model: &Model, width: u16, height: u16) -> Vec<Line<'static>> {
    let host = &model.sample().host;
    let mut lines = vec![title(model), memory(host, width)];
    let most = if height < 30 { DISKS.0 } else { DISKS.1 };
    lines.extend(host.swap.iter().take(most).map(|disk| swap(disk, width)));
    if let Some(more) = host.swap.len().checked_sub(most).filter(|&more| more > 0) {
        lines.push(Line::raw(format!("swap   and {}", plural(more as u64, "folder"))));
    }
    lines.extend([states(host), speeds(model), gate(host)]);
    lines
}

fn title(model: &Model) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let sample = model.sample();
    let total = plural(sample.guests.len() as u64, "guest");
    let shown = match model.filter() {
        "" => String::new(),
        filter => format!(", {} with {}", count(model.len() as u64), clean(filter)),
    };
    let up = span(sample.at_ms.saturating_sub(sample.host.since_ms));
    let mut spans = vec![
        Span::styled(format!("denali {}", clean(&sample.host.version)), bold),
        Span::raw(format!("  up {up}  {total}{shown}")),
    ];
    let signs = [
        (model.paused, "PAUSED", Color::Yellow),
        (sample.host.drains, "DRAINS", Color::Red),
        (!sample.host.switch, "NO SWITCH", Color::Yellow),
        (model.trouble.is_some(), "OLD", Color::Red),
    ];
    for (_, sign, colour) in signs.into_iter().filter(|&(shown, ..)| shown) {
        spans.push(Span::styled(format!("  {sign}"), bold.fg(colour)));
    }
    Line::from(spans)
}

fn memory(host: &HostView, width: u16) -> Line<'static> {
    let memory = &host.memory;
    let used = memory.total.saturating_sub(memory.available);
    // What is less than is to be kept free is everybody's trouble.
    let colour = match memory.available {
        free if free < memory.minimum_free => Color::Red,
        free if free < memory.minimum_free.saturating_mul(2) => Color::Yellow,
        _ => Color::Green,
    };
    let budget = match memory.budget {
        0 => String::new(),
        budget => format!(" of {}", bytes(budget)),
    };
    let text = format!(
        "{} of {}, {} kept free; guests {}{budget}",
        bytes(used),
        bytes(memory.total),
        bytes(memory.minimum_free),
        bytes(memory.charged)
    );
    bar("memory", used, memory.total, colour, &text, width)
}

fn swap(disk: &SwapView, width: u16) -> Line<'static> {
    let used = disk.total.saturating_sub(disk.free);
    let (colour, problem) = match &disk.problem {
        Some(problem) => (Color::Red, format!(": {}", clean(problem))),
        None if disk.free < disk.total / 20 => (Color::Yellow, ": is nearly full".into()),
        None => (Color::Blue, String::new()),
    };
    let text =
        format!("{} of {}  {}{problem}", bytes(used), bytes(disk.total), clean(&disk.folder));
    bar("swap", used, disk.total, colour, &text, width)
}

/// A line with a bar, which is as long as there is room for it.
fn bar(what: &str, part: u64, of: u64, colour: Color, text: &str, width: u16) -> Line<'static> {
    let length = usize::from(BAR.min(width / 4));
    let share = part as f64 / of.max(1) as f64;
    let full = ((share * length as f64).round() as usize).min(length);
    Line::from(vec![
        Span::raw(format!("{what:<7}")),
        Span::styled("\u{2588}".repeat(full), Style::new().fg(colour)),
        Span::styled("\u{2591}".repeat(length - full), Style::new().fg(Color::DarkGray)),
        Span::raw(format!(" {text}")),
    ])
}

/// How many guests do what; it explains the map, too.
fn states(host: &HostView) -> Line<'static> {
    let mut counts: Vec<(GuestState, u64)> =
        host.guests.iter().map(|(&state, &guests)| (state, guests)).collect();
    counts.retain(|&(_, guests)| guests > 0);
    counts.sort_by_key(|&(state, _)| std::cmp::Reverse(rank(state)));
    let mut spans = Vec::new();
    for (of, guests) in counts {
        let (letter, colour) = mark(of);
        let bold = Style::new().fg(colour).add_modifier(Modifier::BOLD);
        spans.push(Span::styled(format!("{letter} "), bold));
        spans.push(Span::raw(format!("{} {}  ", state(of), count(guests))));
    }
    if spans.is_empty() {
        spans.push(Span::raw("no guests; denali create makes some"));
    }
    Line::from(spans)
}

fn speeds(model: &Model) -> Line<'static> {
    let sample = model.sample();
    let [middle, most] = sample.host.wake_us.map(micros);
    let pool = &sample.host.pool;
    Line::raw(format!(
        "wakes {}/s p50 {middle} p99 {most}  parks {}/s  restarts {}  pool {}/{}, {} missed",
        rate(sample.wakes),
        rate(sample.parks),
        count(sample.host.restarts),
        count(pool.ready),
        count(pool.size),
        count(pool.missed)
    ))
}

fn gate(host: &HostView) -> Line<'static> {
    let gate = &host.gate;
    let style = match gate.queued {
        0 => Style::new(),
        _ => Style::new().fg(Color::Magenta),
    };
    let text = format!(
        "gate   {} wait, {} admitted, {} made to leave, {} at most  {}",
        count(gate.queued),
        count(gate.admitted),
        count(gate.evicted),
        count(gate.max_running),
        clean(&gate.last)
    );
    Line::styled(text, style)
}
