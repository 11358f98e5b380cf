//! A guest that may not have all its pages is held where it would have more than its region has room for.

use super::Residence;

impl Residence {
    /// The vCPU is about to be entered, or has just come out.
    pub(crate) fn inside(&self, inside: bool) {
        if let Some(pager) = self.pager.as_ref().filter(|_| self.growth.is_some()) {
            pager.enter(inside);
        }
    }

    /// How many pages the guest may have, if it has them all and wants more: it cannot go on.
    pub(crate) fn full(&self) -> Option<u32> {
        let growth = self.growth?;
        let full = match (&self.pager, &self.store) {
            (Some(pager), _) => pager.is_full(),
            (None, Some(store)) => {
                self.out && store.len() + self.as_in_image.len() >= growth as usize
            }
            (None, None) => false,
        };
        full.then_some(growth)
    }

    /// The guest may have all its pages from here on: it is about to end. What is too much for its region stays in
    /// memory.
    pub(crate) fn lift(&mut self) {
        if self.growth.take().is_some()
            && let Some(pager) = &self.pager
        {
            pager.lift();
        }
    }
}
