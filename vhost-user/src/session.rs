//! What a back end is told about the queues of a running device, and how they are stopped.

use crate::channel::{Channel, Reply};
use crate::error::Failure;
use crate::handshake::{PROTOCOL_FEATURES, number};
use crate::memory::{MemoryRegion, host_address};
use crate::message::{Request, parse};
use crate::poller::{Poller, Source};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};
use vhost::vhost_user::message::{
    FrontendReq, VhostUserInflight, VhostUserMemory, VhostUserMemoryRegion, VhostUserU64,
    VhostUserVringAddr, VhostUserVringAddrFlags, VhostUserVringState,
};
use vm_memory::ByteValued;

/// A queue as a back end is told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueuePlan {
    /// Its number.
    pub index: usize,
    /// Entries.
    pub size: u16,
    /// Guest addresses of descriptor table, available ring and used ring.
    pub addresses: [u64; 3],
    /// Index in the available ring from which the back end starts.
    pub base: u16,
}

/// Memory in which a back end keeps a record of the requests it has in flight. The front end only
/// keeps the file for the next back end; it never looks into it.
#[derive(Debug)]
pub(crate) struct Inflight {
    description: Vec<u8>,
    file: OwnedFd,
    /// A back end has worked with it.
    pub used: bool,
}

impl Inflight {
    /// The request for such memory.
    pub(crate) fn request(queues: usize, size: u16) -> Request {
        let body = [&[0; 16][..], &(queues as u16).to_ne_bytes(), &size.to_ne_bytes(), &[0; 4]];
        Request::new(FrontendReq::GET_INFLIGHT_FD, &body)
    }

    /// The memory that a reply brings.
    pub(crate) fn of(reply: Reply) -> Result<Self, Failure> {
        let description = parse::<VhostUserInflight>(&reply.body);
        match (description, reply.file) {
            (Some(inflight), Some(file)) if inflight.mmap_size > 0 => {
                Ok(Self { description: reply.body, file, used: false })
            }
            _ => Err(Failure::Protocol("no memory for requests in flight")),
        }
    }
}

/// The eventfds of one queue, watched as long as it lives: the back end has them too, so that closing
/// them here would not end that.
#[derive(Debug)]
pub(crate) struct Wire {
    kick: EventFd,
    call: EventFd,
    poller: Rc<Poller>,
}

impl Wire {
    /// Fresh ones, kicked already: what was available before is then looked at.
    fn new(poller: &Rc<Poller>) -> Result<Self, Failure> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let make = |value| EventFd::from_value_and_flags(value, flags).map_err(Failure::Host);
        let wire = Self { kick: make(1)?, call: make(0)?, poller: Rc::clone(poller) };
        poller.watch(Source::Call, wire.call.as_fd())?;
        Ok(wire)
    }

    /// Tells the back end to look at the queue. A counter that is full, or a write that a signal cut
    /// short, means that it has yet to see an earlier kick.
    pub(crate) fn kick(&self) {
        let _ = self.kick.write(1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.poller.forget(self.call.as_fd());
    }
}

/// Sends requests in order, each with a demand for its acknowledgement if the back end gives those.
pub(crate) struct Teller<'a> {
    /// The connection.
    pub channel: &'a mut Channel,
    /// The back end says whether it obeyed.
    pub acknowledges: bool,
}

