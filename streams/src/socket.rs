//! A console on a listening Unix socket: one connection at a time.

use crate::interest::{Interest, Watch};
use crate::stream::poll;
use denali_devices::console::ConsoleBackend;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Someone who is connected.
#[derive(Debug)]
struct Peer {
    socket: OwnedFd,
    /// It sends nothing more.
    finished: bool,
}

/// A console whose other end is whoever is connected. While nobody is, output waits in the guest; others
/// who connect wait until the first is gone.
#[derive(Debug)]
pub struct SocketConsole {
    listener: OwnedFd,
    peer: Option<Peer>,
    interest: Interest,
    driver: bool,
    wants_input: bool,
    blocked: bool,
    connections: u64,
}

impl SocketConsole {
    /// A console on a listening stream socket that does not block.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(listener: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            listener,
            peer: None,
            interest: Interest::new()?,
            driver: false,
            wants_input: false,
            blocked: false,
            connections: 0,
        })
    }

    fn update_interest(&mut self) {
        let useful = self.driver && (self.wants_input || self.blocked);
        let listen = useful && self.peer.is_none();
        self.interest.set(self.listener.as_raw_fd(), Watch::when(listen, true, false));
        if let Some(peer) = &self.peer {
            let readable = self.wants_input && !peer.finished;
            let watch = Watch::when(useful, readable, self.blocked);
            self.interest.set(peer.socket.as_raw_fd(), watch);
        }
    }

    /// Parts with who has sent everything and is gone.
    fn dismiss(&mut self) {
        let gone = |peer: &Peer| {
            peer.finished && poll(&peer.socket, 0) & (libc::POLLHUP | libc::POLLERR) != 0
        };
        if self.peer.as_ref().is_some_and(gone) {
            self.part();
        }
    }

    /// Sees to it that someone is connected, if anyone wants to be.
    fn meet(&mut self) {
        self.dismiss();
        if self.peer.is_none() {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: no address is asked for.
            let socket =
                unsafe { libc::accept4(self.listener.as_raw_fd(), address, length, flags) };
            if socket >= 0 {
                // SAFETY: the descriptor was made by the call above and belongs to nobody else.
                let socket = unsafe { OwnedFd::from_raw_fd(socket) };
                self.peer = Some(Peer { socket, finished: false });
                self.connections += 1;
                self.update_interest();
            }
        }
    }

    fn part(&mut self) {
        if let Some(peer) = self.peer.take() {
            self.interest.set(peer.socket.as_raw_fd(), Watch::Not);
        }
        self.update_interest();
    }

    fn set_blocked(&mut self, blocked: bool) {
        if blocked != self.blocked {
            self.blocked = blocked;
            self.update_interest();
        }
    }
}

/// Readable while the console should be serviced.
impl AsRawFd for SocketConsole {
    fn as_raw_fd(&self) -> RawFd {
        self.interest.as_raw_fd()
    }
}

impl ConsoleBackend for SocketConsole {
    fn attach(&mut self, driver: bool) {
        self.driver = driver;
        self.wants_input = false;
        self.blocked = false;
        self.update_interest();
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        self.meet();
        let mut done = 0;
        while let Some(peer) = self.peer.as_ref().filter(|_| done < bytes.len()) {
            let rest = &bytes[done..];
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the rest is readable for its length.
            let sent = unsafe {
                libc::send(peer.socket.as_raw_fd(), rest.as_ptr().cast(), rest.len(), flags)
            };
            match usize::try_from(sent) {
                Ok(sent) => done += sent,
                Err(_) if is_transient(&io::Error::last_os_error()) => break,
                // What is in the connection is lost with it; the rest waits for the next.
                Err(_) => self.part(),
            }
        }
        self.set_blocked(done < bytes.len());
        done
    }

    fn read(&mut self, room: &mut [u8]) -> usize {
        self.meet();
        let Some(peer) = &mut self.peer else { return 0 };
        if peer.finished || room.is_empty() {
            return 0;
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the room is writable for its length.
        let got = unsafe {
            libc::recv(peer.socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), flags)
        };
        match usize::try_from(got) {
            Ok(0) => {
                peer.finished = true;
                self.meet();
                self.update_interest();
                0
            }
            Ok(got) => got,
            Err(_) if is_transient(&io::Error::last_os_error()) => 0,
            Err(_) => {
                self.part();
                0
            }
        }
    }

    fn want_input(&mut self, wanted: bool) {
        if wanted != self.wants_input {
            self.wants_input = wanted;
            self.update_interest();
        }
    }

    fn busy(&mut self) -> Option<&'static str> {
        if let Some(peer) = &mut self.peer
            && !peer.finished
        {
            peer.finished = has_ended(&peer.socket);
        }
        self.dismiss();
        self.peer.as_ref().map(|_| "is connected to somebody")
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("connections", self.connections)]
    }
}

/// Whether a socket has nothing more to be read, and never will have.
fn has_ended(socket: &OwnedFd) -> bool {
    let (mut byte, flags) = ([0_u8; 1], libc::MSG_DONTWAIT | libc::MSG_PEEK);
    // SAFETY: the byte is writable.
    let got = unsafe { libc::recv(socket.as_raw_fd(), byte.as_mut_ptr().cast(), 1, flags) };
    got == 0 || got < 0 && !is_transient(&io::Error::last_os_error())
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
