//! Bringing in what nobody has touched, so that the guest is as if it had never been out.

use super::{CLUSTER, Worker};
use crate::backing::Backing;
use crate::failure::Failure;
use denali_swap::PageNumber;

impl<S: Backing> Worker<S> {
    /// Brings in all pages that are not zeroes, and serves faults in between; false if it is to stop before
    /// that is done.
    pub(super) fn complete(&mut self) -> Result<bool, Failure> {
        Ok(self.complete_prefetched()? && self.complete_held()? && self.complete_originals()?)
    }

    fn complete_prefetched(&mut self) -> Result<bool, Failure> {
        while let Some((pages, bytes)) = self.prefetched.take_run(CLUSTER) {
            let pages = pages.to_vec();
            self.memory.fill(pages[0], bytes)?;
            self.counters.completed += pages.len() as u64;
            pages.iter().for_each(|page| self.arrived(*page));
            if !self.breathe()? {
                return Ok(false);
            }
        }
        self.prefetched.clear();
        Ok(true)
    }

    fn complete_held(&mut self) -> Result<bool, Failure> {
        let mut pages = self.store.pages();
        pages.retain(|page| self.memory.areas.contains(*page));
        pages.sort_unstable();
        let mut together = Vec::with_capacity(CLUSTER);
        for page in pages {
            if together.contains(&page) {
                continue;
            }
            if together.len() == CLUSTER && !self.complete_together(&mut together)? {
                return Ok(false);
            }
            self.add_cluster(page, &mut together);
        }
        self.complete_together(&mut together)
    }

    /// Adds a page, and those that lie beside it in the store, as long as there are not too many.
    fn add_cluster(&self, page: PageNumber, together: &mut Vec<PageNumber>) {
        if !self.store.contains(page) {
            return;
        }
        together.push(page);
        for other in self.store.cluster(page, CLUSTER) {
            if together.len() < CLUSTER && self.is_out(other) && !together.contains(&other) {
                together.push(other);
            }
        }
    }

    /// Brings pages that are in the store in one read, and then serves faults; false when it is to stop.
    fn complete_together(&mut self, together: &mut Vec<PageNumber>) -> Result<bool, Failure> {
        together.sort_unstable();
        self.bring_held(&[], together)?;
        self.counters.completed += together.len() as u64;
        together.clear();
        self.breathe()
    }

    fn complete_originals(&mut self) -> Result<bool, Failure> {
        let areas: Vec<_> = self.memory.areas.iter().cloned().collect();
        let mut brought = 0;
        for area in areas {
            let mut from = area.start;
            while let Some(page) = self.originals.next(from).filter(|page| *page < area.end) {
                from = PageNumber(page.0.max(from.0) + 1);
                if !self.is_out(page) {
                    continue;
                }
                self.bring_original(page, false)?;
                self.counters.completed += 1;
                brought += 1;
                if brought % CLUSTER == 0 && !self.breathe()? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Serves faults; false when it is to stop.
    fn breathe(&mut self) -> Result<bool, Failure> {
        self.serve_waiting()?;
        self.publish();
        Ok(!self.shared.is_stopping())
    }
}
