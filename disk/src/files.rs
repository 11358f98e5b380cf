//! The open files of a disk.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::Index;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::error::SetupError;

/// Files, each of which keeps its lock until all of them are dropped, or [unlocked](Files::unlock).
pub(crate) struct Files(Vec<File>);

impl Files {
    pub(crate) fn new(descriptors: Vec<OwnedFd>) -> Self {
        Self(descriptors.into_iter().map(File::from).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &File> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives the locks up.
    pub(crate) fn unlock(&self) {
        for file in self.iter() {
            // SAFETY: the descriptor is open; the call touches no memory. It fails only if there is no lock.
            unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
        }
    }

    /// Bytes of the smallest file.
    pub(crate) fn size(&self) -> Result<u64, SetupError> {
        let mut smallest = u64::MAX;
        for mut file in self.iter() {
            let size = file.seek(SeekFrom::End(0));
            smallest = smallest.min(size.map_err(SetupError::host("find a disk's size"))?);
        }
        Ok(smallest)
    }
}

impl Index<usize> for Files {
    type Output = File;

    fn index(&self, index: usize) -> &File {
        &self.0[index]
    }
}
