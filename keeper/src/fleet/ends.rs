//! What becomes of guests of a fleet whose monitors have ended: they are parked, stopped, or started anew.

use super::acts::Goal;
use crate::clock;
use crate::event::{Event, Reason};
use crate::guest::{Living, Phase, State, TRIES_MAX};
use crate::keeper::Keeper;
use crate::signals::How;
use denali_abi::status::{BAD_CONFIG, BAD_IMAGE, PARKED};
use denali_client::Desired;

/// The first pause before a guest is started anew, in ns; each is twice the one before, up to the longest.
const PAUSE_NS: u64 = 100_000_000;
const PAUSE_MAX_NS: u64 = 30_000_000_000;

/// Most guests that are parked and need not be opened again to come back.
const WARM_MAX: usize = 4096;

/// A guest that has run for so long is as good as new, in ns.
const STEADY_NS: u64 = 60_000_000_000;

impl Keeper<'_> {
    /// A guest's monitor has ended; the guest has none from here on.
    pub(crate) fn monitor_ended(&mut self, number: u32, living: &Living, how: How) {
        self.changed(number);
        self.gate_left(number);
        self.remove_socket(living.monitor.process);
        let guest = &mut self.guests[number as usize];
        let interrupted = self.stops > 0 && guest.file.desired == Desired::Running;
        if interrupted && living.stopping_ns.is_some() {
            return self.leave_to_next(number);
        }
        if let Some(parked) = &living.parked {
            if !guest.is_parked_as(parked) {
                guest.commit = None;
                return self.fail(number, "its monitor parked it in a way that cannot be");
            }
            return match living.stopping_ns {
                Some(_) => self.stopped(number, "it was parked just then"),
                None => self.has_parked(number, living),
            };
        }
        let how = living.status.map_or(how, How::Exited);
        if living.stopping_ns.is_some() {
            return self.stopped(number, "it was asked to");
        }
        let was_parked = guest.commit.is_some();
        let unclear = matches!(how, How::Killed(_) | How::Gone | How::Exited(PARKED));
        match (living.phase, how) {
            // By a command at its own socket.
            _ if unclear && self.take_successor(number) => self.has_parked(number, living),
            (Phase::Waking, _) if was_parked && self.stops > 0 => self.has_parked(number, living),
            (Phase::Waking, _) if was_parked => self.wake_again(number, how),
            _ if interrupted => self.leave_to_next(number),
            (_, How::Exited(0)) => self.stopped(number, "by itself, with status 0"),
            // It would be so again.
            (Phase::Waking, How::Exited(BAD_CONFIG | BAD_IMAGE)) => {
                self.fail(number, &format!("its monitor ended {how}; its messages say why"));
            }
            _ => self.start_anew(number, living, how),
        }
    }

    /// A guest is parked, by the monitor that it had.
    fn has_parked(&mut self, number: u32, living: &Living) {
        if let Some(fleet) = &mut self.fleet {
            fleet.totals.parks += 1;
        }
        self.remember(number);
        self.rest(number);
        self.cool(number);
        self.reached(number, Goal::Parked);
        if living.wanted && self.stops == 0 {
            self.wake(number, Reason::Arrival);
        } else if living.to_return && self.returns(number) {
            self.wake(number, Reason::Again);
        }
    }

    /// A guest has been parked: what it keeps open stays so for as long as not too many others were parked since.
    fn cool(&mut self, number: u32) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.warm.push_back(number);
        if fleet.warm.len() <= WARM_MAX {
            return;
        }
        let Some(old) = fleet.warm.pop_front() else { return };
        let guest = &mut self.guests[old as usize];
        // Where something of its own wakes it, that must stay open.
        if guest.waits() && guest.commit.is_some() && guest.sources().is_empty() {
            guest.kept = None;
        }
    }

    /// Gives a guest another monitor whose last one ended while it woke.
    fn wake_again(&mut self, number: u32, how: How) {
        let guest = &mut self.guests[number as usize];
        guest.tries += 1;
        if guest.tries > TRIES_MAX {
            let why = format!("its monitor ended {how} while it woke, {TRIES_MAX} times in a row");
            return self.fail(number, &why);
        }
        let pause = PAUSE_NS << guest.tries;
        self.notice(number, format!("its monitor ended {how} while it woke; once more"));
        self.wake_after(number, Reason::Again, pause);
    }

    /// Leaves a guest that could not be parked before its keeper stopped to the next one, which starts it anew.
    fn leave_to_next(&mut self, number: u32) {
        self.wheel.clear(number);
        let guest = &mut self.guests[number as usize];
        (guest.commit, guest.deadline_ns, guest.pages) = (None, None, 0);
        let name = &guest.name;
        let how = "it could not be parked before its keeper stopped".into();
        self.teller.tell(&Event::Stopped { name, how });
        self.remember(number);
        self.failed(number, &[Goal::Runs, Goal::Parked], "its keeper stopped");
        self.reached(number, Goal::Stopped);
    }

    /// Starts a guest from the beginning whose monitor has ended, if the host says so.
    fn start_anew(&mut self, number: u32, living: &Living, how: How) {
        let why = format!("its monitor ended {how}");
        let restarts = self.fleet.as_ref().is_some_and(|fleet| fleet.told.host.restart);
        let guest = &mut self.guests[number as usize];
        if !restarts || guest.file.desired == Desired::Stopped || self.stops > 0 {
            // To go back to where it was last parked could repeat what it has done to the world.
            guest.commit = None;
            return self.fail(number, &why);
        }
        let steady = clock::boot_ns().saturating_sub(living.since_ns) > STEADY_NS;
        let tries = if steady { 0 } else { guest.tries };
        self.begin_anew(number);
        let guest = &mut self.guests[number as usize];
        guest.tries = tries.saturating_add(1);
        guest.file.restarts += 1;
        guest.file.note = Some(why.as_str().into());
        if let Some(fleet) = &mut self.fleet {
            fleet.totals.restarts += 1;
        }
        self.notice(number, format!("{why}: it is started anew"));
        let pause = (PAUSE_NS << tries.min(16)).min(PAUSE_MAX_NS);
        self.wake_after(number, Reason::Start, pause);
    }

    fn wake_after(&mut self, number: u32, reason: Reason, pause_ns: u64) {
        self.guests[number as usize].postponed = Some(reason);
        self.wheel.set(number, clock::boot_ns().saturating_add(pause_ns));
    }

    /// A guest does not go on, until somebody starts it.
    pub(crate) fn fail(&mut self, number: u32, why: &str) {
        self.wheel.clear(number);
        self.desk.leave(number);
        let guest = &mut self.guests[number as usize];
        guest.state = State::Ended;
        guest.file.note = Some(why.into());
        guest.postponed = None;
        self.changed(number);
        self.gate_forget(number);
        self.gate_left(number);
        let name = &self.guests[number as usize].name;
        let (status, signal) = (None, None);
        self.teller.tell(&Event::Ended { name, status, signal, how: why.into() });
        self.remember(number);
        self.failed(number, &[Goal::Runs, Goal::Parked], why);
        self.reached(number, Goal::Stopped);
    }
}
