//! A scripted back end: answers by the protocol or otherwise, and does to the rings what a test says.

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use vhost::vhost_user::message::FrontendReq as Code;

pub const VERSION_1: u64 = 1 << 32;
pub const EVENT_IDX: u64 = 1 << 29;
pub const INDIRECT: u64 = 1 << 28;
pub const PROTOCOL: u64 = 1 << 30;
pub const FLUSH: u64 = 1 << 9;
pub const STANDARD: u64 = VERSION_1 | EVENT_IDX | INDIRECT | PROTOCOL | FLUSH;

pub const MQ: u64 = 1;
pub const REPLY_ACK: u64 = 1 << 3;
pub const CONFIG: u64 = 1 << 9;
pub const INFLIGHT: u64 = 1 << 12;

/// A message of the front end's.
#[derive(Debug)]
pub struct Message {
    pub code: u32,
    pub flags: u32,
    pub body: Vec<u8>,
    pub files: Vec<OwnedFd>,
}

impl Message {
    pub fn number(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.body[at..at + 4].try_into().unwrap())
    }
}

/// The back end's side of a connection.
pub struct BackEnd {
    pub stream: UnixStream,
    pub features: u64,
    pub protocol: u64,
    pub config: Vec<u8>,
    /// What was last set, by request and queue.
    pub set: BTreeMap<(u32, u32), Message>,
    /// Every request, in order.
    pub heard: Vec<u32>,
}

impl BackEnd {
    /// A back end, and the front end's side of its connection.
    pub fn new(protocol: u64) -> (Self, OwnedFd) {
        let (stream, other) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let config = (0..60).collect();
        let (set, heard) = (BTreeMap::new(), Vec::new());
        (Self { stream, features: STANDARD, protocol, config, set, heard }, other.into())
    }

    /// Says in advance what the negotiation of a disk asks for.
    pub fn introduce(&mut self) {
        self.reply(Code::GET_FEATURES, &self.features.to_ne_bytes());
        self.reply(Code::GET_PROTOCOL_FEATURES, &self.protocol.to_ne_bytes());
        if self.protocol & MQ != 0 {
            self.reply(Code::GET_QUEUE_NUM, &1_u64.to_ne_bytes());
        }
        if self.protocol & CONFIG != 0 {
            self.reply(Code::GET_CONFIG, &self.config_body());
        }
    }

    /// The configuration space with its header.
    pub fn config_body(&self) -> Vec<u8> {
        let header = [0, self.config.len() as u32, 0].map(u32::to_ne_bytes).concat();
        [header, self.config.clone()].concat()
    }

    pub fn reply(&self, code: Code, body: &[u8]) {
        self.send(code, 5, body);
    }

    pub fn send(&self, code: Code, flags: u32, body: &[u8]) {
        let words = [u32::from(code), flags, body.len() as u32].map(u32::to_ne_bytes);
        (&self.stream).write_all(&[&words.concat(), body].concat()).unwrap();
    }

    /// Takes all messages that are here, acknowledges those that ask for it, and answers
    /// GET_VRING_BASE unless `silent`.
    pub fn process(&mut self) {
        while let Some(message) = self.receive() {
            let code = Code::try_from(message.code).unwrap();
            self.heard.push(message.code);
            if message.flags & 8 != 0 {
                self.reply(code, &[0; 8]);
            }
            if code == Code::GET_VRING_BASE {
                self.reply(code, &message.body);
            }
            let queue = if message.body.len() >= 4 { message.number(0) } else { 0 };
            self.set.insert((message.code, queue), message);
        }
    }

    /// The next message, if one is here.
    pub fn receive(&mut self) -> Option<Message> {
        let mut header = [0; 12];
        let files = self.receive_header(&mut header)?;
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let mut body = vec![0; word(8) as usize];
        self.stream.read_exact(&mut body).unwrap();
        Some(Message { code: word(0), flags: word(4), body, files })
    }

    fn receive_header(&self, header: &mut [u8]) -> Option<Vec<OwnedFd>> {
        let mut space = nix::cmsg_space!([RawFd; 8]);
        let mut parts = [IoSliceMut::new(header)];
        let stream = self.stream.as_raw_fd();
        let message =
            recvmsg::<()>(stream, &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT).ok()?;
        let mut files = Vec::new();
        for control in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel made them for this process just now.
                files.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
            }
        }
        (message.bytes == 12).then_some(files)
    }

    /// What was set last for `queue`.
    pub fn last(&self, code: Code, queue: u32) -> &Message {
        &self.set[&(u32::from(code), queue)]
    }

    /// What was said once, of no queue.
    pub fn said(&self, code: Code) -> &Message {
        self.set.iter().find(|((known, _), _)| *known == u32::from(code)).unwrap().1
    }

    /// How often queue 0 was kicked since this was last asked.
    pub fn kicks(&self) -> u64 {
        let kick = &self.last(Code::SET_VRING_KICK, 0).files[0];
        let mut count = [0; 8];
        match File::from(kick.try_clone().unwrap()).read(&mut count) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }

    /// Says that requests of queue 0 were returned.
    pub fn call(&self) {
        let call = self.last(Code::SET_VRING_CALL, 0).files[0].try_clone().unwrap();
        File::from(call).write_all(&1_u64.to_ne_bytes()).unwrap();
    }
}
