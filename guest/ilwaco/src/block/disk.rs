//! One block device: how it is started, and the way of a request through its queue.

use super::requests::Requests;
use super::{Buffer, Error, SECTOR};
use crate::idle;
use crate::preemption;
use crate::virtio::request_queue::{Data, ENTRIES, HEADER, Memory, RequestQueue};
use crate::virtio::{RegisterFile, start};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};
use denali_abi::virtio as abi;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
    GetId,
    Discard,
    WriteZeroes,
}

/// What the device is asked for, beside the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) sector: u64,
    /// Of a range that is discarded or zeroed.
    pub(super) sectors: u32,
    pub(super) unmap: bool,
}

impl Request {
    /// What the device reads first, and how many bytes of it there are.
    fn header(&self) -> ([u8; HEADER], usize) {
        let (code, range) = match self.kind {
            Kind::Read => (abi::BLOCK_REQUEST_IN, false),
            Kind::Write => (abi::BLOCK_REQUEST_OUT, false),
            Kind::Flush => (abi::BLOCK_REQUEST_FLUSH, false),
            Kind::GetId => (abi::BLOCK_REQUEST_GET_ID, false),
            Kind::Discard => (abi::BLOCK_REQUEST_DISCARD, true),
            Kind::WriteZeroes => (abi::BLOCK_REQUEST_WRITE_ZEROES, true),
        };
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&code.to_le_bytes());
        if !range {
            bytes[8..16].copy_from_slice(&self.sector.to_le_bytes());
            return (bytes, abi::BLOCK_HEADER);
        }
        let flags = if self.unmap { abi::BLOCK_RANGE_UNMAP } else { 0 };
        let at = abi::BLOCK_HEADER;
        bytes[at..at + 8].copy_from_slice(&self.sector.to_le_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&self.sectors.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&flags.to_le_bytes());
        (bytes, at + abi::BLOCK_RANGE)
    }
}

/// What the device can do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) sectors: u64,
    pub(super) block_size: u32,
    pub(super) read_only: bool,
    pub(super) flushes: bool,
    /// Most bytes of a read or write.
    pub(super) transfer_max: usize,
    /// Most sectors of a discard; 0 = none.
    pub(super) discard_max: u32,
    /// Most sectors of a write-zeroes; 0 = none.
    pub(super) zeroes_max: u32,
}

impl Limits {
    /// Most sectors of a range; 0 = the device does not offer it.
    pub(super) fn range_max(&self, kind: Kind) -> u32 {
        match kind {
            _ if self.read_only => 0,
            Kind::Discard => self.discard_max,
            _ => self.zeroes_max,
        }
    }
}

/// A device that was started; it stays so for the guest's life.
pub(super) struct Disk {
    number: u32,
    limits: Limits,
    state: RefCell<State>,
}

struct State {
    queue: RequestQueue,
    requests: Requests,
}

vcpu_local! {
    static DISKS: RefCell<Vec<&'static Disk>> = RefCell::new(Vec::new());
}

/// The block devices' part in every turn of the idle loop.
struct Turn;

impl idle::Device for Turn {
    fn receive(&self) {
        DISKS.with(|disks| disks.borrow().iter().for_each(|disk| disk.receive()));
    }
}

/// The device with this number, started if it is not.
pub(super) fn open(number: u32) -> Result<&'static Disk, Error> {
    preemption::assert_task("block devices");
    let known = |disks: &RefCell<Vec<&'static Disk>>| {
        disks.borrow().iter().copied().find(|disk| disk.number == number)
    };
    if let Some(disk) = DISKS.with(known) {
        return Ok(disk);
    }
    let disk: &'static Disk = Box::leak(Box::new(start_device(number)?));
    idle::add_device(idle::Part::Block, &Turn);
    DISKS.with(|disks| disks.borrow_mut().push(disk));
    Ok(disk)
}

const WANTED: u64 = abi::FEATURE_INDIRECT_DESC
    | abi::BLOCK_FEATURE_SIZE_MAX
    | abi::BLOCK_FEATURE_SEG_MAX
    | abi::BLOCK_FEATURE_RO
    | abi::BLOCK_FEATURE_BLK_SIZE
    | abi::BLOCK_FEATURE_FLUSH
    | abi::BLOCK_FEATURE_DISCARD
    | abi::BLOCK_FEATURE_WRITE_ZEROES;

