//! The system calls of wires that no crate wraps.

use denali_devices::net::Piece;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most pieces of one system call (`IOV_MAX`).
pub(crate) const PIECES_MAX: usize = 1024;

/// The same as a [`Piece`], which is laid out like it.
fn vector(pieces: &[Piece<'_>]) -> (*const libc::iovec, usize) {
    const { assert!(size_of::<Piece<'_>>() == size_of::<libc::iovec>()) };
    const { assert!(align_of::<Piece<'_>>() == align_of::<libc::iovec>()) };
    (pieces.as_ptr().cast(), pieces.len().min(PIECES_MAX))
}

/// Reads one datagram into the pieces; bytes that find no room are lost.
pub(crate) fn read(from: BorrowedFd<'_>, pieces: &[Piece<'_>]) -> io::Result<usize> {
    let (pointer, count) = vector(pieces);
    // SAFETY: a piece is laid out as an iovec (`Piece` says so), and each names memory that stays
    // mapped and may be written for as long as the slice is borrowed.
    let length = unsafe { libc::readv(from.as_raw_fd(), pointer, count as libc::c_int) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

/// Writes the pieces as one datagram.
pub(crate) fn write(to: BorrowedFd<'_>, pieces: &[Piece<'_>]) -> io::Result<usize> {
    let (pointer, count) = vector(pieces);
    // SAFETY: as in `read`; the memory is only read.
    let length = unsafe { libc::writev(to.as_raw_fd(), pointer, count as libc::c_int) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

/// Sends the pieces as one datagram of a socket, without waiting and without a signal.
pub(crate) fn send(to: BorrowedFd<'_>, pieces: &[Piece<'_>]) -> io::Result<usize> {
    let (pointer, count) = vector(pieces);
    // SAFETY: all bytes zero is a message without address, pieces and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pointer.cast_mut();
    message.msg_iovlen = count;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: as in `write`; the message lives during the call.
    let length = unsafe { libc::sendmsg(to.as_raw_fd(), &raw const message, flags) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}
