//! Where front ends connect: a path that is listened on, or a descriptor that came with the process.

use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt,
};
use std::io::{self, ErrorKind};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Where front ends come from.
#[derive(Debug)]
pub enum Socket {
    /// A listening socket, and the path to remove at the end, if this process made it.
    Listening(UnixListener, Option<PathBuf>),
    /// The one front end there will be.
    Connected(UnixStream),
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else serves there.
    #[error(
        "--socket-path: another program listens on {0}; choose another path or end that program"
    )]
    Busy(String),
    /// There is a file that is no socket.
    #[error("--socket-path: {0} exists and is no socket; choose another path or remove it")]
    NoSocket(String),
    /// It cannot be made.
    #[error("--socket-path: cannot listen on {0}: {1}")]
    Listen(String, io::Error),
    /// The descriptor is not what it should be.
    #[error("--fd: descriptor {0} is no unix stream socket of this process: {1}")]
    Descriptor(RawFd, &'static str),
}

impl Socket {
    /// Listens on a path. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// When the path is taken, or nothing can be made there.
    pub fn listen(path: &Path) -> Result<Self, SocketError> {
        let shown = || path.display().to_string();
        if let Ok(metadata) = std::fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                return Err(SocketError::NoSocket(shown()));
            }
            match UnixStream::connect(path) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)
                        .map_err(|error| SocketError::Listen(shown(), error))?;
                }
                Err(error) => return Err(SocketError::Listen(shown(), error)),
                Ok(_) => return Err(SocketError::Busy(shown())),
            }
        }
        let listener = listen_at(path);
        let listener = listener.map_err(|error| SocketError::Listen(shown(), error))?;
        Ok(Self::Listening(listener, Some(path.to_owned())))
    }

    /// Takes over a descriptor that was open when this process was started, listening or connected.
    ///
    /// # Errors
    /// When it is not open, or no such socket.
    pub fn inherit(number: RawFd) -> Result<Self, SocketError> {
        let wrong = |what| SocketError::Descriptor(number, what);
        if number <= 2 {
            return Err(wrong("0, 1 and 2 are the standard streams"));
        }
        // SAFETY: a plain call, which fails for a number that is not open.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(wrong("it is not open"));
        }
        // SAFETY: it is open, as just seen, and stays so during this function.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let address = getsockname::<SockaddrStorage>(number);
        let family = address.ok().and_then(|address| address.family());
        if family != Some(AddressFamily::Unix) {
            return Err(wrong("it is something else"));
        }
        if getsockopt(&borrowed, sockopt::SockType) != Ok(SockType::Stream) {
            return Err(wrong("it is of another type"));
        }
        let listens = getsockopt(&borrowed, sockopt::AcceptConn).unwrap_or(false);
        // SAFETY: whoever named it on the command line gave it to this process, and only this once.
        let owned = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(if listens {
            Self::Listening(owned.into(), None)
        } else {
            Self::Connected(owned.into())
        })
    }
}

/// Listens at `path`. A socket is made under another name and gets its own once somebody listens on it, so
/// that whoever waits for the path to appear can connect at once.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push("~");
    // One that was left behind by a program that was killed just then.
    let left = std::fs::symlink_metadata(&unfinished);
    if left.is_ok_and(|left| left.file_type().is_socket()) {
        std::fs::remove_file(&unfinished)?;
    }
    let listener = UnixListener::bind(&unfinished)?;
    // Unlike a renaming, a link replaces nobody else's socket.
    let named = std::fs::hard_link(&unfinished, path);
    std::fs::remove_file(&unfinished)?;
    named.map(|()| listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn a_path_is_taken_over_from_the_dead_but_not_from_the_living() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = Socket::listen(&path).unwrap();
        let busy = Socket::listen(&path).unwrap_err();
        assert!(matches!(busy, SocketError::Busy(_)), "{busy}");
        drop(first);
        assert!(path.exists());
        assert!(Socket::listen(&path).is_ok());
    }

    #[test]
    fn files_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "content").unwrap();
        assert!(matches!(Socket::listen(&path), Err(SocketError::NoSocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        let nowhere = Socket::listen(&folder.path().join("no/where"));
        assert!(matches!(nowhere, Err(SocketError::Listen(..))));
    }

    #[test]
    fn descriptors_are_known_for_what_they_are() {
        let (one, other) = UnixStream::pair().unwrap();
        assert!(matches!(Socket::inherit(one.into_raw_fd()), Ok(Socket::Connected(_))));
        drop(other);
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let listening = Socket::inherit(listener.into_raw_fd());
        assert!(matches!(listening, Ok(Socket::Listening(_, None))));
        let file = tempfile::tempfile().unwrap().into_raw_fd();
        assert!(Socket::inherit(file).is_err());
        assert!(Socket::inherit(1).is_err());
        assert!(Socket::inherit(100_000).is_err());
    }
}
