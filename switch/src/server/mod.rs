//! The switch at work: one thread, which carries frames between sockets and looks after no one for long.

mod activity;
mod control;
mod delivery;
mod gateways;
mod guests;
mod published;
pub mod sandbox;
mod supervisor;
pub(crate) mod sys;
mod timers;
mod uplink;

use crate::fabric::Fabric;
use crate::frame::{ETHERNET, Reason};
use crate::header::HEADER;
use crate::options::Spec;
use crate::protocol::PortNumber;
use activity::Shared;
use epoll::Events;
use guests::Guests;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use published::Published;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;
use supervisor::Supervisor;
use sys::{BATCH, Batch, Poller};
use timers::{Timer, Timers};
use uplink::Uplink;

/// Events taken at once.
const EVENTS_MAX: usize = 256;

/// Guests whose frames are taken, a batch each, before anything else is looked at.
const TURNS_MAX: usize = 64;

/// Batches taken from the uplink in a turn.
const UPLINK_BATCHES: usize = 4;

/// Timers that are seen to in a turn.
const TIMERS_MAX: usize = 256;

/// Bytes of a message beyond the largest packet and its headers: frames may be padded.
const SPARE: usize = 64;

/// What an event is about: a kind, and a number.
const CONTROL: u64 = 0;
const SUPERVISOR: u64 = 1 << 32;
const SIGNALS: u64 = 2 << 32;
const UPLINK: u64 = 3 << 32;
const GUEST: u64 = 4 << 32;
const LISTENER: u64 = 5 << 32;
const GATEWAY: u64 = 6 << 32;

/// A switch at work.
#[derive(Debug)]
pub struct Server {
    fabric: Fabric,
    poller: Poller,
    control: OwnedFd,
    signals: SignalFd,
    uplink: Option<Uplink>,
    guests: Guests,
    /// Guests that may have sent something, in the order of their turns.
    ready: VecDeque<u32>,
    published: Published,
    supervisor: Option<Supervisor>,
    /// Ports that the supervisor is to be told are wanted, or whose guests are gone.
    wanted: Vec<PortNumber>,
    gone: Vec<PortNumber>,
    timers: Timers,
    shared: Shared,
    /// Frames that are being looked at.
    batch: Option<Box<Batch>>,
    answer: Vec<u8>,
    /// Room for a request of the supervisor's.
    requests: Vec<u8>,
    now_ns: u64,
    ended: bool,
}

impl Server {
    /// A switch as `spec` describes it, whose descriptors it owns from here on. Signals that end it are blocked.
    ///
    /// # Errors
    /// When the options make no sense, a descriptor is not what it should be, or the host refuses something.
    pub fn new(spec: Spec) -> io::Result<Self> {
        spec.options.check().map_err(io::Error::other)?;
        // SAFETY: the description names each descriptor once, and this process has them for this use alone. A number that
        // is not open makes the next call fail, nothing else.
        let (control, uplink) = unsafe {
            let uplink = spec.uplink.map(|number| OwnedFd::from_raw_fd(number));
            (OwnedFd::from_raw_fd(spec.control), uplink)
        };
        let uplink = uplink.map(Uplink::new).transpose()?;
        let poller = Poller::new()?;
        let signals = ending_signals()?;
        control::prepare(&control)?;
        poller.add(&control, Events::EPOLLIN, CONTROL)?;
        poller.add(&signals, Events::EPOLLIN, SIGNALS)?;
        if let Some(uplink) = &uplink {
            poller.add(uplink, Events::EPOLLIN, UPLINK)?;
        }
        let room = HEADER + ETHERNET + usize::from(spec.options.mtu) + SPARE;
        Ok(Self {
            published: Published::new(&spec.options, uplink.is_some()),
            fabric: Fabric::new(spec.options),
            poller,
            control,
            signals,
            uplink,
            guests: Guests::default(),
            ready: VecDeque::new(),
            supervisor: None,
            wanted: Vec::new(),
            gone: Vec::new(),
            timers: Timers::default(),
            shared: Shared::new()?,
            batch: Some(Box::new(Batch::new(room))),
            answer: Vec::new(),
            requests: Vec::new(),
            now_ns: sys::now_ns(),
            ended: false,
        })
    }

