//! The file that everybody reads.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file with something in every block, on the file system of the build. It is removed when this is
/// dropped.
#[derive(Debug)]
pub(super) struct TestFile {
    path: PathBuf,
}

impl TestFile {
    /// Writes a file of so many MiB.
    pub(super) fn new(mib: u64) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find out where this program is")?;
        let folder = own.parent().context("this program is in no folder")?;
        let path = folder.join(format!("bench-block-{}.img", std::process::id()));
        let mut file = File::create(&path).context("cannot make a file to read")?;
        let test = Self { path };
        let mut block = vec![0; 1 << 20];
        for number in 0..mib {
            for (index, word) in block.chunks_mut(8).enumerate() {
                let value = (number << 32 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                word.copy_from_slice(&value.to_le_bytes());
            }
            file.write_all(&block).context("cannot write a file to read")?;
        }
        file.sync_all().context("cannot write a file to read")?;
        Ok(test)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        // What is left behind is a file in a build folder.
        let _ = fs::remove_file(&self.path);
    }
}
