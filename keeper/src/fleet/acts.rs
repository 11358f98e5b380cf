//! Guests are started, stopped, parked, woken, removed; and those who asked hear when it is done.

use super::orders::{Work, tell, wrong};
use crate::clock;
use crate::event::{Event, Reason};
use crate::guest::{Guest, Phase, State};
use crate::keeper::Keeper;
use crate::order::Stream;
use denali_abi::status::HOST_LACKS;
use denali_client::{Act, Action, Desired, Outcome, Problem};
use denali_config::Document;
use denali_control::{Request, Tell};
use denali_launcher::SwapSpace;
use denali_swap::GuestId;
use nix::sys::signal::Signal;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::rc::Rc;

/// How long a guest that is asked to end may take, in ns, before its monitor is killed.
const GRACE_NS: u64 = 10_000_000_000;

/// Somebody who asked for something, shared by all guests that it was asked of; dropped with the last.
pub(crate) type Asker = Rc<RefCell<Stream<Outcome>>>;

/// Somebody who waits for something to become of a guest.
pub(crate) struct Waiter {
    goal: Goal,
    asker: Asker,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Runs,
    Parked,
    Stopped,
    Removed,
}

/// A request of which some guests are left.
pub(crate) struct Acting {
    action: Action,
    guests: VecDeque<Box<str>>,
    asker: Asker,
}

