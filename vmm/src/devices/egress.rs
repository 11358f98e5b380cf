//! The broker as the one who opens connections for a gateway.

use denali_broker::{Answer, Client, Failure, Protocol, Received, Unsent};
use denali_usernet::{self as usernet, Opener, Outcome, Untaken};
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A channel to the broker with the rights of one network device.
pub(super) struct Egress {
    client: Client,
    /// Nobody is at the other end any more, and that was told.
    gone: bool,
}

impl Egress {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { client: Client::new(socket), gone: false }
    }
}

impl Opener for Egress {
    fn connect(
        &mut self,
        id: u32,
        protocol: usernet::Protocol,
        to: SocketAddrV4,
    ) -> Result<(), Untaken> {
        let protocol = match protocol {
            usernet::Protocol::Tcp => Protocol::Tcp,
            usernet::Protocol::Udp => Protocol::Udp,
        };
        self.client.connect(id, protocol, to).map_err(untaken)
    }

    fn resolve(&mut self, id: u32, question: &[u8]) -> Result<(), Untaken> {
        self.client.resolve(id, question).map_err(untaken)
    }

    fn next(&mut self) -> Option<Outcome<'_>> {
        if self.gone {
            return None;
        }
        match self.client.receive() {
            Received::Answer(Answer::Connected { id, socket }) => {
                Some(Outcome::Connected { id, socket })
            }
            Received::Answer(Answer::Failed { id, why }) => {
                Some(Outcome::Failed { id, why: failure(why) })
            }
            Received::Answer(Answer::Resolved { id, message }) => {
                Some(Outcome::Resolved { id, message })
            }
            Received::Nothing => None,
            Received::Gone => {
                self.gone = true;
                Some(Outcome::Gone)
            }
        }
    }

    fn as_raw_fd(&self) -> RawFd {
        self.client.as_raw_fd()
    }
}

fn untaken(unsent: Unsent) -> Untaken {
    match unsent {
        Unsent::Later => Untaken::Later,
        Unsent::Never => Untaken::Never,
    }
}

fn failure(why: Failure) -> usernet::Failure {
    match why {
        Failure::Denied => usernet::Failure::Denied,
        Failure::Refused | Failure::TimedOut | Failure::Unreachable => {
            usernet::Failure::Unreachable
        }
        Failure::Busy => usernet::Failure::Busy,
    }
}
