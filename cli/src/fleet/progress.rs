//! How far long work is, for people who wait at a terminal.

use super::text::plural;
use crate::output::Format;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

/// How often what moves is drawn while nothing is done.
const TICK: Duration = Duration::from_millis(200);

/// A line on standard error that says how far something is; none where nobody would see it.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Whether anybody would see it.
    pub(super) fn is_wanted(format: Format) -> bool {
        format == Format::Human && stderr().is_terminal()
    }

    /// A line that says `doing`, of `total` steps if that is known.
    pub(super) fn new(format: Format, doing: &'static str, total: Option<u64>) -> Self {
        if !Self::is_wanted(format) {
            return Self { bar: ProgressBar::hidden() };
        }
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(total, target).with_prefix(doing);
        let template = match total {
            Some(_) => "{prefix} [{bar:30}] {human_pos}/{human_len} {rate} {eta} {msg}",
            None => "{prefix} {spinner} {human_pos} {rate} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, out: &mut dyn Write| {
                // What cannot be drawn is not seen, and that is all.
                let _ = write!(out, "{:.0}/s", state.per_sec());
            };
            bar.set_style(style.progress_chars("=> ").with_key("rate", rate));
        }
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    /// One step more is done; `failed` have failed so far.
    pub(super) fn step(&self, failed: u64) {
        if failed > 0 {
            self.bar.set_message(plural(failed, "error"));
        }
        self.bar.inc(1);
    }

    /// So many steps are done.
    pub(super) fn at(&self, steps: u64) {
        self.bar.set_position(steps);
    }

    /// Takes the line away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
