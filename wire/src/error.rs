//! Why a wire cannot be opened.

use std::io;

/// Why a wire cannot be opened: one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A name that no interface can have.
    #[error(
        "\"{0}\" is no interface's name; use 1 to 15 characters without blanks, \"/\" and \":\""
    )]
    Name(String),
    /// The kernel has no tap interfaces, or the file is not there.
    #[error("/dev/net/tun is missing; load the kernel module \"tun\", or make the device file")]
    NoTunDevice,
    /// The file for tap interfaces cannot be opened.
    #[error("cannot open /dev/net/tun: {0}; its usual mode is 666")]
    TunDevice(io::Error),
    /// There is no such interface, or it is another user's, and this one may not make it.
    #[error(
        "no tap interface \"{0}\" that this user may use; make it as root: \
         ip tuntap add {0} mode tap user $USER vnet_hdr && ip link set {0} up"
    )]
    NoRight(String),
    /// Something else has the interface.
    #[error("tap interface \"{0}\" is in use by another program")]
    Busy(String),
    /// The interface is of another kind.
    #[error(
        "interface \"{0}\" is no tap interface that can be used with large segments; \
             make it with: ip tuntap add {0} mode tap vnet_hdr"
    )]
    NotTap(String),
    /// There is nothing at the socket's path.
    #[error("no socket at {0}; start what listens there first")]
    NoSocket(String),
    /// There is a socket, but nothing listens on it.
    #[error("nothing listens on {0}; start it first")]
    NoListener(String),
    /// The socket is of another type.
    #[error("{0} is no seqpacket socket; the other side must listen on SOCK_SEQPACKET")]
    NotSeqpacket(String),
    /// The path is longer than a socket's can be.
    #[error("{0} is too long for a socket's path; use at most 107 bytes")]
    PathTooLong(String),
    /// Anything else.
    #[error("cannot {what}: {source}")]
    Other {
        /// What was being done.
        what: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
}
