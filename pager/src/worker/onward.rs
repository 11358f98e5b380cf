//! Who touches pages in ascending order for long is brought the next ones while he is at the last.
//!
//! Nobody hears of pages that are touched when they are there. So one page of those that were brought is kept here, the
//! first: when it is asked for, it is given without reading, and it is time to bring more.

use super::{WINDOW, Worker};
use crate::backing::Backing;
use crate::failure::Failure;
use crate::pages::runs;
use denali_swap::{PAGE, PageNumber};

/// How far pages were brought ahead of whoever goes through them.
#[derive(Debug, Default)]
pub(crate) struct Onward {
    /// The first page of what was brought last, which is also in the store still.
    kept: Option<(PageNumber, Box<[u8; PAGE]>)>,
    /// Behind the last page that was brought.
    end: u32,
    /// Whether it is time to bring more.
    due: bool,
}

impl Onward {
    /// Pages up to `end` have been brought, and more will be wanted.
    pub(super) fn begin(&mut self, end: u32) {
        *self = Self { kept: None, end, due: true };
    }

    /// A page has come another way.
    pub(super) fn arrived(&mut self, page: PageNumber) {
        self.kept.take_if(|(kept, _)| *kept == page);
    }
}

impl<S: Backing> Worker<S> {
    /// Serves the page that was kept; false if it is another one.
    pub(super) fn serve_kept(&mut self, page: PageNumber) -> Result<bool, Failure> {
        let Some((_, bytes)) = self.onward.kept.take_if(|(kept, _)| *kept == page) else {
            return Ok(false);
        };
        self.memory.fill(page, &bytes[..])?;
        self.counters.faults += 1;
        self.counters.from_store += 1;
        self.arrived(page);
        self.onward.due = true;
        Ok(true)
    }

    /// Brings more pages, if it is time. Those that cannot be had are left for whoever asks for them.
    pub(super) fn go_onward(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.onward.due) || self.shared.is_stopping() {
            return Ok(());
        }
        let start = self.onward.end;
        let next = (start..start.saturating_add(WINDOW as u32)).map(PageNumber);
        let out: Vec<PageNumber> =
            next.filter(|page| self.is_out(*page) && !self.is_growth(*page)).collect();
        let (held, others): (Vec<_>, Vec<_>) =
            out.into_iter().partition(|page| self.store.contains(*page));
        if held.is_empty() || self.fetch(&held).is_err() {
            return Ok(());
        }
        let mut kept = Box::new([0; PAGE]);
        kept.copy_from_slice(&self.buffer.bytes()[..PAGE]);
        for run in runs(&held[1..]) {
            self.fill_from_buffer(&held, &held[1..][run])?;
        }
        self.bring_others(&others, false)?;
        self.counters.read_ahead += (held.len() - 1 + others.len()) as u64;
        self.onward.kept = Some((held[0], kept));
        self.onward.end = start.saturating_add(WINDOW as u32);
        Ok(())
    }
}
