//! Seals pages before they leave and opens those that come back.

use crate::key::{KEY, Key, Purpose, Seed, TAG, derive_sealing, fill_random, open, seal};
use crate::locked::Locked;
use crate::manifest::Stamp;
use crate::region::{PAGE, PageNumber};
use ring::aead::{LessSafeKey, NONCE_LEN};
use ring::hmac;
use std::io;

/// Keys of earlier epochs that are kept once they were derived.
const KEPT: usize = 5;

/// Seals pages in an epoch of its own, and opens those of earlier ones.
pub(crate) struct PageSealer {
    keys: Locked<Keys>,
    /// Seeds of the epochs; the last is that of this sealer.
    epochs: Vec<Seed>,
    /// Pages sealed in this epoch.
    sealed: u64,
    encrypt: bool,
}

/// Keys that are in locked memory together.
struct Keys {
    root: hmac::Key,
    sealing: LessSafeKey,
    /// Keys of earlier epochs, and which; replaced in turn.
    opening: [Option<(u8, LessSafeKey)>; KEPT],
    next: usize,
}

impl PageSealer {
    /// Begins an epoch: one that never was before, after those that a manifest names, at most 64.
    pub(crate) fn new(key: &Key, mut epochs: Vec<Seed>, encrypt: bool) -> io::Result<Self> {
        let mut seed = [0; KEY];
        fill_random(&mut seed)?;
        epochs.push(seed);
        let root = key.root();
        let sealing = derive_sealing(&root, Purpose::Pages { encrypted: encrypt }, &seed);
        let keys = Keys { root, sealing, opening: [const { None }; KEPT], next: 0 };
        Ok(Self { keys: Locked::new(keys)?, epochs, sealed: 0, encrypt })
    }

    /// Seeds of all epochs, as stamps number them.
    pub(crate) fn epochs(&self) -> &[Seed] {
        &self.epochs
    }

    /// The number of this sealer's own epoch.
    pub(crate) fn epoch(&self) -> u8 {
        (self.epochs.len() - 1) as u8
    }

    /// Seals a page in place: its stamp, and the tag that authenticates it.
    pub(crate) fn seal(&mut self, page: PageNumber, content: &mut [u8]) -> (Stamp, [u8; TAG]) {
        let (mut stamps, sealing) = self.split();
        let stamp = stamps.next();
        (stamp, sealing.seal(page, stamp, content))
    }

    /// What gives out stamps, and what seals pages that have one: on any thread.
    pub(crate) fn split(&mut self) -> (Stamps<'_>, Sealing<'_>) {
        let epoch = self.epoch();
        let sealing = Sealing { key: &self.keys.sealing, encrypt: self.encrypt };
        (Stamps { epoch, sealed: &mut self.sealed }, sealing)
    }

    /// Opens a page in place; false, and the content worthless, if it is not what was sealed.
    pub(crate) fn open(
        &mut self,
        page: PageNumber,
        stamp: Stamp,
        tag: &[u8; TAG],
        content: &mut [u8],
    ) -> bool {
        let nonce = nonce(page, stamp);
        let encrypt = self.encrypt;
        let Some(key) = self.key(stamp.epoch()) else { return false };
        if encrypt {
            open(key, nonce, &[], tag, content)
        } else {
            open(key, nonce, content, tag, &mut [])
        }
    }

    /// The key of an epoch.
    fn key(&mut self, epoch: u8) -> Option<&LessSafeKey> {
        if epoch == self.epoch() {
            return Some(&self.keys.sealing);
        }
        let seed = self.epochs.get(usize::from(epoch))?;
        let keys = &mut *self.keys;
        let is_kept = |kept: &Option<(u8, _)>| kept.as_ref().is_some_and(|kept| kept.0 == epoch);
        let index = keys.opening.iter().position(is_kept).unwrap_or_else(|| {
            let index = keys.next;
            keys.next = (index + 1) % KEPT;
            let purpose = Purpose::Pages { encrypted: self.encrypt };
            keys.opening[index] = Some((epoch, derive_sealing(&keys.root, purpose, seed)));
            index
        });
        keys.opening[index].as_ref().map(|kept| &kept.1)
    }
}

