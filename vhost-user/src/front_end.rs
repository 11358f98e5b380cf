//! A device whose queues are worked on by a back end in another process.

use crate::channel::Channel;
use crate::error::Failure;
use crate::handshake::{Handshake, Offer};
use crate::link::{Link, Running, RunningQueue};
use crate::memory::MemoryRegion;
use crate::metrics::Metrics;
use crate::poller::{Poller, Seen, Source};
use crate::profile::Profile;
use crate::reconnect::{BackOff, Reconnect};
use crate::ring::Rings;
use crate::session::{self, Inflight, QueuePlan, Teller, wait_readable};
use crate::track::Track;
use denali_abi::virtio::FEATURE_EVENT_IDX;
use denali_devices::virtio::{DeviceQueue, Progress, QueueError, VirtioDevice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};
use vm_memory::GuestMemory;

/// How long a back end may take for what it is asked before a guest runs, and for each reconnection.
pub const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a back end may take to stop queues when a driver resets its device. The guest waits.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// What a front end is made of.
pub struct Parts {
    /// The kind of device.
    pub profile: Profile,
    /// All memory that queues and buffers can be in.
    pub memory: Vec<MemoryRegion>,
    /// The connected socket of the back end.
    pub stream: OwnedFd,
    /// Who connects again when the back end has gone.
    pub reconnect: Box<dyn Reconnect>,
    /// Told, in one line that begins with a verb ("has closed …", "is back"), how the back end fares.
    pub notice: Box<dyn FnMut(&str)>,
}

/// A disk or network card in front of a vhost-user back end.
pub struct FrontEnd {
    profile: Profile,
    memory: Vec<MemoryRegion>,
    reconnect: Box<dyn Reconnect>,
    notice: Box<dyn FnMut(&str)>,
    poller: Rc<Poller>,
    /// What the first back end offered, and so the guest knows.
    first: Offer,
    /// What this one offers.
    offer: Offer,
    config: Vec<u8>,
    link: Link,
    back_off: BackOff,
    /// The features the driver agreed to, while there is one.
    driver: Option<u64>,
    /// One for each queue the driver uses.
    tracks: Vec<Option<Track>>,
    inflight: Option<Inflight>,
    /// A back end has worked on these queues.
    started: bool,
    /// The driver may not know of all that was returned.
    interrupt: bool,
    /// What was last told, so that it is told once.
    told: Option<Failure>,
    metrics: Metrics,
}

impl FrontEnd {
    /// Asks the back end what it can do, which waits up to [`HANDSHAKE_PATIENCE`].
    ///
    /// # Errors
    /// When it does not answer, or cannot do what the device needs.
    pub fn new(parts: Parts) -> Result<Self, Failure> {
        let Parts { profile, memory, stream, reconnect, notice } = parts;
        let mut channel = Channel::new(stream);
        let offer = negotiate(profile, &mut channel)?;
        let poller = Rc::new(Poller::new()?);
        poller.watch(Source::Channel, channel.as_fd())?;
        Ok(Self {
            profile,
            memory,
            reconnect,
            notice,
            poller,
            config: profile.config(&offer.config),
            first: offer.clone(),
            offer,
            link: Link::Ready { channel },
            back_off: BackOff::default(),
            driver: None,
            tracks: Vec::new(),
            inflight: None,
            started: false,
            interrupt: false,
            told: None,
            metrics: Metrics::default(),
        })
    }

