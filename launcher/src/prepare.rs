//! Opens everything a guest needs and writes it down for the monitor.

use crate::error::LaunchError;
use crate::image::SealedImage;
use crate::opened::Opened;
use crate::snapshot::Snapshot;
use crate::spec::{
    CommitSpec, ControlSpec, HypervisorSpec, ImageSpec, MachineSpec, OutputSpec, ResumeSpec,
    SwapSpec,
};
use crate::store::ImageStore;
use crate::swap::{self, SwapSpace};
use crate::{devices, sealed};
use denali_config::{Document, Guest, Protocol};
use denali_swap::{Commit, hex};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::OnceLock;

/// Where the host says which run of its kernel this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the launcher is told beside the configuration.
#[derive(Clone)]
pub struct Settings<'a> {
    /// Built-in images: names and ELF files.
    pub built_in: &'a [(&'a str, &'a [u8])],
    /// The guest's image, if it is open already; else it is copied for this guest alone.
    pub image: Option<&'a SealedImage>,
    /// Where images are kept, so that the guest's is not copied for it alone.
    pub images: Option<&'a ImageStore>,
    /// Where `denali-broker` was built; one that lies beside the running program is taken first.
    pub broker: &'a Path,
    /// How output is written.
    pub output: OutputSpec,
    /// File that receives the crash report; emptied at start, made if missing.
    pub report: Option<&'a Path>,
    /// Where the guest's memory goes; else, where the configuration has swapping, a region is made that is
    /// gone when the guest ends.
    pub space: Option<&'a SwapSpace>,
    /// A connected, non-blocking SOCK_SEQPACKET socket for the monitor: its keeper is at the other end.
    pub channel: Option<BorrowedFd<'a>>,
    /// What the guest continues from; else it starts at its image's entry.
    pub resume: Option<Resume<'a>>,
    /// Whether there is a switch: only then a guest can have a port of it, and be kept by [`Kept`](crate::Kept).
    pub has_switch: bool,
}

impl<'a> Settings<'a> {
    /// Nothing but what every guest needs: built-in images, and where the broker was built.
    #[must_use]
    pub fn new(built_in: &'a [(&'a str, &'a [u8])], broker: &'a Path) -> Self {
        Self {
            built_in,
            image: None,
            images: None,
            broker,
            output: OutputSpec::Human,
            report: None,
            space: None,
            channel: None,
            resume: None,
            has_switch: false,
        }
    }
}

/// What a guest continues from.
#[derive(Clone, Copy, Debug)]
pub enum Resume<'a> {
    /// The state in its swap region, which is in [`Settings::space`]: the commit that whoever parked it
    /// remembers, or its successor; `None` = the newest.
    Parked(Option<Commit>),
    /// A snapshot, from which the image and the size of memory come too, whatever the configuration says.
    Snapshot(&'a Snapshot),
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
        match settings.resume {
            Some(Resume::Snapshot(snapshot)) => {
                Self::open(&snapshot.with_memory(document)?, settings)
            }
            _ => Self::open(document, settings),
        }
    }

    fn open(document: &Document, settings: &Settings<'_>) -> Result<Self, LaunchError> {
        let guest = document.guest()?;
        let own;
        let image = match settings.image {
            Some(image) => image,
            None => {
                own = image(&guest, document, settings)?;
                &own
            }
        };
        let mut opened = Opened { has_switch: settings.has_switch, ..Opened::default() };
        let file = opened.keep(image.share()?);
        let hypervisor = opened.hypervisor(&guest, document)?;
        let devices = devices::open(&guest, document, settings.broker, &mut opened)?;
        let report = settings.report.map(|path| opened.report(path)).transpose()?;
        let kvm = hypervisor != HypervisorSpec::Process;
        let swap = swap::open(document, &guest, image, settings.space, &mut opened, kvm)?;
        let resume = resume(settings, swap.as_ref(), &mut opened)?;
        let control = opened.control(&guest, document, settings)?;
        let is_saved = swap.is_some() || resume.is_some() || control != ControlSpec::default();
        let hash = if is_saved { image.hash()?.to_string() } else { String::new() };
        let spec = MachineSpec {
            name: guest.name,
            hypervisor,
            memory_size: guest.memory_size,
            image: ImageSpec { file, name: image.name().into(), hash },
            arguments: guest.arguments,
            net: devices.net,
            block: devices.block,
            console: devices.console,
            entropy: devices.entropy,
            cpu: guest.cpu.into(),
            output: settings.output,
            report,
            swap,
            control,
            resume,
            boot_id: boot_id().into(),
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

/// The image of a guest that comes without one that is open.
fn image(
    guest: &Guest,
    document: &Document,
    settings: &Settings<'_>,
) -> Result<SealedImage, LaunchError> {
    let (origin, built_in) = (document.origin("image"), settings.built_in);
    match (settings.resume, settings.images) {
        (Some(Resume::Snapshot(snapshot)), store) => snapshot.image(store),
        (_, Some(store)) => SealedImage::stored(&guest.image, origin, built_in, store),
        (_, None) => SealedImage::new(&guest.image, origin, built_in),
    }
}

/// What the monitor is told of what the guest continues from.
fn resume(
    settings: &Settings<'_>,
    swap: Option<&SwapSpec>,
    opened: &mut Opened,
) -> Result<Option<ResumeSpec>, LaunchError> {
    match settings.resume {
        None => Ok(None),
        Some(Resume::Snapshot(snapshot)) => Ok(Some(snapshot.resume(opened)?)),
        Some(Resume::Parked(_)) if !swap.is_some_and(|swap| swap.lasting) => {
            Err(LaunchError::Host(
                "a guest that was parked continues from its swap region, and none is open".into(),
            ))
        }
        Some(Resume::Parked(commit)) => {
            let commit = commit
                .map(|Commit { sequence, root }| CommitSpec { sequence, root: hex::encode(&root) });
            Ok(Some(ResumeSpec::Parked { commit }))
        }
    }
}

/// Which run of the host's kernel this is; read once in a process.
fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        std::fs::read_to_string(BOOT_ID).map(|text| text.trim_end().to_owned()).unwrap_or_default()
    })
}

/// The machine's description as a sealed file.
pub(crate) fn seal_spec(spec: &MachineSpec) -> Result<OwnedFd, LaunchError> {
    let json = serde_json::to_vec(spec)
        .map_err(|error| LaunchError::Host(format!("cannot describe the machine: {error}")))?;
    sealed::from_bytes(c"denali-machine", &json)
}
