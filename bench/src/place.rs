//! Folders of this benchmark, which are gone when it ends.

use crate::undo::{Undo, until};
use anyhow::{Context, Result};
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

/// How long those that were killed may make files in a folder still.
const PATIENCE: Duration = Duration::from_secs(4);

/// Bytes of a host's key.
const KEY: usize = 32;

/// Where regions are, and what is small.
#[derive(Debug)]
pub(crate) struct Place {
    /// On the machine's disk, beside this program.
    disk: Folder,
    /// Where paths are short: configurations and sockets.
    temporary: Folder,
}

impl Place {
    /// Makes the folders.
    pub(crate) fn new() -> Result<Self> {
        let own = std::env::current_exe().context("cannot find out where this program is")?;
        let beside = own.parent().context("this program is in no folder")?;
        let name = format!("denali-bench-{}", process::id());
        let place = Self {
            disk: Folder::new(&beside.join(&name))?,
            temporary: Folder::new(&std::env::temp_dir().join(&name))?,
        };
        let random = File::open("/dev/urandom").context("cannot open /dev/urandom")?;
        let mut key = Vec::new();
        random.take(KEY as u64).read_to_end(&mut key).context("cannot read random bytes")?;
        let options = &mut File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(place.key());
        let written = file.and_then(|mut file| file.write_all(&key));
        written.context("cannot write a host's key")?;
        Ok(place)
    }

    /// The key of a host.
    pub(crate) fn key(&self) -> PathBuf {
        self.temporary.path.join("host.key")
    }

    /// A new folder on the disk.
    pub(crate) fn on_disk(&self, name: &str) -> Result<Folder> {
        Folder::new(&self.disk.path.join(name))
    }

    /// A new folder for what is small.
    pub(crate) fn temporary(&self, name: &str) -> Result<Folder> {
        Folder::new(&self.temporary.path.join(name))
    }
}

/// A folder that nobody else may use, removed with all that is in it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _undo: Undo,
}

impl Folder {
    fn new(path: &Path) -> Result<Self> {
        let make = || {
            let made = DirBuilder::new().mode(0o700).create(path);
            made.with_context(|| format!("cannot make {}", path.display()))
                .map(|()| path.to_path_buf())
        };
        let (path, undo) = Undo::of(make, |path| {
            let is_gone = || fs::remove_dir_all(&path).is_ok() || !path.exists();
            if !until(PATIENCE, is_gone) {
                eprintln!("bench: please remove {}", path.display());
            }
        })?;
        Ok(Self { path, _undo: undo })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
