//! A guest that is given to one monitor after the other: what it needs stays open between them.

use crate::error::{LaunchError, WakeError, host};
use crate::folder::empty_folder;
use crate::image::SealedImage;
use crate::inherit::FIRST;
use crate::pool::{Monitor, Waiting, start_apart};
use crate::prepare::{Launch, seal_spec};
use crate::spawn::Streams;
use crate::spec::{
    CommitSpec, ConsoleBackendSpec, HypervisorSpec, Likeness, MachineSpec, NetBackendSpec,
    PublishedSocket, ResumeSpec,
};
use crate::swap::{ClosedSpace, RegionError, SwapSpace};
use denali_config::{Document, Guest, NetBackend};
use denali_control::pair;
use denali_swap::{Commit, GuestId, Key, hex};
use nix::sys::stat::fstat;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Stdio;
use std::rc::{Rc, Weak};

/// As much as a machine's description is longer by if it is handed over with a listening socket.
const LISTENER: &str = "\"listener\":000";

/// What all guests of one keeper have in common.
pub struct Shared {
    /// Under this the keys of guests are kept; it is nowhere else.
    key: Key,
    kvm: Option<Rc<OwnedFd>>,
    userfault: Option<Rc<OwnedFd>>,
    /// Snapshots that clones wait to start from, by file system and file.
    templates: HashMap<(u64, u64), Weak<OwnedFd>>,
    /// A folder that is empty for good.
    empty: Option<OwnedFd>,
}

/// A guest that has no monitor, or had one before.
///
/// Between monitors it has open what outside events come through, and what only one can have open at a
/// time; but of its swap region nothing.
#[derive(Debug)]
pub struct Kept {
    /// Descriptors in it are positions in `descriptors`, counted from [`FIRST`].
    spec: Box<MachineSpec>,
    descriptors: Box<[Held]>,
    image: Rc<SealedImage>,
    space: Option<ClosedSpace>,
}

/// A descriptor that a monitor is given.
#[derive(Debug)]
enum Held {
    /// This guest's.
    Own(OwnedFd),
    /// That of all guests.
    Shared(Rc<OwnedFd>),
    /// The image's.
    Image,
    /// Of the snapshot that it starts from; the last of all.
    Template(Rc<OwnedFd>),
    /// Of a file of the region, which is open only when a monitor is started.
    Stripe(usize),
    /// Of a pipe with the key, likewise.
    Key,
    /// The monitor's end of the wire to the switch, which each monitor has a new one of.
    Wire,
}

/// A guest, all of which is open for its next monitor.
pub struct Ready<'a> {
    kept: &'a Kept,
    spec: MachineSpec,
    /// The same as JSON.
    machine: Vec<u8>,
    stripes: Vec<OwnedFd>,
    key: Option<OwnedFd>,
    wire: Option<OwnedFd>,
}

/// Where something can come from that is for a guest without a monitor.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Readable, or hung up, when there is something.
    pub descriptor: BorrowedFd<'a>,
    /// Whether it is the listener at which people give the monitor commands.
    pub commands: bool,
}

impl Shared {
    /// For a keeper that has no guests yet.
    ///
    /// # Errors
    /// When there is no locked memory for a key, or the host has no random bytes.
    pub fn new() -> Result<Self, LaunchError> {
        let key = Key::random()
            .map_err(|error| LaunchError::Host(format!("cannot make a key: {error}")))?;
        let (templates, empty) = (HashMap::new(), empty_folder());
        Ok(Self { key, kvm: None, userfault: None, templates, empty })
    }

    /// `/dev/kvm`, if a guest has needed it.
    #[must_use]
    pub fn kvm(&self) -> Option<BorrowedFd<'_>> {
        self.kvm.as_ref().map(|kvm| kvm.as_fd())
    }

    /// The descriptor that all clones of a snapshot have of it, which the first one's becomes.
    fn template(&mut self, own: OwnedFd) -> Result<Rc<OwnedFd>, LaunchError> {
        let file = fstat(&own).map_err(|error| host("cannot look at a snapshot", error))?;
        self.templates.retain(|_, template| template.strong_count() > 0);
        let known = self.templates.entry((file.st_dev, file.st_ino)).or_default();
        Ok(known.upgrade().unwrap_or_else(|| {
            let template = Rc::new(own);
            *known = Rc::downgrade(&template);
            template
        }))
    }

    /// The root of monitors that wait, if the host has room for it.
    pub(crate) fn empty_root(&self) -> Option<BorrowedFd<'_>> {
        self.empty.as_ref().map(AsFd::as_fd)
    }

    /// `/dev/userfaultfd`, if a guest has needed it and it can be had.
    #[must_use]
    pub fn userfault(&self) -> Option<BorrowedFd<'_>> {
        self.userfault.as_ref().map(|device| device.as_fd())
    }
}

