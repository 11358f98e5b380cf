//! The superblock: which state was committed last, and that the guest's key says so.

use crate::error::StoreError;
use crate::key::{KEY, Purpose, Seed, WrappedKey, derive_authenticating};
use crate::region::{Commit, GuestId, Options, PAGE};
use ring::hmac;

const MAGIC: [u8; 8] = *b"DNLISWAP";
const VERSION: u32 = 1;

/// Flag: pages are encrypted.
const ENCRYPTED: u32 = 1;
/// Flag: there is a wrapped key.
const HAS_KEY: u32 = 2;

/// Bytes that describe the commit; the manifest is sealed along with them.
pub(crate) const HEAD: usize = 88;
/// Bytes that the tag covers.
const BODY: usize = HEAD + 32 + 32 + WrappedKey::SIZE;
/// Bytes of the tag.
const MAC: usize = 32;

/// What a superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) guest: GuestId,
    pub(crate) options: Options,
    /// Sequence number and root; number 0 is a region without a commit.
    pub(crate) commit: Commit,
    /// The manifest's key is derived from it.
    pub(crate) seed: Seed,
    /// Bytes of the manifest as stored.
    pub(crate) length: u64,
    /// Root of the commit before.
    pub(crate) parent: [u8; 32],
    pub(crate) wrapped: Option<WrappedKey>,
}

impl Superblock {
    /// As stored, authenticated with the guest's key.
    pub(crate) fn encode(&self, root: &hmac::Key) -> [u8; PAGE] {
        let mut block = [0; PAGE];
        let mut writer = Writer { block: &mut block, at: 0 };
        writer.put(&self.head());
        writer.put(&self.commit.root);
        writer.put(&self.parent);
        let no_key = WrappedKey::from_bytes([0; WrappedKey::SIZE]);
        writer.put(self.wrapped.as_ref().unwrap_or(&no_key).as_bytes());
        let tag = hmac::sign(&self.authenticating(root), &block[..BODY]);
        block[BODY..BODY + MAC].copy_from_slice(tag.as_ref());
        block
    }

    /// The bytes that describe the commit.
    pub(crate) fn head(&self) -> [u8; HEAD] {
        let mut block = [0; HEAD];
        let has_key = if self.wrapped.is_some() { HAS_KEY } else { 0 };
        let flags = has_key | if self.options.encrypt { ENCRYPTED } else { 0 };
        let mut writer = Writer { block: &mut block, at: 0 };
        writer.put(&MAGIC);
        writer.put(&VERSION.to_le_bytes());
        writer.put(&flags.to_le_bytes());
        writer.put(&self.guest.0);
        writer.put(&self.options.capacity.to_le_bytes());
        writer.put(&self.options.state_max.to_le_bytes());
        writer.put(&self.commit.sequence.to_le_bytes());
        writer.put(&self.seed);
        writer.put(&self.length.to_le_bytes());
        block
    }

    /// What a block says, whether it is true or not.
    ///
    /// # Errors
    /// When it is no superblock, or none that this program understands.
    pub(crate) fn parse(block: &[u8; PAGE]) -> Result<Self, StoreError> {
        let mut reader = Reader { block, at: 0 };
        if reader.take::<8>() != MAGIC {
            return Err(StoreError::NoRegion);
        }
        let version = reader.number();
        if version != VERSION {
            return Err(StoreError::Version(version));
        }
        let flags = reader.number();
        if flags & !(ENCRYPTED | HAS_KEY) != 0 {
            return Err(StoreError::Flags(flags));
        }
        let superblock = Self {
            guest: GuestId(reader.take()),
            options: Options {
                capacity: reader.number(),
                state_max: reader.number(),
                encrypt: flags & ENCRYPTED != 0,
            },
            commit: Commit { sequence: u64::from_le_bytes(reader.take()), root: [0; 32] },
            seed: reader.take(),
            length: u64::from_le_bytes(reader.take()),
            parent: [0; 32],
            wrapped: None,
        };
        let root = reader.take();
        let parent = reader.take();
        let wrapped = WrappedKey::from_bytes(reader.take());
        Ok(Self {
            commit: Commit { root, ..superblock.commit },
            parent,
            wrapped: (flags & HAS_KEY != 0).then_some(wrapped),
            ..superblock
        })
    }

