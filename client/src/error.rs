//! Why a supervisor could not be asked, or did not do what it was asked for.

use crate::request::Problem;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// What went wrong between a supervisor and whoever asked it. Each is told in one line.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody listens at the socket.
    #[error("{}: no supervisor listens there: {why}", socket.display())]
    Absent {
        /// The socket.
        socket: PathBuf,
        /// What the host said.
        why: io::Error,
    },
    /// The supervisor refused, and said why.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// The supervisor said nothing for as long as the client waits.
    #[error("the supervisor does not answer in time")]
    Late,
    /// The supervisor, or its connection, went away in the middle of an answer.
    #[error("the supervisor went away before its answer was complete")]
    Cut,
    /// What came is no answer to what was asked.
    #[error("the supervisor's answer cannot be understood: {0}")]
    Malformed(String),
    /// The connection failed otherwise.
    #[error("the connection to the supervisor failed: {0}")]
    Connection(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Late,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Cut,
            io::ErrorKind::InvalidData => Self::Malformed(error.to_string()),
            _ => Self::Connection(error),
        }
    }
}
