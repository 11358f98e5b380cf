//! What is in a folder, and how much room that takes in a file system.

use super::{failure, host};
use crate::output::Failure;
use denali_abi::status;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a block.
pub(super) const BLOCK: u64 = 4096;

/// Bytes of a folder's block that names can fill for certain.
const FOLDER_BLOCK: u64 = BLOCK - 12 - 264;
/// Bytes that a symbolic link may say without a block of its own.
const LINK_INLINE: u64 = 59;

/// What is in a folder.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) files: u64,
    pub(super) folders: u64,
    /// Files, folders and everything else.
    pub(super) inodes: u64,
    /// Bytes of files.
    pub(super) bytes: u64,
    /// Blocks that contents and names take.
    pub(super) blocks: u64,
    /// When something in it was changed last, in seconds since 1970.
    pub(super) modified: i64,
    hash: u128,
}

impl Contents {
    /// Looks through `folder`.
    pub(super) fn of(folder: &Path) -> Result<Self, Failure> {
        if !folder.is_dir() {
            return Err(failure(status::BAD_ARGUMENTS, folder, "there is no such folder"));
        }
        let mut contents = Self {
            files: 0,
            folders: 0,
            inodes: 0,
            bytes: 0,
            blocks: 0,
            modified: 0,
            hash: 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d,
        };
        contents.add_folder(folder)?;
        Ok(contents)
    }

    /// Contents of so many blocks and inodes.
    #[cfg(test)]
    pub(super) fn with(blocks: u64, inodes: u64) -> Self {
        Self { files: inodes, folders: 1, inodes, bytes: 0, blocks, modified: 0, hash: 0 }
    }

    fn add_folder(&mut self, folder: &Path) -> Result<(), Failure> {
        self.folders += 1;
        self.inodes += 1;
        let entries = fs::read_dir(folder).map_err(host(folder))?;
        let mut names: Vec<_> = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()
            .map_err(host(folder))?;
        // In order, so that the same folder is the same image.
        names.sort();
        let mut bytes = 24;
        for name in &names {
            bytes += 8 + (name.len() as u64).next_multiple_of(4);
            let path = folder.join(name);
            let metadata = path.symlink_metadata().map_err(host(&path))?;
            self.mix(name.as_bytes());
            self.mix_facts(&metadata);
            if metadata.is_dir() {
                self.add_folder(&path)?;
                self.mix(b"/");
            } else {
                self.add_file(&path, &metadata)?;
            }
        }
        self.blocks += u64::div_ceil(bytes, FOLDER_BLOCK);
        Ok(())
    }

    fn add_file(&mut self, path: &Path, metadata: &Metadata) -> Result<(), Failure> {
        self.inodes += 1;
        if metadata.is_symlink() {
            let target = fs::read_link(path).map_err(host(path))?;
            self.mix(target.as_os_str().as_bytes());
            self.blocks += u64::from(metadata.len() > LINK_INLINE);
        } else if metadata.is_file() {
            self.files += 1;
            self.bytes += metadata.len();
            self.blocks += metadata.len().div_ceil(BLOCK);
        }
        Ok(())
    }

    /// Counts what is known about a file or folder in.
    fn mix_facts(&mut self, metadata: &Metadata) {
        self.modified = self.modified.max(metadata.mtime());
        self.mix(&metadata.mode().to_le_bytes());
        if metadata.is_file() {
            self.mix(&metadata.len().to_le_bytes());
            self.mix(&metadata.mtime().to_le_bytes());
            self.mix(&metadata.mtime_nsec().to_le_bytes());
        }
    }

    /// Counts bytes in: FNV-1a, and a byte between what is counted.
    fn mix(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().chain(&[0xff]) {
            self.hash = (self.hash ^ u128::from(byte)).wrapping_mul((1 << 88) + 0x13b);
        }
    }

    /// A UUID (of version 8) made of names, sizes and times: the same for the same contents, and another
    /// one for others.
    pub(super) fn uuid(&self) -> String {
        let bits = self.hash & !(0xf << 76) & !(0x3 << 62);
        let digits = format!("{:032x}", bits | 8 << 76 | 2 << 62);
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        parts.join("-")
    }
}
