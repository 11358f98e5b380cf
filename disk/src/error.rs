//! Why a disk cannot be had.

use std::io;

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened.
    #[error("cannot open it: {0}")]
    Open(#[source] io::Error),
    /// It cannot be opened without the host's page cache.
    #[error("its file system has no O_DIRECT; set \"direct\" to false")]
    Direct,
    /// It is neither a file nor a block device.
    #[error("it is neither a regular file nor a block device")]
    Kind,
    /// Its size is not usable.
    #[error("its size is {0} bytes; a disk has a multiple of 512, at least 512")]
    Size(u64),
    /// A guest writes it, or would.
    #[error("it is in use, and no two guests may use a disk that one of them writes{0}")]
    InUse(&'static str),
    /// It cannot be locked.
    #[error("cannot lock it: {0}")]
    Lock(#[source] io::Error),
    /// It cannot be examined.
    #[error("cannot examine it: {0}")]
    Examine(#[source] io::Error),
}

/// Why a disk cannot be made of open files.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was being done.
        what: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// io_uring was asked for and the host does not have it, or not restricted.
    #[error(
        "the host has no io_uring that can be restricted ({0}); set \"io\" to \"auto\" or \"sync\""
    )]
    NoRing(#[source] io::Error),
    /// The files cannot be a striped set.
    #[error("{0}")]
    Stripes(&'static str),
    /// There is nothing to keep sectors in.
    #[error("a disk has a multiple of 512 bytes, at least 512")]
    Size,
}

impl SetupError {
    pub(crate) fn host(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host { what, source }
    }
}