    /// Whether the block it was parsed from was written with the guest's key. The comparison takes the
    /// same time whatever the block contains.
    pub(crate) fn is_authentic(&self, block: &[u8; PAGE], root: &hmac::Key) -> bool {
        let key = self.authenticating(root);
        hmac::verify(&key, &block[..BODY], &block[BODY..BODY + MAC]).is_ok()
    }

    fn authenticating(&self, root: &hmac::Key) -> hmac::Key {
        derive_authenticating(root, Purpose::Superblock, &self.guest.0)
    }
}

/// Puts fields one after the other.
struct Writer<'a> {
    block: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.block[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

/// Takes fields one after the other. A block has room for all of them.
struct Reader<'a> {
    block: &'a [u8; PAGE],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.block[self.at..self.at + N]);
        self.at += N;
        field
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
}

const _: () = assert!(KEY == 32 && HEAD == 8 + 4 * 4 + 16 + 8 + KEY + 8);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::key::Key;
    use proptest::prelude::*;

    pub(crate) fn sample(wrapped: Option<WrappedKey>) -> Superblock {
        Superblock {
            guest: GuestId([7; 16]),
            options: Options { capacity: 1000, state_max: 5000, encrypt: true },
            commit: Commit { sequence: 9, root: [1; 32] },
            seed: [2; 32],
            length: 777,
            parent: [3; 32],
            wrapped,
        }
    }

    fn root() -> hmac::Key {
        Key::from_bytes(&[5; 32]).unwrap().root()
    }

    #[test]
    fn a_superblock_is_read_as_it_was_written() {
        for wrapped in [None, Some(WrappedKey::from_bytes([8; WrappedKey::SIZE]))] {
            let block = sample(wrapped).encode(&root());
            let parsed = Superblock::parse(&block).unwrap();
            assert_eq!(parsed, sample(wrapped));
            assert!(parsed.is_authentic(&block, &root()));
            assert!(!parsed.is_authentic(&block, &Key::from_bytes(&[6; 32]).unwrap().root()));
        }
    }

    #[test]
    fn every_bit_is_authenticated() {
        let block = sample(None).encode(&root());
        for bit in 0..8 * (BODY + MAC) {
            let mut changed = block;
            changed[bit / 8] ^= 1 << (bit % 8);
            let authentic = Superblock::parse(&changed)
                .is_ok_and(|parsed| parsed.is_authentic(&changed, &root()));
            assert!(!authentic, "bit {bit}");
        }
    }

    #[test]
    fn other_formats_are_named() {
        let mut block = sample(None).encode(&root());
        // A flag that is not heard would be lost when the superblock is written anew.
        block[13] = 1;
        assert!(matches!(Superblock::parse(&block), Err(StoreError::Flags(0x101))));
        block[8] = 2;
        assert!(matches!(Superblock::parse(&block), Err(StoreError::Version(2))));
        block[0] = 0;
        assert!(matches!(Superblock::parse(&block), Err(StoreError::NoRegion)));
    }

    proptest! {
        #[test]
        fn arbitrary_blocks_never_panic(
            start in prop::collection::vec(any::<u8>(), 300),
            begins_right in any::<bool>(),
        ) {
            let mut block = [0; PAGE];
            block[..300].copy_from_slice(&start);
            if begins_right {
                block[..16].copy_from_slice(b"DNLISWAP\x01\0\0\0\x03\0\0\0");
            }
            let parsed = Superblock::parse(&block);
            prop_assert_eq!(parsed.is_ok(), begins_right);
            if let Ok(parsed) = parsed {
                prop_assert!(!parsed.is_authentic(&block, &root()));
            }
        }
    }
}