    /// Readable while there is something to do.
    #[must_use]
    pub fn as_raw_fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }

    /// Takes the connection a step further, wherever it is.
    fn progress(&mut self, now: u64) {
        let seen = self.poller.look();
        self.interrupt |= seen.call;
        self.metrics.calls += u64::from(seen.call);
        if let Err(failure) = self.step(now, seen) {
            self.fail(now, failure);
        }
    }

    fn step(&mut self, now: u64, seen: Seen) -> Result<(), Failure> {
        match &mut self.link {
            Link::Down { retry_at } if *retry_at <= now => {
                self.reconnect.request();
                let until = after(now, HANDSHAKE_PATIENCE);
                self.link = Link::Asked { until };
                self.watch_reconnect()?;
                self.take_stream(now, until)
            }
            Link::Down { .. } => Ok(()),
            Link::Asked { until } => {
                let until = *until;
                self.take_stream(now, until)
            }
            Link::Negotiating { channel, handshake, until } => match handshake.advance(channel)? {
                Some(offer) => self.take_offer(offer),
                None if *until <= now => Err(silent(handshake.waits_for())),
                None => Ok(()),
            },
            Link::Preparing { channel, until } => match channel.receive()? {
                Some(reply) => self.take_inflight(Inflight::of(reply)?),
                None if *until <= now => Err(silent("GET_INFLIGHT_FD")),
                None => Ok(()),
            },
            Link::Ready { channel } | Link::Running(Running { channel, .. }) if seen.channel => {
                session::take_acknowledgements(channel)
            }
            Link::Ready { .. } | Link::Running(_) => Ok(()),
        }
    }

    /// Waits for an answer to a request for a connection, only while there is one: who is to answer may
    /// be gone for good, and its descriptor readable for ever.
    fn watch_reconnect(&self) -> Result<(), Failure> {
        let Some(raw) = self.reconnect.as_raw_fd() else { return Ok(()) };
        // SAFETY: the descriptor belongs to `reconnect`, which lives longer than this borrow.
        self.poller.watch(Source::Reconnect, unsafe { BorrowedFd::borrow_raw(raw) })
    }

    fn forget_reconnect(&self) {
        if let Some(raw) = self.reconnect.as_raw_fd() {
            // SAFETY: as above.
            self.poller.forget(unsafe { BorrowedFd::borrow_raw(raw) });
        }
    }

    fn take_stream(&mut self, now: u64, until: u64) -> Result<(), Failure> {
        let stream = match self.reconnect.try_take() {
            Some(Ok(stream)) => stream,
            Some(Err(_)) => return Err(Failure::Gone),
            None if until <= now => return Err(Failure::Gone),
            None => return Ok(()),
        };
        self.forget_reconnect();
        let mut channel = Channel::new(stream);
        self.poller.watch(Source::Channel, channel.as_fd())?;
        let handshake = Handshake::begin(self.profile, &mut channel)?;
        self.link = Link::Negotiating { channel, handshake, until: after(now, HANDSHAKE_PATIENCE) };
        Ok(())
    }

    fn take_offer(&mut self, offer: Offer) -> Result<(), Failure> {
        offer.replaces(&self.first, self.driver)?;
        if !offer.records_inflight {
            self.inflight = None;
        }
        self.offer = offer;
        if let Link::Negotiating { channel, .. } = self.link.take() {
            self.link = Link::Ready { channel };
        }
        if self.told.take().is_some() {
            (self.notice)("is back");
        }
        Ok(())
    }

    fn take_inflight(&mut self, inflight: Inflight) -> Result<(), Failure> {
        self.inflight = Some(inflight);
        if let Link::Preparing { channel, .. } = self.link.take() {
            self.link = Link::Ready { channel };
        }
        Ok(())
    }

    /// Gives the connection up, and says so unless that was the last that was said.
    fn fail(&mut self, now: u64, failure: Failure) {
        let lasted = match self.link.take() {
            Link::Running(running) => now.saturating_sub(running.since),
            Link::Asked { .. } => {
                self.forget_reconnect();
                0
            }
            _ => 0,
        };
        self.metrics.disconnects += 1;
        // It may have returned requests and gone before it said so.
        self.interrupt = true;
        self.link = Link::Down { retry_at: now.saturating_add(self.back_off.pause(lasted)) };
        let again = match &self.told {
            // That it is still away says nothing new.
            Some(told) => failure == Failure::Gone || *told == failure,
            None => false,
        };
        if !again {
            (self.notice)(&format!("{failure}; requests wait until it is back"));
            self.told = Some(failure);
        }
    }

    /// Reads what driver and back end have done since the last look.
    fn observe<M: GuestMemory>(
        &mut self,
        queues: &[DeviceQueue],
        memory: &M,
    ) -> Result<(), QueueError> {
        if self.tracks.is_empty() {
            let used = |queue: &DeviceQueue| queue.ready().then(|| Track::new(Rings::of(queue)));
            self.tracks = queues.iter().map(used).collect();
        }
        for track in self.tracks.iter_mut().flatten() {
            let growth = track.observe(memory)?;
            self.metrics.requests += u64::from(growth.available);
            self.metrics.completed += u64::from(growth.used);
        }
        Ok(())
    }

    /// Has a back end that is ready work on the queues.
    fn start<M: GuestMemory>(
        &mut self,
        queues: &[DeviceQueue],
        memory: &M,
        now: u64,
    ) -> Result<(), QueueError> {
        if !matches!(self.link, Link::Ready { .. }) {
            return Ok(());
        }
        if self.offer.records_inflight && self.inflight.is_none() {
            if let Err(failure) = self.ask_inflight(now) {
                self.fail(now, failure);
            }
            return Ok(());
        }
        self.offer_again(memory)?;
        if let Err(failure) = self.tell(queues, now) {
            self.fail(now, failure);
        }
        Ok(())
    }

    fn ask_inflight(&mut self, now: u64) -> Result<(), Failure> {
        let sizes = self.profile.queue_sizes();
        let request = Inflight::request(sizes.len(), sizes.iter().copied().max().unwrap_or(0));
        if let Link::Ready { mut channel } = self.link.take() {
            channel.ask(&request, &[])?;
            self.link = Link::Preparing { channel, until: after(now, HANDSHAKE_PATIENCE) };
        }
        Ok(())
    }

    /// Puts requests that the last back end did not return where the next one looks for them.
    fn offer_again<M: GuestMemory>(&mut self, memory: &M) -> Result<(), QueueError> {
        if self.inflight.as_ref().is_some_and(|inflight| inflight.used) {
            return Ok(());
        }
        for track in self.tracks.iter_mut().flatten() {
            match track.offer_again(memory)? {
                Some(count) if self.started => self.metrics.resubmitted += u64::from(count),
                Some(_) => {}
                None if self.profile.reorders() => {
                    (self.notice)(
                        "has gone with requests that are not known; the driver must reset the device",
                    );
                    return Err(QueueError::AvailableIndex);
                }
                None => track.assume_order(memory)?,
            }
        }
        Ok(())
    }

    fn tell(&mut self, queues: &[DeviceQueue], now: u64) -> Result<(), Failure> {
        let tracks = self.tracks.iter().zip(queues).enumerate();
        let plan = tracks.filter_map(|(index, (track, queue))| {
            let (size, addresses) = (queue.size(), queue.addresses());
            track.as_ref().map(|track| QueuePlan { index, size, addresses, base: track.used() })
        });
        let plan: Vec<_> = plan.collect();
        let Link::Ready { mut channel } = self.link.take() else { return Ok(()) };
        let features = self.driver.unwrap_or(0) & self.offer.features;
        let acknowledges = self.offer.acknowledges;
        let wires = Teller { channel: &mut channel, acknowledges }.start(
            features,
            &self.memory,
            self.inflight.as_ref(),
            &plan,
            &self.poller,
        )?;
        let told = |index: usize| self.tracks[index].as_ref().map_or(0, Track::available);
        let queues = plan.iter().zip(wires).map(|(plan, wire)| RunningQueue {
            index: plan.index,
            wire,
            told: told(plan.index),
        });
        let queues = queues.collect();
        self.link = Link::Running(Running { channel, queues, since: now });
        if let Some(inflight) = &mut self.inflight {
            inflight.used = true;
        }
        self.metrics.reconnects += u64::from(std::mem::replace(&mut self.started, true));
        Ok(())
    }

    /// Tells a running back end of new requests, as far as it wants to know.
    fn kick<M: GuestMemory>(&mut self, memory: &M) -> Result<(), QueueError> {
        let Link::Running(running) = &mut self.link else { return Ok(()) };
        let event_idx = self.driver.unwrap_or(0) & FEATURE_EVENT_IDX != 0;
        for queue in &mut running.queues {
            let Some(Some(track)) = self.tracks.get(queue.index) else { continue };
            let available = track.available();
            if available == queue.told {
                continue;
            }
            if track.rings().wants_kick(memory, event_idx, (queue.told, available))? {
                queue.wire.kick();
                self.metrics.kicks += 1;
            }
            queue.told = available;
        }
        Ok(())
    }

    /// Has the back end leave the queues alone.
    fn stop(&mut self) {
        self.tracks.clear();
        self.inflight = None;
        self.started = false;
        self.link = match self.link.take() {
            Link::Running(Running { mut channel, queues, .. }) => {
                let indices = queues.iter().map(|queue| queue.index);
                match session::stop(&mut channel, indices, STOP_PATIENCE) {
                    Ok(()) => Link::Ready { channel },
                    Err(failure) => return self.fail(0, failure),
                }
            }
            // A reply is on its way that nobody would wait for.
            Link::Preparing { .. } => Link::Down { retry_at: 0 },
            other => other,
        };
    }

    fn serve<M: GuestMemory>(
        &mut self,
        queues: &[DeviceQueue],
        memory: &M,
        now: u64,
    ) -> Result<Progress, QueueError> {
        self.progress(now);
        self.observe(queues, memory)?;
        self.start(queues, memory, now)?;
        self.kick(memory)?;
        Ok(Progress { interrupt: std::mem::take(&mut self.interrupt), more: false })
    }
}

