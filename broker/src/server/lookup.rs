//! A question about a name that is on its way to a name server.

use super::dns::{Asked, Found, MESSAGE_MAX};
use super::sys;
use nix::errno::Errno;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// How long a name server has for its answer, in ns.
const PATIENCE_NS: u64 = 2_000_000_000;

/// Times that name servers are asked, in turn, before there is no answer.
const ATTEMPTS: usize = 4;

/// A question, and the socket on which its answer comes.
pub struct Lookup {
    asked: Asked,
    attempts: usize,
    /// Identification of the question that was sent last.
    id: u16,
    pub socket: OwnedFd,
    /// When the next name server is asked.
    pub deadline_ns: u64,
}

/// What a name server's answer comes to.
pub enum Progress {
    /// The answer, and what it says.
    Answered(Vec<u8>, Found),
    /// None yet.
    Waiting,
    /// This name server does not answer.
    Failed,
}

impl Lookup {
    /// Asks the first name server that can be asked.
    pub fn start(asked: Asked, servers: &[SocketAddr], now_ns: u64) -> Option<Self> {
        Self::ask(asked, 0, servers, now_ns)
    }

    /// Asks the next one, on a socket of its own.
    pub fn next(self, servers: &[SocketAddr], now_ns: u64) -> Option<Self> {
        Self::ask(self.asked, self.attempts, servers, now_ns)
    }

    /// What is asked.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    fn ask(asked: Asked, from: usize, servers: &[SocketAddr], now_ns: u64) -> Option<Self> {
        for attempt in from..ATTEMPTS {
            let server = servers.get(attempt % servers.len().max(1))?;
            let id = random_id()?;
            let message = asked.forwarded(id)?;
            let Ok(socket) = sys::connect_resolver(*server) else { continue };
            if sys::send(&socket, &message, None).is_err() {
                continue;
            }
            let (attempts, deadline_ns) = (attempt + 1, now_ns + PATIENCE_NS);
            return Some(Self { asked, attempts, id, socket, deadline_ns });
        }
        None
    }

    /// Takes what the name server sent. What does not answer the question is passed over: anybody who
    /// guesses the port can send it.
    pub fn receive(&self) -> Progress {
        const DATAGRAMS_MAX: usize = 16;
        let mut buffer = [0; MESSAGE_MAX + 1];
        for _ in 0..DATAGRAMS_MAX {
            match sys::receive(&self.socket, &mut buffer) {
                Ok(length) => {
                    let message = &mut buffer[..length];
                    if let Some(found) = self.asked.take_answer(self.id, message) {
                        return Progress::Answered(message.to_vec(), found);
                    }
                }
                Err(Errno::EAGAIN) => return Progress::Waiting,
                Err(_) => return Progress::Failed,
            }
        }
        Progress::Waiting
    }
}

/// A number that nobody can guess.
fn random_id() -> Option<u16> {
    let mut bytes = [0_u8; 2];
    // SAFETY: the buffer is writable for the two bytes asked for.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    (got == 2).then_some(u16::from_ne_bytes(bytes))
}
