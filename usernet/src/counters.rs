//! What a gateway counts.

/// Counters of a gateway since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted on the host.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections the guest refused, or did not answer in time.
    pub refused_by_guest: u64,
    /// Connections the guest reset or let stall.
    pub reset_by_guest: u64,
    /// Connections reset by the client on the host.
    pub reset_by_host: u64,
    /// Bytes carried to the guest.
    pub bytes_to_guest: u64,
    /// Bytes carried to the host.
    pub bytes_to_host: u64,
    /// Connections the guest tried to make, which were refused.
    pub guest_connects_refused: u64,
    /// Connections the guest made.
    pub egress_connects: u64,
    /// Connections and conversations the guest asked for in vain: not allowed, or nobody there.
    pub egress_refused: u64,
    /// Conversations of datagrams the guest began.
    pub conversations: u64,
    /// Datagrams lost: too many, too large, or nobody there.
    pub datagrams_dropped: u64,
    /// Peers that wrote datagrams to published ports.
    pub peers: u64,
    /// Datagrams to published ports from peers for whom there was no room.
    pub peers_turned_away: u64,
    /// Datagrams to published ports that the host dropped before they were looked at.
    pub datagrams_overrun: u64,
    /// Questions about names.
    pub dns_queries: u64,
    /// Those that may not be asked.
    pub dns_refused: u64,
    /// Frames of the guest that were malformed.
    pub frames_malformed: u64,
    /// Frames of the guest under an address that is not its own.
    pub frames_spoofed: u64,
    /// Frames of the guest in protocols the gateway does not speak.
    pub frames_unsupported: u64,
    /// Replies dropped because too many frames waited for the guest.
    pub replies_dropped: u64,
    /// Times accepting failed for want of descriptors or memory.
    pub accept_failures: u64,
}

impl Counters {
    /// The counters by name.
    #[must_use]
    pub fn list(&self) -> [(&'static str, u64); 22] {
        [
            ("accepted", self.accepted),
            ("open", self.open),
            ("refused_by_guest", self.refused_by_guest),
            ("reset_by_guest", self.reset_by_guest),
            ("reset_by_host", self.reset_by_host),
            ("bytes_to_guest", self.bytes_to_guest),
            ("bytes_to_host", self.bytes_to_host),
            ("guest_connects_refused", self.guest_connects_refused),
            ("egress_connects", self.egress_connects),
            ("egress_refused", self.egress_refused),
            ("conversations", self.conversations),
            ("datagrams_dropped", self.datagrams_dropped),
            ("peers", self.peers),
            ("peers_turned_away", self.peers_turned_away),
            ("datagrams_overrun", self.datagrams_overrun),
            ("dns_queries", self.dns_queries),
            ("dns_refused", self.dns_refused),
            ("frames_malformed", self.frames_malformed),
            ("frames_spoofed", self.frames_spoofed),
            ("frames_unsupported", self.frames_unsupported),
            ("replies_dropped", self.replies_dropped),
            ("accept_failures", self.accept_failures),
        ]
    }
}
