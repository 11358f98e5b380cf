//! The connection to the back end of a device through its life: lost, asked for, negotiated, in use.

use crate::channel::Channel;
use crate::error::Failure;
use crate::handshake::{Handshake, Offer};
use crate::link::{Link, Running};
use crate::poller::{Poller, Seen, Source};
use crate::profile::Profile;
use crate::reconnect::{BackOff, Reconnect};
use crate::session::{self, Inflight, wait_readable};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a back end may take for what it is asked before a guest runs, and for each reconnection.
pub const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a back end may take to stop queues when a driver resets its device. The guest waits.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// The connection, whoever is at its other end.
pub(crate) struct Connection {
    profile: Profile,
    reconnect: Box<dyn Reconnect>,
    notice: Box<dyn FnMut(&str)>,
    pub poller: Rc<Poller>,
    /// What the first back end offered, and so the guest knows.
    pub first: Offer,
    /// What this one offers.
    pub offer: Offer,
    pub link: Link,
    /// The record of requests in flight that back ends pass on.
    pub inflight: Option<Inflight>,
    back_off: BackOff,
    /// The driver may not know of all that was returned.
    pub interrupt: bool,
    /// What was last told, so that it is told once.
    told: Option<Failure>,
    /// Times the back end called.
    pub calls: u64,
    /// Times the connection was lost or given up.
    pub disconnects: u64,
}

impl Connection {
    /// Negotiates with the back end behind `stream`, which waits up to [`HANDSHAKE_PATIENCE`].
    ///
    /// # Errors
    /// When it does not answer, or cannot do what the device needs.
    pub(crate) fn new(
        profile: Profile,
        stream: OwnedFd,
        reconnect: Box<dyn Reconnect>,
        notice: Box<dyn FnMut(&str)>,
    ) -> Result<Self, Failure> {
        let mut channel = Channel::new(stream);
        let offer = negotiate(profile, &mut channel)?;
        let poller = Rc::new(Poller::new()?);
        poller.watch(Source::Channel, channel.as_fd())?;
        Ok(Self {
            profile,
            reconnect,
            notice,
            poller,
            first: offer.clone(),
            offer,
            link: Link::Ready { channel },
            inflight: None,
            back_off: BackOff::default(),
            interrupt: false,
            told: None,
            calls: 0,
            disconnects: 0,
        })
    }

    /// Goes a step further, wherever it is; `driver` is what a driver has agreed to, if there is one.
    pub(crate) fn progress(&mut self, now: u64, driver: Option<u64>) {
        let seen = self.poller.look();
        self.interrupt |= seen.call;
        self.calls += u64::from(seen.call);
        if let Err(failure) = self.step(now, seen, driver) {
            self.fail(now, failure);
        }
    }

    fn step(&mut self, now: u64, seen: Seen, driver: Option<u64>) -> Result<(), Failure> {
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
                Some(offer) => self.take_offer(offer, driver),
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

    fn take_offer(&mut self, offer: Offer, driver: Option<u64>) -> Result<(), Failure> {
        offer.replaces(&self.first, driver)?;
        if !offer.records_inflight {
            self.inflight = None;
        }
        self.offer = offer;
        if let Link::Negotiating { channel, .. } = self.link.take() {
            self.link = Link::Ready { channel };
        }
        if self.told.take().is_some() {
            self.say("is back");
        }
        Ok(())
    }

    /// Asks a back end that is ready for memory to record requests in flight.
    pub(crate) fn ask_inflight(&mut self, now: u64) {
        let sizes = self.profile.queue_sizes();
        let request = Inflight::request(sizes.len(), sizes.iter().copied().max().unwrap_or(0));
        let Link::Ready { mut channel } = self.link.take() else { return };
        let asked = channel.ask(&request, &[]);
        self.link = Link::Preparing { channel, until: after(now, HANDSHAKE_PATIENCE) };
        if let Err(failure) = asked {
            self.fail(now, failure);
        }
    }

    fn take_inflight(&mut self, inflight: Inflight) -> Result<(), Failure> {
        self.inflight = Some(inflight);
        if let Link::Preparing { channel, .. } = self.link.take() {
            self.link = Link::Ready { channel };
        }
        Ok(())
    }

    /// Gives the connection up, and says so unless that was the last that was said.
    pub(crate) fn fail(&mut self, now: u64, failure: Failure) {
        let lasted = match self.link.take() {
            Link::Running(running) => now.saturating_sub(running.since),
            Link::Asked { .. } => {
                self.forget_reconnect();
                0
            }
            _ => 0,
        };
        self.disconnects += 1;
        // The back end may have returned requests and gone before it said so.
        self.interrupt = true;
        self.link = Link::Down { retry_at: now.saturating_add(self.back_off.pause(lasted)) };
        let again = match &self.told {
            // That it is still away says nothing new.
            Some(told) => failure == Failure::Gone || *told == failure,
            None => false,
        };
        if !again {
            self.say(&format!("{failure}; requests wait until it is back"));
            self.told = Some(failure);
        }
    }

    /// Has the back end leave the queues alone.
    pub(crate) fn stop(&mut self) {
        self.inflight = None;
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

    /// Tells the user.
    pub(crate) fn say(&mut self, what: &str) {
        (self.notice)(what);
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