impl Kept {
    /// Keeps a guest that was [prepared](Launch::prepare) with this image and, if it swaps, this space; no
    /// monitor has it yet. A guest that starts from a [`Snapshot`](crate::Snapshot) has that open until
    /// [`Kept::forget_template`], with one descriptor for all its clones; `document` is to say how much memory that
    /// has.
    ///
    /// # Errors
    /// When its configuration cannot be written down, or the host lacks something.
    pub fn new(
        launch: Launch,
        (document, guest): (&Document, &Guest),
        (image, space): (Rc<SealedImage>, Option<SwapSpace>),
        shared: &mut Shared,
    ) -> Result<Self, LaunchError> {
        let (mut spec, parts) = launch.into_parts(FIRST);
        let mut descriptors: Vec<Held> = parts.into_iter().map(Held::Own).collect();
        let mut replace = |number: RawFd, make: &mut dyn FnMut(Held) -> Held| {
            let place = usize::try_from(number - FIRST).ok();
            if let Some(held) = place.and_then(|place| descriptors.get_mut(place)) {
                *held = make(std::mem::replace(held, Held::Image));
            }
        };
        replace(spec.image.file, &mut |_| Held::Image);
        if let HypervisorSpec::Kvm { device, .. } = spec.hypervisor {
            replace(device, &mut |own| share(&mut shared.kvm, own));
        }
        for (net, configured) in spec.net.iter().zip(&guest.net) {
            if let (NetBackendSpec::Socket { socket }, NetBackend::Switch(_)) =
                (&net.backend, &configured.backend)
            {
                replace(*socket, &mut |_| Held::Wire);
            }
        }
        if let Some(swap) = &spec.swap {
            for (index, &file) in swap.files.iter().enumerate() {
                replace(file, &mut |_| Held::Stripe(index));
            }
            replace(swap.key, &mut |_| Held::Key);
            if let Some(device) = swap.userfault {
                replace(device, &mut |own| share(&mut shared.userfault, own));
            }
        }
        if let Some(ResumeSpec::Snapshot { .. }) = spec.resume
            && let Some(Held::Own(own)) = descriptors.pop()
        {
            descriptors.push(Held::Template(shared.template(own)?));
        }
        spec.image.hash = image.hash()?.to_string();
        spec.control.configuration = Some(document.portable()?);
        let space = match (space, &guest.swap) {
            (Some(space), Some(swap)) => Some(space.close(swap, &shared.key).map_err(|error| {
                LaunchError::Host(format!("cannot keep a guest's key: {error}"))
            })?),
            _ => None,
        };
        Ok(Self { spec: Box::new(spec), descriptors: descriptors.into(), image, space })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What a monitor can be made for in advance that is to have it.
    #[must_use]
    pub fn likeness(&self) -> Likeness {
        Likeness::of(&self.spec)
    }

    /// Its configuration as JSON: a document whose paths are absolute.
    #[must_use]
    pub fn configuration(&self) -> &str {
        self.spec.control.configuration.as_deref().unwrap_or_default()
    }

    /// The SHA-256 of its image: 64 hexadecimal digits.
    #[must_use]
    pub fn image_hash(&self) -> &str {
        &self.spec.image.hash
    }

    /// Whose its swap region is; `None` if it has none, so that it cannot be parked.
    #[must_use]
    pub fn id(&self) -> Option<GuestId> {
        self.space.as_ref().map(ClosedSpace::id)
    }

    /// Closes the snapshot that it starts from: for a guest that has been parked, and needs it no more.
    pub fn forget_template(&mut self) {
        let mut descriptors = std::mem::take(&mut self.descriptors).into_vec();
        descriptors.pop_if(|last| matches!(last, Held::Template(_)));
        self.descriptors = descriptors.into();
    }

    /// Opens what the next monitor needs beside what is open. It continues at the state that is known or the
    /// one after it; without one, it starts as it was prepared.
    ///
    /// # Errors
    /// When a file of the region is in use or gone, the snapshot that it starts from was closed, or the host lacks
    /// something.
    pub fn open(&self, shared: &Shared, resume: Option<Commit>) -> Result<Ready<'_>, WakeError> {
        let mut spec = MachineSpec::clone(&self.spec);
        if let (None, Some(ResumeSpec::Snapshot { .. })) = (resume, &spec.resume)
            && !matches!(self.descriptors.last(), Some(Held::Template(_)))
        {
            let why = "the snapshot that the guest starts from was closed";
            return Err(LaunchError::Host(why.into()).into());
        }
        if let Some(Commit { sequence, root }) = resume {
            let root = hex::encode(&root);
            let commit = Some(CommitSpec { sequence, root });
            spec.resume = Some(ResumeSpec::Parked { commit });
        }
        let (stripes, key) = match &self.space {
            Some(space) => {
                let (stripes, key) = space.open(&shared.key)?;
                (stripes, Some(key))
            }
            None => (Vec::new(), None),
        };
        let machine = described(&spec)?;
        Ok(Ready { kept: self, spec, machine, stripes, key, wire: None })
    }

