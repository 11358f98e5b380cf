//! Monitors that are started before there is a guest for them, so that a guest that wakes need not wait for
//! a program to be loaded.

use crate::error::WakeError;
use crate::spawn::{Streams, start};
use denali_control::{DESCRIPTORS_MAX, MESSAGE_MAX, pair, send};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A monitor that waits for its guest. It ends when this is dropped.
///
/// It is in a process group of its own, so that a key pressed at a terminal does not reach it.
#[derive(Debug)]
pub struct Waiting {
    process: u32,
    socket: OwnedFd,
}

/// A monitor that has a guest.
#[derive(Debug)]
pub struct Monitor {
    /// Its process, a child of this one.
    pub process: u32,
    /// What it says, and is asked, as in the crate `denali-control`; non-blocking.
    pub channel: OwnedFd,
}

impl Waiting {
    /// Starts the program `monitor`, which says on this program's standard error what goes wrong. With `kvm`,
    /// the device, it makes its machine in advance.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(monitor: &Path, kvm: Option<BorrowedFd<'_>>) -> Result<Self, WakeError> {
        let made = pair();
        let (socket, theirs) =
            made.map_err(|error| WakeError::io("cannot make a channel", &error))?;
        let streams =
            Streams { input: Stdio::null(), output: Stdio::null(), error: Stdio::inherit() };
        let device = kvm.map(|kvm| kvm.try_clone_to_owned()).transpose();
        let device = device.map_err(|error| WakeError::io("cannot share /dev/kvm", &error))?;
        let descriptors = device.into_iter().chain([theirs]).collect();
        let process = start_apart(monitor, descriptors, streams)?.id();
        Ok(Self { process, socket })
    }

    /// One that is process `process`, at the other end of `socket`.
    #[cfg(test)]
    pub(crate) fn new(process: u32, socket: OwnedFd) -> Self {
        Self { process, socket }
    }

    /// Its process, a child of this one.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Whether a machine of `length` bytes with `descriptors`, standard streams included, can be handed over.
    pub(crate) fn takes(length: usize, descriptors: usize) -> bool {
        length <= MESSAGE_MAX && descriptors <= DESCRIPTORS_MAX
    }

    /// Hands it a machine as JSON, in which descriptors are positions in the list. The first three become its
    /// standard streams, and the channel its keeper's.
    ///
    /// # Errors
    /// When it has ended, or the host lacks memory.
    pub(crate) fn hand(
        self,
        machine: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Monitor, WakeError> {
        send(self.socket.as_fd(), machine, descriptors).map_err(|error| match error.kind() {
            // It was ended while it waited; another one will do.
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                WakeError { passes: true, ..WakeError::io("a waiting monitor is gone", &error) }
            }
            _ => WakeError::io("cannot hand over a guest", &error),
        })?;
        Ok(Monitor { process: self.process, channel: self.socket })
    }
}

/// Starts the program `monitor` in a process group of its own.
pub(crate) fn start_apart(
    monitor: &Path,
    descriptors: Vec<OwnedFd>,
    streams: Streams,
) -> Result<Child, WakeError> {
    let mut command = Command::new(monitor);
    command.process_group(0);
    start(&mut command, descriptors, streams)
}
