//! The connection to a back end: requests go out whole, replies come in as they come, nothing waits.

use crate::error::Failure;
use crate::message::{HEADER, Header, Request};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, recvmsg, sendmsg};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use vhost::vhost_user::message::FrontendReq;

/// Most descriptors that Linux passes with one message (`SCM_MAX_FD`).
const DESCRIPTORS_MAX: usize = 253;

/// A stream to a back end, with what is on its way.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: OwnedFd,
    /// Replies to come, in this order.
    expected: VecDeque<FrontendReq>,
    /// What has come of the next one.
    received: Vec<u8>,
    /// The descriptor that came with it.
    file: Option<OwnedFd>,
}

/// A reply to one of the requests that wait for one.
#[derive(Debug)]
pub(crate) struct Reply {
    /// What it answers.
    pub code: FrontendReq,
    /// Its body.
    pub body: Vec<u8>,
    /// The descriptor that came with it.
    pub file: Option<OwnedFd>,
}

impl Channel {
    /// The channel over a connected stream. Whether the stream blocks does not matter.
    pub(crate) fn new(stream: OwnedFd) -> Self {
        Self { stream, expected: VecDeque::new(), received: Vec::new(), file: None }
    }

    /// Sends a request that has no reply, or one if it asks for its acknowledgement.
    ///
    /// # Errors
    /// When the back end is gone, or takes nothing more: all that is ever on its way is small.
    pub(crate) fn send(
        &mut self,
        request: &Request,
        files: &[BorrowedFd<'_>],
    ) -> Result<(), Failure> {
        let raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let bytes = [IoSlice::new(&request.bytes)];
        loop {
            match sendmsg::<()>(self.stream.as_raw_fd(), &bytes, control, flags, None) {
                Ok(sent) if sent == request.bytes.len() => return Ok(()),
                Ok(_) | Err(Errno::EAGAIN) => return Err(Failure::Stuck),
                Err(Errno::EINTR) => {}
                Err(_) => return Err(Failure::Gone),
            }
        }
    }

    /// Sends a request and notes that its reply is to come.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub(crate) fn ask(
        &mut self,
        request: &Request,
        files: &[BorrowedFd<'_>],
    ) -> Result<(), Failure> {
        self.send(request, files)?;
        self.expected.push_back(request.code);
        Ok(())
    }

    /// The next reply, if it is here. Whatever was not asked for is an error, so that a back end cannot
    /// keep anybody reading.
    ///
    /// # Errors
    /// When the back end is gone, or does not keep to the protocol.
    pub(crate) fn receive(&mut self) -> Result<Option<Reply>, Failure> {
        loop {
            let wanted = self.wanted()?;
            if wanted == 0 {
                return self.finish().map(Some);
            }
            if !self.receive_some(wanted)? {
                return Ok(None);
            }
        }
    }

    /// Bytes that are missing before the next step: the header's, then the body's.
    fn wanted(&self) -> Result<usize, Failure> {
        let Some(header) = self.received.first_chunk::<HEADER>() else {
            return Ok(HEADER - self.received.len());
        };
        let header = Header::parse(*header);
        let code = *self.expected.front().ok_or(Failure::Protocol("an unasked message"))?;
        if !header.answers(code) {
            return Err(Failure::Protocol("a message that is no reply to the request"));
        }
        Ok(HEADER + header.size - self.received.len())
    }

    /// Receives at most `wanted` bytes; false when there are none for now.
    fn receive_some(&mut self, wanted: usize) -> Result<bool, Failure> {
        let start = self.received.len();
        self.received.resize(start + wanted, 0);
        let got = self.receive_at(start);
        self.received.truncate(start + got.as_ref().map_or(0, |got| got.unwrap_or(0)));
        match got? {
            None => Ok(false),
            Some(0) => Err(Failure::Gone),
            Some(_) if self.expected.is_empty() => Err(Failure::Protocol("an unasked message")),
            Some(_) => Ok(true),
        }
    }

    fn receive_at(&mut self, start: usize) -> Result<Option<usize>, Failure> {
        // Room for as many as can ever come with one message, so that none is lost track of.
        let mut control = cmsg_space!([RawFd; DESCRIPTORS_MAX]);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let mut buffer = [IoSliceMut::new(&mut self.received[start..])];
        let stream = self.stream.as_raw_fd();
        let message = match recvmsg::<()>(stream, &mut buffer, Some(&mut control), flags) {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(_) => return Err(Failure::Gone),
        };
        let bytes = message.bytes;
        let files = received_files(&message)?;
        for file in files {
            if self.file.replace(file).is_some() {
                return Err(Failure::Protocol("more than one descriptor with a reply"));
            }
        }
        Ok(Some(bytes))
    }

    fn finish(&mut self) -> Result<Reply, Failure> {
        let code = self.expected.pop_front().ok_or(Failure::Protocol("an unasked message"))?;
        let body = self.received.split_off(HEADER);
        self.received.clear();
        Ok(Reply { code, body, file: self.file.take() })
    }

    /// Whether replies are to come.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.expected.is_empty()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The descriptors of a message, which are closed unless they are kept.
fn received_files(message: &RecvMsg<'_, '_, ()>) -> Result<Vec<OwnedFd>, Failure> {
    let mut files = Vec::new();
    let controls = message.cmsgs().map_err(|_| Failure::Protocol("too many descriptors"));
    for control in controls? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for this process, and nobody else
            // knows of them.
            files.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    Ok(files)
}
