//! What tells one conversation of the guest from another.

use std::net::SocketAddrV4;

/// The two ends of a conversation, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Whom the guest talks to.
    pub remote: SocketAddrV4,
    /// The guest's own port.
    pub guest_port: u16,
}