    /// Works until it is told to end, or a signal says so.
    ///
    /// # Errors
    /// When the host refuses something without which nothing works. What guests and supervisors do is no error.
    pub fn serve(&mut self) -> io::Result<()> {
        let mut events = [epoll::Event::new(Events::empty(), 0); EVENTS_MAX];
        while !self.ended {
            let timeout = self.timeout();
            let count = self.poller.wait(timeout, &mut events)?;
            self.now_ns = sys::now_ns();
            for event in &events[..count] {
                self.see_to(event.data, Events::from_bits_truncate(event.events));
            }
            for _ in 0..self.ready.len().min(TURNS_MAX) {
                if let Some(slot) = self.ready.pop_front() {
                    self.serve_guest(slot);
                }
            }
            for _ in 0..TIMERS_MAX {
                let Some(timer) = self.timers.take_due(self.now_ns) else { break };
                self.see_to_timer(timer);
            }
            self.tell();
        }
        Ok(())
    }

    /// How long nothing is to be done, if nothing happens.
    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = self.timers.next()?;
        Some(Duration::from_nanos(next.saturating_sub(sys::now_ns())))
    }

    fn see_to(&mut self, token: u64, events: Events) {
        let number = token as u32;
        match token - u64::from(number) {
            CONTROL => self.take_supervisor(),
            SUPERVISOR => self.see_to_supervisor(events),
            SIGNALS => self.ended |= matches!(self.signals.read_signal(), Ok(Some(_))),
            UPLINK if events.contains(Events::EPOLLERR) => self.lose_uplink(),
            UPLINK => self.take_from_uplink(),
            GUEST => self.see_to_guest(number, events),
            LISTENER => self.see_to_listener(number),
            _ => self.run_gateway(number),
        }
    }

    fn see_to_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Read(slot) => self.read_again(slot),
            Timer::Flush(port) => {
                self.flush_is_due(port);
                self.flush(port);
            }
            Timer::Age(port) => self.see_to_age(port),
            Timer::Gateway(port) => self.gateway_is_due(port),
            Timer::Accept(index) => self.accept_again(index),
            Timer::Control => self.listen_again(),
        }
    }

    /// Carries packets of the host to guests.
    fn take_from_uplink(&mut self) {
        let Some(mut batch) = self.batch.take() else { return };
        for _ in 0..UPLINK_BATCHES {
            let mut count = 0;
            while count < BATCH {
                let Some(uplink) = &self.uplink else { break };
                let Ok(length) = uplink.receive(batch.room(count)) else { break };
                batch.set_length(count, length);
                count += 1;
            }
            self.fabric.counters.uplink_received += count as u64;
            let mut run = delivery::Run::default();
            for index in 0..count {
                match self.fabric.take_from_host(batch.message(index)) {
                    Ok((to, length)) => {
                        if !run.add(to, index, length) {
                            self.deliver_run(&batch, &run);
                            run = delivery::Run::default();
                            run.add(to, index, length);
                        }
                    }
                    Err(reason) => self.fabric.count_drops(reason, 1),
                }
            }
            self.deliver_run(&batch, &run);
            if count < BATCH {
                break;
            }
        }
        self.batch = Some(batch);
    }

    /// The uplink was taken away: it is as if there never had been one.
    fn lose_uplink(&mut self) {
        if let Some(uplink) = self.uplink.take() {
            self.poller.remove(&uplink);
            self.complain(
                "the uplink was taken away: guests and host do not reach each other any more",
            );
        }
    }

    /// Packets that a port's guest sent, or was to get, are dropped.
    fn drop_packets(&mut self, port: PortNumber, reason: Reason, packets: u64) {
        self.fabric.count_drops(reason, packets);
        self.shared.dropped(port, packets);
    }
}

/// A descriptor that is readable when a signal says that the switch is to end.
fn ending_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}