    /// Where what wakes it comes from.
    #[must_use]
    pub fn sources(&self) -> Vec<Source<'_>> {
        let mut sources = Vec::new();
        let mut add = |number: RawFd, commands: bool| {
            let own = self.own(number);
            sources.extend(own.map(|descriptor| Source { descriptor, commands }));
        };
        for net in &self.spec.net {
            match &net.backend {
                NetBackendSpec::User(user) => user.publish.iter().for_each(|port| {
                    let (PublishedSocket::Tcp(socket) | PublishedSocket::Udp(socket)) = port.socket;
                    add(socket, false);
                }),
                NetBackendSpec::Tap { tap } => add(*tap, false),
                NetBackendSpec::Socket { socket } => add(*socket, false),
                NetBackendSpec::VhostUser { .. } => {}
            }
        }
        for console in &self.spec.console {
            match &console.backend {
                ConsoleBackendSpec::File { input: Some(input), .. } => {
                    if self.own(*input).is_some_and(is_awaited) {
                        add(*input, false);
                    }
                }
                ConsoleBackendSpec::Socket { listener } => add(*listener, false),
                ConsoleBackendSpec::File { input: None, .. } | ConsoleBackendSpec::Terminal => {}
            }
        }
        self.spec.control.listener.iter().for_each(|&listener| add(listener, true));
        sources
    }

    /// The guest's own descriptor that the description calls `number`.
    fn own(&self, number: RawFd) -> Option<BorrowedFd<'_>> {
        let place = usize::try_from(number - FIRST).ok()?;
        match self.descriptors.get(place)? {
            Held::Own(own) => Some(own.as_fd()),
            _ => None,
        }
    }

    /// The newest state in its region, if it is the one after `known`; for a guest whose monitor ended
    /// without telling how far it came.
    ///
    /// # Errors
    /// When the region is in use or cannot be read.
    pub fn successor_of(&self, known: Option<Commit>) -> Result<Option<Commit>, RegionError> {
        match &self.space {
            Some(space) => space.successor_of(known),
            None => Ok(None),
        }
    }

    /// Closes what it has open, for a guest that will not go on here.
    pub fn close(&mut self) {
        self.descriptors = Box::default();
    }

    /// Takes its region away, for a guest that will not go on.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove_region(&self) -> Result<(), RegionError> {
        self.space.as_ref().map_or(Ok(()), ClosedSpace::remove)
    }
}