impl Keeper<'_> {
    pub(crate) fn begin_acting(&mut self, act: &Act, mut stream: Stream<Outcome>) {
        for pattern in self.unfitting(&act.guests) {
            let message = format!("{pattern:?} fits no guest; denali list shows them");
            tell(&mut stream, pattern, Some(wrong(message)));
        }
        let found = self.fitting(&act.guests).into_iter();
        let guests = found.map(|number| self.guests[number as usize].name.clone()).collect();
        let asker = Rc::new(RefCell::new(stream));
        let acting = Acting { action: act.action, guests, asker };
        if let Some(fleet) = &mut self.fleet {
            fleet.work.push_back(Work::Act(Box::new(acting)));
        }
    }

    /// Acts on the next guest; what is left.
    pub(crate) fn act_next(&mut self, mut acting: Box<Acting>) -> Option<Box<Acting>> {
        let name = acting.guests.pop_front()?;
        let number = self.fleet.as_ref().and_then(|fleet| fleet.names.get(&name).copied());
        match number {
            None => say(&acting.asker, &name, Some(wrong("it was removed meanwhile"))),
            Some(number) => self.act(number, acting.action, &acting.asker),
        }
        Some(acting)
    }

    fn act(&mut self, number: u32, action: Action, asker: &Asker) {
        let done = match action {
            Action::Start => self.start_guest(number),
            Action::Stop => self.stop_guest(number),
            Action::Park => self.park_guest(number),
            Action::Wake => self.wake_guest(number),
            Action::Remove => self.remove_guest(number),
        };
        let Guest { id, name, .. } = &self.guests[number as usize];
        let (id, name) = (*id, name.clone());
        match done {
            Ok(None) if action == Action::Remove => self.forget_guest(number),
            // What it is meant to do may be another thing than before.
            Ok(None) => self.remember(number),
            Ok(Some(Goal::Runs)) => return self.wait_to_run(number, asker),
            Ok(Some(goal)) => return self.wait(number, goal, asker),
            Err(problem) => return say(asker, &name, Some(problem)),
        }
        self.say_done(id, &name, asker);
    }

    /// Tells somebody that a guest does as it was asked to, as soon as the registry has it on the disk: what was told is so
    /// whatever happens then.
    pub(crate) fn say_done(&mut self, id: GuestId, name: &str, asker: &Asker) {
        let written = self.registry.as_ref().is_none_or(|registry| registry.has_written(id));
        match &mut self.fleet {
            Some(fleet) if !written => fleet.unsaid.push_back((id, name.into(), asker.clone())),
            _ => say(asker, name, None),
        }
    }

    /// Tells those whose guests the registry has by now; it writes them in order.
    pub(crate) fn say_written(&mut self) {
        let (Some(fleet), Some(registry)) = (&mut self.fleet, &self.registry) else { return };
        while let Some((id, name, asker)) = fleet.unsaid.front()
            && registry.has_written(*id)
        {
            say(asker, name, None);
            fleet.unsaid.pop_front();
        }
    }

    pub(crate) fn wait(&mut self, number: u32, goal: Goal, asker: &Asker) {
        let Some(fleet) = &mut self.fleet else { return };
        let waiter = Waiter { goal, asker: asker.clone() };
        fleet.waiters.entry(number).or_default().push(waiter);
    }

    /// Has a guest run: from the start, or from where it was parked. What to wait for, if anything.
    pub(crate) fn start_guest(&mut self, number: u32) -> Result<Option<Goal>, Problem> {
        self.may_run()?;
        let guest = &mut self.guests[number as usize];
        guest.file.desired = Desired::Running;
        match &guest.state {
            State::Lives(living) if living.stopping_ns.is_some() => {
                Err(wrong("it is being stopped; start it when it is"))
            }
            State::Lives(living) if living.phase == Phase::Running => Ok(None),
            State::Lives(_) => Ok(Some(Goal::Runs)),
            State::Waits => {
                self.wake(number, Reason::Command);
                Ok(Some(Goal::Runs))
            }
            State::Stopped | State::Ended | State::Vacant => {
                self.begin_anew(number);
                self.wake(number, Reason::Start);
                Ok(Some(Goal::Runs))
            }
        }
    }

    fn may_run(&self) -> Result<(), Problem> {
        match self.stops {
            0 => Ok(()),
            _ => Err(Problem {
                status: HOST_LACKS,
                message: "the supervisor stops, and takes nothing new".into(),
            }),
        }
    }

    /// A guest has no past from now on.
    pub(crate) fn begin_anew(&mut self, number: u32) {
        let guest = &mut self.guests[number as usize];
        guest.state = State::Waits;
        (guest.commit, guest.deadline_ns, guest.pages) = (None, None, 0);
        (guest.tries, guest.pauses, guest.file.note) = (0, 0, None);
        if guest.file.template.is_some() && guest.lives > 0 {
            // It may be open without its template.
            guest.kept = None;
        }
        self.changed(number);
        self.remember(number);
    }

    fn wake_guest(&mut self, number: u32) -> Result<Option<Goal>, Problem> {
        self.may_run()?;
        let guest = &mut self.guests[number as usize];
        match guest.state {
            // What was lost when it was to come back may be there again: a disk, an image.
            State::Ended if guest.commit.is_some() => {
                guest.state = State::Waits;
                (guest.kept, guest.tries, guest.pauses, guest.file.note) = (None, 0, 0, None);
                if self.warm(number).is_ok() {
                    // Its monitor may have parked it while no keeper was there to hear of it.
                    self.take_successor(number);
                }
                self.start_guest(number)
            }
            State::Stopped | State::Ended | State::Vacant => {
                Err(wrong("it is not parked; start it"))
            }
            _ => self.start_guest(number),
        }
    }

    fn park_guest(&mut self, number: u32) -> Result<Option<Goal>, Problem> {
        let guest = &mut self.guests[number as usize];
        match &mut guest.state {
            State::Waits if guest.commit.is_some() || guest.file.desired == Desired::Parked => {
                guest.file.desired = Desired::Parked;
                self.gate_forget(number);
                Ok(None)
            }
            State::Lives(living) if living.stopping_ns.is_some() => {
                Err(wrong("it is being stopped"))
            }
            State::Lives(living) => {
                guest.file.desired = Desired::Parked;
                match living.phase {
                    Phase::Running => self.park_running(number),
                    Phase::Waking => living.park_soon = true,
                    Phase::Parking => {}
                }
                Ok(Some(Goal::Parked))
            }
            _ => Err(wrong("it does not run; start it first")),
        }
    }

    /// Asks for a guest that runs to be parked.
    pub(crate) fn park_running(&mut self, number: u32) {
        let Some(living) = self.guests[number as usize].living() else { return };
        let park = Request::Park { cut: true };
        if park.tell(living.monitor.channel.as_fd()).is_ok() {
            living.phase = Phase::Parking;
        }
    }

    /// Has a guest end; what was in its memory is gone.
    pub(crate) fn stop_guest(&mut self, number: u32) -> Result<Option<Goal>, Problem> {
        self.guests[number as usize].file.desired = Desired::Stopped;
        match &self.guests[number as usize].state {
            State::Lives(_) => {
                self.ask_to_end(number);
                Ok(Some(Goal::Stopped))
            }
            State::Waits => {
                self.gate_forget(number);
                self.gate_left(number);
                self.stopped(number, "it was parked, or had not started");
                Ok(None)
            }
            State::Stopped | State::Ended | State::Vacant => {
                self.guests[number as usize].state = State::Stopped;
                self.changed(number);
                self.remember(number);
                Ok(None)
            }
        }
    }

    fn remove_guest(&mut self, number: u32) -> Result<Option<Goal>, Problem> {
        match self.stop_guest(number)? {
            Some(_) => Ok(Some(Goal::Removed)),
            None => Ok(None),
        }
    }

    /// Asks a guest to end, and insists after a while.
    pub(crate) fn ask_to_end(&mut self, number: u32) {
        let now_ns = clock::boot_ns();
        let Some(living) = self.guests[number as usize].living() else { return };
        if living.stopping_ns.is_none() {
            living.stopping_ns = Some(now_ns);
            self.signal(number, Signal::SIGTERM);
            if let Some(fleet) = &mut self.fleet {
                fleet.stopping.push_back((now_ns.saturating_add(GRACE_NS), number));
            }
        }
    }

    /// There is no time left to park a guest: it ends. What is not written down by now is not to be: it would
    /// remember that it was asked to end.
    pub(crate) fn hurry(&mut self, number: u32) {
        match self.guests[number as usize].living().map(|living| living.phase) {
            Some(Phase::Running) => self.ask_to_end(number),
            _ => self.signal(number, Signal::SIGKILL),
        }
    }

    /// Kills those that were asked to end, and have not.
    pub(crate) fn insist(&mut self, now_ns: u64) {
        while let Some(fleet) = &mut self.fleet
            && let Some(&(at_ns, number)) = fleet.stopping.front()
            && at_ns <= now_ns
        {
            fleet.stopping.pop_front();
            let living = self.guests.get_mut(number as usize).and_then(|guest| guest.living());
            if living.is_some_and(|living| living.stopping_ns.is_some()) {
                self.signal(number, Signal::SIGKILL);
            }
        }
    }

    /// A guest that has no monitor is stopped from now on.
    pub(crate) fn stopped(&mut self, number: u32, how: &str) {
        self.wheel.clear(number);
        self.desk.leave(number);
        let guest = &mut self.guests[number as usize];
        guest.state = State::Stopped;
        (guest.commit, guest.deadline_ns, guest.pages) = (None, None, 0);
        guest.postponed = None;
        self.changed(number);
        let name = &self.guests[number as usize].name;
        self.teller.tell(&Event::Stopped { name, how: how.into() });
        self.remember(number);
        self.reached(number, Goal::Stopped);
    }

    /// Something has become of a guest: tells those who wait for it, and those who wait in vain.
    pub(crate) fn reached(&mut self, number: u32, goal: Goal) {
        let Some(waiters) = self.fleet.as_mut().and_then(|fleet| fleet.waiters.remove(&number))
        else {
            return;
        };
        let removes = waiters.iter().any(|waiter| waiter.goal == Goal::Removed);
        let Guest { id, name, .. } = &self.guests[number as usize];
        let (id, name) = (*id, name.clone());
        let (mut left, mut done) = (Vec::new(), Vec::new());
        for waiter in waiters {
            match (waiter.goal, goal) {
                (wanted, reached) if wanted == reached => done.push(waiter.asker),
                (Goal::Removed, Goal::Stopped) => done.push(waiter.asker),
                // On its way.
                (Goal::Parked, Goal::Runs) | (Goal::Stopped | Goal::Removed, _) => {
                    left.push(waiter);
                }
                (Goal::Runs, Goal::Parked) => done.push(waiter.asker),
                _ => say(&waiter.asker, &name, Some(wrong("it was stopped meanwhile"))),
            }
        }
        match (removes && goal == Goal::Stopped, &mut self.fleet) {
            (true, _) => self.forget_guest(number),
            (false, Some(fleet)) if !left.is_empty() => {
                fleet.waiters.insert(number, left);
            }
            _ => {}
        }
        for asker in done {
            self.say_done(id, &name, &asker);
        }
    }

    /// Nothing will become of what those wanted who wait for a guest to run or be parked.
    pub(crate) fn failed(&mut self, number: u32, goals: &[Goal], why: &str) {
        let Some(fleet) = &mut self.fleet else { return };
        let Some(waiters) = fleet.waiters.get_mut(&number) else { return };
        let name = &self.guests[number as usize].name;
        waiters.retain(|waiter| {
            let fails = goals.contains(&waiter.goal);
            if fails {
                let problem = Problem { status: HOST_LACKS, message: why.into() };
                say(&waiter.asker, name, Some(problem));
            }
            !fails
        });
        if waiters.is_empty() {
            fleet.waiters.remove(&number);
        }
    }

    /// Takes away a guest's region, whether it is open or not.
    fn remove_region(&self, number: u32) -> Result<(), String> {
        let guest = &self.guests[number as usize];
        if let Some(kept) = &guest.kept {
            return kept.remove_region().map_err(|error| error.to_string());
        }
        let Some(registry) = &self.registry else { return Ok(()) };
        let record = registry.get(guest.id)?;
        let text = record.configuration.as_bytes();
        let document = Document::parse(text, "the registry", "/".into());
        let configured = document.and_then(|document| document.guest());
        let configured = configured.map_err(|error| error.to_string())?;
        SwapSpace::remove_of(&configured, guest.id).map_err(|error| error.to_string())
    }

    /// A guest that does not run is no more.
    fn forget_guest(&mut self, number: u32) {
        if let Err(why) = self.remove_region(number) {
            self.notice(number, format!("its region is left: {why}"));
        }
        self.forget(number);
        let guest = std::mem::replace(&mut self.guests[number as usize], Guest::vacant());
        let Some(fleet) = &mut self.fleet else { return };
        fleet.names.remove(&guest.name);
        fleet.gate.forget(number);
        let tenant = fleet.tenant(&guest.file.tenant);
        let tenant = &mut fleet.tenants[tenant as usize];
        tenant.guests = tenant.guests.saturating_sub(1);
        fleet.vacant.push(number);
        if let (Some(network), Some(_)) = (&fleet.network, guest.file.address) {
            // A switch that does not hear it drops what comes, for nobody is connected.
            let _ = network.remove(number);
        }
        self.teller.publish(&guest.name, denali_client::What::Removed {});
    }

    /// A guest does something else from now on.
    pub(crate) fn changed(&mut self, number: u32) {
        self.guests[number as usize].file.since_ms = super::now_ms();
    }
}

/// Tells somebody what became of a guest.
pub(crate) fn say(asker: &Asker, name: &str, error: Option<Problem>) {
    tell(&mut asker.borrow_mut(), name, error);
}
