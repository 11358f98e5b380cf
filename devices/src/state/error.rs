//! Why devices cannot be saved now, or not be restored from a state, each as one line.

use super::KindState;
use crate::virtio::QueueError;
use denali_abi::boot::{KIND_BLOCK, KIND_CONSOLE, KIND_ENTROPY, KIND_NET};
use std::fmt;

/// A device cannot be saved now, because something is under way that a state cannot hold. It goes on, and
/// so do all others: nothing is lost, and saving may be tried again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device {device} {why}")]
pub struct NotAtRest {
    /// Its number.
    pub device: usize,
    /// What is under way, as what follows "the device": "carries connections".
    pub why: &'static str,
}

/// A state does not fit the devices it is to be restored into, or their guest's memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It was saved by a monitor of another age.
    #[error("the state of the devices has version {0}; this monitor restores version {known}", known = super::STATE_VERSION)]
    Version(u32),
    /// The guest has more or fewer devices than it had.
    #[error("the guest had {saved} devices, and now has {attached}; give it those it had")]
    Devices {
        /// As many as there were.
        saved: usize,
        /// As many as there are.
        attached: usize,
    },
    /// A device is not the one it was.
    #[error("device {device}: {misfit}")]
    Device {
        /// Its number.
        device: usize,
        /// What does not fit.
        misfit: Misfit,
    },
}

/// What of a state does not fit a device. Displayed as what follows the device's number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It is of another kind.
    #[error("it was {}, and now is {}", Kind(*.saved), Kind(*.attached))]
    Kind {
        /// The kind it had.
        saved: u32,
        /// The kind it has.
        attached: u32,
    },
    /// Others work on its queues, whose state is not known.
    #[error("another process works on it, so it cannot be restored")]
    Elsewhere,
    /// No driver and no device can have brought the status about.
    #[error("its status is impossible: {status:#x}, interrupts {interrupts:#x}")]
    Status {
        /// The status register.
        status: u32,
        /// The interrupt status register.
        interrupts: u32,
    },
    /// The driver has agreed to what the device does not offer.
    #[error("its driver uses features that it does not offer now: {0:#x}")]
    Features(u64),
    /// It has more or fewer queues than it had.
    #[error("it had {saved} queues, and now has {attached}")]
    Queues {
        /// As many as there were.
        saved: usize,
        /// As many as there are.
        attached: usize,
    },
    /// Its configuration space has another size.
    #[error("its configuration space had {saved} bytes, and now has {attached}")]
    Config {
        /// Bytes there were.
        saved: usize,
        /// Bytes there are.
        attached: usize,
    },
    /// A queue is said to be at work that is not in use, or the other way round.
    #[error("queue {0} is at work, and is not in use, or the other way round")]
    Position(usize),
    /// A queue does not agree with guest memory.
    #[error("queue {queue} does not agree with the guest's memory: {error}")]
    Queue {
        /// Its number.
        queue: usize,
        /// What is wrong.
        error: QueueError,
    },
    /// A card carries packets of another size.
    #[error("the card had an MTU of {saved}, and now has {attached}")]
    Mtu {
        /// Bytes of a packet then.
        saved: u16,
        /// Bytes of a packet now.
        attached: u16,
    },
    /// A disk has another capacity.
    #[error("the disk had {saved} sectors, and now has {attached}")]
    Sectors {
        /// Sectors then.
        saved: u64,
        /// Sectors now.
        attached: u64,
    },
    /// A disk has blocks of another size.
    #[error("the disk had blocks of {saved} bytes, and now has blocks of {attached}")]
    BlockSize {
        /// Bytes of a block then.
        saved: u32,
        /// Bytes of a block now.
        attached: u32,
    },
    /// A disk can be written that could not be before, or the other way round.
    #[error("the disk {}", if *.now { "could be written, and is read-only now" } else { "was read-only, and can be written now" })]
    ReadOnly {
        /// It is read-only now.
        now: bool,
    },
}

impl Misfit {
    /// The state is one of another kind of device.
    pub(crate) fn kind(saved: &KindState, attached: u32) -> Self {
        Self::Kind { saved: saved.kind(), attached }
    }
}

/// A kind of device in words.
struct Kind(u32);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            KIND_NET => "a network card",
            KIND_BLOCK => "a disk",
            KIND_CONSOLE => "a console",
            KIND_ENTROPY => "an entropy source",
            _ => "something else",
        })
    }
}
