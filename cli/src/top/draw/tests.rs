//! Pictures of hosts of all kinds, on terminals of all sizes.

use super::super::sample::tests::{sample, view};
use super::*;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// A fleet of so many guests, of which one has failed.
fn fleet(guests: usize) -> Model {
    let state = |number| match number {
        4321 => GuestState::Failed,
        _ if number % 10 < 3 => GuestState::Running,
        _ => GuestState::Parked,
    };
    let guests = (0..guests).map(|number| view(&format!("web-{number}"), state(number), 20_000));
    Model::new(sample(guests.collect()))
}

#[test]
fn ten_thousand_guests_fit_on_a_small_terminal() {
    let text = as_text(&fleet(10_000), 80, 24);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 24, "{text}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    for expected in [
        "denali 0.1.0  up 10s  10,000 guests",
        "memory \u{2588}\u{2588}",
        " 18 GiB of 24 GiB, 1 GiB kept free; guests 10 GiB",
        " 25 GiB of 100 GiB  /var/swap",
        "# running 2,999",
        ". parked 7,000",
        "! failed 1",
        "wakes 10/s p50 2.1 ms p99 9.8 ms  parks 5.0/s  restarts 4  pool 7/8, 1 missed",
        "gate   2 wait, 10 admitted, 3 made to leave, 9 at most  room for all",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // The one that has failed is seen among thousands.
    let map: Vec<&&str> = lines.iter().skip_while(|line| !line.starts_with("fleet, ")).collect();
    assert!(map[0].contains("fleet, 32 guests a cell:"), "{text}");
    let marks: String =
        map[1..5].iter().flat_map(|line| line.chars()).filter(|&c| c == '!').collect();
    assert_eq!(marks, "!", "{text}");
    // The guest with the most packets is first in the table.
    let at = lines.iter().position(|line| line.starts_with("NAME ")).unwrap();
    assert!(lines[at + 1].starts_with("web-9999 "), "{text}");
    assert!(lines[at + 1].contains("   9999    20,000 "), "{text}");
}

#[test]
fn few_guests_have_a_cell_each() {
    let text = as_text(&fleet(12), 80, 24);
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| *line == "fleet, a cell for each guest").unwrap();
    assert_eq!(lines[at + 1], "###.......##", "{text}");
    assert!(lines[at + 2].starts_with("NAME "), "{text}");
    let none = as_text(&fleet(0), 80, 24);
    assert!(none.contains("no guests; denali create"), "{none}");
}

#[test]
fn a_terminal_shows_the_same_in_colours() {
    let model = fleet(100);
    let mut terminal = Terminal::new(TestBackend::new(90, 30)).unwrap();
    terminal.draw(|frame| draw(&model, frame.area(), frame.buffer_mut())).unwrap();
    let buffer = terminal.backend().buffer();
    let text = as_text(&model, 90, 30);
    let row = text.lines().position(|line| line.starts_with("fleet")).unwrap() as u16 + 1;
    let cells = [buffer[(0, row)].clone(), buffer[(3, row)].clone()];
    assert_eq!((cells[0].symbol(), cells[0].fg), ("#", Color::Green));
    assert_eq!((cells[1].symbol(), cells[1].fg), (".", Color::Blue));
}

#[test]
fn what_is_wrong_is_said() {
    let mut found = sample(vec![view("a\x1b[2J", GuestState::Failed, 0)]);
    found.host.drains = true;
    found.host.switch = false;
    found.host.swap[0].problem = Some("cannot be\nwritten".into());
    found.guests[0].view.note = Some("crashed".into());
    let mut model = Model::new(found);
    model.paused = true;
    model.trouble = Some("no supervisor listens".into());
    let text = as_text(&model, 120, 24);
    for expected in ["PAUSED", "DRAINS", "NO SWITCH", "OLD", "/var/swap: cannot be\u{fffd}written"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.ends_with("no supervisor listens") && text.contains("crashed"), "{text}");
    assert!(text.contains("a\u{fffd}[2J") && !text.contains('\x1b'), "{text}");
    model.trouble = None;
    model.typing = Some("web-*".into());
    assert!(as_text(&model, 120, 24).contains("/web-*_"));
}

#[test]
fn many_disks_leave_room_for_guests() {
    let mut found = sample(vec![view("web-1", GuestState::Running, 0)]);
    found.host.swap = vec![found.host.swap[0].clone(); 40];
    let model = Model::new(found);
    let text = as_text(&model, 80, 24);
    assert!(text.contains("swap   and 38 folders") && text.contains("web-1 "), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_size_is_too_small(
        width in 0_u16..200,
        height in 0_u16..60,
        guests in prop::sample::select(vec![0_usize, 1, 79, 80, 81, 500]),
        scrolled in 0_isize..600,
    ) {
        let mut model = fleet(guests);
        model.scroll(scrolled);
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        draw(&model, area, &mut buffer);
        prop_assert_eq!(buffer.content.len(), usize::from(width) * usize::from(height));
    }
}
