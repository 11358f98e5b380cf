//! Keys of guests and hosts, what is derived from them, and keys that are wrapped by others.

use crate::locked::Locked;
use crate::region::GuestId;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use ring::hmac;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};

/// Bytes of a key, and of the seed of a key that is derived.
pub(crate) const KEY: usize = 32;
/// Bytes of an authentication tag.
pub(crate) const TAG: usize = 16;
/// Bytes of a wrapped key: seed, key, tag.
const WRAPPED: usize = KEY + KEY + TAG;

/// Random bytes that make a derived key one that never was before.
pub(crate) type Seed = [u8; KEY];

/// What a derived key is for. No two purposes have the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Authenticates superblocks.
    Superblock,
    /// Seals manifests.
    Manifest,
    /// Seals pages, or authenticates pages that are not encrypted.
    Pages { encrypted: bool },
    /// Wraps keys.
    Wrapping,
}

impl Purpose {
    /// None of them begins like another.
    fn label(self) -> &'static [u8] {
        match self {
            Self::Superblock => b"denali swap superblock\0",
            Self::Manifest => b"denali swap manifest\0",
            Self::Pages { encrypted: true } => b"denali swap pages\0",
            Self::Pages { encrypted: false } => b"denali swap plain pages\0",
            Self::Wrapping => b"denali swap wrapping\0",
        }
    }
}

/// A key of 32 bytes, of a guest or of a host, in memory that the host never swaps out and leaves out of
/// core dumps; wiped when it is dropped.
///
/// Each takes a page of locked memory, of which processes have little: who keeps many keeps them wrapped.
pub struct Key(Locked<[u8; KEY]>);

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// When no memory can be locked, or the host has no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut key = Self(Locked::new([0; KEY])?);
        fill_random(&mut key.0[..])?;
        Ok(key)
    }

    /// A key of bytes that are known. The caller wipes its copy ([`crate::wipe`]).
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn from_bytes(bytes: &[u8; KEY]) -> io::Result<Self> {
        let mut key = Self(Locked::new([0; KEY])?);
        key.0.copy_from_slice(bytes);
        Ok(key)
    }

    /// A key from a file or pipe: its next 32 bytes.
    ///
    /// # Errors
    /// When there are not so many, they cannot be read, or no memory can be locked.
    pub fn read_from(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let mut key = Self(Locked::new([0; KEY])?);
        borrowed(descriptor).read_exact(&mut key.0[..])?;
        Ok(key)
    }

    /// Writes its 32 bytes to a file or pipe.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_to(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        borrowed(descriptor).write_all(&self.0[..])
    }

    /// Encrypts the key of guest `id` for a host, so that it can be kept anywhere.
    ///
    /// # Errors
    /// When the host has no random bytes.
    pub fn wrap(&self, host: &Key, id: GuestId) -> io::Result<WrappedKey> {
        let mut wrapped = [0; WRAPPED];
        let (seed, rest) = wrapped.split_at_mut(KEY);
        fill_random(seed)?;
        let (key, tag) = rest.split_at_mut(KEY);
        key.copy_from_slice(&self.0[..]);
        let wrapping = derive_sealing(&host.root(), Purpose::Wrapping, seed);
        tag.copy_from_slice(&seal(&wrapping, [0; NONCE_LEN], &id.0, key));
        Ok(WrappedKey(wrapped))
    }

    /// Decrypts a key that this host has wrapped for guest `id`.
    ///
    /// # Errors
    /// When it was another host or guest, or the wrapped key was changed; when no memory can be locked.
    pub fn unwrap(wrapped: &WrappedKey, host: &Key, id: GuestId) -> Result<Self, KeyError> {
        let (seed, rest) = wrapped.0.split_at(KEY);
        let mut key = Self(Locked::new([0; KEY])?);
        key.0.copy_from_slice(&rest[..KEY]);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&rest[KEY..]);
        let wrapping = derive_sealing(&host.root(), Purpose::Wrapping, seed);
        if !open(&wrapping, [0; NONCE_LEN], &id.0, &tag, &mut key.0[..]) {
            return Err(KeyError::Wrong);
        }
        Ok(key)
    }

    /// What other keys are derived from.
    pub(crate) fn root(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0[..])
    }
}

/// Finds out which instructions of this processor the ciphers can use, before anybody waits: hosts that are virtual
/// machines themselves take their time to answer.
pub fn get_ready() {
    let _ = hmac::Key::new(hmac::HMAC_SHA256, &[0; KEY]);
}

/// Why a wrapped key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It does not open.
    #[error("the key was not wrapped by this host for this guest, or was changed since")]
    Wrong,
    /// The host has no memory for it.
    #[error(transparent)]
    Host(#[from] io::Error),
}

