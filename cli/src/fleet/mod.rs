//! Guests that a supervisor looks after: what people ask it for, and how its answers are shown.

mod act;
mod console;
mod create;
mod drain;
mod events;
mod inspect;
mod list;
mod logs;
mod outcome;
mod progress;
mod target;
pub(crate) mod text;

pub(crate) use act::act;
pub(crate) use console::console;
pub(crate) use create::create;
pub(crate) use drain::drain;
pub(crate) use events::events;
pub(crate) use inspect::inspect;
pub(crate) use list::list;
pub(crate) use list::natural;
pub(crate) use logs::logs;
pub(crate) use target::{NamesOrSocket, control_socket, control_sockets, names_or_socket};
pub(crate) use text::now_ms;

use crate::arguments::SupervisorArguments;
use crate::output::Failure;
use denali_abi::status::{HOST_LACKS, MONITOR_FAILED};
use denali_client::{Client, Error, SOCKET_VARIABLE, usual_socket};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Connects to the supervisor that the arguments name.
pub(crate) fn connect(arguments: &SupervisorArguments) -> Result<Client, Failure> {
    let superuser = nix::unistd::geteuid().is_root();
    let socket: PathBuf = match &arguments.socket {
        Some(socket) => socket.clone(),
        None => usual_socket(superuser).ok_or_else(|| {
            let text = format!(
                "it is not known where the supervisor listens: name its socket with --socket PATH or \
                 ${SOCKET_VARIABLE} (there is no $XDG_RUNTIME_DIR)"
            );
            Failure::new(HOST_LACKS, text)
        })?,
    };
    Ok(Client::connect(&socket)?)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Absent { socket, why } => Self::new(HOST_LACKS, absent(&socket, &why)),
            Error::Refused(problem) => refused(&problem),
            Error::Malformed(_) => Self::new(MONITOR_FAILED, text::clean(&error.to_string())),
            _ => Self::new(HOST_LACKS, error),
        }
    }
}

/// The failure that a supervisor's refusal is.
pub(crate) fn refused(problem: &denali_client::Problem) -> Failure {
    // What failed does not end with success, whatever the supervisor says.
    let status = if problem.status == 0 { MONITOR_FAILED } else { problem.status };
    Failure::new(status, text::clean(&problem.message))
}

/// What to do where nobody listens.
fn absent(socket: &Path, why: &std::io::Error) -> String {
    let shown = socket.display();
    match why.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "no supervisor listens at {shown}; start one (denali supervisor), or say where it listens \
             (--socket PATH or ${SOCKET_VARIABLE})"
        ),
        ErrorKind::PermissionDenied => format!(
            "{shown}: this user may not ask that supervisor; run this as the user who started it"
        ),
        ErrorKind::InvalidInput => format!("{shown}: is too long for the path of a socket"),
        _ => format!("{shown}: cannot connect: {why}"),
    }
}
