//! The loop driven by a scripted vCPU and a machine that only writes down what is asked of it.

use super::*;
use denali_abi::registers::{PENDING_STOP, PENDING_TIMER};
use denali_arch::space::{Access, AddressSpace};
use denali_hypervisor::{Backing, PAGE_FAULT, Registers, VcpuState};
use denali_interrupts::Batcher;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

mod saving;

const TEXT: u64 = 0x20_0000;
const STACK: u64 = 0x20_0000;
const IDLE: Exit = out(denali_abi::doorbell::IDLE, 0);
const TERMINATE: Exit = out(denali_abi::doorbell::TERMINATE, 7);

const fn out(port: u16, data: u32) -> Exit {
    Exit::Out { port, data, width: Width::Double }
}

/// What happened, in order.
type Log = Rc<RefCell<Vec<String>>>;

/// One thing the guest does: it changes shared memory, then exits.
type Step = (Box<dyn Fn(&GuestRam)>, Exit);

struct ScriptedVcpu {
    steps: VecDeque<Step>,
    registers: Registers,
    ram: Rc<GuestRam>,
    log: Log,
}

impl Vcpu for ScriptedVcpu {
    fn run(&mut self) -> Result<Exit, HypervisorError> {
        let (act, exit) = self.steps.pop_front().expect("the script goes on");
        self.log.borrow_mut().push(format!("run {:#x}", self.registers.rip));
        act(&self.ram);
        Ok(exit)
    }

    fn complete_in(&mut self, data: u32) -> Result<(), HypervisorError> {
        self.log.borrow_mut().push(format!("in {data}"));
        Ok(())
    }

    fn registers(&mut self) -> Result<Registers, HypervisorError> {
        Ok(self.registers)
    }

    fn set_registers(&mut self, registers: &Registers) -> Result<(), HypervisorError> {
        self.registers = *registers;
        Ok(())
    }

    fn save(&mut self) -> Result<VcpuState, HypervisorError> {
        Ok(VcpuState { registers: self.registers, ..VcpuState::default() })
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), HypervisorError> {
        self.set_registers(&state.registers)
    }
}

struct ScriptedMachine {
    log: Log,
    /// Lines raised by each wait, in turn; when they are used up, the guest is ended by signal 15.
    wakes: VecDeque<Option<Line>>,
    ended: Option<i32>,
    /// The guest is to be held at its next entry.
    hold: Rc<RefCell<bool>>,
    held: bool,
    /// The next service leaves something undone.
    more: Rc<RefCell<bool>>,
    /// The memory is out.
    out: bool,
    saves: Rc<RefCell<Saves>>,
}

/// What is asked about saving, and what was saved.
#[derive(Default)]
struct Saves {
    /// The guest is to be saved at its next entry or wait.
    asked: bool,
    /// It then goes on here.
    goes_on: bool,
    saved: Vec<SavedLoop>,
}

impl Machine for ScriptedMachine {
    fn console(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.log.borrow_mut().push(format!("console {}", String::from_utf8_lossy(bytes)));
        Ok(())
    }

    fn read_register(&mut self, device: usize, offset: u16, _: Width) -> u32 {
        (device * 1000) as u32 + u32::from(offset)
    }

    fn write_register(&mut self, _: usize, _: u16, _: Width, value: u32) -> bool {
        value != 0
    }

    fn service(&mut self, _: u64) -> io::Result<bool> {
        self.log.borrow_mut().push("service".into());
        Ok(std::mem::take(&mut self.more.borrow_mut()))
    }

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn wait(&mut self, timeout_ns: Option<u64>) -> io::Result<()> {
        self.log.borrow_mut().push(format!("wait {}", timeout_ns.is_some()));
        match self.wakes.pop_front() {
            Some(Some(line)) => line.raise(),
            Some(None) => {}
            None => self.ended = Some(15),
        }
        Ok(())
    }

    fn look(&mut self) -> io::Result<()> {
        self.log.borrow_mut().push("look".into());
        self.wakes.pop_front().flatten().iter().for_each(Line::raise);
        Ok(())
    }

    fn rests(&self, _: u64) -> bool {
        self.out
    }

    fn swap_out(&mut self) -> io::Result<()> {
        self.log.borrow_mut().push("swap out".into());
        self.out = true;
        Ok(())
    }

    fn is_kept(&self) -> bool {
        true
    }

    fn may_park(&mut self, _: u64) -> bool {
        true
    }

    fn asked(&self) -> Asked {
        if self.saves.borrow().asked { Asked::Save } else { Asked::Nothing }
    }

