//! What the kernel tells in files, and what this user may have.

use nix::sys::resource::{Resource, getrlimit};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The files of a host: those of this one, or of a folder that looks like one.
#[derive(Debug)]
pub(super) struct Root {
    folder: PathBuf,
}

impl Root {
    /// The files below `folder`.
    pub(super) fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where an absolute path is.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.folder.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text; empty if there is none.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> String {
        read_to_string(self.path(path)).unwrap_or_default()
    }

    /// The first line of a file; empty if there is none.
    pub(super) fn line(&self, path: impl AsRef<Path>) -> String {
        self.text(path).lines().next().unwrap_or_default().trim().to_owned()
    }

    /// The number that a file says; `None` if it says none.
    pub(super) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.line(path).parse().ok()
    }

    /// A line `Name: 123 kB` of a file, in bytes.
    pub(super) fn kib(&self, path: impl AsRef<Path>, name: &str) -> Option<u64> {
        let text = self.text(path);
        let mut lines = text.lines();
        let rest = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let number: u64 = rest.split_whitespace().next()?.parse().ok()?;
        number.checked_mul(1024)
    }
}

/// What this user may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    /// Whether it is the superuser.
    pub(super) superuser: bool,
    /// Most descriptors of a process.
    pub(super) descriptors: u64,
    /// Most processes and threads.
    pub(super) processes: u64,
}

impl User {
    /// Who runs this program.
    pub(super) fn this() -> Self {
        // A limit that cannot be read does not show that something is wrong.
        let most = |resource| getrlimit(resource).map_or(u64::MAX, |(_, most)| most);
        Self {
            superuser: nix::unistd::geteuid().is_root(),
            descriptors: most(Resource::RLIMIT_NOFILE),
            processes: most(Resource::RLIMIT_NPROC),
        }
    }
}
