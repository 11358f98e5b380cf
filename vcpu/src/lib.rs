//! The vCPU loop: enter the guest, handle its exit, drain the queues, post interrupts, sleep.
//!
//! One thread runs it to completion; the states are an enum, and each has one function.

mod clock;
mod crash;
mod frame;
mod machine;
mod saved;
#[cfg(test)]
mod tests;

pub use clock::{ClockStart, GuestClock, SavedClock};
pub use crash::{Cause, Crash};
pub use machine::{Alarm, Asked, Machine};
pub use saved::SavedLoop;

use denali_abi::doorbell::Doorbell;
use denali_abi::frame::UPCALL_VECTOR;
use denali_abi::registers::{CONSOLE_MAX, NO_DEADLINE};
use denali_hypervisor::{Error as HypervisorError, Exit, Fault, GuestRam, Vcpu, Width};
use denali_interrupts::{Line, Poster};
use denali_scheduler::{Idle, IdlePolicy, IdleState, Situation, earlier};
use frame::Reason;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use vm_memory::{Bytes, GuestAddress};

/// How long a guest that computes goes on when devices have more for it, in ns.
const MORE_AFTER_NS: u64 = 50_000;

/// What the loop does next.
enum State {
    /// Run the guest.
    Enter,
    /// The guest waits: service everything, then sleep or continue it.
    Idle,
    /// The guest is held: let everything gather until it is released. It waits in IDLE or not.
    Held { idle: bool },
    /// The guest is to be saved; it waits in IDLE or not.
    Saving { idle: bool },
    /// The guest is over.
    Ended(End),
}

/// How a guest ended.
#[derive(Debug)]
pub enum End {
    /// It rang TERMINATE with this value.
    Terminated(u32),
    /// It did something that ends a guest.
    Crashed(Box<Crash>),
    /// The monitor was told to end it by this signal.
    Signalled(i32),
    /// It was saved, and goes on elsewhere.
    Parked,
}

