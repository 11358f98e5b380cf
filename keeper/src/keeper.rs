//! The keeper: its guests, and the loop in which it waits for what is for them.

use crate::clock::{self, Timer};
use crate::desk::Desk;
use crate::event::{Event, Reason};
use crate::fleet::Fleet;
use crate::guest::Guest;
use crate::images::Images;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::signals::{Signals, next_exit};
use crate::teller::Teller;
use crate::wake::start_waiting;
use crate::watcher::{Happened, Token, Watcher};
use crate::wheel::Wheel;
use denali_launcher::{LaunchError, Pool, Shared, Waiting};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// How long nobody must have woken before the pool is filled again, in ms: who wakes needs the processors.
pub(crate) const REFILL_PAUSE_MS: i32 = 20;

/// How long until the registry is looked at again for those who wait for it, in ms.
const UNSAID_PAUSE_MS: i32 = 2;

/// How long it is left alone if that fails.
const FAILED_PAUSE_MS: i32 = 1000;

/// A monitor that waits for a guest, and the socket at which it will listen for whoever adopts it.
pub(crate) struct Pooled {
    pub(crate) monitor: Waiting,
    pub(crate) socket: Option<OwnedFd>,
}

impl AsRef<Waiting> for Pooled {
    fn as_ref(&self) -> &Waiting {
        &self.monitor
    }
}

/// Looks after guests, in one thread: starts them, holds what wakes them while they are parked, wakes them,
/// and sees to their ends.
pub struct Keeper<'a> {
    pub(crate) settings: Settings<'a>,
    pub(crate) teller: Teller<'a>,
    pub(crate) shared: Shared,
    pub(crate) images: Images<'a>,
    pub(crate) registry: Option<Registry>,
    /// A guest's number is its place.
    pub(crate) guests: Vec<Guest>,
    /// Guests of the state that cannot go on, by name.
    pub(crate) left: Vec<String>,
    /// Guests that have not ended.
    pub(crate) active: usize,
    /// Guests by their monitors' processes.
    pub(crate) children: HashMap<u32, u32>,
    pub(crate) pool: Pool<Pooled>,
    /// Guests that have monitors.
    pub(crate) alive: usize,
    /// What is known beside of all guests of a host.
    pub(crate) fleet: Option<Box<Fleet>>,
    /// Guests that are given a monitor when nothing else is to be done: at the start, and to be stopped.
    pub(crate) queue: VecDeque<(u32, Reason)>,
    pub(crate) watcher: Watcher,
    pub(crate) wheel: Wheel,
    pub(crate) desk: Desk,
    /// It was asked to end, and leave its guests as they are.
    pub(crate) leaves: bool,
    /// Times it was asked to stop.
    pub(crate) stops: u32,
    /// Standard streams of monitors: no input, and where their messages go.
    pub(crate) null: OwnedFd,
    pub(crate) messages: OwnedFd,
    /// How long nothing must have happened before the pool is filled again.
    pub(crate) pause_ms: i32,
    /// What was received last.
    pub(crate) buffer: Vec<u8>,
    signals: Signals,
    timer: Timer,
}

