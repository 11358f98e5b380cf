//! What can go wrong with a back end, each as one line.

use std::path::PathBuf;
use std::time::Duration;

/// Why a back end cannot be used, or no longer. Displayed as what follows "the back end".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It closed the connection.
    #[error("has closed the connection")]
    Gone,
    /// It has not read what was sent.
    #[error("does not read what it is sent")]
    Stuck,
    /// A reply did not come in time.
    #[error("has not answered {request} for {} s; is it a vhost-user back end, and free for this guest?", .waited.as_secs())]
    Silent {
        /// The protocol's name of the request.
        request: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// It said something that is not in the protocol.
    #[error("does not keep to the protocol: it sent {0}")]
    Protocol(&'static str),
    /// It cannot do what is needed.
    #[error("lacks {0}")]
    Lacks(&'static str),
    /// It refused a request.
    #[error("refused {0}")]
    Refused(&'static str),
    /// It is not the one the guest knows.
    #[error(
        "differs from the one before in its {0}; start the guest anew, or the back end as it was"
    )]
    Differs(&'static str),
    /// The host refused something.
    #[error("cannot be connected: {0}")]
    Host(nix::Error),
}

/// Why there is no connection to a back end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody accepted.
    #[error(
        "{}: no vhost-user back end accepted a connection within {} s ({why}); start it before the \
         guest, or check the path", .path.display(), .waited.as_secs()
    )]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
        /// What the last attempt met.
        why: &'static str,
    },
    /// It cannot be connected to, however long one waits.
    #[error("{}: {why}; name the socket of a vhost-user back end", .path.display())]
    Impossible {
        /// The socket.
        path: PathBuf,
        /// What stands in the way.
        why: &'static str,
    },
}
