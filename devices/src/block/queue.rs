//! The queue processor: moves requests between a queue and a back end, no more than that.

use super::Wake;
use super::backend::{BlockBackend, Failed, RequestId};
use super::gather::{Gather, HOLD_MAX_NS};
use super::metrics::BlockMetrics;
use super::request::{Kind, Request, Terms, Verdict, parse};
use crate::rate::RateLimiter;
use crate::virtio::{Chain, DeviceQueue, Direction, HostSlice, Progress, QueueError};
use denali_abi::virtio::{BLOCK_STATUS_IOERR, BLOCK_STATUS_OK};
use std::collections::VecDeque;
use vm_memory::{Bytes, GuestMemory};

/// Most chains taken in one service: a full ring.
const CHAINS_MAX: usize = super::QUEUE_SIZE as usize;

/// What the device has on the host's side.
#[derive(Debug)]
pub struct Host<'a, B: ?Sized> {
    /// Does the work.
    pub backend: &'a mut B,
    /// Has the guest wait.
    pub limiter: &'a mut RateLimiter,
    /// Counts.
    pub metrics: &'a mut BlockMetrics,
}

/// Moves requests, and remembers those in flight, by the heads of their chains.
#[derive(Debug, Default)]
pub struct Processor {
    chain: Chain,
    slices: Vec<HostSlice>,
    /// What is in flight, by head: no chain is completed twice, and none is in flight twice.
    requests: Vec<Option<Request>>,
    in_flight: u32,
    /// What the back end has completed and the driver was not told of: in flight, for the driver.
    done: VecDeque<(RequestId, Result<(), Failed>)>,
    /// One request is returned in a service, and told of at once.
    singly: bool,
    gather: Gather,
    held_since: Option<u64>,
}

impl Processor {
    /// One with nothing in flight, which returns requests one at a time if it is to.
    #[must_use]
    pub fn new(singly: bool) -> Self {
        Self { singly, ..Self::default() }
    }

    /// Whether completed requests are returned one at a time.
    pub fn return_singly(&mut self, singly: bool) {
        self.singly = singly;
    }

