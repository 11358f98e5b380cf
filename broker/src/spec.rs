//! What the launcher tells the broker: channels, and what each may ask for.

use crate::rules::Policy;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Everything a broker does in its life. It travels as JSON in a sealed memfd whose number is the
/// program's only argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The channels; the broker ends when all are closed at their other end.
    pub channels: Vec<Channel>,
}

/// A socket on which requests come, and what may be asked there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The broker's end of a pair of SOCK_SEQPACKET sockets.
    pub socket: RawFd,
    /// What may be asked.
    pub service: Service,
}

/// What may be asked on a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Service {
    /// Connections and names, for one network device.
    Egress {
        /// What is allowed.
        policy: Policy,
        /// Name servers that are asked, in turn when one does not answer; none where nothing resolves.
        resolvers: Vec<SocketAddr>,
    },
    /// New connections to one vhost-user back end.
    Socket {
        /// Its listening Unix socket.
        path: PathBuf,
    },
}
