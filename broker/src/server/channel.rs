//! One channel: requests that may come, answers that wait to be taken, and how many of each.

use super::names::Names;
use super::sys;
use crate::message::{Failure, MESSAGE_MAX, Reply};
use crate::spec::Service;
use epoll::Events;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Requests that may be sent at once after a pause.
const BURST: u64 = 1024;

/// Time in which one more request may be sent, in ns: 2,000 a second.
const INTERVAL_NS: u64 = 500_000;

/// The broker's end of a channel.
pub struct Channel {
    pub socket: OwnedFd,
    pub service: Service,
    /// What names were found to mean for this guest.
    pub names: Names,
    /// Requests that are being worked on.
    pub in_flight: usize,
    /// What the channel's socket is watched for.
    pub watched: Events,
    answers: VecDeque<Waiting>,
    /// The moment up to which requests are used up; behind now by a burst at most.
    used_until_ns: u64,
}

/// An answer that was not taken yet.
struct Waiting {
    id: u32,
    bytes: Vec<u8>,
    socket: Option<OwnedFd>,
}

/// The other end is closed, or behaves as no monitor does.
pub struct Closed;

impl Channel {
    pub fn new(socket: OwnedFd, service: Service) -> Self {
        Self {
            socket,
            service,
            names: Names::default(),
            in_flight: 0,
            watched: Events::EPOLLIN,
            answers: VecDeque::new(),
            used_until_ns: 0,
        }
    }

    /// Whether requests are read: not while answers wait, and not faster than is allowed.
    pub fn may_read(&self, now_ns: u64) -> bool {
        self.answers.is_empty() && self.used_until_ns <= now_ns
    }

    /// Whether answers wait for the monitor to take them.
    pub fn is_behind(&self) -> bool {
        !self.answers.is_empty()
    }

    /// When the channel is to be watched for requests again, while it is not for their number alone.
    pub fn read_again_at(&self) -> Option<u64> {
        let resting = !self.watched.contains(Events::EPOLLIN) && !self.is_behind();
        resting.then_some(self.used_until_ns)
    }

    /// Reads a request, if one has come.
    pub fn receive<'b>(
        &mut self,
        buffer: &'b mut [u8; MESSAGE_MAX],
        now_ns: u64,
    ) -> Result<Option<&'b [u8]>, Closed> {
        match sys::receive(&self.socket, buffer) {
            Ok(0) => Err(Closed),
            Ok(length) => {
                let burst_ago = now_ns.saturating_sub(BURST * INTERVAL_NS);
                self.used_until_ns = self.used_until_ns.max(burst_ago) + INTERVAL_NS;
                Ok(Some(&buffer[..length]))
            }
            Err(Errno::EAGAIN) => Ok(None),
            Err(_) => Err(Closed),
        }
    }

    /// Answers request `id`, at once or when the monitor takes it.
    pub fn answer(
        &mut self,
        id: u32,
        reply: &Reply<'_>,
        socket: Option<OwnedFd>,
    ) -> Result<(), Closed> {
        let mut buffer = [0; MESSAGE_MAX];
        let length = reply.encode(id, &mut buffer);
        self.answers.push_back(Waiting { id, bytes: buffer[..length].to_vec(), socket });
        self.flush()
    }

    /// Sends the answers that wait, as many as are taken.
    pub fn flush(&mut self) -> Result<(), Closed> {
        while let Some(waiting) = self.answers.front_mut() {
            match sys::send(&self.socket, &waiting.bytes, waiting.socket.as_ref()) {
                Ok(()) => {
                    self.answers.pop_front();
                }
                Err(Errno::EAGAIN) => return Ok(()),
                // Too many descriptors are on their way to processes of this user.
                Err(Errno::ETOOMANYREFS | Errno::ENOBUFS) if waiting.socket.is_some() => {
                    let mut buffer = [0; MESSAGE_MAX];
                    let length = Reply::Failed(Failure::Busy).encode(waiting.id, &mut buffer);
                    waiting.bytes = buffer[..length].to_vec();
                    waiting.socket = None;
                }
                Err(_) => return Err(Closed),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::path::PathBuf;

    fn pair() -> (Channel, OwnedFd) {
        let kind = SockType::SeqPacket;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
        (Channel::new(theirs, Service::Socket { path: PathBuf::new() }), ours)
    }

    #[test]
    fn requests_are_read_at_a_bounded_rate() {
        let (mut channel, monitor) = pair();
        let mut buffer = [0; MESSAGE_MAX];
        let second = 1_000_000_000;
        let mut read = |channel: &mut Channel, now_ns| {
            let mut count = 0;
            while channel.may_read(now_ns) {
                sys::send(&monitor, b"request", None).unwrap();
                assert!(matches!(channel.receive(&mut buffer, now_ns), Ok(Some(b"request"))));
                count += 1;
            }
            count
        };
        assert_eq!(read(&mut channel, 100 * second), BURST + 1);
        assert_eq!(read(&mut channel, 100 * second), 0);
        channel.watched = Events::empty();
        assert_eq!(channel.read_again_at(), Some(100 * second + INTERVAL_NS));
        assert_eq!(read(&mut channel, 100 * second + 10 * INTERVAL_NS), 10);
        assert_eq!(read(&mut channel, 1000 * second), BURST + 1, "a pause adds a burst, not more");
    }

    #[test]
    fn answers_wait_for_a_monitor_that_does_not_take_them() {
        let (mut channel, monitor) = pair();
        let mut sent = 0;
        while !channel.is_behind() {
            assert!(channel.answer(sent, &Reply::Connected, None).is_ok());
            sent += 1;
        }
        assert!(!channel.may_read(0), "nothing more is asked until they are taken");
        let mut buffer = [0; MESSAGE_MAX];
        for id in 0..sent {
            let length = sys::receive(&monitor, &mut buffer).unwrap();
            assert_eq!(Reply::decode(&buffer[..length]), Some((id, Reply::Connected)));
            assert!(channel.flush().is_ok());
        }
        assert!(channel.may_read(0));
        drop(monitor);
        assert!(channel.answer(0, &Reply::Connected, None).is_err());
    }
}
