//! A userfaultfd: whoever touches a missing page of registered memory waits until it is filled.

pub(crate) mod abi;
#[cfg(test)]
mod tests;

use crate::pages::HostPages;
use denali_swap::{PAGE, PageNumber};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Times that a call is made again which the kernel did not begin, because memory was changing.
const STALLS_MAX: u32 = 1000;

/// Most faults that are taken at once.
pub(crate) const FAULTS: usize = 16;

/// A userfaultfd of this process. When it is closed, registered memory is ordinary memory again, and
/// whoever waits goes on: what is missing then reads as zeroes.
#[derive(Debug)]
pub struct Uffd {
    descriptor: OwnedFd,
    features: u64,
}

/// Somebody waits for a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Address of the page.
    pub address: u64,
    /// It is to be written.
    pub write: bool,
    /// The thread that waits.
    pub thread: u32,
}

/// How far pages were moved, and what came in the way.
#[derive(Debug)]
pub(crate) struct Moved {
    /// Bytes from the start on that were moved.
    pub bytes: u64,
    /// Why not all of them: the page behind them.
    pub error: Option<io::Error>,
}

impl Uffd {
    /// Makes one of an open `/dev/userfaultfd`, for the memory of this process: faults in system calls
    /// and in guests are told too, whatever the process may do otherwise.
    ///
    /// # Errors
    /// When the host has no room, or its userfaultfd is of another version.
    pub fn from_device(device: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: the descriptor is open; the argument is a number.
        let made = unsafe { libc::ioctl(device.as_raw_fd(), abi::NEW, flags) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just made this descriptor, and nobody else knows of it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(made) };
        let mut uffd = Self { descriptor, features: 0 };
        let features = abi::FEATURE_THREAD;
        let mut api = abi::Api { version: abi::VERSION, features, ioctls: 0 };
        // SAFETY: the structure is the one that the request takes.
        unsafe { uffd.call(abi::API, &mut api)? };
        uffd.features = api.features;
        Ok(uffd)
    }

    /// Whether pages can be moved out of memory and back, which paging needs (Linux 6.8).
    #[must_use]
    pub fn has_move(&self) -> bool {
        self.features & abi::FEATURE_MOVE != 0
    }

    /// From here on whoever touches a missing page of the range waits. What is there stays.
    ///
    /// # Safety
    /// The range is private anonymous memory of this process, to which no Rust reference exists, and
    /// stays mapped until it is unregistered or `self` is closed.
    ///
    /// # Errors
    /// When it is not such memory, or the host has no room.
    pub(crate) unsafe fn register(&self, start: u64, length: u64) -> io::Result<()> {
        let range = abi::Range { start, length };
        let mut register = abi::Register { range, mode: abi::MODE_MISSING, ioctls: 0 };
        // SAFETY: the structure is the one that the request takes; the range is the caller's.
        unsafe { self.call(abi::REGISTER, &mut register) }
    }

    /// Missing pages of the range are zeroes from here on, as in all memory; whoever waits goes on.
    ///
    /// # Errors
    /// When the host has no room.
    pub(crate) fn unregister(&self, start: u64, length: u64) -> io::Result<()> {
        // SAFETY: the structure is the one that the request takes.
        unsafe { self.call(abi::UNREGISTER, &mut abi::Range { start, length }) }
    }

    /// Memory that a pager was stopped with is ordinary again: missing pages of the ranges are zeroes from
    /// here on, so that their owner can fill them. Ranges that are not registered stay as they are.
    pub fn let_go(&self, pages: &HostPages, ranges: &[Range<PageNumber>]) {
        for range in ranges {
            if let Some(start) = pages.address_of(range.start) {
                let length = u64::from(range.end.0.saturating_sub(range.start.0)) * PAGE as u64;
                // What is not registered need not be let go.
                let _ = self.unregister(start, length);
            }
        }
    }

    /// Whoever waits for a page of the range looks again.
    ///
    /// # Errors
    /// When the range is not one of pages.
    pub(crate) fn wake(&self, start: u64, length: u64) -> io::Result<()> {
        // SAFETY: the structure is the one that the request takes.
        unsafe { self.call(abi::WAKE, &mut abi::Range { start, length }) }
    }

    /// Fills missing pages and wakes whoever waits for them. Pages that are there stay as they are.
    /// Only registered memory is ever filled.
    ///
    /// # Errors
    /// When a page is not registered, or the host is out of memory.
    pub(crate) fn copy(&self, to: u64, pages: &[u8]) -> io::Result<()> {
        self.fill(to, pages.len() as u64, |done, left| {
            let from = pages[done as usize..].as_ptr() as u64;
            let mut copy = abi::Transfer { to: to + done, from, length: left, mode: 0, done: 0 };
            // SAFETY: the structure is the one that the request takes; the source is `left` bytes.
            let result = unsafe { self.call(abi::COPY, &mut copy) };
            (result, copy.done)
        })
    }