/// A failure of the monitor or its host, not of the guest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hypervisor failed.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// Events, devices or the console failed.
    #[error("{what}: {source}")]
    Machine {
        /// What was being done.
        what: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// Everything the loop works on.
pub struct VcpuLoop<M> {
    vcpu: Box<dyn Vcpu>,
    ram: Rc<GuestRam>,
    machine: M,
    poster: Poster,
    timer: Line,
    clock: GuestClock,
    idling: IdleState,
    /// The last deadline while running that was met.
    run_deadline_met: u64,
    /// Devices had more for a guest that computes than they could bring at once.
    more: bool,
    exits: u64,
    console: Vec<u8>,
    /// The guest waits in IDLE when the loop starts.
    starts_idle: bool,
}

impl<M: Machine> VcpuLoop<M> {
    /// A loop for a vCPU that has not run yet; the clock is published here.
    pub fn new(
        vcpu: Box<dyn Vcpu>,
        ram: Rc<GuestRam>,
        machine: M,
        poster: Poster,
        timer: Line,
        mut clock: GuestClock,
        idle: IdlePolicy,
    ) -> Self {
        clock.publish_first(ram.registers());
        let (idling, console) = (IdleState::new(idle), Vec::new());
        let (run_deadline_met, more, exits) = (0, false, 0);
        Self {
            vcpu,
            ram,
            machine,
            poster,
            timer,
            clock,
            idling,
            run_deadline_met,
            more,
            exits,
            console,
            starts_idle: false,
        }
    }

    /// Runs the guest to its end.
    ///
    /// # Errors
    /// When the host fails; whatever the guest does is an [`End`].
    pub fn run(&mut self) -> Result<End, Error> {
        let mut state = self.first()?;
        loop {
            state = match state {
                State::Enter => self.enter()?,
                State::Idle => self.idle()?,
                State::Held { idle } => self.held(idle)?,
                State::Saving { idle } => self.save(idle)?,
                State::Ended(end) => return Ok(end),
            };
        }
    }

    /// Where the loop begins. A guest that was saved in IDLE gets what has come for it meanwhile, and comes out
    /// of IDLE in any case: it is to hear that it was away.
    fn first(&mut self) -> Result<State, Error> {
        if self.starts_idle {
            self.service()?;
            let deadline = self.ram.registers().idle_deadline_ns.load(Ordering::Relaxed);
            if deadline <= self.clock.now_ns() {
                self.timer.raise();
            }
        }
        Ok(State::Enter)
    }

    /// What surrounds the guest.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// What surrounds the guest, to be taken apart when it has ended.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Times the guest has left guest mode.
    #[must_use]
    pub fn exits(&self) -> u64 {
        self.exits
    }

    /// The guest's interrupts: what was posted and how it was gathered.
    #[must_use]
    pub fn interrupts(&self) -> &Poster {
        &self.poster
    }

    /// The guest's clock.
    #[must_use]
    pub fn clock(&self) -> &GuestClock {
        &self.clock
    }

    fn enter(&mut self) -> Result<State, Error> {
        let alarm = self.alarm();
        self.machine.before_entry(alarm).map_err(failed("prepare an entry"))?;
        if let Some(state) = self.stopped(false) {
            return Ok(state);
        }
        self.clock.refresh_if_old(self.ram.registers());
        self.poster.post(self.ram.registers());
        if let Some(crash) = self.deliver_upcall()? {
            return Ok(crash);
        }
        self.machine.inside(true);
        let exit = self.vcpu.run();
        self.machine.inside(false);
        let exit = exit?;
        self.exits += 1;
        self.ram.registers().exits.store(self.exits, Ordering::Relaxed);
        self.handle(exit)
    }

    fn handle(&mut self, exit: Exit) -> Result<State, Error> {
        match exit {
            Exit::Out { port, data, width } => self.handle_out(port, data, width),
            Exit::In { port, width } => self.handle_in(port, width),
            Exit::Fault(fault) => self.handle_fault(fault),
            Exit::Interrupted => {
                self.more = self.service()?;
                Ok(State::Enter)
            }
            Exit::Lost(why) => self.crash(Cause::Lost(why)),
        }
    }

    fn handle_out(&mut self, port: u16, data: u32, width: Width) -> Result<State, Error> {
        match Doorbell::decode(port) {
            Some(Doorbell::Idle) => return Ok(State::Idle),
            Some(Doorbell::Terminate) => return Ok(State::Ended(End::Terminated(data))),
            Some(Doorbell::Console) => return self.write_console(),
            // One queue is never processed alone: what else is ready rides along.
            Some(Doorbell::Flush | Doorbell::Notify(_)) => {
                self.service()?;
            }
            Some(Doorbell::Register(device, offset)) => {
                if self.machine.write_register(device, offset, width, data) {
                    self.service()?;
                }
            }
            None => return self.crash(Cause::UnknownPort { port, write: true }),
        }
        Ok(State::Enter)
    }

    fn handle_in(&mut self, port: u16, width: Width) -> Result<State, Error> {
        let Some(Doorbell::Register(device, offset)) = Doorbell::decode(port) else {
            return self.crash(Cause::UnknownPort { port, write: false });
        };
        let data = self.machine.read_register(device, offset, width);
        self.vcpu.complete_in(data)?;
        Ok(State::Enter)
    }

    fn handle_fault(&mut self, fault: Fault) -> Result<State, Error> {
        let entry = self.ram.registers().fault_entry.load(Ordering::Relaxed);
        if entry == 0 {
            return self.crash(Cause::Fault(fault));
        }
        let reason = Reason {
            vector: u64::from(fault.vector),
            error_code: fault.error_code,
            address: fault.address,
        };
        let interrupted = self.vcpu.registers()?;
        match frame::push(&self.ram, &interrupted, reason, entry) {
            Ok(entered) => {
                self.vcpu.set_registers(&entered)?;
                Ok(State::Enter)
            }
            Err(frame::StackUnusable) => self.crash(Cause::Fault(fault)),
        }
    }

    /// Interrupts the guest if it wants to be and something is pending.
    fn deliver_upcall(&mut self) -> Result<Option<State>, Error> {
        let registers = self.ram.registers();
        if registers.pending.load(Ordering::Relaxed) == 0
            || registers.upcall_enabled.load(Ordering::Relaxed) == 0
        {
            return Ok(None);
        }
        let entry = registers.upcall_entry.load(Ordering::Relaxed);
        if entry == 0 {
            return Ok(None);
        }
        registers.upcall_enabled.store(0, Ordering::Relaxed);
        let interrupted = self.vcpu.registers()?;
        let reason = Reason { vector: UPCALL_VECTOR, error_code: 0, address: 0 };
        match frame::push(&self.ram, &interrupted, reason, entry) {
            Ok(entered) => {
                self.vcpu.set_registers(&entered)?;
                Ok(None)
            }
            Err(frame::StackUnusable) => self.crash(Cause::UpcallStack).map(Some),
        }
    }

    fn write_console(&mut self) -> Result<State, Error> {
        let registers = self.ram.registers();
        let address = registers.console_addr.load(Ordering::Relaxed);
        let length = registers.console_len.load(Ordering::Relaxed).min(CONSOLE_MAX);
        self.console.resize(length as usize, 0);
        if self.ram.read_slice(&mut self.console, GuestAddress(address)).is_err() {
            return self.crash(Cause::BadConsole { address, length });
        }
        self.machine.console(&self.console).map_err(failed("write to the console"))?;
        Ok(State::Enter)
    }

    /// Services everything, then continues the guest if something came of it, else sleeps once.
    fn idle(&mut self) -> Result<State, Error> {
        let more = !self.machine.rests(self.clock.now_ns()) && self.service()?;
        let registers = self.ram.registers();
        self.poster.post(registers);
        let pending = registers.pending.load(Ordering::Acquire) != 0;
        let wanted = registers.idle_deadline_ns.load(Ordering::Relaxed);
        let now_ns = self.clock.now_ns();
        let deadline_ns = (wanted != NO_DEADLINE).then_some(wanted);
        let device_waits = self.machine.deadline().is_some();
        let kept = self.machine.is_kept();
        let situation = Situation { now_ns, pending, more, deadline_ns, device_waits, kept };
        loop {
            match self.idling.next(situation) {
                Idle::Run => return Ok(State::Enter),
                Idle::TimerDue => {
                    self.timer.raise();
                    return Ok(State::Enter);
                }
                Idle::Work => break,
                Idle::Spin => {
                    self.machine.look().map_err(failed("look for events"))?;
                    break;
                }
                Idle::Deepen => self.machine.deepen().map_err(failed("idle deeply"))?,
                Idle::SwapOut => {
                    self.machine.swap_out().map_err(failed("swap the guest out"))?;
                    // Devices that come to rest may have something to tell.
                    if self.poster.post(self.ram.registers()) {
                        break;
                    }
                }
                Idle::Park => {
                    if self.machine.may_park(situation.now_ns) {
                        return Ok(State::Saving { idle: true });
                    }
                }
                Idle::SleepUntil(deadline) => {
                    let until = earlier(deadline, self.machine.deadline());
                    let timeout = until.map(|until| until.saturating_sub(self.clock.now_ns()));
                    self.machine.wait(timeout).map_err(failed("wait for events"))?;
                    break;
                }
            }
        }
        Ok(self.stopped(true).unwrap_or(State::Idle))
    }

    /// The state of a guest that must not go on: it is ended, saved, or held. `idle`: it waits in IDLE.
    fn stopped(&self, idle: bool) -> Option<State> {
        if let Some(signal) = self.machine.ended_by_signal() {
            return Some(State::Ended(End::Signalled(signal)));
        }
        if self.machine.asked() == Asked::Save {
            return Some(State::Saving { idle });
        }
        self.machine.is_held().then_some(State::Held { idle })
    }

    /// Lets interrupts gather until the guest is released; then it gets all of them at once.
    fn held(&mut self, idle: bool) -> Result<State, Error> {
        self.poster.hold();
        self.machine.wait_released().map_err(failed("wait for a release"))?;
        self.poster.release();
        if let Some(state) = self.stopped(idle) {
            return Ok(state);
        }
        self.service()?;
        Ok(State::Enter)
    }

    /// When a guest that computes is to be interrupted before its quantum ends.
    fn alarm(&mut self) -> Option<Alarm> {
        let deadline = self.run_deadline();
        if !std::mem::take(&mut self.more) {
            return deadline;
        }
        let soon = Alarm { at_ns: self.clock.now_ns() + MORE_AFTER_NS, left_ns: MORE_AFTER_NS };
        Some(deadline.filter(|alarm| alarm.left_ns < soon.left_ns).unwrap_or(soon))
    }

    /// Raises the timer if the guest's deadline while running has passed; else tells when it will.
    fn run_deadline(&mut self) -> Option<Alarm> {
        let at_ns = self.ram.registers().run_deadline_ns.load(Ordering::Relaxed);
        if at_ns == 0 || at_ns == self.run_deadline_met {
            return None;
        }
        match at_ns.saturating_sub(self.clock.now_ns()) {
            0 => {
                self.run_deadline_met = at_ns;
                self.timer.raise();
                None
            }
            left_ns => Some(Alarm { at_ns, left_ns }),
        }
    }

    fn service(&mut self) -> Result<bool, Error> {
        let now = self.clock.now_ns();
        self.machine.service(now).map_err(failed("service devices"))
    }

    fn crash(&mut self, cause: Cause) -> Result<State, Error> {
        let registers = self.vcpu.registers()?;
        Ok(State::Ended(End::Crashed(Box::new(Crash { cause, registers }))))
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Machine { what, source }
}
