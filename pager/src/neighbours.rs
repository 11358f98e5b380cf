//! Read-ahead from the store: which of the pages that lie beside one that is touched are wanted soon after it.
//!
//! Pages that left memory together lie together, and are often wanted together again. Where they are not, and memory
//! is short, each that is brought in vain has another leave for it, and must be written anew itself before it
//! leaves. Nobody hears of pages that are touched when they are there. So now and then a page comes alone, and it is
//! watched which of its neighbours are asked for soon; from then on those come along that lie where it was worth it.

use denali_swap::PageNumber;

/// Faults for which a page's neighbours are watched. An odd number: pages that come by twos begin and end samples alike.
const WATCHED: u32 = 7;

/// While neighbours come along, a page comes alone once in so many faults. Odd likewise.
const ALONE_EVERY: u32 = 31;

/// What is always wanted soon.
const ALWAYS: u32 = 1 << 10;

/// Neighbours come along if one in six is wanted: so many cost about as much as a fault.
const WORTH: u32 = ALWAYS / 6;

/// Distances by their powers of two, to either side: up to 16 pages.
const PLACES: usize = 2 * 5;

/// A neighbour that did not come along.
#[derive(Clone, Copy, Debug)]
struct Watched {
    page: PageNumber,
    place: usize,
    wanted: bool,
}

/// Learns how far neighbours are of use.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    /// How often neighbours at a place are wanted soon, of [`ALWAYS`].
    wanted: [u32; PLACES],
    watched: Vec<Watched>,
    /// Faults since neighbours were last begun to be watched.
    faults: u32,
}

impl Neighbours {
    /// A page was touched that is in the store among `cluster`, in the order in which they lie there: which of them
    /// are to come along.
    pub(crate) fn come_along(
        &mut self,
        page: PageNumber,
        cluster: &[PageNumber],
    ) -> Vec<PageNumber> {
        self.faults += 1;
        let found = self.watched.iter_mut().find(|watched| watched.page == page);
        found.into_iter().for_each(|watched| watched.wanted = true);
        if self.faults == WATCHED {
            self.learn();
        }
        let own = cluster.iter().position(|other| *other == page).unwrap_or(0);
        let others = cluster.iter().enumerate().filter(|(at, _)| *at != own);
        let placed = others.filter_map(|(at, other)| Some((place(own, at)?, *other)));
        let come: Vec<PageNumber> = placed
            .clone()
            .filter(|(place, _)| self.is_worth(*place))
            .map(|(_, page)| page)
            .collect();
        if self.faults < if come.is_empty() { WATCHED } else { ALONE_EVERY } {
            return come;
        }
        self.faults = 0;
        self.watched.extend(placed.map(|(place, page)| Watched { page, place, wanted: false }));
        Vec::new()
    }

    fn is_worth(&self, place: usize) -> bool {
        self.wanted[place] >= WORTH
    }

    /// Takes what was seen for a quarter of what is known.
    fn learn(&mut self) {
        for (place, known) in self.wanted.iter_mut().enumerate() {
            let here = self.watched.iter().filter(|watched| watched.place == place);
            let count = here.clone().count() as u32;
            let wanted = here.filter(|watched| watched.wanted).count() as u32;
            if let Some(seen) = (wanted * ALWAYS).checked_div(count) {
                *known = (*known * 3 + seen) / 4;
            }
        }
        self.watched.clear();
    }
}

/// Where the page lies that is number `at`, seen from number `own`.
fn place(own: usize, at: usize) -> Option<usize> {
    let power = own.abs_diff(at).checked_ilog2()? as usize;
    let place = 2 * power + usize::from(at > own);
    (place < PLACES).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Up to 17 pages of a store in which pages lie in order.
    fn cluster(page: u32) -> Vec<PageNumber> {
        (page.saturating_sub(8)..page + 9).map(PageNumber).collect()
    }

    /// Has somebody touch these pages, of whose memory the last 40 that came are there: faults, and pages that came
    /// along.
    fn touch(pages: impl IntoIterator<Item = u32>) -> (usize, usize) {
        let mut neighbours = Neighbours::default();
        let mut here = std::collections::VecDeque::new();
        let (mut faults, mut along) = (0, 0);
        for page in pages.into_iter().map(PageNumber) {
            if here.contains(&page) {
                continue;
            }
            let come = neighbours.come_along(page, &cluster(page.0));
            (faults, along) = (faults + 1, along + come.len());
            here.extend([page].into_iter().chain(come));
            here.drain(..here.len().saturating_sub(40));
        }
        (faults, along)
    }

    #[test]
    fn who_goes_all_over_the_place_has_none_come_along() {
        assert_eq!(touch((0..4000).map(|n| n * 1009 % 4001 * 20)), (4000, 0));
    }

    #[test]
    fn who_touches_pages_in_pairs_has_them_come_in_pairs() {
        let (faults, along) =
            touch((0..4000).flat_map(|n| [0, 1].map(|m| n * 1009 % 4001 * 20 + m)));
        assert!(faults < 4500 && along < 5000, "{faults} faults, and {along} came along");
    }

    #[test]
    fn who_wants_all_neighbours_has_all_of_them_come_along() {
        let order = [8, 3, 12, 0, 15, 5, 10, 1, 14, 7, 2, 9, 13, 4, 11, 6];
        let pages = (0..1000_u32).flat_map(|n| order.map(|m| n * 377 % 1000 * 32 + m));
        let (faults, _) = touch(pages);
        assert!(faults < 5000, "{faults} faults for 16000 pages");
    }

    #[test]
    fn it_is_noticed_when_they_are_of_no_use_any_more() {
        let mut neighbours = Neighbours { wanted: [ALWAYS; PLACES], ..Neighbours::default() };
        let scattered = (1..2000).map(|n| PageNumber(n * 160));
        let brought = scattered.map(|page| neighbours.come_along(page, &cluster(page.0)).len());
        let brought: Vec<usize> = brought.collect();
        assert_eq!(brought[0], 16, "those at 8 places before and behind");
        assert!(brought[300..].iter().all(|count| *count == 0), "{brought:?}");
    }
}
