//! A swap region between the lives of its guest: nothing of it is open, and its key is wrapped.

use super::region::{Region, RegionError, name};
use super::{SwapSpace, through_pipe};
use crate::error::{LaunchError, WakeError};
use denali_config::Swap;
use denali_swap::{Commit, GuestId, Key, KeyError, WrappedKey};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A region that is opened for one monitor after the other. It takes no descriptor and no locked memory.
#[derive(Debug)]
pub(crate) struct ClosedSpace {
    folders: Box<[PathBuf]>,
    unit: u64,
    direct: bool,
    id: GuestId,
    /// The guest's key, under that of whoever looks after it.
    key: WrappedKey,
}

impl SwapSpace {
    /// Closes the region that `swap` configured, whose lock is free then; `keeper` is the key under which
    /// the guest's is kept.
    pub(crate) fn close(self, swap: &Swap, keeper: &Key) -> io::Result<ClosedSpace> {
        Ok(ClosedSpace {
            folders: swap.stripes.clone().into(),
            unit: swap.unit,
            direct: self.region.direct().is_ok(),
            id: self.id,
            key: self.key.wrap(keeper, self.id)?,
        })
    }
}

impl ClosedSpace {
    /// Whose region it is.
    pub(crate) fn id(&self) -> GuestId {
        self.id
    }

    /// Opens and locks the files, and a pipe with the guest's key: few system calls, and none that waits.
    /// Whether the content is the guest's own is for its monitor to find out.
    pub(crate) fn open(&self, keeper: &Key) -> Result<(Vec<OwnedFd>, OwnedFd), WakeError> {
        let mut files = Vec::with_capacity(self.folders.len());
        for (index, folder) in self.folders.iter().enumerate() {
            let path = folder.join(name(self.id, index, self.folders.len()));
            let refuse = |error| WakeError::host(&format!("cannot open {}", path.display()), error);
            files.push(reopen(&path, self.direct).map_err(refuse)?);
        }
        let key = Key::unwrap(&self.key, keeper, self.id).map_err(|error| match error {
            KeyError::Host(error) => WakeError::io("cannot use a guest's key", &error),
            KeyError::Wrong => LaunchError::Host("a guest's key does not open".into()).into(),
        })?;
        Ok((files, through_pipe(&key)?))
    }

    /// The newest commit in the region, if it is the one after `known`.
    ///
    /// # Errors
    /// When the region is in use or cannot be read.
    pub(crate) fn successor_of(
        &self,
        known: Option<Commit>,
    ) -> Result<Option<Commit>, RegionError> {
        let (_, label) = Region::open_in(&self.folders, self.unit, self.id)?;
        Ok(label.successor_of(known))
    }

    /// Takes the files away; a monitor that has them keeps them until it ends.
    pub(crate) fn remove(&self) -> Result<(), RegionError> {
        Region::remove_in(&self.folders, self.id)
    }
}

/// Whether there is a file of the region of guest `id` in these folders.
pub(super) fn exists(folders: &[PathBuf], id: GuestId) -> bool {
    let path = |(index, folder): (usize, &PathBuf)| folder.join(name(id, index, folders.len()));
    folders.iter().enumerate().map(path).any(|path| path.exists())
}

/// Whether another process has a file of the region of guest `id` in these folders.
pub(super) fn is_in_use(folders: &[PathBuf], id: GuestId) -> bool {
    let path = |(index, folder): (usize, &PathBuf)| folder.join(name(id, index, folders.len()));
    let mut paths = folders.iter().enumerate().map(path);
    paths.any(|path| matches!(reopen(&path, false), Err(Errno::EAGAIN)))
}

/// Opens a file of a region and locks it.
fn reopen(path: &Path, direct: bool) -> Result<OwnedFd, Errno> {
    let passing_cache = if direct { OFlag::O_DIRECT } else { OFlag::empty() };
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | passing_cache;
    let file = open(path, flags, Mode::empty())?;
    // SAFETY: the descriptor is open; the call touches no memory.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    Errno::result(locked)?;
    Ok(file)
}
