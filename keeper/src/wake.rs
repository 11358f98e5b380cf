//! Guests get a monitor. What is here is on the way from a packet to its answer: it parses nothing, waits
//! for nothing, and makes few system calls.

use crate::clock;
use crate::event::{Event, Reason};
use crate::guest::{Guest, Living, Phase, State};
use crate::keeper::{Keeper, REFILL_PAUSE_MS};
use crate::watcher::Token;
use denali_launcher::{Kept, LaunchError, Monitor, Waiting, WakeError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The first pause before a host that lacks something is asked again, in ns; each is twice the one before.
const PAUSE_NS: u64 = 1_000_000;

/// How long a guest waits for the registry to have its last state, in ns, before it is looked again. Whoever finds a
/// region two states ahead of the registry cannot tell whether they follow from what he knows.
const UNWRITTEN_PAUSE_NS: u64 = 2_000_000;

/// The longest pause is 2 to the power of this of the first.
const PAUSES_MAX: u8 = 10;

impl Keeper<'_> {
    /// Gives a guest that has no monitor one.
    pub(crate) fn wake(&mut self, number: u32, reason: Reason) {
        if !self.guests[number as usize].waits() {
            return;
        }
        let since_ns = clock::boot_ns();
        if !self.guests[number as usize].is_remembered(self.registry.as_ref()) {
            self.guests[number as usize].postponed = Some(reason);
            return self.wheel.set(number, since_ns.saturating_add(UNWRITTEN_PAUSE_NS));
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
                self.wake_later(number, &error, since_ns);
            }
            Err(error) => self.give_up(number, &error.to_string()),
        }
        self.pause_ms = REFILL_PAUSE_MS;
    }

    fn give_monitor(&mut self, number: u32) -> Result<Monitor, WakeError> {
        let guest = &self.guests[number as usize];
        let output = self.settings.logs.map(|logs| log_of(logs, &guest.name)).transpose()?;
        let output = output.as_ref().map_or(self.null.as_fd(), AsFd::as_fd);
        let streams = [self.null.as_fd(), output, self.messages.as_fd()];
        let ready = kept_of(guest)?.open(&self.shared, guest.commit)?;
        let program = &self.settings.monitor;
        if !ready.is_handy() {
            return ready.start(program, streams, None);
        }
        // One that was ended while it waited is told of by its end, and replaced here.
        while let Some(waiting) = self.pool.pop() {
            match ready.hand_to(waiting, streams, None) {
                Err(error) if error.passes && !self.pool.is_empty() => {}
                Err(error) if error.passes => break,
                handed => return handed,
            }
        }
        ready.hand_to(Waiting::start(program, None)?, streams, None)
    }

    /// A guest has a monitor from here on.
    fn lives(&mut self, number: u32, monitor: Monitor, reason: Reason, since_ns: u64) {
        let pid = monitor.process;
        self.children.insert(pid, number);
        // Where it cannot be watched, what it says is heard when it ends.
        let _ = self.watcher.add(monitor.channel.as_fd(), Token::Channel(number));
        self.desk.leave(number);
        let guest = &mut self.guests[number as usize];
        guest.lives = guest.lives.saturating_add(1);
        let stopping = self.stops > 0;
        let to_park = stopping && self.registry.is_some();
        let (phase, parked) = (Phase::Waking, None);
        guest.state = State::Lives(Box::new(Living {
            monitor,
            phase,
            reason,
            since_ns,
            parked,
            to_park,
            adopted: false,
            stopping_ns: None,
            status: None,
        }));
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
        if let Some(living) = self.guests[number as usize].living() {
            // It is a child that has not been waited for, so that the number is still its own.
            let _ = kill(Pid::from_raw(living.monitor.process as i32), Signal::SIGTERM);
        }
    }
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
