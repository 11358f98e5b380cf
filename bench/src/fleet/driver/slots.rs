//! Connections, by number. A number is not used again for what was asked with it before.

use super::Target;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt,
};
use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::time::Duration;

/// A connection.
#[derive(Debug)]
pub(super) struct Slot {
    /// `None`: there is none at the moment.
    pub(super) stream: Option<TcpStream>,
    pub(super) target: u32,
    /// When its request was due, from the start of the load on.
    pub(super) due: Duration,
    /// Bytes of the request that were sent; `None` = nothing is asked on it, and it waits to be used again.
    pub(super) sent: Option<usize>,
    /// It was used before.
    pub(super) is_used: bool,
    pub(super) answer: Vec<u8>,
    /// Counts what it was used for.
    generation: u32,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
    /// Connections that wait to be used again, by target, the last one last.
    resting: HashMap<u32, Vec<u32>>,
    resting_count: usize,
}

impl Slots {
    /// The number of a slot, and of what it is used for.
    pub(super) fn number(&self, place: u32) -> u64 {
        u64::from(self.all[place as usize].generation) << 32 | u64::from(place)
    }

    /// The slot with this number, if it is still used for the same.
    pub(super) fn place(&self, number: u64) -> Option<u32> {
        let place = number as u32;
        let slot = self.all.get(place as usize)?;
        (slot.stream.is_some() && u64::from(slot.generation) == number >> 32).then_some(place)
    }

    pub(super) fn get(&mut self, place: u32) -> &mut Slot {
        &mut self.all[place as usize]
    }

    /// Takes a slot for a new connection.
    pub(super) fn open(&mut self, stream: TcpStream, target: u32, due: Duration) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.all.push(Slot {
                stream: None,
                target: 0,
                due: Duration::ZERO,
                sent: None,
                is_used: false,
                answer: Vec::new(),
                generation: 0,
            });
            self.all.len() as u32 - 1
        });
        let slot = self.get(place);
        (slot.stream, slot.target, slot.due) = (Some(stream), target, due);
        (slot.sent, slot.is_used) = (Some(0), false);
        place
    }

    /// Gives a slot back, and closes its connection.
    pub(super) fn close(&mut self, place: u32) {
        self.wake(place);
        let slot = self.get(place);
        slot.stream = None;
        slot.answer.clear();
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(place);
    }

    /// Has a connection wait to be used again.
    pub(super) fn rest(&mut self, place: u32) {
        let slot = self.get(place);
        (slot.sent, slot.is_used) = (None, true);
        slot.answer.clear();
        let target = slot.target;
        self.resting.entry(target).or_default().push(place);
        self.resting_count += 1;
    }

    /// Uses a connection again that waits for that, if there is one to this target.
    pub(super) fn reuse(&mut self, target: u32, due: Duration) -> Option<u32> {
        let place = *self.resting.get(&target)?.last()?;
        self.wake(place);
        let slot = self.get(place);
        (slot.due, slot.sent) = (due, Some(0));
        Some(place)
    }

    /// Any connection that waits to be used again.
    pub(super) fn any_resting(&self) -> Option<u32> {
        self.resting.values().find_map(|places| places.last().copied())
    }

    /// Connections that wait to be used again.
    pub(super) fn resting(&self) -> usize {
        self.resting_count
    }

    fn wake(&mut self, place: u32) {
        let target = self.all[place as usize].target;
        let Some(places) = self.resting.get_mut(&target) else { return };
        let before = places.len();
        places.retain(|&it| it != place);
        self.resting_count -= before - places.len();
        if places.is_empty() {
            self.resting.remove(&target);
        }
    }
}

/// Begins a connection, which goes away without a trace when it is closed: with a reset, if the other side has not ended it.
/// All of the answer is there by then or has been given up, so that nothing is lost; and no port waits a minute
/// (TIME_WAIT) until it can be used again.
pub(super) fn begin(target: &Target) -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&socket, sockopt::Linger, &linger)?;
    let stream = TcpStream::from(socket);
    match connect(std::os::fd::AsRawFd::as_raw_fd(&stream), &SockaddrIn::from(target.address)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(stream),
        Err(error) => Err(error.into()),
    }
}