/// Gives out stamps of one epoch, none twice.
pub(crate) struct Stamps<'a> {
    epoch: u8,
    sealed: &'a mut u64,
}

impl Stamps<'_> {
    /// The next one.
    pub(crate) fn next(&mut self) -> Stamp {
        let stamp = Stamp::new(self.epoch, *self.sealed);
        *self.sealed += 1;
        stamp
    }
}

/// Seals pages. Each stamp is for one page, once.
#[derive(Clone, Copy)]
pub(crate) struct Sealing<'a> {
    key: &'a LessSafeKey,
    encrypt: bool,
}

impl Sealing<'_> {
    /// Seals a page in place; the tag that authenticates it.
    pub(crate) fn seal(self, page: PageNumber, stamp: Stamp, content: &mut [u8]) -> [u8; TAG] {
        let nonce = nonce(page, stamp);
        match self.encrypt {
            true => seal(self.key, nonce, &[], content),
            false => seal(self.key, nonce, content, &mut []),
        }
    }
}

/// The page and how many were sealed before it in the epoch: a nonce that the epoch's key sees once, and
/// that differs for another page.
fn nonce(page: PageNumber, stamp: Stamp) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[..4].copy_from_slice(&page.0.to_le_bytes());
    nonce[4..].copy_from_slice(&stamp.counter().to_le_bytes());
    nonce
}

const _: () = assert!(size_of::<Keys>() <= PAGE, "one page is locked");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const PLACE: PageNumber = PageNumber(300);

    fn sealer(epochs: Vec<Seed>, encrypt: bool) -> PageSealer {
        PageSealer::new(&Key::from_bytes(&[1; 32]).unwrap(), epochs, encrypt).unwrap()
    }

    #[test]
    fn a_page_opens_as_what_it_was_and_as_nothing_else() {
        for encrypt in [true, false] {
            let mut sealer = sealer(Vec::new(), encrypt);
            let mut stored = [7; PAGE];
            let (stamp, tag) = sealer.seal(PLACE, &mut stored);
            assert_eq!(stored != [7; PAGE], encrypt);
            let mut opens = |page, stamp, tag: [u8; TAG], mut content: [u8; PAGE]| {
                sealer.open(page, stamp, &tag, &mut content) && content == [7; PAGE]
            };
            assert!(opens(PLACE, stamp, tag, stored));
            assert!(!opens(PageNumber(301), stamp, tag, stored), "another page");
            assert!(!opens(PLACE, Stamp::new(0, 1), tag, stored), "another count");
            assert!(!opens(PLACE, Stamp::new(1, 0), tag, stored), "no such epoch");
            assert!(!opens(PLACE, stamp, [0; TAG], stored));
            for byte in [0, 4095] {
                let mut changed = stored;
                changed[byte] ^= 0x80;
                assert!(!opens(PLACE, stamp, tag, changed));
            }
        }
    }

    #[test]
    fn pages_of_many_epochs_open() {
        let (mut epochs, mut pages) = (Vec::new(), Vec::new());
        for index in 0..20 {
            let mut sealer = sealer(epochs, true);
            let mut content = [index; PAGE];
            let (stamp, tag) = sealer.seal(PLACE, &mut content);
            pages.push((stamp, tag, content));
            epochs = sealer.epochs;
        }
        let mut sealer = sealer(epochs, true);
        for index in (0..20).chain([3, 19, 3, 0]) {
            let (stamp, tag, mut content) = pages[index];
            assert!(sealer.open(PLACE, stamp, &tag, &mut content));
            assert_eq!(content, [index as u8; PAGE]);
        }
    }

    #[test]
    fn no_nonce_comes_twice_under_a_key() {
        let mut seen = HashSet::new();
        // The same manifest is gone back to again and again, as by restoring copies of a region.
        for _ in 0..10 {
            let mut sealer = sealer(vec![[9; KEY]], true);
            for count in 0..10 {
                let page = PageNumber(count % 2);
                let (stamp, _) = sealer.seal(page, &mut [0; PAGE]);
                let seed = sealer.epochs()[usize::from(stamp.epoch())];
                assert!(seen.insert((seed, nonce(page, stamp))));
            }
        }
    }
}
