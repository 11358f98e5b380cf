//! What has been opened for a guest so far.

use crate::control;
use crate::devices::Place;
use crate::error::LaunchError;
use crate::hypervisor::{Chosen, choose, kvm_shadows_page_tables};
use crate::prepare::{Published, Settings};
use crate::spec::{ControlSpec, HypervisorSpec};
use denali_config::{Document, Guest};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Descriptors, published ports and notices, in the order in which they came.
#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) published: Vec<Published>,
    pub(crate) notices: Vec<String>,
    /// Whether there is a switch that guests can be connected to.
    pub(crate) has_switch: bool,
}

impl Opened {
    /// Keeps the descriptor open and returns its number.
    pub(crate) fn keep(&mut self, descriptor: OwnedFd) -> RawFd {
        let number = descriptor.as_raw_fd();
        self.descriptors.push(descriptor);
        number
    }

    /// Remembers a published port that is open.
    pub(crate) fn published(&mut self, port: Published) {
        self.published.push(port);
    }

    /// Remembers what the user should know: one line.
    pub(crate) fn notice(&mut self, line: String) {
        self.notices.push(line);
    }

    /// Opens what runs the guest.
    pub(crate) fn hypervisor(
        &mut self,
        guest: &Guest,
        document: &Document,
    ) -> Result<HypervisorSpec, LaunchError> {
        match choose(guest.hypervisor, document.origin("hypervisor"))? {
            Chosen::Kvm(device) => Ok(HypervisorSpec::Kvm {
                device: self.keep(device),
                shadows: kvm_shadows_page_tables(),
            }),
            Chosen::Process(reason) => {
                if let Some(reason) = reason {
                    self.notice(format!(
                        "{reason}: the guest runs as a traced process, which is no virtual machine \
                         boundary"
                    ));
                }
                Ok(HypervisorSpec::Process)
            }
        }
    }

    /// Opens the file that receives the crash report.
    pub(crate) fn report(&mut self, path: &Path) -> Result<RawFd, LaunchError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        match open(path, flags | OFlag::O_NONBLOCK, Mode::from_bits_retain(0o644)) {
            Ok(file) => Ok(self.keep(file)),
            Err(error) => Err(LaunchError::Host(format!(
                "--report {}: cannot be written: {}; choose another file",
                path.display(),
                error.desc()
            ))),
        }
    }

    /// Opens the sockets at which the monitor takes commands.
    pub(crate) fn control(
        &mut self,
        guest: &Guest,
        document: &Document,
        settings: &Settings<'_>,
    ) -> Result<ControlSpec, LaunchError> {
        let mut control = ControlSpec::default();
        if let Some(path) = &guest.control {
            let listener = control::listen(path, &Place::new(document, "control".into()))?;
            control.listener = Some(self.keep(listener));
        }
        if let Some(channel) = settings.channel {
            let channel = channel.try_clone_to_owned().map_err(|error| {
                LaunchError::Host(format!("cannot copy the descriptor of a channel: {error}"))
            })?;
            control.channel = Some(self.keep(channel));
        }
        if control != ControlSpec::default() {
            control.configuration = Some(document.portable()?);
        }
        Ok(control)
    }
}
