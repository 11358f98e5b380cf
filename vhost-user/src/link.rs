//! The connection to a back end through its states: away, asked for, negotiating, ready, running.

use crate::channel::Channel;
use crate::handshake::Handshake;
use crate::session::Wire;

/// Where the connection is; times are nanoseconds of monotonic time.
#[derive(Debug)]
pub(crate) enum Link {
    /// There is none; the next attempt is due at `retry_at`.
    Down { retry_at: u64 },
    /// One was asked for, and given up on at `until`.
    Asked { until: u64 },
    /// The back end is being asked what it can do, until `until` at most.
    Negotiating { channel: Channel, handshake: Handshake, until: u64 },
    /// The back end can be told of queues.
    Ready { channel: Channel },
    /// The back end was asked for memory to record requests in flight, until `until` at most.
    Preparing { channel: Channel, until: u64 },
    /// The back end works on the queues.
    Running(Running),
}

/// A back end at work.
#[derive(Debug)]
pub(crate) struct Running {
    pub channel: Channel,
    pub queues: Vec<RunningQueue>,
    /// When it began.
    pub since: u64,
}

/// A queue at work.
#[derive(Debug)]
pub(crate) struct RunningQueue {
    pub index: usize,
    pub wire: Wire,
    /// The available index that the back end was last told of, or wanted not to be told of.
    pub told: u16,
}

impl Link {
    /// When something must happen at the latest.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self {
            Self::Down { retry_at: at }
            | Self::Asked { until: at }
            | Self::Negotiating { until: at, .. }
            | Self::Preparing { until: at, .. } => Some(*at),
            Self::Ready { .. } | Self::Running(_) => None,
        }
    }

    /// Takes the link out, leaving none.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Down { retry_at: 0 })
    }
}