impl Teller<'_> {
    fn tell(&mut self, request: Request, files: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        if self.acknowledges {
            self.channel.ask(&request.acknowledged(), files)
        } else {
            self.channel.send(&request, files)
        }
    }

    /// Tells of features, memory and queues, and starts them; one wire for each queue.
    pub(crate) fn start(
        &mut self,
        features: u64,
        regions: &[MemoryRegion],
        inflight: Option<&Inflight>,
        queues: &[QueuePlan],
        poller: &Rc<Poller>,
    ) -> Result<Vec<Wire>, Failure> {
        let features = VhostUserU64::new(features | PROTOCOL_FEATURES);
        self.tell(Request::with(FrontendReq::SET_FEATURES, &features), &[])?;
        self.memory(regions)?;
        if let Some(inflight) = inflight {
            let request = Request::new(FrontendReq::SET_INFLIGHT_FD, &[&inflight.description]);
            self.tell(request, &[inflight.file.as_fd()])?;
        }
        queues.iter().map(|queue| self.queue(queue, regions, poller)).collect()
    }

    fn memory(&mut self, regions: &[MemoryRegion]) -> Result<(), Failure> {
        let count = VhostUserMemory::new(regions.len() as u32);
        let table: Vec<VhostUserMemoryRegion> = regions
            .iter()
            .map(|region| {
                let MemoryRegion { guest_address, size, host_address, offset, .. } = *region;
                VhostUserMemoryRegion::new(guest_address, size, host_address, offset)
            })
            .collect();
        let mut body = vec![count.as_slice()];
        body.extend(table.iter().map(ByteValued::as_slice));
        let files: Vec<_> = regions.iter().map(|region| region.file.as_fd()).collect();
        self.tell(Request::new(FrontendReq::SET_MEM_TABLE, &body), &files)
    }

    fn queue(
        &mut self,
        queue: &QueuePlan,
        regions: &[MemoryRegion],
        poller: &Rc<Poller>,
    ) -> Result<Wire, Failure> {
        let index = queue.index as u32;
        let state = |number: u16| VhostUserVringState::new(index, number.into());
        self.tell(Request::with(FrontendReq::SET_VRING_NUM, &state(queue.size)), &[])?;
        self.tell(Request::with(FrontendReq::SET_VRING_BASE, &state(queue.base)), &[])?;
        let host = |guest| host_address(regions, guest).ok_or(Failure::Lacks("the queue's memory"));
        let [descriptors, available, used] = queue.addresses;
        let flags = VhostUserVringAddrFlags::empty();
        let (descriptors, available, used) = (host(descriptors)?, host(available)?, host(used)?);
        let address = VhostUserVringAddr::new(index, flags, descriptors, used, available, 0);
        self.tell(Request::with(FrontendReq::SET_VRING_ADDR, &address), &[])?;
        let wire = Wire::new(poller)?;
        let number = VhostUserU64::new(u64::from(index));
        let call = Request::with(FrontendReq::SET_VRING_CALL, &number);
        self.tell(call, &[wire.call.as_fd()])?;
        let kick = Request::with(FrontendReq::SET_VRING_KICK, &number);
        self.tell(kick, &[wire.kick.as_fd()])?;
        self.tell(Request::with(FrontendReq::SET_VRING_ENABLE, &state(1)), &[])?;
        Ok(wire)
    }
}

/// Takes the acknowledgements that are here.
///
/// # Errors
/// When the back end refused something, is gone, or says what it was not asked.
pub(crate) fn take_acknowledgements(channel: &mut Channel) -> Result<(), Failure> {
    while let Some(reply) = channel.receive()? {
        check(&reply)?;
    }
    Ok(())
}

fn check(reply: &Reply) -> Result<(), Failure> {
    if reply.code == FrontendReq::GET_VRING_BASE || number(reply)? == 0 {
        return Ok(());
    }
    Err(Failure::Refused(match reply.code {
        FrontendReq::SET_MEM_TABLE => "the guest's memory (SET_MEM_TABLE)",
        FrontendReq::SET_FEATURES => "the driver's features (SET_FEATURES)",
        FrontendReq::SET_INFLIGHT_FD => "the record of requests in flight (SET_INFLIGHT_FD)",
        FrontendReq::SET_VRING_KICK | FrontendReq::SET_VRING_CALL => "a queue's eventfd",
        _ => "a queue",
    }))
}

/// Stops queues, so that the back end touches them no more, and waits until it says so, at most
/// `patience` in all.
///
/// # Errors
/// When it does not say so, is gone, or says something else.
pub(crate) fn stop(
    channel: &mut Channel,
    queues: impl Iterator<Item = usize>,
    patience: Duration,
) -> Result<(), Failure> {
    for queue in queues {
        let state = VhostUserVringState::new(queue as u32, 0);
        channel.ask(&Request::with(FrontendReq::GET_VRING_BASE, &state), &[])?;
    }
    let until = Instant::now() + patience;
    while channel.is_waiting() {
        match channel.receive()? {
            Some(reply) => check(&reply)?,
            None if wait_readable(channel.as_fd(), until)? => {}
            None => return Err(Failure::Silent { request: "GET_VRING_BASE", waited: patience }),
        }
    }
    Ok(())
}

/// Waits until there is something to read; false when `until` has come before.
///
/// # Errors
/// When the host refuses.
pub(crate) fn wait_readable(descriptor: BorrowedFd<'_>, until: Instant) -> Result<bool, Failure> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    let milliseconds = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
    let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    let mut polled = [PollFd::new(descriptor, PollFlags::POLLIN)];
    match poll(&mut polled, timeout) {
        // A signal counts as progress: the caller looks again, and at the time.
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(true),
        Err(error) => Err(Failure::Host(error)),
    }
}
