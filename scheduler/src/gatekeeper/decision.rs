//! What the gatekeeper decides, and why, in words.

use super::{GuestNumber, Tenant};
use std::fmt;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The guest is let in: it is to be given a monitor. [`runs`](super::Gatekeeper::runs) or
    /// [`left`](super::Gatekeeper::left) follows.
    Admit {
        /// Which.
        guest: GuestNumber,
        /// How long it has waited, in ns.
        waited_ns: u64,
    },
    /// The guest is to be parked. [`left`](super::Gatekeeper::left) or [`stays`](super::Gatekeeper::stays) follows.
    Evict {
        /// Which.
        guest: GuestNumber,
        /// What there was too little of.
        why: Reason,
        /// The guest that waits for it; `None` = room is made in advance, or the host is short of memory.
        made_for: Option<GuestNumber>,
        /// How long it has not been active, in ns.
        idle_ns: u64,
    },
    /// The guest can never be let in, and does not wait any more.
    Refuse {
        /// Which.
        guest: GuestNumber,
        /// Why.
        why: Refusal,
    },
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// As many guests are in memory as may be.
    Running {
        /// So many.
        limit: u32,
    },
    /// Guests in memory are counted for as much as they may have.
    Budget {
        /// So much, in bytes.
        limit: u64,
    },
    /// Too little memory of the host's is free.
    Memory {
        /// So much, in bytes, with what was decided counted.
        free: u64,
        /// So much is to be.
        minimum: u64,
    },
    /// A tenant has as many guests in memory as it may have.
    TenantRunning {
        /// Who.
        tenant: Tenant,
        /// So many.
        limit: u32,
    },
    /// A tenant's guests in memory are counted for as much as they may have.
    TenantMemory {
        /// Who.
        tenant: Tenant,
        /// So much, in bytes.
        limit: u64,
    },
}

/// Why a guest can never be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It needs more than all guests may have together.
    Budget {
        /// What it needs, in bytes.
        bytes: u64,
        /// What all may have.
        limit: u64,
    },
    /// It needs more than its tenant may have.
    Quota {
        /// What it needs, in bytes.
        bytes: u64,
        /// What the tenant may have.
        limit: u64,
    },
    /// It needs more than the host has beside what is left free.
    Host {
        /// What it needs, in bytes.
        bytes: u64,
        /// What the host has for guests.
        limit: u64,
    },
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Admit { guest, waited_ns } => {
                write!(f, "let in guest {guest}")?;
                if waited_ns > 0 {
                    write!(f, ", which has waited {}", Time(waited_ns))
                } else {
                    Ok(())
                }
            }
            Self::Evict { guest, why, made_for, idle_ns } => {
                write!(f, "parks guest {guest}, idle for {}", Time(idle_ns))?;
                if let Some(other) = made_for {
                    write!(f, ", for guest {other}")?;
                }
                write!(f, ": {why}")
            }
            Self::Refuse { guest, why } => write!(f, "refuses guest {guest}: {why}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Running { limit } => write!(f, "{limit} guests may be in memory at a time"),
            Self::Budget { limit } => write!(f, "guests may use {} in all", Size(limit)),
            Self::Memory { free, minimum } => {
                write!(
                    f,
                    "{} of the host's memory are free, {} are to be",
                    Size(free),
                    Size(minimum)
                )
            }
            Self::TenantRunning { limit, .. } => {
                write!(f, "its tenant may have {limit} guests in memory")
            }
            Self::TenantMemory { limit, .. } => {
                write!(f, "its tenant's guests may use {} in all", Size(limit))
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, limit, whose) = match *self {
            Self::Budget { bytes, limit } => (bytes, limit, "all guests together may use"),
            Self::Quota { bytes, limit } => (bytes, limit, "its tenant may use"),
            Self::Host { bytes, limit } => (bytes, limit, "the host has for guests"),
        };
        write!(f, "it needs {}, and {whose} {}", Size(bytes), Size(limit))
    }
}

/// A time in ns, for people.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 / 1_000_000 {
            ms @ 0..1_000 => write!(f, "{ms} ms"),
            ms @ 1_000..600_000 => write!(f, "{}.{} s", ms / 1000, ms % 1000 / 100),
            ms => write!(f, "{} min", ms / 60_000),
        }
    }
}

/// A number of bytes, for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 >> 20 {
            0 => write!(f, "{} KiB", self.0 >> 10),
            mib => write!(f, "{mib} MiB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_words() {
        let memory = Reason::Memory { free: 300 << 20, minimum: 1 << 30 };
        let evict =
            Decision::Evict { guest: 7, why: memory, made_for: Some(9), idle_ns: 61_500_000_000 };
        assert_eq!(
            evict.to_string(),
            "parks guest 7, idle for 61.5 s, for guest 9: 300 MiB of the host's memory are free, 1024 MiB are to be"
        );
        let admit = Decision::Admit { guest: 9, waited_ns: 12_000_000 };
        assert_eq!(admit.to_string(), "let in guest 9, which has waited 12 ms");
        let why = Refusal::Quota { bytes: 5 << 20, limit: 512 << 10 };
        let refuse = Decision::Refuse { guest: 1, why };
        assert_eq!(
            refuse.to_string(),
            "refuses guest 1: it needs 5 MiB, and its tenant may use 512 KiB"
        );
    }
}
