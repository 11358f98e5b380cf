//! Numbers, times and words of others, as people read them.

use denali_client::{Desired, GuestState};
use std::time::{SystemTime, UNIX_EPOCH};

/// A number of bytes, with three digits or four.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut value, mut unit) = (count, 0);
    while value >= 1024 * 1024 {
        value /= 1024;
        unit += 1;
    }
    let (whole, tenths) = (value / 1024, value % 1024 * 10 / 1024);
    let unit = UNITS.get(unit).copied().unwrap_or("?");
    if whole < 100 && tenths > 0 {
        return format!("{whole}.{tenths} {unit}");
    }
    format!("{whole} {unit}")
}

/// A number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `count` things, of which one is called `one`.
pub(crate) fn plural(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {one}s", count(number)),
    }
}

/// A span of time in its largest unit.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6_000 => format!("{}m", seconds / 60),
        6_000..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A span of time in µs, as it is for something that takes little.
pub(crate) fn micros(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..10_000 => format!("{}.{} ms", micros / 1000, micros / 100 % 10),
        10_000..10_000_000 => format!("{} ms", micros / 1000),
        _ => format!("{} s", micros / 1_000_000),
    }
}

/// The time now, in ms since 1970-01-01 UTC.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time in ms since 1970-01-01 UTC, as `2026-11-25 17:04:11.123`.
pub(crate) fn time(ms: u64) -> String {
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hours, minutes) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (seconds, rest) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{rest:03}")
}

/// Year, month and day of a day since 1970-01-01, with years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01, in eras of 400 years.
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

/// Words of others on one line: a terminal is told nothing by them.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What a guest does, in a word.
pub(crate) fn state(state: GuestState) -> &'static str {
    match state {
        GuestState::Stopped => "stopped",
        GuestState::Queued => "queued",
        GuestState::Waking => "waking",
        GuestState::Running => "running",
        GuestState::Parking => "parking",
        GuestState::Parked => "parked",
        GuestState::Failed => "failed",
    }
}

/// What a guest is meant to do, in a word.
pub(crate) fn desired(desired: Desired) -> &'static str {
    match desired {
        Desired::Running => "running",
        Desired::Parked => "parked",
        Desired::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (100 << 10, "100 KiB"),
            ((1 << 20) - 1, "1023 KiB"),
            (16 << 20, "16 MiB"),
            (24_600_000_000, "22.9 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (plural(1, "guest"), plural(2000, "guest")),
            ("1 guest".into(), "2,000 guests".into())
        );
        let spans = [0, 99_999, 100_000, 6_000_000, 172_800_000].map(span);
        assert_eq!(spans, ["0s", "99s", "1m", "1h", "2d"]);
        assert_eq!(
            [900, 2199, 12_345, 61_000_000].map(micros),
            ["900 µs", "2.1 ms", "12 ms", "61 s"]
        );
    }

    #[test]
    fn times_are_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00:00.000");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00.000");
        assert_eq!(time(1_764_090_251_123), "2025-11-25 17:04:11.123");
        assert_eq!(time(4_107_542_400_000), "2100-03-01 00:00:00.000");
        // Any number is some time.
        assert!(!time(u64::MAX).is_empty());
    }

    #[test]
    fn words_of_others_do_not_reach_the_terminal_as_they_are() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{9b}d"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
    }
}
