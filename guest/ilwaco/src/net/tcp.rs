//! TCP connections, to be awaited.

use super::stack::{self, Listener, Purpose, Stack};
use super::{Error, IpEndpoint};
use crate::entropy;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, Socket, State};

/// Ports from which connections are made.
const EPHEMERAL: core::ops::Range<u16> = 49152..65535;

/// A port on which connections are accepted.
#[derive(Debug)]
pub struct TcpListener {
    port: u16,
}

impl TcpListener {
    /// Listens on a port of this guest.
    ///
    /// # Errors
    /// [`Error::NoDevice`], [`Error::BadPort`] if it is 0 or taken, [`Error::OutOfMemory`].
    pub fn bind(port: u16) -> Result<Self, Error> {
        Self::bind_for(port, Purpose::Any)
    }

    /// Listens for connections that carry as much as they can: each has large buffers (up to 2 MiB
    /// each way, a 32nd of the memory), which take memory as far as they are filled.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn bind_for_bulk(port: u16) -> Result<Self, Error> {
        Self::bind_for(port, Purpose::Bulk)
    }

    fn bind_for(port: u16, purpose: Purpose) -> Result<Self, Error> {
        stack::with(|stack| {
            let taken = stack.listeners.iter().any(|listener| listener.port == port);
            if port == 0 || taken {
                return Err(Error::BadPort);
            }
            stack.listeners.push(Listener { port, purpose, sockets: Vec::new(), waker: None });
            stack.replenish_listeners();
            if stack.listeners.iter().any(|this| this.port == port && this.sockets.is_empty()) {
                stack.stop_listening(port);
                return Err(Error::OutOfMemory);
            }
            Ok(())
        })??;
        Ok(Self { port })
    }

    /// The next connection.
    pub async fn accept(&self) -> TcpStream {
        poll_fn(|context| stack::running(|stack| poll_accept(stack, self.port, context.waker())))
            .await
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        stack::running(|stack| stack.stop_listening(self.port));
    }
}

/// Whether a socket that listened has a connection to be accepted.
fn is_connected(socket: &Socket<'_>) -> bool {
    matches!(socket.state(), State::Established | State::CloseWait)
}

