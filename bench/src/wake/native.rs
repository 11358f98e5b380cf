//! The native server: sleeps in epoll, and answers bytes with times as the guest does.

use super::ticks;
use anyhow::{Context, Result};
use epoll::{ControlOptions, Event, Events};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::Command;

/// This program as the native server.
pub(super) fn command() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.arg("native-sleeper");
    Ok(command)
}

/// Serves one client after the other at a port of the kernel's choice, which is announced on standard
/// output; for good.
pub(crate) fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    println!("{{\"host\":\"{}\"}}", listener.local_addr().context("cannot listen")?);
    loop {
        let (mut stream, _) = listener.accept().context("cannot accept")?;
        stream.set_nodelay(true).context("cannot set up a connection")?;
        let epoll = epoll::create(true).context("cannot make an epoll")?;
        let (add, readable) = (ControlOptions::EPOLL_CTL_ADD, Event::new(Events::EPOLLIN, 0));
        epoll::ctl(epoll, add, stream.as_raw_fd(), readable).context("cannot watch a socket")?;
        let mut events = [Event::new(Events::empty(), 0)];
        let mut bytes = [0; 64];
        loop {
            epoll::wait(epoll, -1, &mut events).context("cannot wait")?;
            let ran = ticks::now();
            let Ok(count @ 1..) = stream.read(&mut bytes) else { break };
            for _ in 0..count {
                let answer = [ran.to_le_bytes(), ticks::now().to_le_bytes()].concat();
                if stream.write_all(&answer).is_err() {
                    break;
                }
            }
        }
        epoll::close(epoll).context("cannot close an epoll")?;
    }
}
