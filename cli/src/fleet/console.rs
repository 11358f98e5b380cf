//! `denali console`: this terminal becomes the terminal of a guest of the supervisor.

use super::{connect, logs};
use crate::arguments::GuestArguments;
use crate::output::{Failure, say};
use denali_abi::status::HOST_LACKS;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io::{self, ErrorKind, IsTerminal, Read, Write, stdin, stdout};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What leaves: Ctrl-].
const LEAVE: u8 = 0x1d;

/// Bytes that are read at a time.
const BUFFER: usize = 4096;

/// Lines of its log that are shown of a guest without a console.
const TAIL: u64 = 20;

/// Connects to the guest's console; of one that has none, follows what it writes.
pub(crate) fn console(arguments: &GuestArguments) -> Result<(), Failure> {
    let name = &arguments.name;
    let client = connect(&arguments.supervisor)?;
    let Some(socket) = client.inspect(name)?.console else {
        say(&format!(
            "{name}: has no console device with a back end \"socket\": this is what it writes, and it reads nothing; \
             Ctrl-C leaves"
        ));
        return logs::copy(&client, name, Some(TAIL), true);
    };
    let stream = attach(Path::new(&socket), name)?;
    let raw = if stdin().is_terminal() { Some(Raw::new().map_err(terminal)?) } else { None };
    if raw.is_some() {
        say(&format!("this is the console of {name}; Ctrl-] leaves\r"));
    }
    let ended = talk(stream).map_err(|error| {
        Failure::new(HOST_LACKS, format!("{name}: the connection to its console failed: {error}"))
    });
    drop(raw);
    match ended? {
        End::Left => say("left the console; the guest goes on"),
        End::Gone => say("the console has hung up: its guest has ended, or was parked"),
    }
    Ok(())
}

fn attach(socket: &Path, name: &str) -> Result<UnixStream, Failure> {
    let stream = UnixStream::connect(socket).and_then(|stream| {
        stream.set_nonblocking(true)?;
        Ok(stream)
    });
    stream.map_err(|error| {
        let text = format!("{name}: its console {} cannot be used: {error}", socket.display());
        Failure::new(HOST_LACKS, text)
    })
}

fn terminal(errno: Errno) -> Failure {
    Failure::new(HOST_LACKS, format!("this terminal cannot be used: {}", errno.desc()))
}

/// A terminal whose every key goes to the guest, until this is dropped.
struct Raw {
    before: Termios,
}

impl Raw {
    fn new() -> Result<Self, Errno> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nothing to be done about a terminal that has gone.
        let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The user left.
    Left,
    /// The other side did.
    Gone,
}

/// Input that waits for the guest to read it.
#[derive(Default)]
struct Input {
    waiting: Vec<u8>,
    /// Whether there is no more.
    ended: bool,
}

/// Carries bytes both ways until one side leaves. The end of input is passed on, and its output still shown.
fn talk(mut stream: UnixStream) -> io::Result<End> {
    let mut input = Input::default();
    loop {
        let (keys, guest) = wait(&stream, &input)?;
        if guest.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR)
            && !show(&mut stream)?
        {
            return Ok(End::Gone);
        }
        if !keys.is_empty() && !read_keys(&mut input)? {
            // What was typed before is the guest's, as far as it takes it.
            send(&mut stream, &mut input)?;
            return Ok(End::Left);
        }
        if !input.waiting.is_empty() && !send(&mut stream, &mut input)? {
            return Ok(End::Gone);
        }
        if input.ended && input.waiting.is_empty() {
            // A guest that has gone meanwhile is seen when it is read from.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

/// Waits until there is something to do: what standard input and the console are ready for.
fn wait(stream: &UnixStream, input: &Input) -> io::Result<(PollFlags, PollFlags)> {
    let of_guest = match input.waiting.is_empty() {
        true => PollFlags::POLLIN,
        false => PollFlags::POLLIN | PollFlags::POLLOUT,
    };
    let keys = stdin();
    let mut waited = vec![PollFd::new(stream.as_fd(), of_guest)];
    // What the guest does not read is not taken: the next key waits in the terminal.
    if !input.ended && input.waiting.is_empty() {
        waited.push(PollFd::new(keys.as_fd(), PollFlags::POLLIN));
    }
    loop {
        match poll(&mut waited, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => break,
        }
    }
    let ready =
        |index: usize| waited.get(index).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
    Ok((ready(1), ready(0)))
}

/// Shows what the guest has written; whether it is still there.
fn show(stream: &mut UnixStream) -> io::Result<bool> {
    let mut buffer = [0; BUFFER];
    match stream.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(count) => {
            let mut out = stdout().lock();
            out.write_all(&buffer[..count])?;
            out.flush()?;
            Ok(true)
        }
        Err(error) if is_temporary(&error) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes what was typed; whether the user stays.
fn read_keys(input: &mut Input) -> io::Result<bool> {
    let mut buffer = [0; BUFFER];
    // Not through the standard library's buffer, whose content no poll tells of.
    let count = match nix::unistd::read(stdin(), &mut buffer) {
        Ok(count) => count,
        Err(Errno::EINTR | Errno::EAGAIN) => return Ok(true),
        // A terminal that has gone types nothing more.
        Err(Errno::EIO) => 0,
        Err(errno) => return Err(errno.into()),
    };
    input.ended = count == 0;
    let leaves = buffer[..count].iter().position(|&key| key == LEAVE);
    let leaves = leaves.filter(|_| stdin().is_terminal());
    input.waiting.extend_from_slice(&buffer[..leaves.unwrap_or(count)]);
    Ok(leaves.is_none())
}

/// Sends what waits, as far as it is taken; whether the guest is still there.
fn send(stream: &mut UnixStream, input: &mut Input) -> io::Result<bool> {
    if input.waiting.is_empty() {
        return Ok(true);
    }
    match stream.write(&input.waiting) {
        Ok(count) => {
            input.waiting.drain(..count);
            Ok(true)
        }
        Err(error) if is_temporary(&error) => Ok(true),
        Err(error)
            if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
