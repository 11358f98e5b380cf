//! Messages on the control socket: bytes, and at most one descriptor with them.

use crate::protocol::MESSAGE_MAX;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What came.
#[derive(Debug)]
pub struct Received {
    /// Bytes of it in the buffer.
    pub length: usize,
    /// It was longer than the buffer.
    pub cut: bool,
    /// The first descriptor that came along. Others are closed.
    pub passed: Option<OwnedFd>,
}

/// A message as bytes.
///
/// # Errors
/// One line, when it has more than [`MESSAGE_MAX`] bytes.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, String> {
    let bytes = serde_json::to_vec(message).map_err(|error| error.to_string())?;
    if bytes.len() > MESSAGE_MAX {
        return Err(format!("a message of {} bytes, more than {MESSAGE_MAX}", bytes.len()));
    }
    Ok(bytes)
}

/// A message from bytes.
///
/// # Errors
/// One line that says what is wrong with it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > MESSAGE_MAX {
        return Err(format!("a message of {} bytes, more than {MESSAGE_MAX}", bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|error| format!("not understood: {error}"))
}

/// Sends a message, without a signal if nobody is there.
///
/// # Errors
/// What the host says; `EAGAIN` if the socket does not block and takes no more for now.
pub fn send(socket: impl AsFd, bytes: &[u8], passed: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let descriptors: [RawFd; 1] = [passed.map_or(-1, |passed| passed.as_raw_fd())];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let control = if passed.is_some() { &rights[..] } else { &[] };
    let parts = [IoSlice::new(bytes)];
    loop {
        let number = socket.as_fd().as_raw_fd();
        match sendmsg::<()>(number, &parts, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives a message; one of no bytes means that the other side is gone.
///
/// # Errors
/// What the host says; `EAGAIN` if the socket does not block and there is none.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut space = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(buffer)];
    let number = socket.as_fd().as_raw_fd();
    let received = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(number, &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut passed = None;
    if let Ok(messages) = received.cmsgs() {
        for message in messages {
            if let ControlMessageOwned::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    // SAFETY: the kernel has just made this descriptor for this process, and nothing
                    // else knows its number.
                    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
                    passed.get_or_insert(owned);
                }
            }
        }
    }
    let cut = received.flags.contains(MsgFlags::MSG_TRUNC);
    Ok(Received { length: received.bytes, cut, passed })
}