    /// The same with zeroes, which take no memory before they are written.
    ///
    /// # Errors
    /// As [`Uffd::copy`].
    pub(crate) fn zero(&self, start: u64, length: u64) -> io::Result<()> {
        self.fill(start, length, |done, left| {
            let range = abi::Range { start: start + done, length: left };
            let mut zero = abi::Zero { range, mode: 0, done: 0 };
            // SAFETY: the structure is the one that the request takes.
            let result = unsafe { self.call(abi::ZEROPAGE, &mut zero) };
            (result, zero.done)
        })
    }

    /// Repeats `call` with what is done and what is left, until nothing is, past pages that are there. What
    /// cannot be filled together, for it lies in several mappings, is filled page by page.
    fn fill(
        &self,
        start: u64,
        length: u64,
        call: impl Fn(u64, u64) -> (io::Result<()>, i64),
    ) -> io::Result<()> {
        let (mut done, mut stalls, mut alone) = (0, 0, false);
        while done < length {
            let step = if alone { PAGE as u64 } else { length - done };
            let (result, progress) = call(done, step);
            let Err(error) = result else {
                done += step;
                continue;
            };
            match error.raw_os_error() {
                Some(libc::ENOENT) if step > PAGE as u64 => alone = true,
                Some(libc::EAGAIN) if progress > 0 => {
                    done += progress as u64;
                    stalls = 0;
                }
                Some(libc::EAGAIN) => stalled(&mut stalls, error)?,
                Some(libc::EEXIST) => {
                    self.wake(start + done, PAGE as u64)?;
                    done += PAGE as u64;
                }
                _ => return Err(error),
            }
        }
        Ok(())
    }

    /// Moves pages, which are missing afterwards where they were, to where they are missing, and wakes
    /// whoever waits for them there. It stops at the first page that cannot be moved: one that is pinned
    /// for input or output (`EBUSY`), that is missing (`ENOENT`), or whose place is taken (`EEXIST`).
    ///
    /// # Safety
    /// Both ranges are private anonymous memory of this process, to which no Rust reference exists.
    pub(crate) unsafe fn move_pages(&self, to: u64, from: u64, length: u64) -> Moved {
        let (mut bytes, mut stalls, mut alone) = (0, 0, false);
        while bytes < length {
            let step = if alone { PAGE as u64 } else { length - bytes };
            let (to, from) = (to + bytes, from + bytes);
            let mut moved = abi::Transfer { to, from, length: step, mode: 0, done: 0 };
            // SAFETY: the structure is the one that the request takes; the ranges are the caller's.
            let Err(error) = (unsafe { self.call(abi::MOVE, &mut moved) }) else {
                bytes += step;
                continue;
            };
            let again = error.raw_os_error() == Some(libc::EAGAIN);
            let several = matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT));
            if several && step > PAGE as u64 {
                // The ranges may lie in several mappings each.
                alone = true;
            } else if again && moved.done > 0 {
                bytes += moved.done as u64;
                stalls = 0;
            } else if !again {
                return Moved { bytes, error: Some(error) };
            } else if let Err(error) = stalled(&mut stalls, error) {
                return Moved { bytes, error: Some(error) };
            }
        }
        Moved { bytes, error: None }
    }

    /// Takes faults that nobody has taken; gives how many.
    ///
    /// # Errors
    /// When the descriptor cannot be read; that there are none is no error.
    pub(crate) fn faults(&self, into: &mut [Fault; FAULTS]) -> io::Result<usize> {
        let mut messages = [abi::Message::default(); FAULTS];
        let size = size_of_val(&messages);
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: the buffer is writable for its size, and any bytes are valid messages.
        let read = unsafe { libc::read(descriptor, messages.as_mut_ptr().cast(), size) };
        if read < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        }
        let told = &messages[..read as usize / size_of::<abi::Message>()];
        let faults = told.iter().filter(|message| message.event == abi::EVENT_FAULT);
        let mut count = 0;
        for (fault, message) in into.iter_mut().zip(faults) {
            let address = message.address & !(PAGE as u64 - 1);
            let (write, thread) = (message.flags & abi::FLAG_WRITE != 0, message.thread);
            *fault = Fault { address, write, thread };
            count += 1;
        }
        Ok(count)
    }

    /// # Safety
    /// `argument` is what `request` takes, and what it asks for may be done.
    unsafe fn call<T>(&self, request: u64, argument: &mut T) -> io::Result<()> {
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: the descriptor is open; the rest is the caller's.
        let result = unsafe { libc::ioctl(descriptor, request, std::ptr::from_mut(argument)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Lets others go on changing memory, a bounded number of times.
fn stalled(stalls: &mut u32, error: io::Error) -> io::Result<()> {
    *stalls += 1;
    if *stalls > STALLS_MAX {
        return Err(error);
    }
    std::thread::yield_now();
    Ok(())
}
