//! Opens everything a guest needs and writes it down for the monitor.

use crate::error::LaunchError;
use crate::hypervisor::{Chosen, choose};
use crate::image::SealedImage;
use crate::spec::{ControlSpec, HypervisorSpec, ImageSpec, MachineSpec, OutputSpec};
use crate::{devices, image, sealed};
use denali_config::{Document, Guest, Protocol};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// What the launcher is told beside the configuration.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Built-in images: names and ELF files.
    pub built_in: &'a [(&'a str, &'a [u8])],
    /// The configuration's image, if it is in memory already; else it is copied for this guest alone.
    pub image: Option<&'a SealedImage>,
    /// Where `denali-broker` was built; one that lies beside the running program is taken first.
    pub broker: &'a Path,
    /// How output is written.
    pub output: OutputSpec,
    /// File that receives the crash report; emptied at start, made if missing.
    pub report: Option<&'a Path>,
}

/// A published port that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where the host listens.
    pub host: SocketAddr,
    /// Number of the guest's network device.
    pub device: usize,
    /// Port in the guest.
    pub guest_port: u16,
    /// The protocol of both.
    pub protocol: Protocol,
}

/// A guest whose every resource is open. Dropping it closes them all.
#[derive(Debug)]
pub struct Launch {
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) spec: MachineSpec,
    published: Vec<Published>,
    notices: Vec<String>,
}

impl Launch {
    /// Checks the configuration and opens everything it asks for.
    pub fn prepare(document: &Document, settings: &Settings<'_>) -> Result<Self, LaunchError> {
        let guest = document.guest()?;
        let origin = document.origin("image");
        let (image, image_name) = match settings.image {
            Some(sealed) => sealed.share()?,
            None => image::seal(&guest.image, origin, settings.built_in)?,
        };
        let mut opened = Opened::default();
        let image = ImageSpec { file: opened.keep(image), name: image_name };
        let hypervisor = opened.hypervisor(&guest, document)?;
        let devices = devices::open(&guest, document, settings.broker, &mut opened)?;
        let report = match settings.report {
            Some(path) => Some(opened.report(path)?),
            None => None,
        };
        let spec = MachineSpec {
            name: guest.name,
            hypervisor,
            memory_size: guest.memory_size,
            image,
            arguments: guest.arguments,
            net: devices.net,
            block: devices.block,
            console: devices.console,
            entropy: devices.entropy,
            cpu: guest.cpu.into(),
            output: settings.output,
            report,
            swap: None,
            control: ControlSpec::default(),
            resume: None,
            boot_id: String::new(),
        };
        Ok(Self {
            descriptors: opened.descriptors,
            spec,
            published: opened.published,
            notices: opened.notices,
        })
    }

    /// What the monitor is told.
    #[must_use]
    pub fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    /// What the monitor is told, and its descriptors, for a process where they have other numbers: those in
    /// the description are positions in the list, counted from `first`.
    #[must_use]
    pub fn into_parts(mut self, first: RawFd) -> (MachineSpec, Vec<OwnedFd>) {
        let mut open: HashMap<RawFd, OwnedFd> =
            self.descriptors.into_iter().map(|open| (open.as_raw_fd(), open)).collect();
        let mut parts = Vec::with_capacity(open.len());
        self.spec.descriptors_mut(&mut |number| {
            // What is not open here is nothing there.
            *number = open.remove(number).map_or(-1, |descriptor| {
                parts.push(descriptor);
                first + parts.len() as RawFd - 1
            });
        });
        (self.spec, parts)
    }

    /// The published ports, in the order of the configuration.
    #[must_use]
    pub fn published(&self) -> &[Published] {
        &self.published
    }

    /// What the user should know, one line each.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

/// What has been opened so far.
#[derive(Default)]
pub(crate) struct Opened {
    descriptors: Vec<OwnedFd>,
    published: Vec<Published>,
    notices: Vec<String>,
}

impl Opened {
    /// Keeps the descriptor open and returns its number.
    pub(crate) fn keep(&mut self, descriptor: OwnedFd) -> RawFd {
        let number = descriptor.as_raw_fd();
        self.descriptors.push(descriptor);
        number
    }

    fn hypervisor(
        &mut self,
        guest: &Guest,
        document: &Document,
    ) -> Result<HypervisorSpec, LaunchError> {
        match choose(guest.hypervisor, document.origin("hypervisor"))? {
            Chosen::Kvm(device) => Ok(HypervisorSpec::Kvm { device: self.keep(device) }),
            Chosen::Process(reason) => {
                if let Some(reason) = reason {
                    self.notices.push(format!(
                        "{reason}: the guest runs as a traced process, which is no virtual machine \
                         boundary"
                    ));
                }
                Ok(HypervisorSpec::Process)
            }
        }
    }

    /// Remembers a published port that is open.
    pub(crate) fn published(&mut self, port: Published) {
        self.published.push(port);
    }

    fn report(&mut self, path: &Path) -> Result<RawFd, LaunchError> {
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
}

/// The machine's description as a sealed file.
pub(crate) fn seal_spec(spec: &MachineSpec) -> Result<OwnedFd, LaunchError> {
    let json = serde_json::to_vec(spec)
        .map_err(|error| LaunchError::Host(format!("cannot describe the machine: {error}")))?;
    sealed::from_bytes(c"denali-machine", &json)
}
