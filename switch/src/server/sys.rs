//! The system calls of the switch that no crate wraps as it needs them: many messages at once, time, readiness.

use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Messages of one system call.
pub const BATCH: usize = 32;

/// Nanoseconds since the host started, sleep included.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is written during the call. It cannot fail: the clock is there.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Messages as they come: room for some, one behind the other.
#[derive(Debug)]
pub struct Batch {
    buffer: Box<[u8]>,
    room: usize,
    lengths: [usize; BATCH],
}

impl Batch {
    /// Room for [`BATCH`] messages of `room` bytes.
    pub fn new(room: usize) -> Self {
        Self { buffer: vec![0; room * BATCH].into(), room, lengths: [0; BATCH] }
    }

    /// A message.
    pub fn message(&mut self, index: usize) -> &mut [u8] {
        let start = index * self.room;
        &mut self.buffer[start..start + self.lengths[index]]
    }

    /// The first bytes of a message.
    pub fn part(&self, index: usize, length: usize) -> &[u8] {
        let start = index * self.room;
        &self.buffer[start..start + length.min(self.room)]
    }

    /// All the room for a message, which then counts as `length` bytes.
    pub fn room(&mut self, index: usize) -> &mut [u8] {
        let start = index * self.room;
        &mut self.buffer[start..start + self.room]
    }

    /// Says how long a message is.
    pub fn set_length(&mut self, index: usize, length: usize) {
        self.lengths[index] = length.min(self.room);
    }

    /// Receives messages, as many as there are and have room; how many. Of what has no room, the beginning. Descriptors
    /// that come along are closed by the kernel.
    pub fn receive(&mut self, from: impl AsFd) -> Result<usize, Errno> {
        // SAFETY: all bytes zero are a message without address, pieces and control data.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut pieces = [none; BATCH];
        for ((header, piece), room) in
            headers.iter_mut().zip(&mut pieces).zip(self.buffer.chunks_exact_mut(self.room))
        {
            *piece = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            header.msg_hdr.msg_iov = piece;
            header.msg_hdr.msg_iovlen = 1;
        }
        let (number, flags) = (from.as_fd().as_raw_fd(), libc::MSG_DONTWAIT);
        let count = loop {
            // SAFETY: each header names one piece, and each piece a part of the buffer; all live during the call.
            let result = unsafe {
                let (pointer, most) = (headers.as_mut_ptr(), BATCH as libc::c_uint);
                libc::recvmmsg(number, pointer, most, flags, std::ptr::null_mut())
            };
            match Errno::result(result) {
                Err(Errno::EINTR) => {}
                other => break other? as usize,
            }
        };
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(count) {
            *length = (header.msg_len as usize).min(self.room);
        }
        Ok(count)
    }
}

/// Sends messages, at most [`BATCH`], until one is not taken; how many were, and why not all. None is waited for.
pub fn send(to: impl AsFd, messages: &[&[u8]]) -> (usize, Option<Errno>) {
    // SAFETY: all bytes zero are a message without address, pieces and control data.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut pieces = [none; BATCH];
    for ((header, piece), message) in headers.iter_mut().zip(&mut pieces).zip(messages) {
        *piece =
            libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        header.msg_hdr.msg_iov = piece;
        header.msg_hdr.msg_iovlen = 1;
    }
    let most = messages.len().min(BATCH);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let number = to.as_fd().as_raw_fd();
    let mut sent = 0;
    while sent < most {
        // SAFETY: each header names one piece, and each piece a message, which is only read; all live during the
        // call, and there are so many from `sent` on.
        let result = unsafe {
            let pointer = headers.as_mut_ptr().add(sent);
            libc::sendmmsg(number, pointer, (most - sent) as libc::c_uint, flags)
        };
        match Errno::result(result) {
            Ok(count) => sent += count as usize,
            Err(Errno::EINTR) => {}
            Err(error) => return (sent, Some(error)),
        }
    }
    (sent, None)
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poller(OwnedFd);

impl Poller {
    pub fn new() -> io::Result<Self> {
        let made = epoll::create(true)?;
        // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(made) }))
    }

    /// Watches a descriptor; its events carry `token`.
    pub fn add(&self, fd: &impl AsRawFd, events: epoll::Events, token: u64) -> io::Result<()> {
        self.control(epoll::ControlOptions::EPOLL_CTL_ADD, fd, events, token)
    }

    /// Watches for other events.
    pub fn change(&self, fd: &impl AsRawFd, events: epoll::Events, token: u64) -> io::Result<()> {
        self.control(epoll::ControlOptions::EPOLL_CTL_MOD, fd, events, token)
    }

    /// Stops watching.
    pub fn remove(&self, fd: &impl AsRawFd) {
        // It can fail only if it is not watched, which is what is wanted.
        let none = epoll::Events::empty();
        let _ = self.control(epoll::ControlOptions::EPOLL_CTL_DEL, fd, none, 0);
    }

    fn control(
        &self,
        option: epoll::ControlOptions,
        fd: &impl AsRawFd,
        events: epoll::Events,
        token: u64,
    ) -> io::Result<()> {
        epoll::ctl(self.0.as_raw_fd(), option, fd.as_raw_fd(), epoll::Event::new(events, token))
    }

    /// Waits until something happens or `timeout` has passed.
    pub fn wait(
        &self,
        timeout: Option<Duration>,
        events: &mut [epoll::Event],
    ) -> io::Result<usize> {
        let limit = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        match epoll::wait(self.0.as_raw_fd(), limit, events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn many_messages_pass_until_there_is_no_room() {
        let (one, other) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .unwrap();
        let messages: Vec<Vec<u8>> = (0..BATCH as u8).map(|n| vec![n; 100]).collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let mut all = 0;
        loop {
            let (sent, error) = send(&one, &messages);
            all += sent;
            if let Some(error) = error {
                assert_eq!(error, Errno::EAGAIN);
                break;
            }
        }
        let mut batch = Batch::new(64);
        let mut received = 0;
        while let Ok(count) = batch.receive(&other) {
            for index in 0..count {
                let number = (received + index) % BATCH;
                assert_eq!(batch.message(index), [number as u8; 64], "cut, and in order");
            }
            received += count;
        }
        assert_eq!(received, all);
    }
}
