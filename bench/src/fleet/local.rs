//! Servers for nothing but the driver: as little as can answer it, at as many loopback addresses as are wanted.

use super::driver::Target;
use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
    sockopt,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Connections that may wait until they are accepted.
const BACKLOG: i32 = 4096;

/// How long a client may say nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// One thread that answers one request after the other, each on a connection of its own, at every loopback address; its page
/// shows the address at which it was asked.
#[derive(Debug)]
pub(super) struct Local {
    port: u16,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Local {
    pub(super) fn start() -> Result<Self> {
        let (kind, flags) = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
        let socket =
            socket(AddressFamily::Inet, kind, flags, None).context("cannot make a socket")?;
        setsockopt(&socket, sockopt::ReuseAddr, &true).context("cannot set up a socket")?;
        let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        bind(socket.as_raw_fd(), &any).context("cannot bind a socket")?;
        listen(&socket, Backlog::new(BACKLOG).context("a backlog")?).context("cannot listen")?;
        let listener = TcpListener::from(socket);
        let port = listener.local_addr().context("cannot tell a port")?.port();
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = thread::spawn(move || serve(&listener, &ended));
        Ok(Self { port, ends, thread: Some(thread) })
    }

    /// So many addresses of it, and what its pages show there.
    pub(super) fn targets(&self, count: u32) -> Vec<Target> {
        let address = |number: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number);
        let target = |number| Target {
            address: SocketAddrV4::new(address(number), self.port),
            shows: format!(">{}<", address(number)),
        };
        (0..count).map(target).collect()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        // So that it looks.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, ends: &AtomicBool) {
    let mut request = [0; 1024];
    while let Ok((mut stream, _)) = listener.accept() {
        if ends.load(Ordering::Acquire) {
            return;
        }
        // A client that goes away is no reason to stop.
        let _ = answer(&mut stream, &mut request);
    }
}

fn answer(stream: &mut TcpStream, request: &mut [u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let address = match stream.local_addr()? {
        SocketAddr::V4(address) => *address.ip(),
        SocketAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    if stream.read(request)? == 0 {
        return Ok(());
    }
    let body = format!("<p>This guest: <strong>{address}</strong></p>\n");
    let head =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes())
}