fn poll_accept(stack: &mut Stack, port: u16, waker: &Waker) -> Poll<TcpStream> {
    let Stack { listeners, sockets, .. } = stack;
    let Some(listener) = listeners.iter_mut().find(|listener| listener.port == port) else {
        return Poll::Pending;
    };
    let connected =
        listener.sockets.iter().position(|&handle| is_connected(sockets.get::<Socket<'_>>(handle)));
    if let Some(position) = connected {
        let handle = listener.sockets.swap_remove(position);
        let socket = sockets.get_mut::<Socket<'_>>(handle);
        socket.set_timeout(None);
        stack.replenish_listeners();
        return Poll::Ready(TcpStream { handle });
    }
    for &handle in &listener.sockets {
        sockets.get_mut::<Socket<'_>>(handle).register_recv_waker(waker);
    }
    listener.waker = Some(waker.clone());
    Poll::Pending
}

/// A TCP connection. Dropping it closes it in good order; what was written is still sent.
#[derive(Debug)]
pub struct TcpStream {
    handle: SocketHandle,
}

impl TcpStream {
    /// Connects to another machine.
    ///
    /// # Errors
    /// [`Error::NoDevice`], [`Error::NoAddress`], [`Error::OutOfMemory`], and [`Error::Reset`] if
    /// the connection was refused.
    pub async fn connect(remote: impl Into<IpEndpoint>) -> Result<Self, Error> {
        let remote = remote.into();
        let stream = stack::with(|stack| start_connecting(stack, remote))??;
        poll_fn(|context| {
            stream.with(|socket| match socket.state() {
                State::SynSent | State::SynReceived => {
                    socket.register_recv_waker(context.waker());
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
                State::Closed => Poll::Ready(Err(Error::Reset)),
                _ => Poll::Ready(Ok(())),
            })
        })
        .await?;
        Ok(stream)
    }

    fn with<R>(&self, use_it: impl FnOnce(&mut Socket<'static>) -> R) -> R {
        stack::running(|stack| use_it(stack.sockets.get_mut::<Socket<'_>>(self.handle)))
    }

    /// Reads what has arrived, at least one byte, into `buffer`. 0 = the other side has finished.
    ///
    /// # Errors
    /// [`Error::Reset`] if the connection broke.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.read_with(|bytes| {
            let len = bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&bytes[..len]);
            (len, len)
        })
        .await
    }

    /// Waits until something has arrived and shows it to `look`, without copying it; `look` returns
    /// how many bytes it has taken, and a result. At the end of the stream it sees no bytes.
    /// `look` must not use the network.
    ///
    /// # Errors
    /// [`Error::Reset`] if the connection broke.
    pub async fn read_with<R>(
        &mut self,
        look: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Result<R, Error> {
        let mut look = Some(look);
        poll_fn(|context| {
            self.with(|socket| {
                let ready = ready_to_read(socket, context);
                ready.map(|ready| match (ready, look.take()) {
                    (Ok(()), Some(look)) => show(socket, look),
                    (Err(error), _) => Err(error),
                    // A future is not polled again once it is ready.
                    (Ok(()), None) => Err(Error::Closed),
                })
            })
        })
        .await
    }

    /// Writes as much of `bytes` as there is room for, at least one, and returns how much.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection is closed or broken.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        if bytes.is_empty() {
            return Ok(0);
        }
        poll_fn(|context| {
            self.with(|socket| {
                if !socket.may_send() {
                    return Poll::Ready(Err(Error::Closed));
                }
                if !socket.can_send() {
                    socket.register_send_waker(context.waker());
                    return Poll::Pending;
                }
                Poll::Ready(socket.send_slice(bytes).map_err(|_| Error::Closed))
            })
        })
        .await
    }

    /// Waits until there is room and lets `fill` write into it, without a copy; `fill` returns how many
    /// bytes of the room are to be sent, from its start on, and a result. What it does not write there is
    /// what earlier data left. `fill` must not use the network.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection is closed or broken.
    pub async fn write_with<R>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Result<R, Error> {
        let mut fill = Some(fill);
        poll_fn(|context| {
            self.with(|socket| {
                if !socket.may_send() {
                    return Poll::Ready(Err(Error::Closed));
                }
                if !socket.can_send() {
                    socket.register_send_waker(context.waker());
                    return Poll::Pending;
                }
                // A future is not polled again once it is ready.
                let fill = fill.take().ok_or(Error::Closed)?;
                Poll::Ready(socket.send(fill).map_err(|_| Error::Closed))
            })
        })
        .await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection is closed or broken.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Says that nothing more will be written; reading goes on.
    pub fn finish(&mut self) {
        self.with(Socket::close);
    }

    /// Breaks the connection off: the other side sees a reset.
    pub fn abort(self) {
        self.with(Socket::abort);
    }

    /// The other side, while the connection exists.
    #[must_use]
    pub fn peer(&self) -> Option<IpEndpoint> {
        self.with(|socket| socket.remote_endpoint())
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        stack::running(|stack| stack.adopt(self.handle));
    }
}

/// Ready when there are bytes, or there will never be more.
fn ready_to_read(socket: &mut Socket<'_>, context: &Context<'_>) -> Poll<Result<(), Error>> {
    if socket.can_recv() {
        return Poll::Ready(Ok(()));
    }
    match socket.recv(|_| (0, ())) {
        Ok(()) => {
            socket.register_recv_waker(context.waker());
            Poll::Pending
        }
        Err(RecvError::Finished) => Poll::Ready(Ok(())),
        Err(RecvError::InvalidState) => Poll::Ready(Err(Error::Reset)),
    }
}

fn show<R>(socket: &mut Socket<'_>, look: impl FnOnce(&[u8]) -> (usize, R)) -> Result<R, Error> {
    if socket.can_recv() {
        socket.recv(|bytes| look(bytes)).map_err(|_| Error::Reset)
    } else {
        Ok(look(&[]).1)
    }
}

fn start_connecting(stack: &mut Stack, remote: IpEndpoint) -> Result<TcpStream, Error> {
    if stack.address().is_none() {
        return Err(Error::NoAddress);
    }
    let port = free_port(stack).ok_or(Error::OutOfMemory)?;
    let socket = stack.tcp_socket(Purpose::Any)?;
    let handle = stack.sockets.add(socket);
    let Stack { interface, sockets, .. } = stack;
    let socket = sockets.get_mut::<Socket<'_>>(handle);
    match socket.connect(interface.context(), remote, port) {
        Ok(()) => Ok(TcpStream { handle }),
        Err(_) => {
            stack.adopt(handle);
            Err(Error::NoAddress)
        }
    }
}

/// A port that no connection uses, chosen at random.
fn free_port(stack: &Stack) -> Option<u16> {
    let count = u64::from(EPHEMERAL.end - EPHEMERAL.start);
    let first = (entropy::next_u64() % count) as u16;
    let used = |port| {
        stack.sockets.iter().any(|(_, socket)| match socket {
            smoltcp::socket::Socket::Tcp(socket) => {
                socket.local_endpoint().is_some_and(|local| local.port == port)
            }
            // Of whatever kind: which there are, others decide who build with the same smoltcp.
            _ => false,
        })
    };
    (0..64)
        .map(|step| EPHEMERAL.start + (first + step) % (EPHEMERAL.end - EPHEMERAL.start))
        .find(|&port| !used(port))
}
