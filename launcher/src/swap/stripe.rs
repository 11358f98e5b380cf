//! One file of a swap region: made and reserved, or opened again.

use crate::folder::{check_private, open_own};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, ftruncate, unlinkat};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A file of a region, locked for as long as anyone has its descriptor.
#[derive(Debug)]
pub(super) struct Stripe {
    pub(super) file: OwnedFd,
    /// Whether the host's page cache is passed by (O_DIRECT).
    pub(super) direct: bool,
    /// Bytes of it.
    pub(super) size: u64,
    folder: PathBuf,
    name: String,
}

impl Stripe {
    /// Makes a file of `size` bytes in `folder`, all of them reserved on the disk if `reserve` says so; nothing is
    /// left of it if that fails.
    ///
    /// # Errors
    /// What is wrong and what to do, in one line.
    pub(super) fn create(
        folder: &Path,
        name: &str,
        size: u64,
        reserve: bool,
    ) -> Result<Self, String> {
        let opened = open_own(folder)?;
        let shown = folder.display();
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&opened, name, flags, Mode::from_bits_retain(0o600)).map_err(|error| {
            match error {
                Errno::EEXIST => format!("{shown}/{name} exists already; remove it, or resume its guest"),
                Errno::EACCES | Errno::EPERM => format!(
                    "{shown} may not be written by this user; give this user access, or name another folder"
                ),
                Errno::EROFS => format!("{shown} is mounted for reading only; name another folder"),
                Errno::ENOSPC | Errno::EDQUOT => no_room(folder, size),
                error => format!("cannot make a file in {shown}: {}; name another folder", error.desc()),
            }
        })?;
        let stripe = Self::new(file, folder, name, size);
        let prepared = stripe.lock().and_then(|()| match reserve {
            true => stripe.reserve(),
            false => stripe.stretch(),
        });
        if prepared.is_err() {
            let _ = stripe.remove();
        }
        prepared.map(|()| stripe)
    }

    /// Opens a file that [`Stripe::create`] made; `None` where there is none.
    ///
    /// # Errors
    /// What is wrong and what to do, in one line.
    pub(super) fn open(folder: &Path, name: &str) -> Result<Option<Self>, String> {
        let opened = open_own(folder)?;
        let shown = format!("{}/{name}", folder.display());
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&opened, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(format!("cannot open {shown}: {}", error.desc())),
        };
        let status = check_private(&file, &shown)?;
        let size = u64::try_from(status.st_size).unwrap_or(0);
        let stripe = Self::new(file, folder, name, size);
        stripe.lock()?;
        Ok(Some(stripe))
    }

    fn new(file: OwnedFd, folder: &Path, name: &str, size: u64) -> Self {
        let direct = set_direct(&file);
        Self { file, direct, size, folder: folder.to_path_buf(), name: name.to_owned() }
    }

    /// What messages call it.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Another descriptor of the same file, with the same lock.
    pub(super) fn share(&self) -> Result<OwnedFd, String> {
        let error =
            |error| format!("cannot copy a descriptor of {}: {error}", self.path().display());
        self.file.try_clone().map_err(error)
    }

    /// Takes away its name; the space goes back to the disk when its last descriptor is closed.
    pub(super) fn remove(&self) -> Result<(), String> {
        remove(&self.folder, &self.name)
    }

    fn lock(&self) -> Result<(), String> {
        let shown = self.path();
        denali_disk::lock(self.file.as_fd()).map_err(|error| match error {
            denali_disk::OpenError::InUse(_) => {
                format!("{} is in use: its guest runs, or is being resumed", shown.display())
            }
            error => format!("{}: {error}", shown.display()),
        })
    }

    /// Makes the file as large as it is to be, and takes no space for it.
    fn stretch(&self) -> Result<(), String> {
        let size = i64::try_from(self.size).map_err(|_| no_room(&self.folder, self.size))?;
        ftruncate(&self.file, size).map_err(|error| match error {
            Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG => no_room(&self.folder, self.size),
            error => format!("cannot make a file in {}: {}", self.folder.display(), error.desc()),
        })
    }

    fn reserve(&self) -> Result<(), String> {
        let size = i64::try_from(self.size).map_err(|_| no_room(&self.folder, self.size))?;
        loop {
            return match fallocate(&self.file, FallocateFlags::empty(), 0, size) {
                Ok(()) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => {
                    Err(no_room(&self.folder, self.size))
                }
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Err(format!(
                    "the file system of {} cannot reserve space (fallocate); name a folder on another one",
                    self.folder.display()
                )),
                Err(error) => Err(format!(
                    "cannot reserve {} in {}: {}",
                    shown_size(self.size),
                    self.folder.display(),
                    error.desc()
                )),
            };
        }
    }
}

/// Takes away the name of a file in `folder`; one that is gone already is no error.
pub(super) fn remove(folder: &Path, name: &str) -> Result<(), String> {
    match unlinkat(&open_own(folder)?, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => {
            let path = folder.join(name);
            Err(format!("cannot remove {}: {}", path.display(), error.desc()))
        }
    }
}

/// Has the file pass by the page cache, if its file system can.
fn set_direct(file: &OwnedFd) -> bool {
    let flags = fcntl(file, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    let direct = flags.and_then(|flags| {
        let flags = (flags | OFlag::O_DIRECT) - OFlag::O_NONBLOCK;
        fcntl(file, FcntlArg::F_SETFL(flags))
    });
    direct.is_ok()
}

fn no_room(folder: &Path, size: u64) -> String {
    format!(
        "{} has no room for {}; make room, lower \"swap.limit\", or name a folder on another disk",
        folder.display(),
        shown_size(size)
    )
}

/// A size in MiB, rounded up.
fn shown_size(size: u64) -> String {
    format!("{} MiB", size.div_ceil(1 << 20))
}
