//! How pieces get done: by io_uring, or by plain system calls.

use crate::files::Files;
use crate::piece::Action;
use crate::plain::Plain;
use crate::ring::Ring;
use denali_devices::block::Wake;
use denali_devices::virtio::HostSlice;
use std::os::fd::RawFd;

/// One call to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// Comes back with the result.
    pub(crate) token: u32,
    pub(crate) file: usize,
    pub(crate) action: Action,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Memory of reads and writes. The list itself stays where it is until the call has begun.
    pub(crate) slices: &'a [HostSlice],
}

/// What makes the calls.
pub(crate) enum Engine {
    Ring(Box<Ring>),
    Plain(Plain),
}

impl Engine {
    /// Accepts a call; false when there is no room for it before the next [`Engine::start`].
    ///
    /// # Safety
    /// The memory stays mapped, writable for a read, until the call's result was taken; the list of
    /// slices stays until [`Engine::start`] has begun the call.
    pub(crate) unsafe fn push(&mut self, call: Call<'_>) -> bool {
        match self {
            // SAFETY: passed on unchanged.
            Self::Ring(ring) => unsafe { ring.push(call) },
            Self::Plain(plain) => {
                // SAFETY: passed on unchanged.
                unsafe { plain.make(call) };
                true
            }
        }
    }

    /// Begins what was accepted; true when all of it has begun.
    pub(crate) fn start(&mut self) -> bool {
        match self {
            Self::Ring(ring) => ring.start(),
            Self::Plain(_) => true,
        }
    }

    /// The next result: token, and bytes or negative error number.
    pub(crate) fn next(&mut self) -> Option<(u32, i32)> {
        match self {
            Self::Ring(ring) => ring.next(),
            Self::Plain(plain) => plain.next(),
        }
    }

    /// Waits for results for at most a moment.
    pub(crate) fn wait(&mut self) {
        if let Self::Ring(ring) = self {
            ring.wait();
        }
    }

    pub(crate) fn wake(&mut self, when: Option<Wake>) {
        if let Self::Ring(ring) = self {
            ring.wake(when);
        }
    }

    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Ring(ring) => Some(ring.descriptor()),
            Self::Plain(_) => None,
        }
    }

    /// System calls made so far.
    pub(crate) fn files(&self) -> &Files {
        match self {
            Self::Ring(ring) => ring.files(),
            Self::Plain(plain) => plain.files(),
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        match self {
            Self::Ring(ring) => ring.calls(),
            Self::Plain(plain) => plain.calls(),
        }
    }
}
