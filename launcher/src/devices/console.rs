//! Opens what console devices are connected to.

use super::Place;
use crate::error::LaunchError;
use crate::opened::Opened;
use crate::spec::{ConsoleBackendSpec, ConsoleSpec};
use denali_config::{Console, ConsoleBackend};
use nix::fcntl::{OFlag, open as open_file};
use nix::sys::stat::Mode;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Opens a console device; `place` gives the place of a field of its back end.
pub(super) fn open<'a>(
    console: &Console,
    opened: &mut Opened,
    place: &dyn Fn(&str) -> Place<'a>,
) -> Result<ConsoleSpec, LaunchError> {
    let backend = match &console.backend {
        ConsoleBackend::Terminal => ConsoleBackendSpec::Terminal,
        ConsoleBackend::File { input, output } => {
            let mut keep = |path: &Option<PathBuf>, flags, name: &str| match path {
                Some(path) => open_path(path, flags, &place(name)).map(|fd| Some(opened.keep(fd))),
                None => Ok(None),
            };
            let append = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
            ConsoleBackendSpec::File {
                input: keep(input, OFlag::O_RDONLY, ".file.input")?,
                output: keep(output, append, ".file.output")?,
            }
        }
        ConsoleBackend::Socket(path) => {
            let listener = listen(path, &place(".socket"))?;
            ConsoleBackendSpec::Socket { listener: opened.keep(listener) }
        }
    };
    Ok(ConsoleSpec { name: console.name.clone(), backend })
}

fn open_path(path: &Path, flags: OFlag, place: &Place<'_>) -> Result<OwnedFd, LaunchError> {
    let flags = flags | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    open_file(path, flags, Mode::from_bits_retain(0o600)).map_err(|error| {
        let path = path.display();
        place.unavailable(format_args!("cannot open {path}: {}; choose another file", error.desc()))
    })
}

fn listen(path: &Path, place: &Place<'_>) -> Result<OwnedFd, LaunchError> {
    let listener = UnixListener::bind(path).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map(OwnedFd::from).map_err(|error| {
        let path = path.display();
        place.unavailable(format_args!(
            "cannot listen at {path}: {error}; remove what is there, or choose another path"
        ))
    })
}
