//! The monitor's end of a channel. Nothing here blocks.

use crate::message::{Failure, MESSAGE_MAX, QUESTION_MAX, Reply, Request};
use crate::rules::Protocol;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};
use std::io::IoSliceMut;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The broker is behind; later it may take the request.
    Later,
    /// The broker is gone, or the request is longer than any can be.
    Never,
}

/// An answer to request `id`.
#[derive(Debug)]
pub enum Answer<'a> {
    /// A socket, connected and non-blocking.
    Connected {
        /// Number of the request.
        id: u32,
        /// The socket.
        socket: OwnedFd,
    },
    /// There is no connection.
    Failed {
        /// Number of the request.
        id: u32,
        /// Why.
        why: Failure,
    },
    /// A DNS message with the question's identification.
    Resolved {
        /// Number of the request.
        id: u32,
        /// The message, at most 512 bytes.
        message: &'a [u8],
    },
}

/// What became of waiting for an answer.
#[derive(Debug)]
pub enum Received<'a> {
    /// An answer.
    Answer(Answer<'a>),
    /// None has come yet.
    Nothing,
    /// None will come any more: the broker is gone.
    Gone,
}

/// The monitor's end of a channel. It makes two system calls: `sendto` to ask and `recvmsg` to hear.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    buffer: Box<[u8; MESSAGE_MAX]>,
}

impl Client {
    /// A client on its end of the pair of sockets.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: Box::new([0; MESSAGE_MAX]) }
    }

    /// Asks for a connection; the answer names `id`.
    ///
    /// # Errors
    /// [`Unsent`], when the broker was not asked.
    pub fn connect(&mut self, id: u32, protocol: Protocol, to: SocketAddrV4) -> Result<(), Unsent> {
        self.ask(id, &Request::Connect { protocol, to })
    }

    /// Asks what a DNS message asks, which has at most 512 bytes.
    ///
    /// # Errors
    /// [`Unsent`], when the broker was not asked.
    pub fn resolve(&mut self, id: u32, question: &[u8]) -> Result<(), Unsent> {
        if question.len() > QUESTION_MAX {
            return Err(Unsent::Never);
        }
        self.ask(id, &Request::Question(question))
    }

    /// Asks for a new connection to the channel's Unix socket.
    ///
    /// # Errors
    /// [`Unsent`], when the broker was not asked.
    pub fn reconnect(&mut self, id: u32) -> Result<(), Unsent> {
        self.ask(id, &Request::Reconnect)
    }

    fn ask(&mut self, id: u32, request: &Request<'_>) -> Result<(), Unsent> {
        let length = request.encode(id, &mut self.buffer);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            return match send(self.socket.as_raw_fd(), &self.buffer[..length], flags) {
                Ok(_) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => Err(Unsent::Later),
                Err(_) => Err(Unsent::Never),
            };
        }
    }

    /// The next answer, if one has come. Answers whose descriptor was lost on the way, because this
    /// process can have no more, say that the connection failed.
    pub fn receive(&mut self) -> Received<'_> {
        let (length, socket) = loop {
            match receive_once(&self.socket, &mut self.buffer[..]) {
                Ok((0, _)) => return Received::Gone,
                Ok(received) => break received,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Received::Nothing,
                Err(_) => return Received::Gone,
            }
        };
        let answer = match (Reply::decode(&self.buffer[..length]), socket) {
            (Some((id, Reply::Connected)), Some(socket)) => Answer::Connected { id, socket },
            (Some((id, Reply::Connected)), None) => {
                Answer::Failed { id, why: Failure::Unreachable }
            }
            (Some((id, Reply::Failed(why))), _) => Answer::Failed { id, why },
            (Some((id, Reply::Resolved(message))), _) => Answer::Resolved { id, message },
            // The broker is of another version, or taken over: there is nothing to be had from it.
            (None, _) => return Received::Gone,
        };
        Received::Answer(answer)
    }
}

impl AsRawFd for Client {
    /// Readable when an answer has come, or none will come any more.
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// One datagram: its length, and the first descriptor that came with it. Others are closed.
fn receive_once(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut first = None;
    if let Ok(messages) = received.cmsgs() {
        for message in messages {
            if let ControlMessageOwned::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    // SAFETY: the kernel has just made this descriptor for this process, and nothing
                    // else knows its number.
                    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
                    first.get_or_insert(owned);
                }
            }
        }
    }
    Ok((received.bytes, first))
}