    fn boot_id(&self) -> &str {
        "this one"
    }

    fn save(&mut self, state: SavedLoop, _: u64) -> io::Result<bool> {
        self.log.borrow_mut().push("save".into());
        let mut saves = self.saves.borrow_mut();
        saves.asked = false;
        saves.saved.push(state);
        Ok(!saves.goes_on)
    }

    fn deepen(&mut self) -> io::Result<()> {
        self.log.borrow_mut().push("deepen".into());
        Ok(())
    }

    fn before_entry(&mut self, alarm: Option<Alarm>) -> io::Result<()> {
        if alarm.is_some() {
            self.log.borrow_mut().push("alarm".into());
        }
        if std::mem::take(&mut *self.hold.borrow_mut()) {
            self.held = true;
        }
        Ok(())
    }

    fn is_held(&self) -> bool {
        self.held
    }

    fn wait_released(&mut self) -> io::Result<()> {
        self.log.borrow_mut().push("held".into());
        self.wakes.pop_front().flatten().iter().for_each(Line::raise);
        self.held = false;
        Ok(())
    }

    fn ended_by_signal(&self) -> Option<i32> {
        self.ended
    }
}

struct Guest {
    ram: Rc<GuestRam>,
    batcher: Arc<Batcher>,
    log: Log,
    idle: IdlePolicy,
    hold: Rc<RefCell<bool>>,
    more: Rc<RefCell<bool>>,
    saves: Rc<RefCell<Saves>>,
}

impl Guest {
    fn new() -> Self {
        let mut space = AddressSpace::new(16 << 20).unwrap();
        space.set("text", TEXT, TEXT + 4096, Some(Access::ReadExecute)).unwrap();
        let ram = Rc::new(GuestRam::new(space, Backing::Private).unwrap());
        ram.registers().idle_deadline_ns.store(NO_DEADLINE, Ordering::Relaxed);
        let idle = IdlePolicy {
            sleep: true,
            spin_max_ns: 0,
            deep_after_ns: None,
            out_after_ns: None,
            park: None,
        };
        Self {
            ram,
            batcher: Batcher::new(),
            log: Log::default(),
            idle,
            hold: Rc::default(),
            more: Rc::default(),
            saves: Rc::default(),
        }
    }

    fn run(&self, steps: Vec<Step>, wakes: Vec<Option<Line>>) -> End {
        self.create(steps, wakes).run().unwrap()
    }

    fn create(&self, steps: Vec<Step>, wakes: Vec<Option<Line>>) -> VcpuLoop<ScriptedMachine> {
        let mut registers = Registers { rip: TEXT, rflags: 2, ..Registers::default() };
        registers.gpr[denali_abi::frame::GPR_RSP] = STACK;
        let vcpu = ScriptedVcpu {
            steps: steps.into(),
            registers,
            ram: self.ram.clone(),
            log: self.log.clone(),
        };
        let machine = ScriptedMachine {
            log: self.log.clone(),
            wakes: wakes.into(),
            ended: None,
            hold: self.hold.clone(),
            held: false,
            more: self.more.clone(),
            out: false,
            saves: self.saves.clone(),
        };
        let clock = GuestClock::new(ClockStart::now(), None, 0);
        let timer = self.batcher.timer_line();
        let poster = Poster::new(self.batcher.clone());
        let ram = self.ram.clone();
        VcpuLoop::new(Box::new(vcpu), ram, machine, poster, timer, clock, self.idle)
    }

    fn log(&self) -> String {
        self.log.borrow().join(", ")
    }

    fn pending(&self) -> u64 {
        self.ram.registers().pending.load(Ordering::Relaxed)
    }
}

fn then(exit: Exit) -> Step {
    (Box::new(|_| {}), exit)
}

fn doing(act: impl Fn(&GuestRam) + 'static, exit: Exit) -> Step {
    (Box::new(act), exit)
}

#[test]
fn an_idle_guest_sleeps_until_something_is_raised() {
    let guest = Guest::new();
    let line = guest.batcher.device_line(3);
    let end = guest.run(vec![then(IDLE), then(TERMINATE)], vec![None, line]);
    assert!(matches!(end, End::Terminated(7)));
    assert_eq!(guest.pending(), 1 << 3);
    // A wake for nothing does not run the guest.
    let expected = "run 0x200000, service, wait false, service, wait false, service, run 0x200000";
    assert_eq!(guest.log(), expected);
}

