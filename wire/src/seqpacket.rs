//! A connected seqpacket socket as the wire of a network card.

use crate::error::OpenError;
use crate::interest::Interest;
use crate::sys;
use denali_devices::net::{NET_HEADER, NetBackend, Offers, Packet, Room, Sent, Wanted};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A connected unix socket of type `SOCK_SEQPACKET`: a datagram is a virtio-net header of 12 bytes
/// and an Ethernet frame, in both directions.
///
/// Nothing is negotiated over it. So frames are no larger than the card's MTU allows, and only
/// checksums may be left to the other side (`NEEDS_CSUM` in the header); it may do the same. When the
/// other side closes the socket, the link is down for good.
#[derive(Debug)]
pub struct SeqpacketSocket {
    socket: OwnedFd,
    interest: Interest,
    state: State,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// There is a driver.
    driver: bool,
    /// The driver has buffers for frames, as far as is known.
    wants_frames: bool,
    /// The other side is slow: it is waited for before the next frame.
    full: bool,
    /// The other side is gone.
    down: bool,
    /// Frames may wait: none was missed since the service began.
    readable: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    reads: u64,
    writes: u64,
    waits: u64,
    lost: u64,
}

impl SeqpacketSocket {
    /// Connects to what listens at `path`, for [`SeqpacketSocket::new`].
    ///
    /// # Errors
    /// When nothing listens there, or not on such a socket; each says what to do.
    pub fn connect(path: &Path) -> Result<OwnedFd, OpenError> {
        let shown = || path.display().to_string();
        let bytes = path.as_os_str().as_bytes();
        // SAFETY: all bytes zero is an address without a path.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        if bytes.is_empty() || bytes.len() >= address.sun_path.len() {
            return Err(OpenError::PathTooLong(shown()));
        }
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, &from) in address.sun_path.iter_mut().zip(bytes) {
            *to = from as libc::c_char;
        }
        let other = |what, source| OpenError::Other { what, source };
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain numbers.
        let socket = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
        if socket < 0 {
            return Err(other("make a socket", io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was made by the call above and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        let pointer = (&raw const address).cast();
        // SAFETY: the address is valid for its length during the call.
        if unsafe { libc::connect(socket.as_raw_fd(), pointer, length) } == 0 {
            return Ok(socket);
        }
        let error = io::Error::last_os_error();
        Err(match error.raw_os_error() {
            Some(libc::ENOENT) => OpenError::NoSocket(shown()),
            Some(libc::ECONNREFUSED | libc::EAGAIN) => OpenError::NoListener(shown()),
            Some(libc::EPROTOTYPE) => OpenError::NotSeqpacket(shown()),
            _ => other("connect a network device's socket", error),
        })
    }

    /// A back end over a connected, non-blocking socket.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let interest = Interest::new(&socket)?;
        Ok(Self { socket, interest, state: State::default(), counters: Counters::default() })
    }

    fn update_interest(&mut self) {
        let State { driver, wants_frames, full, down, .. } = self.state;
        let works = driver && !down;
        self.interest.set(works && wants_frames, works && full);
    }

    fn go_down(&mut self) {
        self.state.down = true;
        self.state.readable = false;
        self.update_interest();
    }
}

/// Readable while the card should be serviced.
impl AsRawFd for SeqpacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.interest.as_raw_fd()
    }
}

impl NetBackend for SeqpacketSocket {
    fn offers(&self) -> Offers {
        Offers { checksums: true, segments: false }
    }

    fn agree(&mut self, wanted: Option<Wanted>) {
        self.state.driver = wanted.is_some();
        self.state.wants_frames = true;
        self.update_interest();
    }

    fn begin(&mut self, _now_ns: u64) {
        self.state.readable = self.state.driver && !self.state.down;
        if std::mem::take(&mut self.state.full) {
            self.update_interest();
        }
    }

    fn transmit(&mut self, packet: &Packet<'_, '_>) -> Sent {
        if self.state.down {
            self.counters.lost += 1;
            return Sent::Taken;
        }
        if self.state.full {
            return Sent::Later;
        }
        match sys::send(self.socket.as_fd(), packet.pieces()) {
            Ok(_) => self.counters.writes += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.counters.waits += 1;
                self.state.full = true;
                self.update_interest();
                return Sent::Later;
            }
            Err(error) => {
                self.counters.lost += 1;
                // A frame the socket does not take is lost; a peer that is gone stays so.
                if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) {
                    self.go_down();
                }
            }
        }
        Sent::Taken
    }

    fn process(&mut self) {}

    fn ready(&mut self) -> bool {
        self.state.readable
    }

    fn receive(&mut self, room: &mut Room<'_, '_>) -> Option<usize> {
        if !self.state.readable {
            return None;
        }
        match sys::read(self.socket.as_fd(), room.pieces()) {
            // A datagram cannot be empty: this is the end.
            Ok(0) => self.go_down(),
            Ok(length) => {
                self.counters.reads += 1;
                // One too short to have a frame is given on as such, and dropped by the card.
                return Some(length.max(NET_HEADER));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.state.readable = false,
            Err(_) => self.go_down(),
        }
        None
    }

    fn want_frames(&mut self, wanted: bool) {
        if wanted != self.state.wants_frames {
            self.state.wants_frames = wanted;
            self.update_interest();
        }
    }

    fn link_up(&self) -> bool {
        !self.state.down
    }

    fn has_work(&self) -> bool {
        false
    }

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("socket_reads", self.counters.reads),
            ("socket_writes", self.counters.writes),
            ("socket_waits", self.counters.waits),
            ("socket_lost", self.counters.lost),
            ("socket_down", u64::from(self.state.down)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn every_reason_not_to_connect_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let said = |path: &Path| SeqpacketSocket::connect(path).unwrap_err().to_string();
        assert!(said(&at("nothing")).starts_with("no socket at "));
        let _stream = UnixListener::bind(at("stream")).expect("a socket");
        assert!(said(&at("stream")).contains("is no seqpacket socket"));
        drop(UnixDatagram::bind(at("datagram")).expect("a socket"));
        assert!(said(&at("datagram")).starts_with("nothing listens on "));
        assert!(said(&at(&"long".repeat(50))).contains("at most 107 bytes"));
    }
}
