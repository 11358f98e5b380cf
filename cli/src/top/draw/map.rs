//! A map of the fleet: a cell for each guest, or for a few beside each other.

use super::super::model::{Model, rank};
use super::mark;
use crate::fleet::text::count;
use denali_client::GuestState;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Widget;

/// Number of states.
const STATES: usize = 7;

/// Draws a title and the map into the upper part of an area: how many lines of it.
pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) -> u16 {
    let guests = model.len();
    let (width, room) = (usize::from(area.width), usize::from(area.height.saturating_sub(1)));
    if guests == 0 || width == 0 || room == 0 {
        return 0;
    }
    let per_cell = guests.div_ceil(width * room);
    title(per_cell).render(Rect { height: 1, ..area }, buffer);
    let cells = cells(model.by_name().map(|guest| guest.view.state), per_cell);
    let rows = cells.len().div_ceil(width).min(room);
    for (place, &state) in cells.iter().enumerate().take(width * room) {
        let (letter, colour) = mark(state);
        let (column, row) = ((place % width) as u16, (place / width) as u16);
        if let Some(cell) = buffer.cell_mut((area.x + column, area.y + 1 + row)) {
            cell.set_symbol(letter).set_style(Style::new().fg(colour));
        }
    }
    1 + rows as u16
}

fn title(per_cell: usize) -> Line<'static> {
    let text = match per_cell {
        1 => "fleet, a cell for each guest".to_owned(),
        many => format!(
            "fleet, {} guests a cell: ! or ? if any of them is, else what most of them are",
            count(many as u64)
        ),
    };
    Line::styled(text, Style::new().add_modifier(Modifier::BOLD))
}

/// What is shown of each group of guests.
fn cells(states: impl Iterator<Item = GuestState>, per_cell: usize) -> Vec<GuestState> {
    let mut cells = Vec::new();
    let mut group = Vec::with_capacity(per_cell);
    for state in states {
        group.push(state);
        if group.len() == per_cell {
            cells.extend(of_group(&group));
            group.clear();
        }
    }
    cells.extend(of_group(&group));
    cells
}

/// Guests that have failed or wait are not to be lost among others; else the most frequent state is shown.
fn of_group(group: &[GuestState]) -> Option<GuestState> {
    let mut counts = [0_usize; STATES];
    for &state in group {
        counts[rank(state)] += 1;
    }
    let waits = |state: &&GuestState| rank(**state) <= rank(GuestState::Queued);
    let worst = group.iter().filter(waits).min_by_key(|&&state| rank(state));
    let usual = || group.iter().max_by_key(|&&state| counts[rank(state)]);
    worst.or_else(usual).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use GuestState::{Failed, Parked, Queued, Running, Waking};

    #[test]
    fn a_cell_shows_what_is_wrong_or_else_what_is_frequent() {
        assert_eq!(of_group(&[]), None);
        assert_eq!(of_group(&[Parked, Running, Parked]), Some(Parked));
        assert_eq!(of_group(&[Parked, Waking, Parked]), Some(Parked));
        assert_eq!(of_group(&[Parked, Queued, Parked]), Some(Queued));
        assert_eq!(of_group(&[Waking, Running, Failed]), Some(Failed));
        let states = [Running, Running, Parked, Parked, Failed];
        assert_eq!(cells(states.into_iter(), 2), [Running, Parked, Failed]);
        assert_eq!(cells(states.into_iter(), 1), states);
        assert_eq!(cells([].into_iter(), 3), []);
    }
}
