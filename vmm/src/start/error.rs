//! Why a guest could not be started, in one line, and the exit status that says so.

use denali_abi::status::{BAD_CONFIG, BAD_IMAGE, HOST_LACKS, MONITOR_FAILED};
use denali_arch::image::ImageError;
use std::io;

/// Why a guest could not be started, or the monitor failed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The image cannot be used, or not with this configuration.
    #[error("image {name}: {error}")]
    Image {
        /// What the user called it.
        name: String,
        /// What is wrong.
        error: ImageError,
    },
    /// The image wants a device that is not attached.
    #[error(
        "image {image}: wants a {kind} device{named}; add one to \"{kind}\" in the configuration"
    )]
    MissingDevice {
        /// What the user called the image.
        image: String,
        /// The kind of device.
        kind: &'static str,
        /// ` named "x"`, or nothing where any name does.
        named: String,
    },
    /// The launcher and this monitor do not fit together.
    #[error("the machine's {0} is impossible: the launcher and the monitor differ in version")]
    Spec(&'static str),
    /// The image does not fit the memory it was checked against: a defect.
    #[error("the image does not fit into memory")]
    Memory,
    /// The hypervisor failed.
    #[error(transparent)]
    Hypervisor(#[from] denali_hypervisor::Error),
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was being done.
        what: &'static str,
        /// The operating system's reason.
        source: nix::Error,
    },
    /// Input or output failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A device cannot be made of what the launcher opened.
    #[error("device {name}: {source}")]
    Device {
        /// What the configuration calls it.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// The host does not give this user such a share of its processors.
    #[error(
        "cpu.weight: the host does not give this user more than an ordinary share ({0}); take 100 or less, \
         or grant CAP_SYS_NICE"
    )]
    Share(io::Error),
    /// The sandbox cannot be set up, and nothing runs without.
    #[error("cannot enter the sandbox: {0}")]
    Sandbox(String),
    /// The guest's region cannot be used.
    #[error("swap: {0}")]
    Swap(String),
    /// The snapshot cannot be used.
    #[error("snapshot: {0}")]
    Snapshot(String),
    /// What was saved of the guest cannot be continued here.
    #[error("the saved guest {0}")]
    Saved(String),
    /// The loop failed.
    #[error(transparent)]
    Loop(#[from] denali_vcpu::Error),
}

impl From<ImageError> for StartError {
    fn from(error: ImageError) -> Self {
        Self::Image { name: String::new(), error }
    }
}

impl StartError {
    /// The exit status for this error; `None` for a failure of the monitor itself.
    #[must_use]
    pub(crate) fn status(&self) -> Option<u8> {
        match self {
            Self::Image {
                error: ImageError::MemoryTooSmall { .. } | ImageError::Space(_), ..
            } => Some(BAD_CONFIG),
            Self::Image { .. } | Self::MissingDevice { .. } => Some(BAD_IMAGE),
            Self::Hypervisor(_)
            | Self::Host { .. }
            | Self::Io { .. }
            | Self::Device { .. }
            | Self::Share(_)
            | Self::Swap(_)
            | Self::Snapshot(_)
            | Self::Saved(_)
            | Self::Sandbox(_) => Some(HOST_LACKS),
            Self::Spec(_) | Self::Memory | Self::Loop(_) => Some(MONITOR_FAILED),
        }
    }
}

pub(crate) fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}
