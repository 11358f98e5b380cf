//! The first connection to a back end, made before the monitor's sandbox is up.

use crate::error::ConnectError;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a guest's start waits for its back ends to accept.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Connects to the socket at `path`, waiting up to `patience` for somebody to listen there and accept.
/// The stream is closed on exec, and does not block.
///
/// # Errors
/// When nobody did, or nobody ever will.
pub fn connect(path: &Path, patience: Duration) -> Result<OwnedFd, ConnectError> {
    let impossible = |why| ConnectError::Impossible { path: path.to_path_buf(), why };
    let address = UnixAddr::new(path).map_err(|_| impossible("is too long for a socket's path"))?;
    let started = Instant::now();
    loop {
        let error = match attempt(&address) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let why = match error {
            Errno::ENOENT => "there is no such socket",
            Errno::ECONNREFUSED => "nobody listens there",
            Errno::EAGAIN => "its listener is busy with others",
            Errno::EINTR => continue,
            Errno::EACCES => return Err(impossible("this user may not connect to it")),
            Errno::ENOTSOCK => return Err(impossible("is no socket")),
            Errno::EPROTOTYPE => return Err(impossible("is a socket of another type")),
            other => return Err(impossible(other.desc())),
        };
        if started.elapsed() >= patience {
            return Err(ConnectError::Nobody { path: path.to_path_buf(), waited: patience, why });
        }
        sleep(PAUSE);
    }
}

fn attempt(address: &UnixAddr) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect_to(stream.as_raw_fd(), address)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn a_listener_may_come_late() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let late = path.clone();
        let listening = std::thread::spawn(move || {
            sleep(Duration::from_millis(100));
            UnixListener::bind(late).unwrap()
        });
        connect(&path, Duration::from_secs(60)).unwrap();
        listening.join().unwrap();
    }

    #[test]
    fn that_nobody_comes_is_told_with_what_was_met() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let error = connect(&path, SHORT).unwrap_err().to_string();
        assert!(error.contains("there is no such socket"), "{error}");
        drop(UnixListener::bind(&path).unwrap());
        let error = connect(&path, SHORT).unwrap_err().to_string();
        assert!(error.contains("nobody listens there") && error.contains("start it"), "{error}");
    }

    #[test]
    fn what_is_no_socket_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        // A plain file gives ECONNREFUSED, as a socket without a listener does.
        assert!(connect(&path, SHORT).is_err());
        let long = folder.path().join("x".repeat(200));
        assert!(matches!(connect(&long, SHORT), Err(ConnectError::Impossible { .. })));
        let datagram = folder.path().join("datagram");
        let _bound = std::os::unix::net::UnixDatagram::bind(&datagram).unwrap();
        let error = connect(&datagram, Duration::from_secs(600)).unwrap_err();
        assert!(error.to_string().contains("another type"), "{error}");
    }
}
