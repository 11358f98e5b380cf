//! What the front end asks for: features, memory, rings. And the device, serviced with what it gave.

mod requests;

use crate::Device;
use crate::in_flight::Region;
use crate::memory::Table;
use crate::ring::Ring;
use denali_abi::virtio::{FEATURE_EVENT_IDX, FEATURE_INDIRECT_DESC, FEATURE_VERSION_1};
use denali_devices::virtio::DeviceQueue;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Feature of the transport: the rest is agreed on by protocol features.
pub const FEATURE_PROTOCOL: u64 = 1 << 30;

/// One front end's device.
pub struct FrontEnd {
    device: Device,
    epoll: OwnedFd,
    features: u64,
    /// What the front end agreed to; `None` before that.
    agreed: Option<u64>,
    table: Option<Table>,
    in_flight: Option<Region>,
    rings: Vec<Ring>,
    /// The device's view of the rings; those that do not run are unused.
    queues: Vec<DeviceQueue>,
    /// The device has been told what was agreed on.
    active: bool,
    /// The driver has broken a ring; nothing is done until all rings are stopped.
    broken: bool,
    counters: Counters,
}

/// What happened, for the message at the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Times the device was serviced.
    pub services: u64,
    /// Interrupts sent to the driver.
    pub interrupts: u64,
}

impl FrontEnd {
    /// A front end that has said nothing yet. The rings' eventfds are watched by `epoll`, with the
    /// index of the ring as their data.
    #[must_use]
    pub fn new(device: Device, epoll: OwnedFd) -> Self {
        let rings = device.device.queue_sizes().len();
        let ring_features = FEATURE_VERSION_1 | FEATURE_INDIRECT_DESC | FEATURE_EVENT_IDX;
        Self {
            features: device.device.features() | ring_features | FEATURE_PROTOCOL,
            device,
            epoll,
            agreed: None,
            table: None,
            in_flight: None,
            rings: (0..rings).map(|_| Ring::default()).collect(),
            queues: (0..rings).map(|_| DeviceQueue::unused()).collect(),
            active: false,
            broken: false,
            counters: Counters::default(),
        }
    }