fn start_device(number: u32) -> Result<Disk, Error> {
    let number16 = u16::try_from(number).map_err(|_| Error::NoDevice)?;
    let registers = RegisterFile::of_device(number16);
    let features = start::agree(registers, WANTED).ok_or(Error::NoDevice)?;
    let has = |feature| features & feature != 0;
    let field = |feature, offset, absent| {
        if has(feature) { registers.read(abi::CONFIG + offset) } else { absent }
    };
    let capacity = abi::CONFIG + abi::BLOCK_CONFIG_CAPACITY;
    let mut limits = Limits {
        sectors: u64::from(registers.read(capacity))
            | u64::from(registers.read(capacity + 4)) << 32,
        block_size: field(abi::BLOCK_FEATURE_BLK_SIZE, abi::BLOCK_CONFIG_BLK_SIZE, 512).max(512),
        read_only: has(abi::BLOCK_FEATURE_RO),
        flushes: has(abi::BLOCK_FEATURE_FLUSH),
        transfer_max: 0,
        discard_max: field(abi::BLOCK_FEATURE_DISCARD, abi::BLOCK_CONFIG_MAX_DISCARD_SECTORS, 0),
        zeroes_max: field(
            abi::BLOCK_FEATURE_WRITE_ZEROES,
            abi::BLOCK_CONFIG_MAX_WRITE_ZEROES_SECTORS,
            0,
        ),
    };
    let segment = field(abi::BLOCK_FEATURE_SIZE_MAX, abi::BLOCK_CONFIG_SIZE_MAX, 1 << 30) as usize;

    let most = start::queue_size_max(registers, 0).min(ENTRIES);
    if most < 4 || limits.sectors > u64::MAX / SECTOR {
        return Err(Error::NoDevice);
    }
    let entries = 1 << most.ilog2();
    let memory = Memory::fresh().ok_or(Error::OutOfMemory)?;
    let queue = RequestQueue::new(memory, entries, has(abi::FEATURE_INDIRECT_DESC), segment);
    limits.transfer_max = queue.data_max() / SECTOR as usize * SECTOR as usize;
    start::set_up_queue(registers, 0, entries, memory.addresses());
    start::run(registers);
    Ok(Disk::new(number, limits, queue))
}

impl Disk {
    pub(super) fn new(number: u32, limits: Limits, queue: RequestQueue) -> Self {
        let requests = Requests::new(queue.requests_max());
        Self { number, limits, state: RefCell::new(State { queue, requests }) }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes in what the device has done.
    pub(super) fn receive(&self) {
        let State { queue, requests } = &mut *self.state.borrow_mut();
        while let Some((id, status)) = queue.take_used() {
            requests.done(id, status);
        }
    }

    /// Gives the device a request, and waits until it is done.
    pub(super) async fn submit(
        &'static self,
        request: Request,
        buffer: Option<Buffer>,
    ) -> Result<Option<Buffer>, Error> {
        if self.limits.read_only && request.kind == Kind::Write {
            return Err(Error::ReadOnly);
        }
        let waiter = self.state.borrow_mut().requests.new_waiter();
        let waiting = Waiting { disk: self, waiter };
        let place = |context: &mut Context<'_>| {
            self.state.borrow_mut().requests.poll_place(waiter, context)
        };
        let id = poll_fn(place).await;
        drop(waiting);
        self.give(id, request, buffer);
        Given { disk: self, id: Some(id) }.await
    }

    fn give(&self, id: u16, request: Request, buffer: Option<Buffer>) {
        let (header, len) = request.header();
        let data = Data {
            address: buffer.as_ref().map_or(0, Buffer::address),
            len: buffer.as_ref().map_or(0, |buffer| buffer.len()),
            write: matches!(request.kind, Kind::Read | Kind::GetId),
        };
        let State { queue, requests } = &mut *self.state.borrow_mut();
        requests.given(id, buffer);
        // SAFETY: the buffer is with the requests, where nobody touches it, until the queue has given the
        // request back.
        unsafe { queue.give(id, &header[..len], data) };
    }

    /// Whether the device has requests.
    #[cfg(test)]
    pub(super) fn busy(&self) -> bool {
        self.state.borrow().requests.busy()
    }
}

/// Someone waits for a place, until this is dropped.
struct Waiting {
    disk: &'static Disk,
    waiter: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.disk.state.borrow_mut().requests.stop_waiting(self.waiter);
    }
}

/// A request that the device has been given.
struct Given {
    disk: &'static Disk,
    /// `None` once its result was taken.
    id: Option<u16>,
}

impl Future for Given {
    type Output = Result<Option<Buffer>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(id) = self.id else { return Poll::Ready(Err(Error::Failed)) };
        let result = self.disk.state.borrow_mut().requests.poll_done(id, context);
        if result.is_ready() {
            self.id = None;
        }
        result
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.disk.state.borrow_mut().requests.abandon(id);
        }
    }
}
