//! Exit statuses of the monitor and of `denali run`, documented in `docs/exit-codes.md`.
//!
//! A guest that terminates gives its own status, the low 8 bits of EAX; the codes below are the
//! monitor's, and a guest that avoids 119 to 127 and 128 to 191 is never mistaken for one.

/// The guest was parked: its state is in its swap region, and `denali resume` continues it.
pub const PARKED: u8 = 120;

/// The guest crashed: a fault it does not handle, an unknown port, a jump into nowhere.
pub const GUEST_CRASHED: u8 = 121;

/// The configuration is wrong: malformed, unknown field, wrong type, or impossible value.
pub const BAD_CONFIG: u8 = 122;

/// The image cannot be used: missing, malformed, too new, or wanting what is not attached.
pub const BAD_IMAGE: u8 = 123;

/// The host lacks something: `/dev/kvm`, a free port, memory, a permission.
pub const HOST_LACKS: u8 = 124;

/// The monitor itself failed: a defect to report.
pub const MONITOR_FAILED: u8 = 125;

/// The command line is wrong.
pub const BAD_ARGUMENTS: u8 = 126;

/// Ended by signal n: `ENDED_BY_SIGNAL + n`, as shells report it.
pub const ENDED_BY_SIGNAL: u8 = 128;
