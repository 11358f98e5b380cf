//! The picture: how the host is, a map of the fleet, and the guests that do most.

mod header;
mod map;
mod table;

use super::model::Model;
use denali_client::GuestState;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Widget;

/// The least height of what is below the header that leaves room for a map.
const MAP_FROM: u16 = 8;

/// Draws all of it, as far as there is room.
pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let lines = header::lines(model, area.width, area.height);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(area.height);
    for (row, line) in (0..height).zip(lines) {
        line.render(Rect { y: area.y + row, height: 1, ..area }, buffer);
    }
    let mut rest = below(area, height);
    if rest.height > 1 {
        let last = Rect { y: rest.bottom() - 1, height: 1, ..rest };
        footer(model).render(last, buffer);
        rest.height -= 1;
    }
    if rest.height >= MAP_FROM {
        let height = map::draw(model, Rect { height: rest.height / 3, ..rest }, buffer);
        rest = below(rest, height);
    }
    table::draw(model, rest, buffer);
}

/// What is left of an area below its first lines.
fn below(area: Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    Rect { y: area.y + lines, height: area.height - lines, ..area }
}

/// What can be done, or what is being typed.
fn footer(model: &Model) -> Line<'_> {
    let dim = Style::new().add_modifier(Modifier::DIM);
    match (&model.typing, &model.trouble) {
        (Some(text), _) => Line::raw(format!("/{text}_   Enter keeps it, Esc shows all")),
        (None, Some(trouble)) => {
            Line::styled(trouble.as_str(), Style::new().fg(Color::Red).add_modifier(Modifier::BOLD))
        }
        (None, None) => {
            let keys = "q leave  s S sort  r reverse  / filter  space pause  \u{2191} \u{2193} PgUp PgDn move";
            Line::styled(keys, dim)
        }
    }
}

/// The picture as lines of text.
pub(super) fn as_text(model: &Model, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(model, area, &mut buffer);
    let line = |row: u16| {
        let symbols = (0..width).filter_map(|column| buffer.cell((column, row)));
        let text: String = symbols.map(|cell| cell.symbol()).collect();
        text.trim_end().to_owned()
    };
    let lines: Vec<String> = (0..height).map(line).collect();
    lines.join("\n").trim_end().to_owned()
}

/// A letter and a colour for each state: who sees no colours sees the letters.
fn mark(state: GuestState) -> (&'static str, Color) {
    match state {
        GuestState::Failed => ("!", Color::Red),
        GuestState::Queued => ("?", Color::Magenta),
        GuestState::Waking => ("+", Color::Yellow),
        GuestState::Parking => ("-", Color::LightBlue),
        GuestState::Running => ("#", Color::Green),
        GuestState::Parked => (".", Color::Blue),
        GuestState::Stopped => ("_", Color::DarkGray),
    }
}

/// A rate that was measured, or was not.
fn rate(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value < 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests;
