//! The other side of a guest's seqpacket socket: frames as the documentation describes them.

use crate::guest::PATIENCE;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of the virtio-net header in front of each frame.
const HEADER: usize = 12;
/// Flag of the header: the checksum is left to the receiver.
const NEEDS_CHECKSUM: u8 = 1;

/// A listening socket.
pub struct Listener(OwnedFd);

/// A connected socket: a cable to one guest.
pub struct Cable(OwnedFd);

fn checked(result: i32) -> OwnedFd {
    assert!(result >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the descriptor was just made and belongs to nobody else.
    unsafe { OwnedFd::from_raw_fd(result) }
}

impl Listener {
    /// Listens at `path`.
    pub fn bind(path: &Path) -> Self {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: plain numbers.
        let socket = checked(unsafe { libc::socket(libc::AF_UNIX, kind, 0) });
        // SAFETY: all bytes zero is an address without a path.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, &from) in address.sun_path.iter_mut().zip(path.as_os_str().as_bytes()) {
            *to = from as libc::c_char;
        }
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        let pointer = (&raw const address).cast();
        // SAFETY: the address is valid for its length during the call.
        assert_eq!(unsafe { libc::bind(socket.as_raw_fd(), pointer, length) }, 0);
        // SAFETY: plain numbers.
        assert_eq!(unsafe { libc::listen(socket.as_raw_fd(), 4) }, 0);
        Self(socket)
    }

    /// The next guest that connects.
    pub fn accept(&self) -> Cable {
        assert!(readable(&self.0, PATIENCE.as_millis() as i32), "a guest connects");
        let nothing = std::ptr::null_mut();
        // SAFETY: no address is asked for.
        let socket = unsafe {
            libc::accept4(self.0.as_raw_fd(), nothing, nothing.cast(), libc::SOCK_CLOEXEC)
        };
        Cable(checked(socket))
    }
}

fn readable(socket: &OwnedFd, milliseconds: i32) -> bool {
    let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid structure.
    unsafe { libc::poll(&raw mut polled, 1, milliseconds) > 0 }
}

impl Cable {
    /// Sends a frame whose checksums are complete.
    pub fn send(&self, frame: &[u8]) {
        self.send_datagram(&[&[0; HEADER], frame].concat());
    }

    /// Sends a datagram as it is. A guest that is gone takes it too.
    pub fn send_datagram(&self, bytes: &[u8]) {
        self.send_with(bytes, libc::MSG_NOSIGNAL);
    }

    /// Sends a frame if the guest's socket takes one more; whether it did.
    pub fn try_send(&self, frame: &[u8]) -> bool {
        self.send_with(&[&[0; HEADER], frame].concat(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    }

    fn send_with(&self, bytes: &[u8], flags: i32) -> bool {
        let pointer = bytes.as_ptr().cast();
        // SAFETY: the bytes are readable for their length.
        unsafe { libc::send(self.0.as_raw_fd(), pointer, bytes.len(), flags) > 0 }
    }

    /// The next frame, with its checksum completed, if one comes within some milliseconds.
    pub fn receive(&self, milliseconds: i32) -> Option<Vec<u8>> {
        let datagram = self.receive_datagram(milliseconds)?;
        let (header, frame) = datagram.split_at(HEADER);
        assert_eq!(header[1], 0, "no large segments were agreed on");
        let mut frame = frame.to_vec();
        if header[0] & NEEDS_CHECKSUM != 0 {
            let number = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
            let (start, place) = (number(6), number(6) + number(8));
            let sum = checksum(&frame[start..]);
            frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        }
        Some(frame)
    }

    /// The next datagram as it is.
    pub fn receive_datagram(&self, milliseconds: i32) -> Option<Vec<u8>> {
        if !readable(&self.0, milliseconds) {
            return None;
        }
        let mut bytes = vec![0; 70_000];
        let pointer = bytes.as_mut_ptr().cast();
        // SAFETY: the buffer is writable for its length.
        let length = unsafe { libc::recv(self.0.as_raw_fd(), pointer, bytes.len(), 0) };
        bytes.truncate(usize::try_from(length).ok()?);
        (bytes.len() > HEADER).then_some(bytes)
    }
}

impl AsFd for Cable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The internet checksum.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
