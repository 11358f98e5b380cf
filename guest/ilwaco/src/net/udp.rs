//! UDP datagrams, to be awaited.

use super::{Error, IpEndpoint, stack};
use crate::memory;
use core::future::poll_fn;
use core::task::Poll;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, SendError, Socket};

/// Datagrams that wait, in each direction.
const DATAGRAMS: usize = 16;
/// Bytes of datagrams that wait, in each direction.
const BYTES: usize = 16 * 1024;
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
        stack::with(|stack| {
            if !memory::has_room(RESERVE + 2 * BYTES) {
                return Err(Error::OutOfMemory);
            }
            let buffer = || {
                PacketBuffer::new(
                    alloc::vec![PacketMetadata::EMPTY; DATAGRAMS],
                    alloc::vec![0; BYTES],
                )
            };
            let mut socket = Socket::new(buffer(), buffer());
            socket.bind(port).map_err(|_| Error::BadPort)?;
            Ok(Self { handle: stack.sockets.add(socket) })
        })?
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
    /// [`Error::BadDatagram`] if it is larger than 16 KiB or cannot be sent to `remote`.
    pub async fn send_to(&self, bytes: &[u8], remote: impl Into<IpEndpoint>) -> Result<(), Error> {
        let remote = remote.into();
        if bytes.len() > BYTES {
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
