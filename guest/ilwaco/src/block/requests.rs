//! Which requests the device has, and who waits for them.

use super::{Buffer, Error};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::{Context, Poll, Waker};
use denali_abi::virtio::{BLOCK_STATUS_OK, BLOCK_STATUS_UNSUPP};

/// One place for a request.
enum Place {
    Free,
    /// The device has it; nobody waits for it if there is no waker.
    Given {
        buffer: Option<Buffer>,
        waker: Option<Waker>,
    },
    /// The device is done with it.
    Done {
        buffer: Option<Buffer>,
        status: u8,
    },
}

/// All requests of one device. A buffer that the device has is kept here.
pub(super) struct Requests {
    places: Vec<Place>,
    /// Places without a request, used last in, first out, so that little memory is touched.
    free: Vec<u16>,
    /// Who waits for a place, by number.
    waiting: VecDeque<(u64, Waker)>,
    /// Places that were found for those who waited, and that they have not taken yet.
    found: Vec<(u64, u16)>,
    /// Numbers given to those who wait.
    waiters: u64,
}

impl Requests {
    /// Room for `count` requests.
    pub(super) fn new(count: usize) -> Self {
        let mut places = Vec::with_capacity(count);
        places.resize_with(count, || Place::Free);
        Self {
            places,
            free: (0..count as u16).rev().collect(),
            waiting: VecDeque::new(),
            found: Vec::new(),
            waiters: 0,
        }
    }

    /// A number for someone who may have to wait.
    pub(super) fn new_waiter(&mut self) -> u64 {
        self.waiters += 1;
        self.waiters
    }

    /// A place for `waiter`, or the task of `context` is woken when there is one: those who came first
    /// get theirs first.
    pub(super) fn poll_place(&mut self, waiter: u64, context: &Context<'_>) -> Poll<u16> {
        if let Some(index) = self.found.iter().position(|&(other, _)| other == waiter) {
            return Poll::Ready(self.found.swap_remove(index).1);
        }
        if let Some(id) = self.free.pop() {
            return Poll::Ready(id);
        }
        match self.waiting.iter_mut().find(|(other, _)| *other == waiter) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => self.waiting.push_back((waiter, context.waker().clone())),
        }
        Poll::Pending
    }

    /// `waiter` does not wait any more; the place found for it goes to the next one.
    pub(super) fn stop_waiting(&mut self, waiter: u64) {
        self.waiting.retain(|&(other, _)| other != waiter);
        if let Some(index) = self.found.iter().position(|&(other, _)| other == waiter) {
            let (_, id) = self.found.swap_remove(index);
            self.release(id);
        }
    }

    /// Keeps what belongs to a request that the device is given now.
    pub(super) fn given(&mut self, id: u16, buffer: Option<Buffer>) {
        self.places[usize::from(id)] = Place::Given { buffer, waker: None };
    }

    /// The device is done with a request. What it says of requests that it does not have is ignored.
    pub(super) fn done(&mut self, id: u16, status: u8) {
        let Some(place) = self.places.get_mut(usize::from(id)) else { return };
        if let Place::Given { buffer, waker } = place {
            let buffer = buffer.take();
            let waker = waker.take();
            *place = Place::Done { buffer, status };
            if let Some(waker) = waker {
                waker.wake();
            } else {
                self.release(id);
            }
        }
    }

    /// The result of a request, or the task of `context` is woken when there is one.
    pub(super) fn poll_done(
        &mut self,
        id: u16,
        context: &Context<'_>,
    ) -> Poll<Result<Option<Buffer>, Error>> {
        let place = &mut self.places[usize::from(id)];
        match place {
            Place::Given { waker, .. } => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Place::Done { buffer, status } => {
                let (buffer, status) = (buffer.take(), *status);
                self.release(id);
                Poll::Ready(match status {
                    BLOCK_STATUS_OK => Ok(buffer),
                    BLOCK_STATUS_UNSUPP => Err(Error::Unsupported),
                    _ => Err(Error::Failed),
                })
            }
            // A future is not polled again once it is ready.
            Place::Free => Poll::Ready(Err(Error::Failed)),
        }
    }

    /// Nobody waits for a request any more.
    pub(super) fn abandon(&mut self, id: u16) {
        match &mut self.places[usize::from(id)] {
            Place::Given { waker, .. } => *waker = None,
            Place::Done { .. } => self.release(id),
            Place::Free => {}
        }
    }

    /// Whether a place is not free.
    #[cfg(test)]
    pub(super) fn busy(&self) -> bool {
        self.free.len() < self.places.len()
    }

    fn release(&mut self, id: u16) {
        self.places[usize::from(id)] = Place::Free;
        match self.waiting.pop_front() {
            Some((waiter, waker)) => {
                self.found.push((waiter, id));
                waker.wake();
            }
            None => self.free.push(id),
        }
    }
}