/// A guest's key, encrypted under a host's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrappedKey([u8; WRAPPED]);

impl WrappedKey {
    /// Bytes of a wrapped key.
    pub const SIZE: usize = WRAPPED;

    /// One that was kept somewhere.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        Self(bytes)
    }

    /// What is to be kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::SIZE] {
        &self.0
    }
}

/// Random bytes from the kernel.
pub(crate) fn fill_random(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the kernel writes at most so many bytes to memory that is borrowed for that.
        let done = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match usize::try_from(done) {
            Ok(done) => bytes = &mut bytes[done..],
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// 32 bytes that are as random as the seed, to whoever does not know the root.
fn derive(root: &hmac::Key, purpose: Purpose, seed: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(root);
    context.update(purpose.label());
    context.update(seed);
    context.sign()
}

/// A derived key that seals.
pub(crate) fn derive_sealing(root: &hmac::Key, purpose: Purpose, seed: &[u8]) -> LessSafeKey {
    let bytes = derive(root, purpose, seed);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes.as_ref()).expect("keys have 32 bytes"))
}

/// A derived key that authenticates.
pub(crate) fn derive_authenticating(root: &hmac::Key, purpose: Purpose, seed: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, derive(root, purpose, seed).as_ref())
}

/// Encrypts `content` in place; the tag that authenticates it along with `beside`. No key sees a nonce
/// twice.
pub(crate) fn seal(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    beside: &[u8],
    content: &mut [u8],
) -> [u8; TAG] {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(beside), content);
    let mut bytes = [0; TAG];
    bytes.copy_from_slice(tag.expect("no content is larger than a cipher can take").as_ref());
    bytes
}

/// Decrypts `content` in place; false, and the content worthless, if it or `beside` is not what was sealed.
pub(crate) fn open(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    beside: &[u8],
    tag: &[u8; TAG],
    content: &mut [u8],
) -> bool {
    let (nonce, tag) = (Nonce::assume_unique_for_key(nonce), Tag::from(*tag));
    key.open_in_place_separate_tag(nonce, Aad::from(beside), tag, content, 0..).is_ok()
}

/// A descriptor as a file that is not closed at the end.
fn borrowed(descriptor: BorrowedFd<'_>) -> ManuallyDrop<File> {
    // SAFETY: the descriptor is open while it is borrowed, and the file is never dropped.
    ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor.as_raw_fd()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    const ID: GuestId = GuestId([3; 16]);

    fn bytes(key: &Key) -> [u8; KEY] {
        *key.0
    }

    #[test]
    fn a_key_travels_through_a_pipe() {
        let (reader, writer) = io::pipe().unwrap();
        let key = Key::random().unwrap();
        key.write_to(writer.as_fd()).unwrap();
        key.write_to(writer.as_fd()).unwrap();
        drop(writer);
        for _ in 0..2 {
            assert_eq!(bytes(&Key::read_from(reader.as_fd()).unwrap()), bytes(&key));
        }
        let missing = Key::read_from(reader.as_fd()).err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_wrapped_key_opens_for_its_host_and_guest_only() {
        let (key, host) = (Key::random().unwrap(), Key::random().unwrap());
        let wrapped = key.wrap(&host, ID).unwrap();
        let kept = WrappedKey::from_bytes(*wrapped.as_bytes());
        assert_eq!(bytes(&Key::unwrap(&kept, &host, ID).unwrap()), bytes(&key));
        assert_ne!(key.wrap(&host, ID).unwrap(), wrapped, "each has a seed of its own");
        let other = GuestId([4; 16]);
        assert!(matches!(Key::unwrap(&wrapped, &host, other), Err(KeyError::Wrong)));
        assert!(matches!(Key::unwrap(&wrapped, &key, ID), Err(KeyError::Wrong)));
        for index in 0..WrappedKey::SIZE {
            let mut changed = *wrapped.as_bytes();
            changed[index] ^= 1;
            let changed = WrappedKey::from_bytes(changed);
            assert!(matches!(Key::unwrap(&changed, &host, ID), Err(KeyError::Wrong)), "{index}");
        }
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_seed() {
        let root = Key::from_bytes(&[5; KEY]).unwrap().root();
        let purposes = [
            Purpose::Superblock,
            Purpose::Manifest,
            Purpose::Pages { encrypted: true },
            Purpose::Pages { encrypted: false },
            Purpose::Wrapping,
        ];
        let mut derived: Vec<Vec<u8>> = Vec::new();
        for purpose in purposes {
            for seed in [[0; KEY], [1; KEY]] {
                derived.push(derive(&root, purpose, &seed).as_ref().to_vec());
            }
        }
        derived.sort();
        derived.dedup();
        assert_eq!(derived.len(), 10);
    }
}