impl<M: GuestMemory> VirtioDevice<M> for FrontEnd {
    fn kind(&self) -> u32 {
        self.profile.kind()
    }

    fn features(&self) -> u64 {
        self.profile.offered(self.first.features)
    }

    fn ring_features(&self) -> u64 {
        self.first.features
    }

    fn queue_sizes(&self) -> &[u16] {
        self.profile.queue_sizes()
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, features: u64) {
        self.driver = Some(features);
    }

    fn reset(&mut self) {
        self.stop();
        self.driver = None;
        self.interrupt = false;
    }

    fn service(
        &mut self,
        queues: &mut [DeviceQueue],
        memory: &M,
        now_ns: u64,
    ) -> Result<Progress, QueueError> {
        let served = self.serve(queues, memory, now_ns);
        if served.is_err() {
            self.stop();
        }
        served
    }

    fn idle(&mut self, now_ns: u64) {
        self.progress(now_ns);
    }

    fn deadline(&self) -> Option<u64> {
        self.link.deadline()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.metrics.list()
    }
}

/// The whole negotiation, waiting for each reply.
fn negotiate(profile: Profile, channel: &mut Channel) -> Result<Offer, Failure> {
    let until = Instant::now() + HANDSHAKE_PATIENCE;
    let mut handshake = Handshake::begin(profile, channel)?;
    loop {
        if let Some(offer) = handshake.advance(channel)? {
            return Ok(offer);
        }
        if !wait_readable(channel.as_fd(), until)? {
            return Err(silent(handshake.waits_for()));
        }
    }
}

fn silent(request: &'static str) -> Failure {
    Failure::Silent { request, waited: HANDSHAKE_PATIENCE }
}

fn after(now: u64, patience: Duration) -> u64 {
    now.saturating_add(patience.as_nanos() as u64)
}
