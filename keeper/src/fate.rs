//! What becomes of guests: what their monitors say, and how they end.

use crate::clock;
use crate::event::{Event, Reason};
use crate::fleet::Goal;
use crate::guest::{Phase, State, TRIES_MAX};
use crate::keeper::Keeper;
use crate::signals::How;
use crate::watcher::Token;
use denali_abi::status::PARKED;
use denali_client::Desired;
use denali_control::{Received, Told, receive};
use std::os::fd::AsFd;

/// Most messages of a monitor that are heard before others are.
const MESSAGES_MAX: usize = 16;

/// The first pause before a guest whose monitor was ended gets another one, in ns; each is twice the one
/// before.
const TRY_PAUSE_NS: u64 = 10_000_000;

impl Keeper<'_> {
    /// Hears what a guest's monitor says.
    pub(crate) fn listen_to(&mut self, number: u32) {
        for _ in 0..MESSAGES_MAX {
            let Some(living) = self.guests[number as usize].living() else { return };
            let channel = living.monitor.channel.as_fd();
            match receive(channel, &mut self.buffer) {
                Ok(Received::Nothing) => return,
                Ok(Received::Message(_)) => match serde_json::from_slice(&self.buffer) {
                    Ok(told) => self.told(number, told),
                    Err(_) => return self.watcher.remove(channel),
                },
                Ok(Received::Gone) | Err(_) if living.adopted => {
                    return self.over(number, How::Gone);
                }
                // Its end is told of by a signal.
                Ok(Received::Gone) | Err(_) => return self.watcher.remove(channel),
            }
        }
    }

    /// Hears from here on what the monitor of a guest says that was woken a while ago.
    pub(crate) fn attend(&mut self, number: u32) {
        if let Some(living) = self.guests[number as usize].living() {
            // Where it cannot be watched, what it says is heard when it ends.
            let _ = self.watcher.heed(living.monitor.channel.as_fd(), Token::Channel(number));
        }
    }

    fn told(&mut self, number: u32, told: Told) {
        let guest = &mut self.guests[number as usize];
        let State::Lives(living) = &mut guest.state else { return };
        let name = &guest.name;
        match told {
            Told::Running { boot_ns } => {
                living.phase = Phase::Running;
                guest.tries = 0;
                let pid = living.monitor.process;
                // A monitor is believed no time that is still to come.
                let at_ns = boot_ns.min(clock::boot_ns());
                let micros = at_ns.saturating_sub(living.since_ns) / 1000;
                self.teller.tell(&match living.reason {
                    Reason::Start => Event::Started { name, pid },
                    _ => Event::Woken { name, micros },
                });
                let came_back = living.reason != Reason::Start;
                let (to_park, park_soon) = (living.to_park, std::mem::take(&mut living.park_soon));
                self.runs(number, came_back.then_some(micros));
                if to_park {
                    self.ask_to_park(number);
                } else if park_soon {
                    self.park_running(number);
                }
            }
            Told::Ended { status, .. } => living.status = Some(status),
            Told::Parking {} => living.phase = Phase::Parking,
            Told::Parked(parked) => living.parked = Some(parked),
            Told::Refused { why } => {
                let asked = std::mem::take(&mut living.to_park);
                living.phase = Phase::Running;
                self.teller.tell(&Event::NotParked { name, why: why.clone() });
                if asked {
                    self.ask_to_stop(number);
                }
                self.gate_stays(number);
                self.failed(number, &[Goal::Parked], &why);
            }
            // Nobody asks for these here.
            Told::Status(_) | Told::SwappedOut { .. } | Told::Snapshot { .. } => {}
        }
    }

    /// A guest runs from now on; it has come back within so many µs, unless it has started.
    fn runs(&mut self, number: u32, came_back: Option<u64>) {
        self.gate_runs(number);
        self.changed(number);
        if let (Some(micros), Some(fleet)) = (came_back, &mut self.fleet) {
            fleet.woken(micros);
            self.guests[number as usize].file.wakes += 1;
        }
        self.reached(number, Goal::Runs);
    }

    /// A guest's monitor has ended.
    pub(crate) fn ended(&mut self, number: u32, how: How) {
        self.listen_to(number);
        self.over(number, how);
    }

    /// A guest's monitor is no more, and has said all that it will.
    fn over(&mut self, number: u32, how: How) {
        let guest = &mut self.guests[number as usize];
        if guest.living().is_none() {
            return;
        }
        // It may still have been to be heeded.
        self.wheel.clear(number);
        let State::Lives(living) = std::mem::replace(&mut guest.state, State::Waits) else {
            return;
        };
        self.alive -= 1;
        if self.fleet.is_some() {
            return self.monitor_ended(number, &living, how);
        }
        if let Some(parked) = &living.parked {
            return match guest.is_parked_as(parked) {
                true => self.park(number),
                false => {
                    self.lose(number, Some(how), "its monitor parked it in a way that cannot be");
                }
            };
        }
        let was_parked = guest.commit.is_some();
        match (living.phase, how) {
            (_, How::Exited(PARKED)) if self.take_successor(number) => self.leave(number),
            (Phase::Waking, _) if was_parked => {
                self.try_again(number, Some(how), "while it woke");
            }
            (Phase::Parking, How::Killed(_) | How::Gone) => self.recover_parking(number, how),
            (Phase::Running, How::Killed(_) | How::Gone) => {
                self.recover_running(number, Some(how), "while it ran");
            }
            (_, How::Exited(_)) => self.finish(number, Some(how), &how.to_string()),
            _ => self.finish(number, Some(how), &format!("{how}, before it ran")),
        }
    }

    /// A guest is parked from now on.
    fn park(&mut self, number: u32) {
        self.remember(number);
        self.rest(number);
    }

    /// A guest that is parked is watched for what wakes it.
    pub(crate) fn rest(&mut self, number: u32) {
        let stops = self.stops > 0;
        // Whoever hears that it is parked may want it at once. What comes then is not what the guest has left.
        if !stops {
            if self.fleet.is_some() {
                // It was another keeper's, if nothing of it is open.
                self.open_sources(number);
            }
            self.watch(number);
        }
        let guest = &self.guests[number as usize];
        self.teller.tell(&Event::Parked {
            name: &guest.name,
            pages: guest.pages,
            sequence: guest.commit.map_or(0, |commit| commit.sequence),
        });
        if stops && self.fleet.is_none() {
            self.stop_parked(number);
        }
    }

    /// The monitor was killed while it parked the guest, which goes on from the new state if that is whole,
    /// else from the one before.
    fn recover_parking(&mut self, number: u32, how: How) {
        match self.take_successor(number) || self.guests[number as usize].commit.is_some() {
            true => self.try_again(number, Some(how), "while it was parked"),
            false => {
                self.lose(number, Some(how), "its monitor was ended while it was first parked");
            }
        }
    }

    /// The monitor was killed while the guest ran, as far as is known: if it had parked it and only not told
    /// so, the guest goes on. Otherwise to go back could repeat what it has done to the world.
    pub(crate) fn recover_running(&mut self, number: u32, how: Option<How>, when: &str) {
        let parked = self.take_successor(number);
        let go_back = self.settings.go_back && self.guests[number as usize].commit.is_some();
        match parked || go_back {
            true => self.try_again(number, how, when),
            false => self.lose(number, how, &format!("its monitor was ended {when}")),
        }
    }

    /// Knows the state after the one that was known, if it is in the guest's region.
    pub(crate) fn take_successor(&mut self, number: u32) -> bool {
        let guest = &mut self.guests[number as usize];
        let Some(kept) = &guest.kept else { return false };
        let Ok(Some(successor)) = kept.successor_of(guest.commit) else { return false };
        guest.commit = Some(successor);
        // Its monitor knows, when the guest has another one.
        guest.deadline_ns = None;
        true
    }

    /// Gives a guest another monitor after a moment, a few times.
    fn try_again(&mut self, number: u32, how: Option<How>, when: &str) {
        let guest = &mut self.guests[number as usize];
        guest.tries += 1;
        let what = match how {
            None => format!("its monitor ended {when}"),
            Some(how) => format!("its monitor ended {how} {when}"),
        };
        if guest.tries > TRIES_MAX {
            return self.give_up(number, &format!("{what}, {TRIES_MAX} times in a row"));
        }
        let message = format!("{what}; it goes on from where it was last parked");
        self.teller.tell(&Event::Notice { name: &guest.name, message });
        let now = clock::boot_ns();
        // Whoever takes it up from disk is to wake it as well.
        guest.deadline_ns = Some(now);
        self.wheel.set(number, now.saturating_add(TRY_PAUSE_NS << guest.tries));
        self.remember(number);
    }

    /// Somebody had a guest parked through its control socket, to go on elsewhere: its region stays.
    pub(crate) fn leave(&mut self, number: u32) {
        self.forget(number);
        self.end(number, Some(How::Exited(PARKED)), "it was parked by a command, and left");
    }

    /// A guest cannot be given a monitor. What there is of it stays, so that a keeper with the same state may
    /// try again.
    pub(crate) fn give_up(&mut self, number: u32, why: &str) {
        if self.fleet.is_some() {
            return self.fail(number, why);
        }
        if self.registry.is_none() || self.guests[number as usize].commit.is_none() {
            return self.finish(number, None, why);
        }
        self.remember(number);
        self.end(number, None, why);
    }

    /// A guest cannot go on.
    fn lose(&mut self, number: u32, how: Option<How>, why: &str) {
        self.finish(number, how, &format!("{why}: it is lost"));
    }

    /// A guest has ended: nothing of it stays.
    pub(crate) fn finish(&mut self, number: u32, how: Option<How>, why: &str) {
        self.undo(number);
        self.end(number, how, why);
    }

    /// Takes away what a guest has on disks.
    pub(crate) fn undo(&mut self, number: u32) {
        let removed = self.guests[number as usize].kept.as_ref().map(|kept| kept.remove_region());
        if let Some(Err(error)) = removed {
            let name = &self.guests[number as usize].name;
            self.teller.tell(&Event::Notice { name, message: error.to_string() });
        }
        self.forget(number);
    }

    fn end(&mut self, number: u32, how: Option<How>, why: &str) {
        let guest = &mut self.guests[number as usize];
        guest.state = State::Ended;
        let (status, signal) = match how {
            None | Some(How::Gone) => (None, None),
            Some(How::Exited(status)) => (Some(status), None),
            Some(How::Killed(signal)) => (None, Some(signal)),
        };
        self.teller.tell(&Event::Ended { name: &guest.name, status, signal, how: why.into() });
        guest.kept = None;
        self.desk.leave(number);
        self.wheel.clear(number);
        self.active -= 1;
    }

    /// Remembers on disk how a guest is.
    pub(crate) fn remember(&mut self, number: u32) {
        let Some(registry) = &self.registry else { return };
        let guest = &self.guests[number as usize];
        let interrupted = self.stops > 0 && guest.file.desired == Desired::Running;
        // What is not open is as it was written, but for what it does.
        let record = guest.record(number, interrupted).or_else(|| {
            let written = registry.get(guest.id).ok()?;
            Some(guest.update(written, interrupted))
        });
        if let Some(record) = record {
            registry.put(record);
        }
    }

    pub(crate) fn forget(&mut self, number: u32) {
        if let Some(registry) = &self.registry {
            registry.remove(self.guests[number as usize].id);
        }
    }
}
