//! The socket at which a monitor takes commands of its user.

use crate::devices::Place;
use crate::error::LaunchError;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen as listen_on,
    socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::unlink;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 8;

/// A non-blocking socket that listens at `path`, for this user alone: where a monitor is asked for something,
/// or adopted. A socket that nobody listens at any more is removed first.
///
/// # Errors
/// When somebody listens there, or nobody can.
pub fn control_listener(path: &Path) -> Result<OwnedFd, LaunchError> {
    listening(path).map_err(|why| LaunchError::Host(format!("control socket: {why}")))
}

/// As [`control_listener`], where a configuration asks for it.
pub(crate) fn listen(path: &Path, place: &Place<'_>) -> Result<OwnedFd, LaunchError> {
    listening(path).map_err(|why| place.unavailable(why))
}

fn listening(path: &Path) -> Result<OwnedFd, String> {
    let attempt = match attempt(path) {
        Err(Errno::EADDRINUSE) if is_left_behind(path) => {
            // Where it cannot be removed, the next attempt says so.
            let _ = unlink(path);
            self::attempt(path)
        }
        other => other,
    };
    attempt.map_err(|error| {
        let shown = path.display();
        match error {
            Errno::EADDRINUSE => {
                format!("{shown} is taken; remove what is there, or choose another path")
            }
            error => format!("cannot listen at {shown}: {}; choose another path", error.desc()),
        }
    })
}

fn attempt(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = seqpacket()?;
    // The file that bind makes has the socket's own mode.
    fchmod(&socket, Mode::from_bits_retain(0o600))?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen_on(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket)
}

/// Whether there is a socket at which nobody listens.
fn is_left_behind(path: &Path) -> bool {
    // A connection to what is no socket is refused as well.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    let connected =
        seqpacket().and_then(|socket| connect(socket.as_raw_fd(), &UnixAddr::new(path)?));
    is_socket && connected == Err(Errno::ECONNREFUSED)
}

fn seqpacket() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use denali_config::Document;
    use std::os::unix::fs::PermissionsExt;

    fn listen_at(path: &Path) -> Result<OwnedFd, String> {
        let document = Document::parse(b"{}", "vm.json", "".into()).unwrap();
        listen(path, &Place::new(&document, "control".into())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_socket_is_its_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = listen_at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let client = seqpacket().unwrap();
        connect(client.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        let accepted = nix::sys::socket::accept(listener.as_raw_fd()).unwrap();
        nix::unistd::close(accepted).unwrap();
    }

    #[test]
    fn what_somebody_uses_is_left_alone_and_what_is_left_behind_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = listen_at(&path).unwrap();
        let error = listen_at(&path).unwrap_err();
        assert!(error.starts_with("vm.json: control: /") && error.contains("is taken"), "{error}");
        let error = control_listener(&path).unwrap_err().to_string();
        assert!(error.starts_with("control socket: /") && error.contains("is taken"), "{error}");
        drop(listener);
        listen_at(&path).unwrap();
        control_listener(&path).unwrap();

        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(listen_at(&file).unwrap_err().contains("is taken"));
        assert_eq!(fs::read(&file).unwrap(), b"x");
        let error = listen_at(&folder.path().join("missing/control")).unwrap_err();
        assert!(error.contains("cannot listen at") && error.contains("No such file"), "{error}");
    }
}
