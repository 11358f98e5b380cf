//! Serving faults: from where a page is, with what else comes along at no price.

use super::{CLUSTER, WINDOW, Worker};
use crate::backing::Backing;
use crate::failure::Failure;
use crate::memory::Faults;
use crate::originals;
use crate::pages::runs;
use denali_swap::{PAGE, PageNumber};

impl<S: Backing> Worker<S> {
    /// Brings the pages that somebody waits for, each of whom goes on as soon as it is there.
    pub(super) fn serve(&mut self, faults: &Faults) -> Result<(), Failure> {
        if let Some(paging) = &mut self.paging {
            paging.look_at_time();
        }
        let mut wanted = Vec::with_capacity(faults.pages.len());
        for page in &faults.pages {
            if wanted.contains(page) {
                continue;
            }
            self.working_set.add(self.memory.index(*page), *page);
            if !self.serve_at_hand(*page)? {
                wanted.push(*page);
            }
        }
        let wanted = self.admit(wanted, faults);
        if wanted.is_empty() {
            return self.go_onward();
        }
        self.counters.faults += wanted.len() as u64;
        let ahead = self.ahead_of(&wanted);
        let coming = wanted.len() + ahead.len();
        self.make_room(coming)?;
        self.bring(&wanted, &ahead, faults.write)?;
        self.tidy(coming)?;
        self.go_onward()
    }

    /// Serves a page that needs no reading; false if it does.
    fn serve_at_hand(&mut self, page: PageNumber) -> Result<bool, Failure> {
        if self.serve_resident(page)? || self.serve_kept(page)? {
            return Ok(true);
        }
        let Some(bytes) = self.prefetched.take(page) else { return Ok(false) };
        self.memory.fill(page, bytes)?;
        self.counters.faults += 1;
        self.arrived(page);
        if self.prefetched.is_empty() {
            self.prefetched.clear();
        }
        Ok(true)
    }

    /// Which pages to bring with those that somebody waits for: what follows, where pages are touched in
    /// ascending order, else what one read brings from the store. In ascending order.
    fn ahead_of(&mut self, wanted: &[PageNumber]) -> Vec<PageNumber> {
        let most = match &self.paging {
            Some(paging) => CLUSTER.saturating_sub(wanted.len()).min(paging.most_ahead()),
            None => WINDOW.saturating_sub(wanted.len()),
        };
        let mut windows = Vec::with_capacity(wanted.len());
        for page in wanted {
            // Where pages are counted, only those come ahead that the guest has already.
            let most = if self.is_growth(*page) { 0 } else { most };
            windows.push((*page, self.streams.fault(*page, most)));
        }
        let Some((page, window)) = windows.into_iter().max_by_key(|(_, window)| *window) else {
            return Vec::new();
        };
        if window == most && self.paging.is_none() {
            self.onward.begin(page.0.saturating_add(1 + window as u32));
        }
        let mut ahead = if window > 0 {
            (1..=window as u32).filter_map(|n| page.0.checked_add(n)).map(PageNumber).collect()
        } else {
            let most = most.min(self.policy.read_ahead);
            if most == 0 || !self.store.contains(page) {
                return Vec::new();
            }
            let mut cluster = self.store.cluster(page, most + 1);
            cluster.truncate(most + 1);
            match self.paging {
                Some(_) => self.neighbours.come_along(page, &cluster),
                None => cluster,
            }
        };
        ahead.retain(|page| self.is_out(*page) && !self.is_growth(*page) && !wanted.contains(page));
        ahead.sort_unstable();
        ahead.dedup();
        ahead
    }

    /// Whether a page is out, as far as is known, is the pager's concern, and is not kept for a fault of
    /// its own.
    pub(super) fn is_out(&self, page: PageNumber) -> bool {
        self.memory.areas.contains(page)
            && !self.present.contains(self.memory.index(page))
            && !self.prefetched.contains(page)
    }

