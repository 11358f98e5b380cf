//! A device whose queues are worked on by a back end in another process.

use crate::connection::Connection;
use crate::error::Failure;
use crate::link::{Link, Running, RunningQueue};
use crate::memory::MemoryRegion;
use crate::metrics::Metrics;
use crate::profile::Profile;
use crate::reconnect::Reconnect;
use crate::ring::Rings;
use crate::session::{QueuePlan, Teller};
use crate::track::Track;
use denali_abi::virtio::FEATURE_EVENT_IDX;
use denali_devices::state::{KindState, Misfit};
use denali_devices::virtio::{DeviceQueue, Progress, QueueError, VirtioDevice};
use std::os::fd::{OwnedFd, RawFd};
use vm_memory::GuestMemory;

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
    config: Vec<u8>,
    connection: Connection,
    /// The features the driver agreed to, while there is one.
    driver: Option<u64>,
    /// One for each queue the driver uses.
    tracks: Vec<Option<Track>>,
    /// A back end has worked on these queues.
    started: bool,
    metrics: Metrics,
}

impl FrontEnd {
    /// Asks the back end what it can do, which waits up to
    /// [`HANDSHAKE_PATIENCE`](crate::HANDSHAKE_PATIENCE).
    ///
    /// # Errors
    /// When it does not answer, or cannot do what the device needs.
    pub fn new(parts: Parts) -> Result<Self, Failure> {
        let Parts { profile, memory, stream, reconnect, notice } = parts;
        let connection = Connection::new(profile, stream, reconnect, notice)?;
        Ok(Self {
            profile,
            memory,
            config: profile.config(&connection.first.config),
            connection,
            driver: None,
            tracks: Vec::new(),
            started: false,
            metrics: Metrics::default(),
        })
    }

    /// Readable while there is something to do.
    #[must_use]
    pub fn as_raw_fd(&self) -> RawFd {
        self.connection.poller.as_raw_fd()
    }

    fn serve<M: GuestMemory>(
        &mut self,
        queues: &[DeviceQueue],
        memory: &M,
        now: u64,
    ) -> Result<Progress, QueueError> {
        self.connection.progress(now, self.driver);
        self.observe(queues, memory)?;
        self.start(queues, memory, now)?;
        self.kick(memory)?;
        let interrupt = std::mem::take(&mut self.connection.interrupt);
        Ok(Progress { interrupt, ..Progress::default() })
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
        if !matches!(self.connection.link, Link::Ready { .. }) {
            return Ok(());
        }
        if self.connection.offer.records_inflight && self.connection.inflight.is_none() {
            self.connection.ask_inflight(now);
            return Ok(());
        }
        self.offer_again(memory)?;
        if let Err(failure) = self.tell(queues, now) {
            self.connection.fail(now, failure);
        }
        Ok(())
    }

    /// Puts requests that the last back end did not return where the next one looks for them.
    fn offer_again<M: GuestMemory>(&mut self, memory: &M) -> Result<(), QueueError> {
        if self.connection.inflight.as_ref().is_some_and(|inflight| inflight.used) {
            return Ok(());
        }
        for track in self.tracks.iter_mut().flatten() {
            match track.offer_again(memory)? {
                Some(count) if self.started => self.metrics.resubmitted += u64::from(count),
                Some(_) => {}
                None if self.profile.reorders() => {
                    self.connection.say(
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
        let connection = &mut self.connection;
        let Link::Ready { mut channel } = connection.link.take() else { return Ok(()) };
        let features = self.driver.unwrap_or(0) & connection.offer.features;
        let acknowledges = connection.offer.acknowledges;
        let wires = Teller { channel: &mut channel, acknowledges }.start(
            features,
            &self.memory,
            connection.inflight.as_ref(),
            &plan,
            &connection.poller,
        )?;
        let told = |index: usize| self.tracks[index].as_ref().map_or(0, Track::available);
        let queues = plan.iter().zip(wires).map(|(plan, wire)| RunningQueue {
            index: plan.index,
            wire,
            told: told(plan.index),
        });
        let queues = queues.collect();
        connection.link = Link::Running(Running { channel, queues, since: now });
        if let Some(inflight) = &mut connection.inflight {
            inflight.used = true;
        }
        self.metrics.reconnects += u64::from(std::mem::replace(&mut self.started, true));
        Ok(())
    }

    /// Tells a running back end of new requests, as far as it wants to know.
    fn kick<M: GuestMemory>(&mut self, memory: &M) -> Result<(), QueueError> {
        let Link::Running(running) = &mut self.connection.link else { return Ok(()) };
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

    /// Has the back end leave the queues alone, and forgets them.
    fn stop(&mut self) {
        self.tracks.clear();
        self.started = false;
        self.connection.stop();
    }
}

impl<M: GuestMemory> VirtioDevice<M> for FrontEnd {
    fn kind(&self) -> u32 {
        self.profile.kind()
    }

    fn features(&self) -> u64 {
        self.profile.offered(self.connection.first.features)
    }

    fn ring_features(&self) -> u64 {
        self.connection.first.features
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
        self.connection.interrupt = false;
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
        self.connection.progress(now_ns, self.driver);
    }

    fn deadline(&self) -> Option<u64> {
        self.connection.link.deadline()
    }

    /// What the back end has under way is not known here, and it has the guest's memory.
    fn busy(&mut self) -> Option<&'static str> {
        Some("is worked on by another process")
    }

    fn save(&self) -> Option<KindState> {
        None
    }

    fn restore(&mut self, _state: &KindState) -> Result<(), Misfit> {
        Err(Misfit::Elsewhere)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Connection { calls, disconnects, .. } = self.connection;
        Metrics { calls, disconnects, ..self.metrics }.list()
    }
}