impl<'a> Keeper<'a> {
    /// A keeper, with the guests that its state has. `tell` is told of everything that happens.
    ///
    /// It takes SIGINT, SIGTERM and SIGCHLD, and all children of this process are its own: for programs that
    /// do nothing else.
    ///
    /// # Errors
    /// When the host lacks something, or the state cannot be used.
    pub fn new(
        settings: Settings<'a>,
        tell: impl FnMut(&Event<'_>) + 'a,
    ) -> Result<Self, LaunchError> {
        let mut keeper = Self::without_guests(settings, tell)?;
        keeper.resume_all()?;
        Ok(keeper)
    }

    /// A keeper that does not know yet what its state has.
    pub(crate) fn without_guests(
        settings: Settings<'a>,
        tell: impl FnMut(&Event<'_>) + 'a,
    ) -> Result<Self, LaunchError> {
        // First of all, so that every thread has them blocked.
        let signals = Signals::new().map_err(host("take signals"))?;
        let registry = settings.state.map(Registry::open).transpose()?;
        let images = Images::new(settings.built_in, settings.state)?;
        let timer = Timer::new().map_err(host("make a timer"))?;
        let watcher = Watcher::new().map_err(host("wait for events"))?;
        watcher
            .add(signals.descriptor(), Token::Signals)
            .and_then(|()| watcher.add(timer.descriptor(), Token::Timer))
            .map_err(host("wait for events"))?;
        let null = File::options().read(true).write(true).open("/dev/null");
        let messages = io::stderr().as_fd().try_clone_to_owned();
        Ok(Self {
            teller: Teller::new(tell),
            shared: Shared::new()?,
            images,
            registry,
            guests: Vec::new(),
            left: Vec::new(),
            active: 0,
            children: HashMap::new(),
            pool: Pool::new(settings.pool),
            queue: VecDeque::new(),
            watcher,
            wheel: Wheel::new(clock::boot_ns()),
            desk: Desk::default(),
            leaves: false,
            stops: 0,
            null: null.map_err(host("open /dev/null"))?.into(),
            messages: messages.map_err(host("copy standard error"))?,
            pause_ms: 0,
            buffer: Vec::new(),
            signals,
            timer,
            settings,
            alive: 0,
            fleet: None,
        })
    }

    /// Looks after its guests until all of them have ended, or it is asked to stop.
    ///
    /// The first SIGINT or SIGTERM has guests stop, or be parked if there is a folder for the keeper's state;
    /// those that follow are passed on to monitors that are left, of which the second ends its guest.
    ///
    /// # Errors
    /// When the host fails it.
    pub fn run(mut self) -> Result<(), LaunchError> {
        while !self.is_over() {
            self.timer.set(self.next_ns()).map_err(host("set a timer"))?;
            let happened = self.watcher.wait(self.patience()).map_err(host("wait for events"))?;
            if happened.is_empty() {
                self.use_spare_time();
            }
            for event in happened {
                self.take(event)?;
            }
            if self.fleet.is_some() {
                self.work();
                self.admit();
                self.say_written();
            }
            if let Some(message) = self.registry.as_ref().and_then(Registry::take_problem) {
                self.teller.tell(&Event::Notice { name: "", message });
            }
        }
        Ok(())
    }

    fn take(&mut self, Happened { token, hung_up }: Happened) -> Result<(), LaunchError> {
        match token {
            Token::Source(guest, source) => self.came(guest, source, hung_up),
            Token::Channel(guest) => self.listen_to(guest),
            Token::Client(client) => self.serve_client(client),
            Token::Orders => self.take_orders(),
            Token::Switch => self.hear_switch(),
            Token::Timer => self.time_passed(),
            Token::Signals => {
                let asked = self.signals.take().map_err(host("take signals"))?;
                self.leaves |= asked.leaves && self.fleet.is_some();
                for _ in 0..asked.stops {
                    self.stop();
                }
                while let Some(exit) = next_exit() {
                    match self.children.remove(&exit.process) {
                        Some(guest) => self.ended(guest, exit.how),
                        None => self.leaves_pool(exit.process),
                    }
                }
            }
        }
        Ok(())
    }

    /// When something is to be done although nothing happens, in ns of the boot time.
    fn next_ns(&self) -> Option<u64> {
        let fleet = self.fleet.as_ref().and_then(|fleet| fleet.next_ns());
        [self.wheel.next_ns(), fleet].into_iter().flatten().min()
    }

    /// A monitor that waits for a guest has ended.
    fn leaves_pool(&mut self, process: u32) {
        self.pool.forget(process);
        self.remove_socket(process);
    }

    /// The pool is needed no more.
    pub(crate) fn empty_pool(&mut self) {
        for pooled in self.pool.clear() {
            self.remove_socket(pooled.monitor.process());
        }
    }

    fn time_passed(&mut self) {
        self.timer.take();
        let (now, mut due) = (clock::boot_ns(), Vec::new());
        if self.fleet.is_some() {
            self.fleet_time_passed(now);
        }
        self.wheel.advance(now, &mut due);
        for number in due {
            let guest = &mut self.guests[number as usize];
            if guest.living().is_some() {
                self.attend(number);
                continue;
            }
            let by_time = if guest.is_due(now) { Reason::Timer } else { Reason::Again };
            let reason = guest.postponed.take().unwrap_or(by_time);
            self.wake(number, reason);
        }
    }

    /// How long to wait for events before there is something else to do, in ms.
    fn patience(&self) -> Option<i32> {
        let busy = self.fleet.as_ref().is_some_and(|fleet| fleet.is_busy());
        if busy || self.may_take_from_queue() {
            return Some(0);
        }
        let refills = self.pool.lacks().is_some() && self.stops == 0;
        let refill = refills.then_some(self.pause_ms);
        // The thread that writes the registry does not say when it has.
        let unsaid = self.fleet.as_ref().is_some_and(|fleet| !fleet.unsaid.is_empty());
        let written = unsaid.then_some(UNSAID_PAUSE_MS);
        [refill, written].into_iter().flatten().min()
    }

    fn use_spare_time(&mut self) {
        self.pause_ms = 0;
        if self.may_take_from_queue() {
            if let Some((guest, reason)) = self.queue.pop_front() {
                self.wake(guest, reason);
            }
        } else if let Some(likeness) = self.pool.lacks().filter(|_| self.stops == 0) {
            match start_waiting(
                &self.settings.monitor,
                likeness,
                &self.shared,
                self.fleet.as_deref(),
            ) {
                Ok(pooled) => self.pool.add(pooled),
                // Who wakes without one is told why it cannot be started.
                Err(_) => self.pause_ms = FAILED_PAUSE_MS,
            }
        }
    }
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        self.close();
    }
}

pub(crate) fn host(what: &'static str) -> impl Fn(io::Error) -> LaunchError {
    move |error| LaunchError::Host(format!("cannot {what}: {error}"))
}
