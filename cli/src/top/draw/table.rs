//! The guests that do most, a line each, as far as there is room.

use super::super::model::{Column, Model};
use super::super::sample::Guest;
use super::{mark, rate};
use crate::fleet::text::{bytes, clean, count, span, state};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

/// Width of a name.
const NAME: usize = 16;

/// Draws it.
pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    heading(model.sort()).render(Rect { height: 1, ..area }, buffer);
    let now = model.sample().at_ms;
    for (row, guest) in (1..area.height).zip(model.lines()) {
        line(guest, now).render(Rect { y: area.y + row, height: 1, ..area }, buffer);
    }
}

/// What stands above a column, and its width.
fn column(column: Column) -> (&'static str, usize) {
    match column {
        Column::Name => ("NAME", NAME),
        Column::State => ("STATE", 7),
        Column::Rate => ("PKT/S", 7),
        Column::Packets => ("PACKETS", 9),
        Column::Wakes => ("WAKES", 7),
        Column::Memory => ("MEMORY", 8),
        Column::Stored => ("STORED", 8),
        Column::Since => ("SINCE", 5),
        Column::Idle => ("IDLE", 5),
    }
}

/// A cell, and the space behind it: texts begin below each other, numbers end there.
fn cell(of: Column, text: &str) -> String {
    let (_, width) = column(of);
    let text: String = text.chars().take(width).collect();
    match of {
        Column::Name | Column::State => format!("{text:<width$} "),
        _ => format!("{text:>width$} "),
    }
}

fn heading(sort: Column) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let span = |of: Column| {
        let chosen = if of == sort { bold.add_modifier(Modifier::REVERSED) } else { bold };
        Span::styled(cell(of, column(of).0), chosen)
    };
    let mut spans: Vec<Span<'_>> = Column::ALL.into_iter().map(span).collect();
    spans.push(Span::styled("NOTE", bold));
    Line::from(spans)
}

fn line(guest: &Guest, now: u64) -> Line<'static> {
    let view = &guest.view;
    let ago = |at: u64| span(now.saturating_sub(at));
    let (_, colour) = mark(view.state);
    let text = |of: Column| match of {
        Column::Name => clean(&view.name),
        Column::State => state(view.state).into(),
        Column::Rate => rate(guest.rate),
        Column::Packets => count(view.packets),
        Column::Wakes => count(view.wakes),
        Column::Memory => bytes(view.memory_bytes),
        Column::Stored => bytes(view.stored_bytes),
        Column::Since => ago(view.since_ms),
        Column::Idle => view.active_ms.map_or_else(|| "-".into(), ago),
    };
    let span = |of: Column| match of {
        Column::State => Span::styled(cell(of, &text(of)), Style::new().fg(colour)),
        _ => Span::raw(cell(of, &text(of))),
    };
    let mut spans: Vec<Span<'_>> = Column::ALL.into_iter().map(span).collect();
    spans.push(Span::raw(view.note.as_deref().map(clean).unwrap_or_default()));
    Line::from(spans)
}
