//! Memory that requests go over, for measurements of guests that work on what they keep.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The word in the guest's arguments that says how many KiB there are: `touch-kib=N`.
const ARGUMENT: &str = "touch-kib=";
/// Words of a page.
const WORDS: usize = 512;
const PAGE_KIB: usize = 4;

/// Pages, each with its number and how often it was visited in its first word.
pub struct Memory {
    words: Vec<u64>,
}

impl Memory {
    /// As much as the guest's arguments say, every word of it written.
    pub fn of(arguments: &str) -> Result<Self, String> {
        let mut words = arguments.split_ascii_whitespace();
        let Some(kib) = words.find_map(|word| word.strip_prefix(ARGUMENT)) else {
            return Ok(Self { words: Vec::new() });
        };
        let kib: usize = kib.parse().map_err(|_| format!("{ARGUMENT}{kib}: not a number"))?;
        let count = kib.div_ceil(PAGE_KIB).saturating_mul(WORDS);
        let mut words = Vec::new();
        if words.try_reserve_exact(count).is_err() {
            return Err(format!("{ARGUMENT}{kib}: the guest has too little memory"));
        }
        words.extend((0..count).map(first_visit));
        Ok(Self { words })
    }

    /// How many KiB there are.
    pub fn kib(&self) -> usize {
        self.words.len() / WORDS * PAGE_KIB
    }

    /// Reads and writes a word of each page of the first `kib` KiB. How many KiB these are and how often the first one was
    /// visited; `None` if a page holds something else than it did.
    pub fn visit(&mut self, kib: usize) -> Option<(usize, u32)> {
        let pages = kib.div_ceil(PAGE_KIB).min(self.words.len() / WORDS);
        for (page, words) in self.words.chunks_exact_mut(WORDS).take(pages).enumerate() {
            if words[0] >> 32 != page as u64
                || words[WORDS - 1] != first_visit(page * WORDS + WORDS - 1)
            {
                return None;
            }
            words[0] = u64::from((words[0] as u32).wrapping_add(1)) | (page as u64) << 32;
        }
        let visits = self.words.first().map_or(0, |&word| word as u32);
        Some((pages * PAGE_KIB, visits))
    }
}

/// A word before anybody has visited its page.
fn first_visit(index: usize) -> u64 {
    if index.is_multiple_of(WORDS) { ((index / WORDS) as u64) << 32 } else { index as u64 }
}
