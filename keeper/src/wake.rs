//! Guests get a monitor. What is here is on the way from a packet to its answer: it parses nothing, waits
//! for nothing, and makes few system calls.

use crate::clock;
use crate::event::{Event, Reason};
use crate::fleet::Fleet;
use crate::guest::{Guest, Living, State};
use crate::keeper::{Keeper, Pooled, REFILL_PAUSE_MS};
use crate::watcher::Token;
use denali_launcher::spec::Likeness;
use denali_launcher::{Kept, LaunchError, Monitor, Shared, Waiting, WakeError};
use nix::sys::signal::Signal;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The first pause before a host that lacks something is asked again, in ns; each is twice the one before.
const PAUSE_NS: u64 = 1_000_000;

/// How long a guest waits for the registry to have its last state, in ns, before it is looked again. Whoever finds a
/// region two states ahead of the registry cannot tell whether they follow from what he knows.
const UNWRITTEN_PAUSE_NS: u64 = 2_000_000;

/// For how long what the monitor of a guest says that wakes because something came for it is not heard yet, in ns.
const UNHEEDED_NS: u64 = 20_000_000;

/// The longest pause is 2 to the power of this of the first.
const PAUSES_MAX: u8 = 10;

impl Keeper<'_> {
    /// Gives a guest that has no monitor one, as soon as it is let in.
    pub(crate) fn wake(&mut self, number: u32, reason: Reason) {
        if !self.guests[number as usize].waits() {
            return;
        }
        match self.fleet {
            Some(_) => self.want(number, reason),
            None => self.let_in(number, reason, clock::boot_ns()),
        }
    }

    /// Gives a guest a monitor, which is wanted for this reason since then.
    pub(crate) fn let_in(&mut self, number: u32, reason: Reason, since_ns: u64) {
        if !self.guests[number as usize].is_remembered(self.registry.as_ref()) {
            self.guests[number as usize].postponed = Some(reason);
            return self.wheel.set(number, clock::boot_ns().saturating_add(UNWRITTEN_PAUSE_NS));
        }
        self.wheel.clear(number);
        match self.give_monitor(number) {
            Ok(monitor) => {
                let guest = &mut self.guests[number as usize];
                (guest.pauses, guest.postponed) = (0, None);
                self.lives(number, monitor, reason, since_ns);
            }
            Err(error) if error.passes => {
                self.guests[number as usize].postponed = Some(reason);
                self.wake_later(number, &error, clock::boot_ns());
            }
            Err(error) => self.give_up(number, &error.to_string()),
        }
        self.pause_ms = REFILL_PAUSE_MS;
    }

    fn give_monitor(&mut self, number: u32) -> Result<Monitor, WakeError> {
        self.warm(number)?;
        let guest = &self.guests[number as usize];
        let output = self.settings.logs.map(|logs| log_of(logs, &guest.name)).transpose()?;
        let output = output.as_ref().map_or(self.null.as_fd(), AsFd::as_fd);
        let streams = [self.null.as_fd(), output, self.messages.as_fd()];
        let mut ready = kept_of(guest)?.open(&self.shared, guest.commit)?;
        if ready.needs_wire() {
            ready.connect(wire(self.fleet.as_deref(), number)?);
        }
        let program = &self.settings.monitor;
        if !ready.is_handy() {
            let socket = self.fleet.as_deref().map(Fleet::socket_for_next).transpose()?;
            let monitor = ready.start(program, streams, socket.as_ref().map(AsFd::as_fd))?;
            if let Some(fleet) = &self.fleet {
                fleet.name_socket(monitor.process);
            }
            return Ok(monitor);
        }
        let likeness = ready.likeness();
        // One that was ended while it waited is told of by its end, and replaced here.
        while let Some(Pooled { monitor, socket }) = self.pool.take(likeness) {
            match ready.hand_to(monitor, streams, socket.as_ref().map(AsFd::as_fd)) {
                Err(error) if error.passes => {}
                handed => return handed,
            }
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.totals.missed += 1;
        }
        let made = start_waiting(program, likeness, &self.shared, self.fleet.as_deref())?;
        let Pooled { monitor, socket } = made;
        ready.hand_to(monitor, streams, socket.as_ref().map(AsFd::as_fd))
    }

    /// A guest has a monitor from here on.
    fn lives(&mut self, number: u32, monitor: Monitor, reason: Reason, since_ns: u64) {
        let pid = monitor.process;
        self.children.insert(pid, number);
        // Where it cannot be watched, what it says is heard when it ends.
        let (channel, token) = (monitor.channel.as_fd(), Token::Channel(number));
        let _ = match reason {
            // That the guest runs must be known when its monitor ends, and is told before it runs; until its first
            // answer is out, whoever is told would only be in its way.
            Reason::Arrival if self.fleet.is_none() => {
                self.wheel.set(number, since_ns.saturating_add(UNHEEDED_NS));
                self.watcher.add_unheeded(channel, token)
            }
            _ => self.watcher.add(channel, token),
        };
        self.desk.leave(number);
        let guest = &mut self.guests[number as usize];
        guest.lives = guest.lives.saturating_add(1);
        let stopping = self.stops > 0;
        let to_park = stopping && self.registry.is_some();
        guest.state =
            State::Lives(Box::new(Living { to_park, ..Living::new(monitor, reason, since_ns) }));
        self.alive += 1;
        self.changed(number);
        let guest = &self.guests[number as usize];
        match reason {
            Reason::Start => {}
            because => {
                self.teller.tell(&Event::Waking { name: &guest.name, pid, because });
            }
        }
        if stopping && !to_park {
            self.ask_to_stop(number);
        }
        self.remember(number);
    }

    /// Asks the host again after a while.
    fn wake_later(&mut self, number: u32, error: &WakeError, now_ns: u64) {
        let guest = &mut self.guests[number as usize];
        let pause = PAUSE_NS << guest.pauses;
        if guest.pauses < PAUSES_MAX {
            guest.pauses += 1;
            if guest.pauses == PAUSES_MAX {
                let message = format!("cannot get a monitor yet: {error}");
                self.teller.tell(&Event::Notice { name: &guest.name, message });
            }
        }
        self.wheel.set(number, now_ns.saturating_add(pause));
    }

    /// Sends a guest's monitor SIGTERM.
    pub(crate) fn ask_to_stop(&mut self, number: u32) {
        self.signal(number, Signal::SIGTERM);
    }
}

