//! Monitors that are started before there is a guest for them, so that a guest that wakes need not wait for
//! a program to be loaded, for what it makes and for its sandbox.

use crate::error::WakeError;
use crate::inherit::FIRST;
use crate::kept::Shared;
use crate::spawn::{Streams, start};
use crate::spec::{Likeness, PreparationSpec};
use denali_control::{DESCRIPTORS_MAX, MESSAGE_MAX, pair, send};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
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
    made_for: Likeness,
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
    /// Starts the program `monitor`, which says on this program's standard error what goes wrong. It makes in
    /// advance what a guest like this one needs, of what guests of the keeper share, and enters its sandbox.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(monitor: &Path, made_for: Likeness, shared: &Shared) -> Result<Self, WakeError> {
        let made = pair();
        let (socket, theirs) =
            made.map_err(|error| WakeError::io("cannot make a channel", &error))?;
        let mut descriptors = Vec::new();
        let mut pass = |device: Option<BorrowedFd<'_>>| -> Result<Option<RawFd>, WakeError> {
            let Some(device) = device else { return Ok(None) };
            let copied = device.try_clone_to_owned();
            descriptors
                .push(copied.map_err(|error| WakeError::io("cannot share a device", &error))?);
            Ok(Some(FIRST + descriptors.len() as RawFd - 1))
        };
        let kvm = pass(shared.kvm().filter(|_| made_for.kvm))?;
        let userfault = pass(shared.userfault().filter(|_| made_for.kvm && made_for.swaps))?;
        let root = pass(shared.empty_root())?;
        descriptors.push(theirs);
        let preparation = PreparationSpec { kvm, userfault, root, likeness: made_for };
        let told = serde_json::to_vec(&preparation).map_err(io::Error::from);
        told.and_then(|told| send(socket.as_fd(), &told, &[]))
            .map_err(|error| WakeError::io("cannot tell a monitor what to make", &error))?;
        let streams =
            Streams { input: Stdio::null(), output: Stdio::null(), error: Stdio::inherit() };
        let process = start_apart(monitor, descriptors, streams)?.id();
        Ok(Self { process, socket, made_for })
    }

    /// One that is process `process`, at the other end of `socket`.
    #[cfg(test)]
    pub(crate) fn new(process: u32, socket: OwnedFd, made_for: Likeness) -> Self {
        Self { process, socket, made_for }
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

/// Monitors that wait, at most so many, each with whatever its keeper has of it beside; made for guests like
/// those that were given one last.
#[derive(Debug)]
pub struct Pool<T> {
    most: usize,
    waiting: Vec<T>,
    /// What the next one is made for.
    next: Option<Likeness>,
}

impl<T: AsRef<Waiting>> Pool<T> {
    /// An empty pool of `most` monitors.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, waiting: Vec::new(), next: None }
    }

    /// There may be a guest like this one: the first that is told of is the one that the pool is made for until
    /// guests are given monitors.
    pub fn expect(&mut self, guest: Likeness) {
        self.next.get_or_insert(guest);
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What one more is to be made for, if there are fewer than there should be and it is known.
    #[must_use]
    pub fn lacks(&self) -> Option<Likeness> {
        self.next.filter(|_| self.waiting.len() < self.most)
    }

    /// There is one more.
    pub fn add(&mut self, waiting: T) {
        self.waiting.push(waiting);
    }

    /// The one that suits a guest best; if there is none, one that nobody wanted gives way to another.
    pub fn take(&mut self, guest: Likeness) -> Option<T> {
        self.next = Some(guest);
        let suits = |(_, made_for): &(usize, Likeness)| made_for.serves(guest);
        let costs = |(_, made_for): &(usize, Likeness)| {
            (made_for.memory_size != guest.memory_size, made_for.plain != guest.plain)
        };
        let all = self.waiting.iter().map(|waiting| waiting.as_ref().made_for).enumerate();
        match all.filter(suits).min_by_key(costs) {
            Some((place, _)) => Some(self.waiting.remove(place)),
            None => {
                if self.waiting.len() >= self.most && !self.waiting.is_empty() {
                    self.waiting.remove(0);
                }
                None
            }
        }
    }

    /// A process has ended: it waits no more.
    pub fn forget(&mut self, process: u32) {
        self.waiting.retain(|waiting| waiting.as_ref().process != process);
    }

    /// All that wait, which end when they are dropped.
    pub fn clear(&mut self) -> Vec<T> {
        std::mem::take(&mut self.waiting)
    }
}

impl AsRef<Waiting> for Waiting {
    fn as_ref(&self) -> &Waiting {
        self
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

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: Likeness = Likeness { kvm: true, memory_size: 16 << 20, swaps: true, plain: true };
    const SMALL: Likeness = Likeness { memory_size: 4 << 20, ..WEB };
    const DISK: Likeness = Likeness { plain: false, ..WEB };

    fn pool(made_for: &[Likeness]) -> Pool<Waiting> {
        let mut pool = Pool::new(made_for.len());
        let waiting = (1..).zip(made_for);
        pool.waiting = waiting
            .map(|(process, &likeness)| Waiting::new(process, pair().unwrap().0, likeness))
            .collect();
        pool
    }

    fn taken(pool: &mut Pool<Waiting>, guest: Likeness) -> Option<u32> {
        pool.take(guest).map(|waiting| waiting.process())
    }

    #[test]
    fn the_one_that_suits_best_is_taken() {
        let mut pool = pool(&[DISK, SMALL, WEB, SMALL]);
        assert_eq!(taken(&mut pool, WEB), Some(3));
        assert_eq!(taken(&mut pool, WEB), Some(1), "memory of the right size comes first");
        assert_eq!(taken(&mut pool, WEB), Some(2), "one of another size serves");
        assert_eq!(taken(&mut pool, SMALL), Some(4));
        assert_eq!(taken(&mut pool, WEB), None);
    }

    #[test]
    fn one_that_nobody_wants_gives_way() {
        let mut pool = pool(&[WEB, WEB]);
        assert_eq!(pool.lacks(), None);
        assert_eq!(taken(&mut pool, DISK), None);
        assert_eq!(pool.lacks(), Some(DISK), "the next is for those that are wanted");
        pool.forget(2);
        assert_eq!(taken(&mut pool, WEB), None);
    }

    #[test]
    fn nothing_is_made_before_it_is_known_for_what() {
        let mut pool = Pool::<Waiting>::new(2);
        assert_eq!(pool.lacks(), None);
        pool.expect(SMALL);
        pool.expect(WEB);
        assert_eq!(pool.lacks(), Some(SMALL));
        let mut none = Pool::<Waiting>::new(0);
        none.expect(SMALL);
        assert_eq!(none.lacks(), None);
    }
}
