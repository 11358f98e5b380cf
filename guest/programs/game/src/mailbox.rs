//! Between the server, which knows datagrams, and the socket, which has to be awaited.

use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use denali_game::{DATAGRAM_MAX, Outbox, Peer, Server};
use ilwaco::clock::Instant;
use ilwaco::net::{Error, IpAddress, IpEndpoint, UdpSocket};
use ilwaco::{stop, time};

/// Datagrams, and bytes of them, that the socket keeps in each direction: a tick's worth of 64 clients.
const DATAGRAMS: usize = 128;
const BYTES: usize = 96 * 1024;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A datagram came.
    Datagram,
    /// The moment that was waited for has come.
    Due,
    /// The guest is to stop.
    Stop,
}

/// The socket, and what is to be sent through it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    socket: UdpSocket,
    outgoing: Outgoing,
    /// The datagram that came last: one byte more than any that is valid, so that longer ones are seen.
    buffer: [u8; DATAGRAM_MAX + 1],
    len: usize,
    from: Option<Peer>,
}

/// Datagrams that wait to be sent: where to, and where each ends in the bytes.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    ends: Vec<(Peer, usize)>,
}

impl Outbox for Outgoing {
    fn send(&mut self, to: Peer, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push((to, self.bytes.len()));
    }
}

impl Mailbox {
    pub(crate) fn open(port: u16) -> Result<Self, Error> {
        Ok(Self {
            socket: UdpSocket::bind_with_room(port, DATAGRAMS, BYTES)?,
            outgoing: Outgoing::default(),
            buffer: [0; DATAGRAM_MAX + 1],
            len: 0,
            from: None,
        })
    }

    /// What takes datagrams for [`Mailbox::send`].
    pub(crate) fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// Waits until something happens; what is due comes before what came.
    pub(crate) async fn next(&mut self, due_ns: Option<u64>) -> Event {
        let (len, from) = {
            let mut stop = pin!(stop::requested());
            let mut due = due_ns.map(|ns| time::sleep_until(Instant::from_ns(ns)));
            let mut received = pin!(self.socket.receive_from(&mut self.buffer));
            let next = poll_fn(|context| {
                if stop.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(Event::Stop));
                }
                if let Some(due) = &mut due
                    && Pin::new(due).poll(context).is_ready()
                {
                    return Poll::Ready(Err(Event::Due));
                }
                received.as_mut().poll(context).map(Ok)
            });
            match next.await {
                Ok(datagram) => datagram,
                Err(event) => return event,
            }
        };
        self.note(len, from);
        Event::Datagram
    }

    /// Gives the datagram that came to the server.
    pub(crate) fn give_to(&mut self, server: &mut Server) {
        let Some(from) = self.from else { return };
        let now_ns = Instant::now().as_ns();
        server.receive(now_ns, from, &self.buffer[..self.len], &mut self.outgoing);
    }

    /// Gives everything to the server that has come and waits; not more than can wait at once.
    pub(crate) fn give_all_to(&mut self, server: &mut Server) {
        for _ in 0..DATAGRAMS {
            let Some((len, from)) = self.receive_waiting() else { return };
            self.note(len, from);
            self.give_to(server);
        }
    }

    /// Sends what waits.
    pub(crate) async fn send(&mut self) {
        let mut start = 0;
        for (to, end) in self.outgoing.ends.drain(..) {
            let to = IpEndpoint::new(IpAddress::Ipv4(to.address.into()), to.port);
            // One that cannot be sent is lost, as any datagram may be.
            let _ = self.socket.send_to(&self.outgoing.bytes[start..end], to).await;
            start = end;
        }
        self.outgoing.bytes.clear();
    }

    /// The next datagram, if one has come.
    fn receive_waiting(&mut self) -> Option<(usize, IpEndpoint)> {
        let received = pin!(self.socket.receive_from(&mut self.buffer));
        match received.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(datagram) => Some(datagram),
            Poll::Pending => None,
        }
    }

    fn note(&mut self, len: usize, from: IpEndpoint) {
        self.len = len;
        self.from = match from.addr {
            IpAddress::Ipv4(address) => Some(Peer { address: address.octets(), port: from.port }),
            IpAddress::Ipv6(_) => None,
        };
    }
}
