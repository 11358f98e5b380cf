//! What is asked of guests that run, through their control sockets.

mod park;
mod snapshot;
mod status;
mod swap_out;

pub(crate) use park::park;
pub(crate) use snapshot::snapshot;
pub(crate) use status::status;
pub(crate) use swap_out::swap_out;

use crate::output::Failure;
use denali_abi::status::{HOST_LACKS, MONITOR_FAILED};
use denali_control::{Received, Request, Told, connect, receive, send};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Asks the guest at a control socket, and waits for its answer. `file` goes along.
fn ask(path: &Path, request: &Request, file: Option<BorrowedFd<'_>>) -> Result<Told, Failure> {
    let shown = path.display();
    let socket = connect(path).map_err(|error| {
        Failure::new(HOST_LACKS, match error.kind() {
            io::ErrorKind::NotFound => format!(
                "{shown}: there is no such socket; is \"control\" in the guest's configuration, and does it \
                 run?"
            ),
            io::ErrorKind::ConnectionRefused => {
                format!("{shown}: nobody listens there; its guest has ended")
            }
            _ => format!("{shown}: cannot connect: {error}"),
        })
    })?;
    let message = serde_json::to_vec(request)
        .map_err(|error| Failure::new(MONITOR_FAILED, format!("cannot ask: {error}")))?;
    let gone = || {
        let text = format!("{shown}: its guest ended, or was woken, before it answered; ask again");
        Failure::new(HOST_LACKS, text)
    };
    let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
    send(socket.as_fd(), &message, &files).map_err(|_| gone())?;
    let mut answer = Vec::new();
    match receive(socket.as_fd(), &mut answer) {
        Ok(Received::Message(_)) => serde_json::from_slice(&answer).map_err(|error| {
            let text = format!("{shown}: its answer cannot be understood: {error}");
            Failure::new(MONITOR_FAILED, text)
        }),
        Ok(Received::Nothing | Received::Gone) => Err(gone()),
        Err(error) => Err(Failure::new(HOST_LACKS, format!("{shown}: {error}"))),
    }
}

/// The failure that an answer other than the one that was hoped for stands for.
fn refused(path: &Path, told: Told) -> Failure {
    let shown = path.display();
    match told {
        Told::Refused { why } => Failure::new(HOST_LACKS, format!("{shown}: {why}")),
        _ => Failure::new(MONITOR_FAILED, format!("{shown}: it answered what was not asked")),
    }
}

/// A number of pages as text: what they take.
pub(crate) fn size(pages: u64) -> String {
    format!("{} KiB", pages.saturating_mul(4))
}
