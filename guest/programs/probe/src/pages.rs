//! Pages of memory with contents that are known, and can be changed one by one.

use crate::Failed;
use alloc::vec::Vec;

/// Words of a page.
const WORDS: usize = 512;
/// Pages of a MiB.
const PER_MIB: u64 = 256;

/// Pages, each filled from its number and how often it was changed.
pub struct Pages {
    words: Vec<u64>,
    changes: Vec<u32>,
    /// What [`Pages::check`] must come to.
    sum: u64,
    random: u64,
}

/// Mixes a number well (the last steps of splitmix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// What is in a page that was changed so often.
fn content(page: usize, changes: u32) -> impl Iterator<Item = u64> {
    let seed = mix((page as u64) << 32 | u64::from(changes));
    (0..WORDS as u64).map(move |index| mix(seed ^ index))
}

/// A sum that depends on the order.
fn sum(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0, |sum: u64, word| (sum.rotate_left(7) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Pages {
    /// So many MiB of pages, written one after the other; `grown` is told how many MiB there are.
    pub fn fill(mib: u64, grown: fn(u64)) -> Result<Self, Failed> {
        let count = (mib.max(1) * PER_MIB) as usize;
        let mut pages =
            Self { words: Vec::new(), changes: alloc::vec![0; count], sum: 0, random: 1 };
        let room = pages.words.try_reserve_exact(count * WORDS);
        room.map_err(|_| Failed("so much memory is not free"))?;
        for page in 0..count {
            pages.words.extend(content(page, 0));
            pages.sum = pages.sum.wrapping_add(sum(content(page, 0)));
            if (page as u64 + 1).is_multiple_of(PER_MIB) {
                grown((page as u64 + 1) / PER_MIB);
            }
        }
        Ok(pages)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.changes.len()
    }

    fn words(&self, page: usize) -> &[u64] {
        &self.words[page * WORDS..(page + 1) * WORDS]
    }

    /// Whether a page is as it was left.
    pub fn is_good(&self, page: usize) -> bool {
        self.words(page).iter().copied().eq(content(page, self.changes[page]))
    }

    /// Changes a page.
    pub fn change(&mut self, page: usize) {
        let before = sum(self.words(page).iter().copied());
        self.changes[page] += 1;
        let new = content(page, self.changes[page]);
        for (word, new) in self.words[page * WORDS..].iter_mut().zip(new) {
            *word = new;
        }
        let after = sum(self.words(page).iter().copied());
        self.sum = self.sum.wrapping_sub(before).wrapping_add(after);
    }

    /// The number of a page, by chance.
    pub fn any(&mut self) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.random) % self.count() as u64) as usize
    }

    /// The sum of all pages, or the first one that is wrong; the number of pages if only the sum is.
    pub fn check(&self) -> Result<u64, usize> {
        let mut found = 0_u64;
        for page in 0..self.count() {
            if !self.is_good(page) {
                return Err(page);
            }
            found = found.wrapping_add(sum(self.words(page).iter().copied()));
        }
        if found == self.sum { Ok(found) } else { Err(self.count()) }
    }
}