#[test]
fn pending_interrupts_end_idle_at_once() {
    let guest = Guest::new();
    let take = |ram: &GuestRam| ram.registers().pending.store(1, Ordering::Relaxed);
    guest.run(vec![doing(take, IDLE), then(TERMINATE)], Vec::new());
    assert_eq!(guest.log(), "run 0x200000, service, run 0x200000");
}

#[test]
fn a_deadline_that_has_passed_raises_the_timer() {
    let guest = Guest::new();
    let past = |ram: &GuestRam| ram.registers().idle_deadline_ns.store(1, Ordering::Relaxed);
    guest.run(vec![doing(past, IDLE), then(TERMINATE)], Vec::new());
    assert_eq!(guest.pending(), 1 << PENDING_TIMER);
    assert_eq!(guest.log(), "run 0x200000, service, run 0x200000");
}

#[test]
fn a_deadline_to_come_bounds_the_sleep() {
    let guest = Guest::new();
    let later = |ram: &GuestRam| {
        ram.registers().idle_deadline_ns.store(NO_DEADLINE - 1, Ordering::Relaxed);
    };
    let stop = guest.batcher.stop_line();
    guest.run(vec![doing(later, IDLE), then(TERMINATE)], vec![Some(stop)]);
    assert_eq!(guest.log(), "run 0x200000, service, wait true, service, run 0x200000");
    assert_eq!(guest.pending(), 1 << PENDING_STOP);
}

#[test]
fn a_guest_that_is_never_to_sleep_looks_again_and_again() {
    let mut guest = Guest::new();
    guest.idle.sleep = false;
    let line = guest.batcher.device_line(1);
    guest.run(vec![then(IDLE), then(TERMINATE)], vec![None, line]);
    let expected = "run 0x200000, service, look, service, look, service, run 0x200000";
    assert_eq!(guest.log(), expected);
}

#[test]
fn a_guest_that_sleeps_for_long_is_deeply_idle_once() {
    let mut guest = Guest::new();
    guest.idle.deep_after_ns = Some(1);
    let line = guest.batcher.device_line(1);
    guest.run(vec![then(IDLE), then(TERMINATE)], vec![None, None, line]);
    let expected = "run 0x200000, service, wait true, service, deepen, wait false, service, wait false, \
                    service, run 0x200000";
    assert_eq!(guest.log(), expected);
}

#[test]
fn a_deadline_while_running_raises_the_timer_once() {
    let guest = Guest::new();
    let until = |at: u64| {
        move |ram: &GuestRam| {
            ram.registers().run_deadline_ns.store(at, Ordering::Relaxed);
            ram.registers().pending.store(0, Ordering::Relaxed);
        }
    };
    let raised = |ram: &GuestRam| ram.registers().pending.load(Ordering::Relaxed) != 0;
    let steps = vec![
        doing(until(u64::MAX), Exit::Interrupted),
        doing(move |ram| assert!(!raised(ram), "not yet"), Exit::Interrupted),
        doing(until(1), Exit::Interrupted),
        doing(move |ram| assert!(raised(ram), "at the next entry"), Exit::Interrupted),
        doing(until(1), Exit::Interrupted),
        doing(move |ram| assert!(!raised(ram), "each value once"), TERMINATE),
    ];
    guest.run(steps, Vec::new());
    assert_eq!(guest.log().matches("alarm").count(), 2, "while the far one is set");
}

#[test]
fn what_is_raised_while_a_guest_is_held_comes_at_once() {
    let guest = Guest::new();
    let (hold, line) = (guest.hold.clone(), guest.batcher.device_line(4));
    let stop = guest.batcher.stop_line();
    let be_held = move |_: &GuestRam| {
        *hold.borrow_mut() = true;
        stop.raise();
    };
    guest.run(vec![doing(be_held, Exit::Interrupted), then(TERMINATE)], vec![line]);
    assert_eq!(guest.log(), "run 0x200000, service, held, service, run 0x200000");
    assert_eq!(guest.pending(), 1 << 4 | 1 << PENDING_STOP);
    assert_eq!(guest.ram.registers().batches.load(Ordering::Relaxed), 1);
}

#[test]
fn a_guest_that_computes_is_soon_interrupted_again_if_devices_have_more() {
    let guest = Guest::new();
    let more = guest.more.clone();
    let leave = move |_: &GuestRam| *more.borrow_mut() = true;
    let steps = vec![doing(leave, Exit::Interrupted), then(Exit::Interrupted), then(TERMINATE)];
    guest.run(steps, Vec::new());
    let expected = "run 0x200000, service, alarm, run 0x200000, service, run 0x200000";
    assert_eq!(guest.log(), expected);
}

