//! Read-ahead from the store: whether who touches a page goes on to touch those that lie beside it there.
//!
//! Pages that left memory together lie together, and are often wanted together again. Where they are not, and memory
//! is short, each that is brought in vain has another leave for it, and must be written anew itself before it
//! leaves. So they are brought along only once it was seen that they would have been of use.

use denali_swap::PageNumber;

/// Faults whose neighbours are remembered.
const REMEMBERED: usize = 4;

/// What a fault is worth that bringing neighbours along would have saved, and the most of it that is kept. Each fault
/// that it would not have saved costs one.
const EARNED: u32 = 4;
const MOST: u32 = 16;

/// From here on neighbours come along: two such faults in short order.
const ENOUGH: u32 = 2 * EARNED - 1;

/// Remembers the neighbours that did not come along.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    remembered: [Vec<PageNumber>; REMEMBERED],
    oldest: usize,
    credit: u32,
}

impl Neighbours {
    /// A page was touched that lies in the store beside others, itself among them: whether to bring them along.
    pub(crate) fn come_along(&mut self, page: PageNumber, cluster: &[PageNumber]) -> bool {
        let saved = self.remembered.iter().any(|others| others.contains(&page));
        self.credit = match saved {
            true => (self.credit + EARNED).min(MOST),
            false => self.credit.saturating_sub(1),
        };
        if self.credit >= ENOUGH {
            return true;
        }
        let place = &mut self.remembered[self.oldest];
        place.clear();
        place.extend(cluster.iter().filter(|other| **other != page));
        self.oldest = (self.oldest + 1) % REMEMBERED;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pages of a store in which clusters are runs of 16 pages.
    fn cluster(page: u32) -> Vec<PageNumber> {
        (page / 16 * 16..page / 16 * 16 + 16).map(PageNumber).collect()
    }

    /// Faults of who touches these pages, none of which stays in memory but those that just came along.
    fn faults(pages: impl IntoIterator<Item = u32>) -> usize {
        let mut neighbours = Neighbours::default();
        let mut here = Vec::new();
        let mut count = 0;
        for page in pages.into_iter().map(PageNumber) {
            if !here.contains(&page) {
                count += 1;
                let cluster = cluster(page.0);
                here = match neighbours.come_along(page, &cluster) {
                    true => cluster,
                    false => vec![page],
                };
            }
        }
        count
    }

    #[test]
    fn who_touches_neighbours_soon_has_them_brought_along() {
        // Clusters all over the place, in each of which every page is wanted, in no order.
        let pages = (0..100).flat_map(|n| (0..16).map(move |m| n * 37 % 100 * 16 + m * 5 % 16));
        let count = faults(pages);
        assert!(count < 200, "{count} faults for 100 clusters of 16 pages");
    }

    #[test]
    fn who_touches_pages_all_over_the_place_has_none_brought_along() {
        let pages = (0..1600).map(|n| n * 1009 % 1600);
        assert_eq!(faults(pages), 1600);
    }

    #[test]
    fn it_is_noticed_when_neighbours_are_of_no_use_any_more() {
        let mut neighbours = Neighbours::default();
        (0..16).for_each(|page| drop(neighbours.come_along(PageNumber(page), &cluster(page))));
        let scattered = (1..1000).map(|n| PageNumber(n * 160));
        let brought = scattered.filter(|page| neighbours.come_along(*page, &cluster(page.0)));
        assert!(brought.count() < MOST as usize);
    }
}
