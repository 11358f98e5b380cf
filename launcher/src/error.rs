//! Why a guest could not be started, in one line, and the exit status that says so.

use denali_abi::status;
use denali_config::ConfigError;
use nix::errno::Errno;
use std::{fmt, io};

/// A guest that could not be started. Displayed as one line that names what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchError {
    /// The configuration is wrong.
    Config(ConfigError),
    /// The image cannot be used.
    Image(String),
    /// The host lacks something: `/dev/kvm`, a free port, a permission, memory.
    Host(String),
}

impl LaunchError {
    /// The exit status for this error, as `docs/exit-codes.md` lists it.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Config(_) => status::BAD_CONFIG,
            Self::Image(_) => status::BAD_IMAGE,
            Self::Host(_) => status::HOST_LACKS,
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Image(message) | Self::Host(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for LaunchError {}

impl From<ConfigError> for LaunchError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Why a guest that is kept could not be given to a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeError {
    /// What is wrong.
    pub error: LaunchError,
    /// Whether it passes: a moment later it may work.
    pub passes: bool,
}

impl WakeError {
    /// The error of a system call, naming what it was for.
    pub(crate) fn host(what: &str, error: Errno) -> Self {
        // A region is in use for a moment after its monitor has ended; the others are limits of the host.
        let passes = matches!(
            error,
            Errno::EAGAIN
                | Errno::EINTR
                | Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOBUFS
                | Errno::ENOMEM
                | Errno::ETOOMANYREFS
        );
        Self { error: host(what, error), passes }
    }

    /// The same, of a failure that may say more than the system does.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::host(what, Errno::from_raw(number)),
            None => LaunchError::Host(format!("{what}: {error}")).into(),
        }
    }
}

impl fmt::Display for WakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for WakeError {}

impl From<LaunchError> for WakeError {
    fn from(error: LaunchError) -> Self {
        Self { error, passes: false }
    }
}

/// The error of a system call the launcher cannot do without, naming what it was for.
pub(crate) fn host(what: &str, error: nix::Error) -> LaunchError {
    LaunchError::Host(format!("{what}: {}", error.desc()))
}
