//! Messages and descriptors over sockets of type SOCK_SEQPACKET.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socket, socketpair,
};
use serde::Serialize;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Most bytes of a message.
pub const MESSAGE_MAX: usize = 64 << 10;

/// Most descriptors that come with a message: what Linux passes at once.
pub const DESCRIPTORS_MAX: usize = 253;

/// What came.
#[derive(Debug)]
pub enum Received {
    /// A message, in the buffer, with these descriptors.
    Message(Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// Nobody is at the other end any more.
    Gone,
}

/// Two connected sockets that do not block, closed by exec.
///
/// # Errors
/// When the host refuses.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// Connects to a monitor that listens at `path`; the socket blocks.
///
/// # Errors
/// When nobody listens there.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Sends a message whole, with descriptors that the receiver gets copies of.
///
/// # Errors
/// When the other end is gone, or takes no more for now.
pub fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message)], rights, flags, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Messages that can be sent as they are.
pub trait Tell: Serialize {
    /// Sends it as JSON; see [`send`].
    ///
    /// # Errors
    /// As [`send`].
    fn tell(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        send(socket, &serde_json::to_vec(self)?, &[])
    }
}

impl Tell for crate::Request {}
impl Tell for crate::Told {}

/// Receives the next message into `buffer`, whose length becomes the message's.
///
/// # Errors
/// When a message is longer than [`MESSAGE_MAX`], or brings more descriptors than are passed at once.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<Received> {
    buffer.resize(MESSAGE_MAX, 0);
    let mut space = cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Ok(received) => break received,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(Received::Nothing),
            Err(Errno::ECONNRESET | Errno::EPIPE) => return Ok(Received::Gone),
            Err(error) => return Err(error.into()),
        }
    };
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            // SAFETY: the kernel has just made these descriptors for this process, for this one use.
            descriptors.extend(numbers.into_iter().map(|n| unsafe { OwnedFd::from_raw_fd(n) }));
        }
    }
    let (length, flags) = (received.bytes, received.flags);
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
    }
    if length == 0 && descriptors.is_empty() {
        return Ok(Received::Gone);
    }
    buffer.truncate(length);
    Ok(Received::Message(descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, Told};
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn messages_arrive_whole_with_their_descriptors() {
        let (one, two) = pair().unwrap();
        let mut buffer = Vec::new();
        assert!(matches!(receive(two.as_fd(), &mut buffer).unwrap(), Received::Nothing));
        let (mut reader, writer) = io::pipe().unwrap();
        send(one.as_fd(), b"take this", &[writer.as_fd()]).unwrap();
        drop(writer);
        Request::Park { cut: false }.tell(one.as_fd()).unwrap();
        let Received::Message(descriptors) = receive(two.as_fd(), &mut buffer).unwrap() else {
            panic!()
        };
        assert_eq!((&buffer[..], descriptors.len()), (&b"take this"[..], 1));
        for descriptor in descriptors {
            File::from(descriptor).write_all(b"through it").unwrap();
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through it");
        assert!(matches!(receive(two.as_fd(), &mut buffer).unwrap(), Received::Message(_)));
        assert_eq!(
            serde_json::from_slice::<Request>(&buffer).unwrap(),
            Request::Park { cut: false }
        );
        drop(one);
        assert!(matches!(receive(two.as_fd(), &mut buffer).unwrap(), Received::Gone));
    }

    #[test]
    fn a_message_that_is_too_long_is_refused() {
        let (one, two) = pair().unwrap();
        send(one.as_fd(), &vec![b' '; MESSAGE_MAX + 1], &[]).unwrap();
        assert!(receive(two.as_fd(), &mut Vec::new()).is_err());
        Told::SwappedOut { pages: 1 }.tell(one.as_fd()).unwrap();
        let mut buffer = Vec::new();
        assert!(matches!(receive(two.as_fd(), &mut buffer).unwrap(), Received::Message(_)));
    }
}
