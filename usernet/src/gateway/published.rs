//! The gateway's published ports for datagrams.

use super::{Gateway, LISTENER};
use epoll::{ControlOptions, Events};
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Bits of epoll data that mark a published port for datagrams; the rest is its number.
pub(super) const PUBLISHED: u64 = LISTENER | 1 << 61;

impl Gateway {
    /// Publishes a bound socket as a port of the guest: whoever writes to it becomes a port of the
    /// gateway in the guest's eyes, and what the guest sends there goes back.
    ///
    /// # Errors
    /// When the port is 0, or the host refuses to watch the socket or a socket option.
    pub fn publish_datagrams(&mut self, socket: UdpSocket, guest_port: u16) -> io::Result<()> {
        if guest_port == 0 {
            let what = "a published guest port is 0, not 1 to 65535";
            return Err(io::Error::new(ErrorKind::InvalidInput, what));
        }
        let fd = socket.as_raw_fd();
        let number = self.published.add(socket, guest_port)?;
        let data = PUBLISHED | u64::from(number);
        self.control(ControlOptions::EPOLL_CTL_ADD, fd, Events::EPOLLIN, data)
    }

    /// Takes in what a published port has. When that is more than there is room for, the rest waits at
    /// the host, which drops what is too much, and wakes nobody.
    pub(super) fn take_datagrams(&mut self, number: u32) {
        let surroundings = (&self.config, &mut self.queue, &mut self.counters);
        self.published.receive(number, self.now_ns, surroundings);
        if !self.queue.has_room() && !self.published.paused {
            self.published.paused = true;
            self.watch_published(Events::empty());
        }
    }

    /// Watches the published ports again, when there is room.
    pub(super) fn resume_published(&mut self) {
        if self.published.paused && self.queue.has_room() {
            self.published.paused = false;
            self.watch_published(Events::EPOLLIN);
        }
    }

    fn watch_published(&self, on: Events) {
        for (number, fd) in self.published.sockets() {
            // It cannot fail: the socket is there and needs no more memory.
            let _ =
                self.control(ControlOptions::EPOLL_CTL_MOD, fd, on, PUBLISHED | u64::from(number));
        }
    }
}