    /// Returns what the back end has completed, and takes what the guest has. Any number of requests
    /// is in flight afterwards, at most as many as the queue has entries.
    ///
    /// # Errors
    /// When the queue is malformed. What is in flight then completes unseen: see
    /// [`Processor::abandon`].
    pub fn service<M: GuestMemory, B: BlockBackend + ?Sized>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        terms: &Terms,
        host: &mut Host<'_, B>,
        now_ns: u64,
    ) -> Result<Progress, QueueError> {
        if !queue.ready() {
            return Ok(Progress::default());
        }
        self.requests.resize(usize::from(queue.size()), None);
        if self.in_flight == 0 {
            self.gather.begin(now_ns);
        }
        let taken = self.take(queue, memory, terms, host, now_ns);
        // Whatever was submitted before a broken chain runs to its end.
        host.backend.start();
        let (more, answered) = taken?;
        let most = if self.singly { 1 } else { u32::MAX };
        let returned = answered + self.reap(queue, memory, host, most)?;
        let interrupt = self.tell(queue, memory, host.metrics, returned, now_ns)?;
        let working = self.in_flight.saturating_sub(self.done.len() as u32);
        if working > 0 {
            let gathered = self.gather.wake(working, now_ns);
            host.backend.wake(if self.singly { Wake::AtNext } else { gathered });
        }
        let more = more || !self.done.is_empty();
        Ok(Progress { interrupt, more, ..Progress::default() })
    }

    /// Takes chains and submits them; whether there are more, and how many were answered at once.
    fn take<M: GuestMemory, B: BlockBackend + ?Sized>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        terms: &Terms,
        host: &mut Host<'_, B>,
        now_ns: u64,
    ) -> Result<(bool, u32), QueueError> {
        let mut answered = 0;
        for _ in 0..CHAINS_MAX {
            if !queue.take(memory, Direction::Mixed, &mut self.chain)? {
                return Ok((queue.ask_for_notification(memory)?, answered));
            }
            let head = self.chain.head();
            if self.requests.get(usize::from(head)).is_none_or(Option::is_some) {
                return Err(QueueError::HeadInUse);
            }
            let (request, verdict) = parse(&self.chain, memory, terms)?;
            match verdict {
                Verdict::Submit(..) if !host.limiter.consume(request.bytes, now_ns) => {
                    // The guest need not notify: it is served when its time has come.
                    queue.put_back();
                    host.metrics.throttled += 1;
                    return Ok((false, answered));
                }
                Verdict::Submit(operation, part, bytes) => {
                    self.slices.clear();
                    self.chain.host_slices(memory, part, bytes, &mut self.slices)?;
                    self.requests[usize::from(head)] = Some(request);
                    self.in_flight += 1;
                    // SAFETY: the slices are of guest memory and go the right way, as the walk of the
                    // chain has checked. Guest memory stays mapped as long as the device is served
                    // with it: whoever takes it away drains the device first. The guest may change it
                    // meanwhile. No request in flight has this head.
                    unsafe { host.backend.submit(head, operation, &self.slices) };
                }
                Verdict::Answer(status) => {
                    host.metrics.refused += u64::from(status != BLOCK_STATUS_OK);
                    finish(queue, memory, head, &request, status)?;
                    answered += 1;
                }
            }
        }
        Ok((queue.has_available(memory)?, answered))
    }

    /// Returns what the back end has completed, and takes nothing. The caller tells the driver.
    pub(super) fn settle<M: GuestMemory, B: BlockBackend + ?Sized>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        host: &mut Host<'_, B>,
    ) -> Result<(), QueueError> {
        self.reap(queue, memory, host, u32::MAX)?;
        self.held_since = None;
        self.gather.told();
        if self.in_flight > 0 {
            host.backend.wake(Wake::AtNext);
        }
        Ok(())
    }

    /// Returns the chains of completed requests, so many at most; how many.
    fn reap<M: GuestMemory, B: BlockBackend + ?Sized>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        host: &mut Host<'_, B>,
        most: u32,
    ) -> Result<u32, QueueError> {
        if self.in_flight == 0 {
            return Ok(0);
        }
        let done = &mut self.done;
        host.backend.completed(&mut |head, result| done.push_back((head, result)));
        let mut returned = 0;
        while returned < most
            && let Some((head, result)) = self.done.pop_front()
        {
            let Some(request) = remove(&mut self.requests, &mut self.in_flight, head) else {
                continue;
            };
            count(host.metrics, &request, result);
            let status = if result.is_ok() { BLOCK_STATUS_OK } else { BLOCK_STATUS_IOERR };
            finish(queue, memory, head, &request, status)?;
            returned += 1;
        }
        Ok(returned)
    }

    /// Whether the driver is to be interrupted now that so many more requests were returned.
    fn tell<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        metrics: &mut BlockMetrics,
        returned: u32,
        now_ns: u64,
    ) -> Result<bool, QueueError> {
        if self.singly {
            return if returned > 0 { queue.wants_interrupt(memory) } else { Ok(false) };
        }
        self.gather.completed(returned, now_ns);
        if self.gather.due(self.in_flight, now_ns) {
            self.held_since = None;
            return queue.wants_interrupt(memory);
        }
        if self.gather.holds() && self.held_since.is_none() {
            self.held_since = Some(now_ns);
            metrics.held += 1;
        }
        Ok(false)
    }

    /// Lets what is in flight complete where there is no queue to return it to.
    pub fn abandon<B: BlockBackend + ?Sized>(&mut self, backend: &mut B) {
        self.held_since = None;
        for (head, _) in self.done.drain(..) {
            remove(&mut self.requests, &mut self.in_flight, head);
        }
        if self.in_flight > 0 {
            let (requests, in_flight) = (&mut self.requests, &mut self.in_flight);
            backend.start();
            backend.completed(&mut |head, _| {
                remove(requests, in_flight, head);
            });
        }
        if self.in_flight > 0 {
            backend.wake(Wake::AtNext);
        }
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// When the driver must be told of completions at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.held_since.map(|since| since + HOLD_MAX_NS)
    }
}

fn remove(
    requests: &mut [Option<Request>],
    in_flight: &mut u32,
    head: RequestId,
) -> Option<Request> {
    let request = requests.get_mut(usize::from(head))?.take()?;
    *in_flight -= 1;
    Some(request)
}

/// Returns a request to the driver: data, then status, then the used element.
fn finish<M: GuestMemory>(
    queue: &mut DeviceQueue,
    memory: &M,
    head: u16,
    request: &Request,
    status: u8,
) -> Result<(), QueueError> {
    if let Some(address) = request.status {
        memory.write_obj(status, address).map_err(|_| QueueError::OutOfRange)?;
    }
    // The length promises bytes from the first writable one on: of a request that failed, no data.
    let complete = status == BLOCK_STATUS_OK || request.writable == 1;
    queue.give_back(memory, head, if complete { request.writable } else { 0 })
}

fn count(metrics: &mut BlockMetrics, request: &Request, result: Result<(), Failed>) {
    if result.is_err() {
        metrics.errors += 1;
        return;
    }
    let counter = match request.kind {
        Kind::Read => {
            metrics.read_bytes += request.bytes;
            &mut metrics.reads
        }
        Kind::Write => {
            metrics.write_bytes += request.bytes;
            &mut metrics.writes
        }
        Kind::Flush => &mut metrics.flushes,
        Kind::Discard => &mut metrics.discards,
        Kind::WriteZeroes => &mut metrics.write_zeroes,
        Kind::Other => return,
    };
    *counter += 1;
}