    /// Whether features were agreed on.
    #[must_use]
    pub fn agreed(&self) -> bool {
        self.agreed.is_some()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The device's own counters, by name.
    #[must_use]
    pub fn device_counters(&self) -> Vec<(&'static str, u64)> {
        self.device.device.counters()
    }

    /// Lets the device work; true when it could go on at once.
    pub fn service(&mut self) -> bool {
        let (Some(table), true, false) = (&self.table, self.active, self.broken) else {
            self.device.device.idle(now());
            return false;
        };
        self.counters.services += 1;
        match self.device.device.service(&mut self.queues, table.memory(), now()) {
            Ok(progress) => {
                if progress.interrupt {
                    self.interrupt();
                }
                progress.more
            }
            Err(error) => {
                eprintln!("{}: the driver broke a ring: {error}", crate::arguments::program());
                self.give_up();
                false
            }
        }
    }

    /// The driver has broken a ring: none is touched until all are stopped.
    fn give_up(&mut self) {
        self.broken = true;
        self.forget_driver();
        for (ring, queue) in self.rings.iter_mut().zip(&mut self.queues) {
            if queue.ready() {
                ring.base = queue.next_available();
                *queue = DeviceQueue::unused();
            }
            if let Some(kick) = &ring.kick {
                unwatch(&self.epoll, kick);
            }
            ring.report();
        }
    }

    /// The device lets go of its driver and of the memory, which may be unmapped afterwards. A disk
    /// that hangs keeps this process waiting until the listener ends it.
    fn forget_driver(&mut self) {
        if std::mem::take(&mut self.active) {
            self.device.device.reset();
            while !self.device.device.at_rest() {
                self.device.device.reset();
            }
        }
    }

    fn interrupt(&mut self) {
        for (ring, queue) in self.rings.iter().zip(&mut self.queues) {
            if queue.take_interrupt() {
                self.counters.interrupts += 1;
                ring.interrupt();
            }
        }
    }

    /// Milliseconds until the device must be serviced at the latest; -1 when nothing is due.
    #[must_use]
    pub fn timeout(&self) -> i32 {
        let Some(deadline) = self.device.device.deadline() else { return -1 };
        let left = deadline.saturating_sub(now()).div_ceil(1_000_000);
        i32::try_from(left).unwrap_or(i32::MAX)
    }

    /// Whether a started ring would be worked on.
    fn any_runs(&self) -> bool {
        self.rings.iter().any(Ring::runs)
    }

    /// Makes the device's view of a ring what the front end wants it to be.
    fn update(&mut self, index: usize) -> io::Result<()> {
        match (self.rings[index].runs(), self.queues[index].ready()) {
            (true, false) if !self.broken => self.run(index)?,
            (false, true) => self.stop(index)?,
            _ => {}
        }
        if !self.any_runs() {
            self.forget_driver();
            self.broken = false;
        }
        Ok(())
    }

    fn run(&mut self, index: usize) -> io::Result<()> {
        let Some(table) = &self.table else { return Err(refused("there is no memory table")) };
        let agreed = self.agreed.unwrap_or(0);
        if agreed & FEATURE_VERSION_1 == 0 {
            return Err(refused("the driver is older than virtio 1.0"));
        }
        let ring = &self.rings[index];
        let number = index as u16;
        let in_flight = self.in_flight.as_ref();
        let queue = ring.queue(number, agreed, table.memory(), in_flight)?;
        if !self.active {
            self.device.device.activate(agreed & !FEATURE_PROTOCOL);
            self.active = true;
        }
        self.queues[index] = queue;
        if let Some(kick) = &ring.kick {
            watch(&self.epoll, kick, index as u64)?;
        }
        Ok(())
    }

    /// Stops a ring: what was taken from it is done first, nothing more is taken.
    fn stop(&mut self, index: usize) -> io::Result<()> {
        if let Some(kick) = &self.rings[index].kick {
            unwatch(&self.epoll, kick);
        }
        self.pause(true);
        self.finish_outstanding()?;
        self.pause(false);
        // If the driver broke a ring meanwhile, all are stopped already.
        if self.queues[index].ready() {
            self.rings[index].base = self.queues[index].next_available();
            self.queues[index] = DeviceQueue::unused();
            // The driver may not have been told of all that was returned.
            self.rings[index].interrupt();
        }
        Ok(())
    }

    fn pause(&mut self, paused: bool) {
        self.queues.iter_mut().for_each(|queue| queue.pause(paused));
    }

    /// Waits until the device has returned what it has taken from the rings, which are paused.
    fn finish_outstanding(&mut self) -> io::Result<()> {
        while self.outstanding() > 0 {
            let more = self.service();
            if self.outstanding() == 0 {
                break;
            }
            let timeout = if more { 0 } else { self.timeout() };
            let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
            let Some(wake) = self.device.wake else {
                return Err(refused("the device cannot finish its requests"));
            };
            // SAFETY: the descriptor is the device's, which lives as long as `self`.
            let wake = unsafe { BorrowedFd::borrow_raw(wake) };
            poll(&mut [PollFd::new(wake, PollFlags::POLLIN)], timeout)?;
        }
        Ok(())
    }

    /// Requests that were taken and not returned.
    fn outstanding(&self) -> usize {
        self.queues.iter().map(DeviceQueue::outstanding).sum()
    }

    /// Lets go of the memory: no request is worked on while it is exchanged.
    fn exchange_memory(&mut self, table: Table) -> io::Result<()> {
        self.pause(true);
        self.finish_outstanding()?;
        self.pause(false);
        self.table = Some(table);
        Ok(())
    }
}

impl Drop for FrontEnd {
    /// The front end is gone: the device lets go of its memory before that is unmapped.
    fn drop(&mut self) {
        self.forget_driver();
    }
}

/// Nanoseconds of monotonic time.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    time.map_or(0, |time| time.as_nanos() as u64)
}

fn refused(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Watches an eventfd for further signals. Edges are enough, so that it need not be read: a descriptor
/// of the front end that is read could block.
fn watch(epoll: &OwnedFd, kick: &File, data: u64) -> io::Result<()> {
    let events = epoll::Events::EPOLLIN | epoll::Events::EPOLLET;
    let event = epoll::Event::new(events, data);
    epoll::ctl(epoll.as_raw_fd(), epoll::ControlOptions::EPOLL_CTL_ADD, kick.as_raw_fd(), event)
}

/// Stops watching an eventfd.
fn unwatch(epoll: &OwnedFd, kick: &File) {
    let event = epoll::Event::new(epoll::Events::empty(), 0);
    let fd: RawFd = kick.as_raw_fd();
    // It may not have been watched.
    let _ = epoll::ctl(epoll.as_raw_fd(), epoll::ControlOptions::EPOLL_CTL_DEL, fd, event);
}
