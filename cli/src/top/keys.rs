//! What keys do.

use super::model::{Column, Model};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Longest filter that can be typed, in characters.
const FILTER_MAX: usize = 64;

/// Lines that a page key moves.
const PAGE: isize = 10;

/// Does what a key says; whether to go on.
pub(super) fn press(model: &mut Model, key: KeyEvent) -> bool {
    if key.kind == KeyEventKind::Release {
        return true;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return false;
    }
    match model.typing.take() {
        Some(text) => {
            type_filter(model, text, key.code);
            true
        }
        None => command(model, key.code),
    }
}

fn type_filter(model: &mut Model, mut text: String, key: KeyCode) {
    match key {
        KeyCode::Enter => return,
        KeyCode::Esc => {
            model.set_filter(String::new());
            return;
        }
        KeyCode::Backspace => {
            text.pop();
        }
        KeyCode::Char(c) if text.chars().count() < FILTER_MAX && !c.is_control() => text.push(c),
        _ => {}
    }
    // What is typed is seen at once.
    model.set_filter(text.clone());
    model.typing = Some(text);
}

fn command(model: &mut Model, key: KeyCode) -> bool {
    match key {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('s') => model.sort_by(model.sort().after(1)),
        KeyCode::Char('S') => model.sort_by(model.sort().after(Column::ALL.len() - 1)),
        KeyCode::Char('r') => model.reverse(),
        KeyCode::Char('/') => model.typing = Some(model.filter().to_owned()),
        KeyCode::Char(' ') => model.paused = !model.paused,
        KeyCode::Up | KeyCode::Char('k') => model.scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => model.scroll(1),
        KeyCode::PageUp => model.scroll(-PAGE),
        KeyCode::PageDown => model.scroll(PAGE),
        KeyCode::Home | KeyCode::Char('g') => model.scroll(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => model.scroll(isize::MAX),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::{sample, view};
    use super::*;
    use denali_client::GuestState;

    fn model() -> Model {
        let guests = (0..30).map(|n| view(&format!("web-{n}"), GuestState::Running, n));
        Model::new(sample(guests.collect()))
    }

    /// Whether these keys leave it running.
    fn press_all(model: &mut Model, keys: &[KeyCode]) -> bool {
        keys.iter().all(|&code| press(model, KeyEvent::new(code, KeyModifiers::NONE)))
    }

    #[test]
    fn keys_sort_move_and_leave() {
        let mut model = model();
        assert!(press_all(&mut model, &[KeyCode::Char('s'), KeyCode::PageDown, KeyCode::Down]));
        assert_eq!((model.sort(), model.first), (Column::Packets, 11));
        assert!(press_all(&mut model, &[KeyCode::End, KeyCode::Up]));
        assert_eq!(model.first, 28);
        assert!(press_all(&mut model, &[KeyCode::Home, KeyCode::Char('S'), KeyCode::Char(' ')]));
        assert_eq!((model.sort(), model.first, model.paused), (Column::Rate, 0, true));
        assert!(!press_all(&mut model, &[KeyCode::Char('q')]));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(!press(&mut model, interrupt));
    }

    #[test]
    fn a_filter_is_typed() {
        let mut model = model();
        let keys = |text: &str| text.chars().map(KeyCode::Char).collect::<Vec<_>>();
        assert!(press_all(&mut model, &keys("/qq")), "and q does not leave meanwhile");
        assert_eq!((model.typing.as_deref(), model.len()), (Some("qq"), 0));
        let rest = [KeyCode::Backspace, KeyCode::Backspace, KeyCode::Char('9'), KeyCode::Enter];
        assert!(press_all(&mut model, &rest));
        assert_eq!((model.typing.as_deref(), model.filter(), model.len()), (None, "9", 3));
        assert!(press_all(&mut model, &[KeyCode::Char('/'), KeyCode::Esc]));
        assert_eq!((model.filter(), model.len()), ("", 30));
        assert!(press_all(&mut model, &keys(&format!("/{}", "x".repeat(100)))));
        assert_eq!(model.filter().len(), FILTER_MAX);
    }
}
