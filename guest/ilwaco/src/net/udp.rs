//! UDP datagrams, to be awaited.

use super::stack::{self, Stack};
use super::{Error, IpEndpoint};
use crate::{entropy, memory};
use core::future::poll_fn;
use core::task::Poll;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, SendError, Socket};

/// Datagrams that wait, in each direction.
const DATAGRAMS: usize = 16;
/// Bytes of datagrams that wait, in each direction.
const BYTES: usize = 16 * 1024;
/// First of the ports from which others are talked to.
const EPHEMERAL: u16 = 49_152;
/// Ports that are tried before all count as taken.
const ATTEMPTS: usize = 64;
/// Memory that stays free for programs when a socket is made.
const RESERVE: usize = 64 * 1024;

/// A port for datagrams.
#[derive(Debug)]
pub struct UdpSocket {
    handle: SocketHandle,
}

impl UdpSocket {
    /// Takes a port of this guest.
    ///
    /// # Errors
    /// [`Error::NoDevice`], [`Error::BadPort`] if it is 0, [`Error::OutOfMemory`].
    pub fn bind(port: u16) -> Result<Self, Error> {
        Self::bind_with_room(port, DATAGRAMS, BYTES)
    }

    /// Takes a port of this guest, for which up to `datagrams` of together `bytes` bytes wait in each
    /// direction; those that come when there is no room are lost.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn bind_with_room(port: u16, datagrams: usize, bytes: usize) -> Result<Self, Error> {
        stack::with(|stack| Self::add(stack, port, datagrams, bytes))?
    }

    /// Takes a port that nobody uses, chosen at random, to talk to others from.
    ///
    /// # Errors
    /// [`Error::NoDevice`], [`Error::OutOfMemory`].
    pub fn open() -> Result<Self, Error> {
        stack::with(|stack| {
            let random = || EPHEMERAL | entropy::next_u64() as u16;
            let free = (0..ATTEMPTS).map(|_| random()).find(|&port| !is_taken(stack, port));
            Self::add(stack, free.ok_or(Error::OutOfMemory)?, DATAGRAMS, BYTES)
        })?
    }

    fn add(stack: &mut Stack, port: u16, datagrams: usize, bytes: usize) -> Result<Self, Error> {
        if !memory::has_room(RESERVE.saturating_add(bytes.saturating_mul(2))) {
            return Err(Error::OutOfMemory);
        }
        let buffer = || {
            PacketBuffer::new(alloc::vec![PacketMetadata::EMPTY; datagrams], alloc::vec![0; bytes])
        };
        let mut socket = Socket::new(buffer(), buffer());
        socket.bind(port).map_err(|_| Error::BadPort)?;
        Ok(Self { handle: stack.sockets.add(socket) })
    }

    fn with<R>(&self, use_it: impl FnOnce(&mut Socket<'static>) -> R) -> R {
        stack::running(|stack| use_it(stack.sockets.get_mut::<Socket<'_>>(self.handle)))
    }

    /// Receives the next datagram into `buffer`, which cuts it if it is too small: its length there
    /// and where it came from.
    pub async fn receive_from(&self, buffer: &mut [u8]) -> (usize, IpEndpoint) {
        poll_fn(|context| {
            self.with(|socket| {
                if let Ok((bytes, metadata)) = socket.recv() {
                    let len = bytes.len().min(buffer.len());
                    buffer[..len].copy_from_slice(&bytes[..len]);
                    return Poll::Ready((len, metadata.endpoint));
                }
                socket.register_recv_waker(context.waker());
                Poll::Pending
            })
        })
        .await
    }

    /// Sends a datagram, when there is room for it.
    ///
    /// # Errors
    /// [`Error::BadDatagram`] if it is larger than all room there is, 16 KiB by default, or cannot be sent to
    /// `remote`.
    pub async fn send_to(&self, bytes: &[u8], remote: impl Into<IpEndpoint>) -> Result<(), Error> {
        let remote = remote.into();
        if bytes.len() > self.with(|socket| socket.payload_send_capacity()) {
            return Err(Error::BadDatagram);
        }
        poll_fn(|context| {
            self.with(|socket| match socket.send_slice(bytes, remote) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(SendError::BufferFull) => {
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
                Err(SendError::Unaddressable) => Poll::Ready(Err(Error::BadDatagram)),
            })
        })
        .await
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        stack::running(|stack| stack.sockets.remove(self.handle));
    }
}

/// Whether a socket for datagrams has this port.
fn is_taken(stack: &Stack, port: u16) -> bool {
    stack.sockets.iter().any(|(_, socket)| match socket {
        smoltcp::socket::Socket::Udp(socket) => socket.endpoint().port == port,
        _ => false,
    })
}