impl Ready<'_> {
    /// What a monitor can be made for in advance that is to have it.
    #[must_use]
    pub fn likeness(&self) -> Likeness {
        Likeness::of(&self.spec)
    }

    /// Whether it has a port of the switch, to which a wire must lead.
    #[must_use]
    pub fn needs_wire(&self) -> bool {
        self.kept.descriptors.iter().any(|held| matches!(held, Held::Wire))
    }

    /// Gives it the monitor's end of a wire to the switch: a non-blocking SOCK_SEQPACKET socket.
    pub fn connect(&mut self, wire: OwnedFd) {
        self.wire = Some(wire);
    }

    /// Whether a waiting monitor can take it: it takes one message.
    #[must_use]
    pub fn is_handy(&self) -> bool {
        let (length, count) = (self.machine.len(), FIRST as usize + self.kept.descriptors.len());
        Waiting::takes(length + LISTENER.len(), count + 1)
    }

    /// Hands it to a monitor that waits, with these standard streams. If its configuration has no control socket,
    /// the monitor listens at `listener`: see [`control_listener`](crate::control_listener).
    ///
    /// # Errors
    /// When the monitor has ended, or the host lacks memory.
    pub fn hand_to(
        &self,
        monitor: Waiting,
        streams: [BorrowedFd<'_>; 3],
        listener: Option<BorrowedFd<'_>>,
    ) -> Result<Monitor, WakeError> {
        let listener = self.wanted(listener);
        let descriptors = streams.into_iter().chain(self.descriptors());
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.chain(listener).collect();
        if listener.is_none() {
            return monitor.hand(&self.machine, &descriptors);
        }
        let mut spec = self.spec.clone();
        spec.control.listener = Some(descriptors.len() as RawFd - 1);
        monitor.hand(&described(&spec)?, &descriptors)
    }

    /// The listening socket, if the guest has none of its own.
    fn wanted<'a>(&self, listener: Option<BorrowedFd<'a>>) -> Option<BorrowedFd<'a>> {
        listener.filter(|_| self.spec.control.listener.is_none())
    }

    /// Starts a monitor for it, with these standard streams: the program `monitor`. `listener` is as in
    /// [`Ready::hand_to`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        mut self,
        monitor: &Path,
        [input, output, error]: [BorrowedFd<'_>; 3],
        listener: Option<BorrowedFd<'_>>,
    ) -> Result<Monitor, WakeError> {
        let copy = |descriptor: BorrowedFd<'_>| {
            let copied = descriptor.try_clone_to_owned();
            copied.map_err(|error| WakeError::io("cannot copy a descriptor", &error))
        };
        let made = pair().map_err(|error| WakeError::io("cannot make a channel", &error));
        let (channel, theirs) = made?;
        let mut descriptors = self.descriptors().map(copy).collect::<Result<Vec<_>, _>>()?;
        if let Some(listener) = self.wanted(listener) {
            self.spec.control.listener = Some(FIRST + descriptors.len() as RawFd);
            descriptors.push(copy(listener)?);
        }
        self.spec.control.channel = Some(FIRST + descriptors.len() as RawFd);
        descriptors.push(theirs);
        descriptors.push(seal_spec(&self.spec)?);
        let stream = |descriptor| copy(descriptor).map(Stdio::from);
        let (input, output, error) = (stream(input)?, stream(output)?, stream(error)?);
        let child = start_apart(monitor, descriptors, Streams { input, output, error })?;
        Ok(Monitor { process: child.id(), channel })
    }

    /// All descriptors of the machine, in the order of their numbers.
    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let kept = self.kept;
        let from_snapshot = matches!(self.spec.resume, Some(ResumeSpec::Snapshot { .. }));
        kept.descriptors.iter().filter_map(move |held| match held {
            Held::Own(own) => Some(own.as_fd()),
            Held::Shared(shared) => Some(shared.as_fd()),
            Held::Template(template) => from_snapshot.then(|| template.as_fd()),
            Held::Image => Some(kept.image.descriptor()),
            Held::Stripe(index) => self.stripes.get(*index).map(AsFd::as_fd),
            Held::Key => self.key.as_ref().map(AsFd::as_fd),
            Held::Wire => self.wire.as_ref().map(AsFd::as_fd),
        })
    }
}

/// A machine as JSON.
fn described(spec: &MachineSpec) -> Result<Vec<u8>, LaunchError> {
    let described = serde_json::to_vec(spec);
    described.map_err(|error| LaunchError::Host(format!("cannot describe the machine: {error}")))
}

/// Whether input may come at a descriptor later: files have what they have.
fn is_awaited(input: BorrowedFd<'_>) -> bool {
    /// `/dev/null` and its like.
    const MEMORY: libc::c_uint = 1;
    fstat(input).is_ok_and(|status| match status.st_mode & libc::S_IFMT {
        libc::S_IFIFO | libc::S_IFSOCK => true,
        libc::S_IFCHR => libc::major(status.st_rdev) != MEMORY,
        _ => false,
    })
}

/// The descriptor of all guests, which the first one's becomes.
fn share(shared: &mut Option<Rc<OwnedFd>>, own: Held) -> Held {
    match (shared, own) {
        (Some(shared), _) => Held::Shared(shared.clone()),
        (none, Held::Own(own)) => Held::Shared(none.insert(Rc::new(own)).clone()),
        (None, other) => other,
    }
}

#[cfg(test)]
mod tests;
