//! For fuzzing: what lies behind the seals of a region, reached with any content.

use crate::key::{KEY, Key, Purpose, TAG, derive_sealing, seal};
use crate::manifest::{Contents, Manifest, size_max};
use crate::region::{Commit, GuestId, Options, PAGE};
use crate::superblock::{HEAD, Superblock};
use ring::digest::{SHA256, digest};

/// Seed of the sealed manifests.
const SEED: [u8; KEY] = [5; KEY];

/// A region at its first commit whose manifest is `content`, whatever that is, sealed with the guest's key as a
/// store would: positions and what is there. `None` if it is longer than manifests can be.
#[must_use]
pub fn region_of_manifest(
    content: &[u8],
    (guest, key): (GuestId, &Key),
    options: &Options,
) -> Option<[(u64, Vec<u8>); 2]> {
    let length = (content.len() + TAG) as u64;
    if length > size_max(options) {
        return None;
    }
    let root = key.root();
    let mut superblock = Superblock {
        guest,
        options: *options,
        commit: Commit { sequence: 1, root: [0; 32] },
        seed: SEED,
        length,
        parent: [0; 32],
        wrapped: None,
    };
    let mut manifest = content.to_vec();
    let sealing = derive_sealing(&root, Purpose::Manifest, &SEED);
    let tag = seal(&sealing, [0; 12], &superblock.head(), &mut manifest);
    manifest.extend(tag);
    superblock.commit.root.copy_from_slice(digest(&SHA256, &manifest).as_ref());
    let block = superblock.encode(&root).to_vec();
    Some([(PAGE as u64, block), (options.manifest_offset(1), manifest)])
}

/// What a manifest says, written down again, without the epochs that no page has; `None` if it is none.
#[must_use]
pub fn rewrite_manifest(content: &[u8], options: &Options) -> Option<Vec<u8>> {
    let Manifest { epochs, entries, working_set, state } =
        Manifest::decode(content, options).ok()?;
    let (working_set, state) = (&working_set[..], &state[..]);
    let contents = Contents { epochs: &epochs, entries: &entries, working_set, state };
    let mut bytes = vec![0; contents.size()];
    contents.encode(&mut bytes);
    Some(bytes)
}

/// Bytes of a superblock that the manifest is sealed along with, as they are written for what the block says;
/// `None` if it is none.
#[must_use]
pub fn rewrite_superblock(block: &[u8; PAGE]) -> Option<[u8; HEAD]> {
    Superblock::parse(block).ok().map(|superblock| superblock.head())
}