    /// Brings pages from wherever they are. Zeroes take memory at once if something is to be written.
    fn bring(
        &mut self,
        wanted: &[PageNumber],
        ahead: &[PageNumber],
        write: bool,
    ) -> Result<(), Failure> {
        let held = |page: &PageNumber| self.store.contains(*page);
        let (wanted_held, wanted_other): (Vec<_>, Vec<_>) = wanted.iter().copied().partition(held);
        let (ahead_held, ahead_other): (Vec<_>, Vec<_>) = ahead.iter().copied().partition(held);
        for page in wanted_other {
            self.bring_others(&[page], write)?;
        }
        self.counters.from_store += wanted_held.len() as u64;
        self.counters.read_ahead += ahead.len() as u64;
        self.bring_held(&wanted_held, &ahead_held)?;
        self.bring_others(&ahead_other, write)
    }

    /// Brings pages from the store in one read: those that somebody waits for first, then the others,
    /// which are in ascending order.
    pub(super) fn bring_held(
        &mut self,
        wanted: &[PageNumber],
        others: &[PageNumber],
    ) -> Result<(), Failure> {
        let mut order = [wanted, others].concat();
        if order.is_empty() {
            return Ok(());
        }
        order.sort_unstable();
        if self.fetch(&order).is_err() {
            // A page that nobody waits for keeps nobody from going on; and the page at fault is named.
            return self.bring_singly(if wanted.is_empty() { others } else { wanted });
        }
        for page in wanted {
            self.fill_from_buffer(&order, &[*page])?;
        }
        for run in runs(others) {
            self.fill_from_buffer(&order, &others[run])?;
        }
        Ok(())
    }

    /// Fills consecutive pages from the buffer, which holds those of `order`.
    pub(super) fn fill_from_buffer(
        &mut self,
        order: &[PageNumber],
        run: &[PageNumber],
    ) -> Result<(), Failure> {
        let at = order.partition_point(|page| *page < run[0]) * PAGE;
        self.memory.fill(run[0], &self.buffer.bytes()[at..at + run.len() * PAGE])?;
        for page in run {
            self.arrived(*page);
        }
        Ok(())
    }

    fn bring_singly(&mut self, pages: &[PageNumber]) -> Result<(), Failure> {
        for page in pages {
            let what = "it cannot be read";
            self.fetch(&[*page]).map_err(Failure::of(*page, what))?;
            self.fill_from_buffer(&[*page], &[*page])?;
        }
        Ok(())
    }

    /// Brings pages in ascending order that are not in the store.
    pub(super) fn bring_others(
        &mut self,
        pages: &[PageNumber],
        write: bool,
    ) -> Result<(), Failure> {
        for run in runs(pages) {
            let run = &pages[run];
            if self.originals.next(run[0]).is_none_or(|next| next > run[run.len() - 1]) {
                self.bring_zeroes(run, write)?;
            } else {
                run.iter().try_for_each(|page| self.bring_original(*page, write))?;
            }
        }
        Ok(())
    }

    /// Brings a page that is not in the store, and that the image or snapshot may have.
    pub(super) fn bring_original(&mut self, page: PageNumber, write: bool) -> Result<(), Failure> {
        let mut bytes = [0; PAGE];
        let found = originals::read(&mut *self.originals, page, &mut bytes);
        if !found.map_err(Failure::of(page, "its original cannot be read"))? {
            return self.bring_zeroes(&[page], write);
        }
        self.memory.fill(page, &bytes)?;
        self.arrived(page);
        Ok(())
    }

    /// Brings consecutive pages of zeroes, a cluster at most.
    fn bring_zeroes(&mut self, run: &[PageNumber], write: bool) -> Result<(), Failure> {
        if write {
            let zeroes = &mut self.buffer.bytes_mut()[..run.len() * PAGE];
            zeroes.fill(0);
            self.memory.fill(run[0], zeroes)?;
        } else {
            self.memory.zero(run[0], run.len())?;
        }
        run.iter().for_each(|page| self.arrived(*page));
        Ok(())
    }
}