#[test]
fn a_signal_ends_a_guest_that_sleeps() {
    let end = Guest::new().run(vec![then(IDLE)], Vec::new());
    assert!(matches!(end, End::Signalled(15)));
}

#[test]
fn flush_notify_and_registers_are_served() {
    let guest = Guest::new();
    let steps = vec![
        then(out(denali_abi::doorbell::FLUSH, 0)),
        then(out(denali_abi::doorbell::NOTIFY + 5, 1)),
        then(Exit::In {
            port: denali_abi::doorbell::DEVICE_REGISTERS + 0x204,
            width: Width::Double,
        }),
        then(out(denali_abi::doorbell::DEVICE_REGISTERS, 0)),
        then(out(denali_abi::doorbell::DEVICE_REGISTERS, 1)),
        then(TERMINATE),
    ];
    guest.run(steps, Vec::new());
    let run = "run 0x200000";
    let expected =
        [run, "service", run, "service", run, "in 1004", run, run, "service", run].join(", ");
    assert_eq!(guest.log(), expected);
}

#[test]
fn other_ports_end_the_guest() {
    for exit in [out(0x80, 1), Exit::In { port: 0x60, width: Width::Byte }] {
        let End::Crashed(crash) = Guest::new().run(vec![then(exit)], Vec::new()) else { panic!() };
        assert!(matches!(crash.cause, Cause::UnknownPort { .. }), "{crash:?}");
    }
}

#[test]
fn the_console_takes_what_the_guest_may_read() {
    let console = |address, length| {
        let guest = Guest::new();
        guest.ram.load(0x30_0000, b"hello").unwrap();
        let say = move |ram: &GuestRam| {
            ram.registers().console_addr.store(address, Ordering::Relaxed);
            ram.registers().console_len.store(length, Ordering::Relaxed);
        };
        let doorbell = out(denali_abi::doorbell::CONSOLE, 0);
        let end = guest.run(vec![doing(say, doorbell), then(TERMINATE)], Vec::new());
        (end, guest.log())
    };
    assert!(console(0x30_0000, 5).1.contains("console hello"));
    assert!(matches!(console(0x30_0000, u64::MAX).0, End::Terminated(7)), "cut, not refused");
    for (address, length) in [(0, 1), (u64::MAX, 2), ((16 << 20) - 1, 2)] {
        let End::Crashed(crash) = console(address, length).0 else { panic!("{address:#x}") };
        assert_eq!(crash.cause, Cause::BadConsole { address, length });
    }
}

#[test]
fn faults_enter_the_handler_or_end_the_guest() {
    let fault = Fault { vector: PAGE_FAULT, error_code: 6, address: 0x18 };
    let End::Crashed(crash) = Guest::new().run(vec![then(Exit::Fault(fault))], Vec::new()) else {
        panic!()
    };
    assert_eq!((crash.cause, crash.registers.rip), (Cause::Fault(fault), TEXT));

    let guest = Guest::new();
    guest.ram.registers().fault_entry.store(TEXT + 0x40, Ordering::Relaxed);
    guest.run(vec![then(Exit::Fault(fault)), then(TERMINATE)], Vec::new());
    assert_eq!(guest.log(), "run 0x200000, run 0x200040");
}

#[test]
fn an_upcall_is_delivered_once_for_a_batch() {
    let guest = Guest::new();
    let registers = guest.ram.registers();
    registers.upcall_entry.store(TEXT + 0x80, Ordering::Relaxed);
    registers.upcall_enabled.store(1, Ordering::Relaxed);
    let (one, two) = (guest.batcher.device_line(0).unwrap(), guest.batcher.device_line(1).unwrap());
    let arrive = move |_: &GuestRam| {
        one.raise();
        two.raise();
    };
    let steps = vec![doing(arrive, Exit::Interrupted), then(Exit::Interrupted), then(TERMINATE)];
    guest.run(steps, Vec::new());
    assert_eq!(guest.log(), "run 0x200000, service, run 0x200080, service, run 0x200080");
    assert_eq!(guest.pending(), 3, "the guest takes them");
    let enabled = guest.ram.registers().upcall_enabled.load(Ordering::Relaxed);
    assert_eq!(enabled, 0, "and enables upcalls again when it is done");
}

#[test]
fn a_guest_that_is_lost_ends_with_the_reason() {
    let lost = Exit::Lost("why".into());
    let End::Crashed(crash) = Guest::new().run(vec![then(lost)], Vec::new()) else { panic!() };
    assert_eq!(crash.cause, Cause::Lost("why".into()));
}
