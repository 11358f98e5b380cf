//! The one request that is answered here and not by the `vhost` crate: rings enabled before features are
//! agreed on.
//!
//! QEMU enables the rings of a network card as soon as the protocol's features are agreed on, before the
//! device's; the crate takes that for a mistake.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// Number of the request that enables or disables a ring.
const SET_VRING_ENABLE: u32 = 18;
/// Flags of a message: the protocol's version, this is a reply, a reply is wanted.
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;
/// Bytes of a message's header: request, flags, size of what follows, 32 bits each.
const HEADER: usize = 12;
/// Bytes of this request: the header, the ring's index and its new state, 32 bits each.
const REQUEST: usize = HEADER + 8;

/// A request to enable or disable a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enable {
    /// The ring's index.
    pub index: u32,
    /// Its new state.
    pub enable: bool,
    /// The front end waits for a reply.
    pub need_reply: bool,
}

/// Takes the next request if it is one to enable a ring, and leaves it alone otherwise.
///
/// # Errors
/// When the socket cannot be read.
pub fn take(socket: RawFd) -> io::Result<Option<Enable>> {
    let mut bytes = [0; REQUEST];
    if receive(socket, &mut bytes, libc::MSG_PEEK | libc::MSG_DONTWAIT)? < REQUEST {
        return Ok(None);
    }
    let Some(enable) = parse(&bytes) else { return Ok(None) };
    receive(socket, &mut bytes, libc::MSG_DONTWAIT)?;
    Ok(Some(enable))
}

/// Tells a front end that waits for it that its request was answered.
///
/// # Errors
/// When the socket cannot be written.
pub fn reply(socket: &impl AsRawFd, done: bool) -> io::Result<()> {
    let mut bytes = [0; HEADER + 8];
    for (at, value) in [(0, SET_VRING_ENABLE), (4, VERSION | REPLY), (8, 8), (12, u32::from(!done))]
    {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    let flags = libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads the bytes, which live during the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    if sent == bytes.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn parse(bytes: &[u8; REQUEST]) -> Option<Enable> {
    let word = |at: usize| bytes[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
    let (request, flags, size) = (word(0), word(4), word(8));
    let expected = request == SET_VRING_ENABLE && flags & !NEED_REPLY == VERSION && size == 8;
    let enable = match word(16) {
        0 => false,
        1 => true,
        _ => return None,
    };
    expected.then(|| Enable { index: word(12), enable, need_reply: flags & NEED_REPLY != 0 })
}

fn receive(socket: RawFd, into: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
    // SAFETY: the kernel writes into the bytes, which live during the call.
    let count = unsafe { libc::recv(socket, into.as_mut_ptr().cast(), into.len(), flags) };
    match usize::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn message(words: [u32; 5]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn only_this_request_is_taken() {
        let (mut front, back) = UnixStream::pair().unwrap();
        let socket = back.as_raw_fd();
        assert_eq!(take(socket).unwrap(), None);
        front.write_all(&message([18, 9, 8, 1, 1])).unwrap();
        let expected = Enable { index: 1, enable: true, need_reply: true };
        assert_eq!(take(socket).unwrap(), Some(expected));
        for other in [[2, 1, 8, 0, 0], [18, 1, 8, 0, 2], [18, 2, 8, 0, 1], [18, 1, 9, 0, 1]] {
            front.write_all(&message(other)).unwrap();
            assert_eq!(take(socket).unwrap(), None);
            let mut rest = [0; REQUEST];
            (&back).read_exact(&mut rest).unwrap();
            assert_eq!(rest.to_vec(), message(other));
        }
    }

    #[test]
    fn replies_say_whether_it_was_done() {
        let (mut front, back) = UnixStream::pair().unwrap();
        for (done, value) in [(true, 0), (false, 1)] {
            reply(&back, done).unwrap();
            let mut bytes = [0; REQUEST];
            front.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes.to_vec(), message([18, 5, 8, value, 0]));
        }
    }
}
