//! `denali snapshot`: a copy of a guest goes into a file.

use super::{ask, refused, size};
use crate::arguments::{MonitorArguments, SnapshotArguments};
use crate::fleet::control_socket;
use crate::output::{Failure, Format, print, print_json};
use denali_abi::status::HOST_LACKS;
use denali_control::{Request, Told};
use serde_json::json;
use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(200);

/// Has the guest write a copy of itself; nothing is left of it if that fails.
pub(crate) fn snapshot(arguments: &SnapshotArguments) -> Result<(), Failure> {
    let MonitorArguments { target, supervisor } = &arguments.monitor;
    let (socket, path) = (&control_socket(target, supervisor)?, &arguments.file);
    let refuse = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::AlreadyExists => "exists; choose another file, or remove it".to_owned(),
            _ => format!("cannot be made: {error}"),
        };
        Failure::new(HOST_LACKS, format!("{}: {why}", path.display()))
    };
    let options = &mut OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(refuse)?;
    let format = supervisor.format.format();
    let told =
        with_progress(&file, format, || ask(socket, &Request::Snapshot {}, Some(file.as_fd())));
    match told {
        Ok(Told::Snapshot { pages }) => match format {
            Format::Human => print(&format_args!("{}: {} of memory", path.display(), size(pages))),
            Format::Json => print_json(&json!({ "file": path, "pages": pages })),
        },
        other => {
            // What failed tells more than that this did too.
            let _ = remove_file(path);
            Err(other.map_or_else(|failure| failure, |told| refused(socket, told)))
        }
    }
}

/// Shows people how much has been written while `work` is done.
fn with_progress<T>(file: &File, format: Format, work: impl FnOnce() -> T) -> T {
    if format == Format::Json || !io::stderr().is_terminal() {
        return work();
    }
    let (done, waiting) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while waiting.recv_timeout(PROGRESS) == Err(RecvTimeoutError::Timeout) {
                let written = file.metadata().map_or(0, |metadata| metadata.blocks() / 2048);
                let _ = write!(io::stderr(), "\r{written} MiB written");
            }
            let _ = write!(io::stderr(), "\r\x1b[K");
        });
        let result = work();
        drop(done);
        result
    })
}