/// The monitor's end of a guest's wire to the switch, whose end the switch has.
fn wire(fleet: Option<&Fleet>, number: u32) -> Result<OwnedFd, WakeError> {
    let later = |why: String| WakeError { error: LaunchError::Host(why), passes: true };
    let network = fleet.and_then(|fleet| fleet.network.as_ref());
    let network = network.ok_or_else(|| later("there is no switch".into()))?;
    network.connect(number).map_err(|error| later(format!("the switch: {error}")))
}

/// Starts a monitor that waits for a guest like this one.
pub(crate) fn start_waiting(
    program: &Path,
    likeness: Likeness,
    shared: &Shared,
    fleet: Option<&Fleet>,
) -> Result<Pooled, WakeError> {
    let monitor = Waiting::start(program, likeness, shared)?;
    let socket = fleet.map(|fleet| fleet.socket_for(monitor.process())).transpose()?;
    Ok(Pooled { monitor, socket })
}

/// What a guest keeps open.
fn kept_of(guest: &Guest) -> Result<&Kept, WakeError> {
    guest.kept.as_deref().ok_or_else(|| LaunchError::Host("it is not open".into()).into())
}

/// The file to which what a guest writes is added.
fn log_of(folder: &Path, name: &str) -> Result<File, WakeError> {
    let plain = |c: char| if c == '/' || c == '\0' { '_' } else { c };
    let name: String = name.chars().map(plain).collect();
    let path = folder.join(format!("{name}.log"));
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    opened.map_err(|error| {
        LaunchError::Host(format!("--logs: cannot open {}: {error}", path.display())).into()
    })
}
