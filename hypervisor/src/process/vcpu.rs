//! The virtual CPU of the process back end: enters the guest and finds out why it came out.

use super::child::FAULT_SIGNALS;
use super::fault::{Meaning, Signal, VSYSCALL, vsyscall_fault};
use super::port::{self, INSTRUCTION_MAX, PortAccess};
use super::spawn::Ready;
use super::state;
use super::tracee::{self, Stop};
use crate::exit::{Exit, Fault, Width};
use crate::{Error, GuestRam, Registers, Vcpu, VcpuState};
use denali_abi::frame::RFLAGS_VISIBLE;
use denali_abi::layout::PAGE_SIZE;
use denali_arch::space::{Access, page_up};
use libc::{c_int, user_regs_struct};
use std::io;
use std::rc::Rc;
use vm_memory::{Bytes, GuestAddress};

/// Selectors of 64-bit user code and data, the same in every Linux process.
const USER_CS: u64 = 0x33;
/// See [`USER_CS`].
const USER_SS: u64 = 0x2b;

/// The flag that is always set, and the trap flag.
const RFLAGS_FIXED: u64 = 1 << 1;
/// See [`RFLAGS_FIXED`].
const RFLAGS_TRAP: u64 = 1 << 8;

/// `orig_rax` of a process that is not in a system call, or is to make none.
const NO_CALL: u64 = u64::MAX;

/// The CPU of a guest that is a process.
pub struct ProcessVcpu {
    child: Ready,
    ram: Rc<GuestRam>,
    /// The child's registers, once read since it last ran, with what was changed since.
    registers: Option<user_regs_struct>,
    /// Whether `registers` must be written before the child runs on.
    changed: bool,
    /// Whether the child was in compatibility mode when `registers` were read.
    compatibility: bool,
    /// The IN that waits for its data.
    pending_in: Option<Width>,
    /// Whether a single-stepped port instruction, which the monitor has carried out, still has to trap.
    pending_trap: bool,
    /// Why the child can never run again.
    lost: Option<String>,
    /// Its registers when it last ran on: all there is to say of them once it is gone.
    last: Registers,
    /// Where extended state is kept while a signal is delivered.
    extended: Vec<u8>,
}

impl ProcessVcpu {
    /// A CPU that starts with `entry` in a child that is ready.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn new(child: Ready, ram: Rc<GuestRam>, entry: &Registers) -> Result<Self, Error> {
        let mut registers =
            child.tracee.registers().map_err(Error::host("read the guest's first registers"))?;
        (registers.fs_base, registers.gs_base) = (0, 0);
        (registers.ds, registers.es, registers.fs, registers.gs) = (0, 0, 0, 0);
        store(&mut registers, entry);
        child.tracee.set_all(&registers).map_err(Error::host("set the guest's first registers"))?;
        Ok(Self {
            child,
            ram,
            registers: Some(registers),
            changed: false,
            compatibility: false,
            pending_in: None,
            pending_trap: false,
            lost: None,
            last: *entry,
            extended: Vec::new(),
        })
    }

    /// Continues the child and sees why it stopped; `None` when the guest need not know.
    fn step(&mut self) -> io::Result<Option<Exit>> {
        if let Some(mut registers) = self.registers.take() {
            self.last = load(&mut registers);
            if self.changed {
                self.child.tracee.set_general(&registers)?;
            }
        }
        self.changed = false;
        self.child.tracee.resume()?;
        let stop = loop {
            match self.child.tracee.wait()? {
                Some(stop) => break stop,
                // A handler ran here: stop the child, and take what comes first.
                None => self.child.tracee.interrupt()?,
            }
        };
        match stop {
            Stop::Signal(libc::SIGSEGV) => {
                let access = self.port_access()?;
                if access.is_some() { Ok(access) } else { self.signal(libc::SIGSEGV) }
            }
            Stop::Signal(number) if FAULT_SIGNALS.contains(&number) => self.signal(number),
            Stop::SystemCall => self.system_call(),
            // A child that has just faulted may stop for this first. Its registers are not to be looked
            // at, let alone changed, before the fault's own stop, which comes next.
            Stop::Interrupt if self.child.tracee.fault_is_pending(&FAULT_SIGNALS)? => Ok(None),
            Stop::Interrupt => Ok(Some(Exit::Interrupted)),
            Stop::Signal(_) | Stop::Other => Ok(None),
            Stop::Exited(_) | Stop::Killed(_) => Ok(Some(self.lose(stop))),
        }
    }

    /// The registers with which the child stopped.
    ///
    /// A child that has got itself into compatibility mode (by a far transfer, or by SYSENTER, which
    /// returns there) is taken out of it: it is not for guests, and ptrace would show half of it.
    fn fetch(&mut self) -> io::Result<&mut user_regs_struct> {
        match &mut self.registers {
            Some(registers) => Ok(registers),
            none => {
                let mut registers = self.child.tracee.registers()?;
                self.compatibility = registers.cs != USER_CS;
                if self.compatibility {
                    self.child.tracee.set_code_selector(USER_CS)?;
                    (registers.cs, registers.ss) = (USER_CS, USER_SS);
                }
                Ok(none.insert(registers))
            }
        }
    }

    /// Carries out the IN or OUT at RIP, if there is one.
    ///
    /// No need to ask why the child stopped there: the code is in executable pages, so its fetch did
    /// not fault, and IN and OUT touch no memory. If somebody sent the signal just before such an
    /// instruction, it is carried out all the same, once.
    fn port_access(&mut self) -> io::Result<Option<Exit>> {
        let rip = self.fetch()?.rip;
        let mut code = [0; INSTRUCTION_MAX];
        let available = self.code_at(rip, &mut code);
        let Some(PortAccess { port, width, input, length }) = port::decode(&code[..available])
        else {
            return Ok(None);
        };
        let registers = self.fetch()?;
        let port = port.map_or(registers.rdx as u16, u16::from);
        registers.rip = rip.wrapping_add(length);
        let (data, stepping) =
            (width.truncate(registers.rax as u32), registers.eflags & RFLAGS_TRAP);
        self.changed = true;
        self.pending_trap = stepping != 0;
        self.pending_in = input.then_some(width);
        Ok(Some(if input { Exit::In { port, width } } else { Exit::Out { port, data, width } }))
    }

    /// Reads the instruction bytes at `address` that the guest may execute; returns how many there are.
    fn code_at(&self, address: u64, code: &mut [u8; INSTRUCTION_MAX]) -> usize {
        let executable = |address| self.ram.space().access_at(address) == Some(Access::ReadExecute);
        if address >= self.ram.space().memory_size() || !executable(address) {
            return 0;
        }
        let next_page = page_up(address + 1);
        let crosses = next_page - address < INSTRUCTION_MAX as u64;
        debug_assert!(PAGE_SIZE > INSTRUCTION_MAX as u64);
        let available = if crosses && !executable(next_page) {
            (next_page - address) as usize
        } else {
            INSTRUCTION_MAX
        };
        let read = self.ram.read_slice(&mut code[..available], GuestAddress(address));
        read.map_or(0, |()| available)
    }

    /// A signal by which the kernel reports exceptions.
    fn signal(&mut self, number: c_int) -> io::Result<Option<Exit>> {
        let (code, address) = self.child.tracee.signal_information()?;
        let signal = Signal { number, code, address };
        match signal.meaning() {
            Meaning::Stray => return Ok(None),
            Meaning::NoMemory(address) => {
                let text = format!("the host has no memory for address {address:#x}");
                return Ok(Some(self.lose_for(text)));
            }
            Meaning::Exception => {}
        }
        let registers = *self.fetch()?;
        self.child.tracee.save_extended(&mut self.extended)?;
        let saved = match self.child.deliver(number, &registers)? {
            Ok(saved) => saved,
            Err(stop) => return Ok(Some(self.lose(stop))),
        };
        self.child.tracee.restore_extended(&mut self.extended)?;
        self.changed = true;
        let fault = if self.compatibility {
            Fault { vector: 13, error_code: 0, address: 0 }
        } else {
            signal.fault(Some(saved), registers.rip, self.ram.space())
        };
        Ok(Some(Exit::Fault(fault)))
    }

    /// An attempt at a system call, of whatever kind: the exception it is on a machine without any.
    fn system_call(&mut self) -> io::Result<Option<Exit>> {
        const SYSCALL: [u8; 2] = [0x0f, 0x05];
        const INT_80: [u8; 2] = [0xcd, 0x80];
        let registers = self.fetch()?;
        let after = registers.rip;
        if after >= VSYSCALL {
            return self.vsyscall();
        }
        let instruction = after.wrapping_sub(2);
        registers.rax = registers.orig_rax;
        registers.orig_rax = NO_CALL;
        self.changed = true;
        let mut code = [0; INSTRUCTION_MAX];
        let available = self.code_at(instruction, &mut code);
        let (vector, error_code, rip) = match code.first_chunk() {
            Some(&SYSCALL) if available >= 2 => (6, 0, instruction),
            Some(&INT_80) if available >= 2 => (13, 0x80 << 3 | 2, instruction),
            // SYSENTER, which keeps no trace of where it was.
            _ => (13, 0, after),
        };
        self.fetch()?.rip = rip;
        Ok(Some(Exit::Fault(Fault { vector, error_code, address: 0 })))
    }

    /// A jump into the vsyscall page, which the kernel emulates as a call of its own and a return. It
    /// insists on RIP until the return is done, so the child has to get there before it is put back.
    fn vsyscall(&mut self) -> io::Result<Option<Exit>> {
        let registers = self.fetch()?;
        registers.orig_rax = NO_CALL;
        registers.rax = 0;
        let registers = *registers;
        self.child.tracee.set_general(&registers)?;
        self.child.tracee.interrupt()?;
        loop {
            self.child.tracee.resume()?;
            match self.child.tracee.wait_through()? {
                Stop::Interrupt => break,
                stop @ (Stop::Exited(_) | Stop::Killed(_)) => return Ok(Some(self.lose(stop))),
                _ => {}
            }
        }
        self.changed = true;
        Ok(Some(Exit::Fault(vsyscall_fault(registers.rip, self.ram.space()))))
    }

    fn lose(&mut self, stop: Stop) -> Exit {
        let text = match stop {
            Stop::Killed(signal) => format!("its process was killed by signal {signal}"),
            Stop::Exited(status) => format!("its process exited with status {status}"),
            stop => format!("its process stopped in an unexpected way: {stop:?}"),
        };
        self.lose_for(text)
    }

    fn lose_for(&mut self, text: String) -> Exit {
        self.lost = Some(text.clone());
        Exit::Lost(text)
    }

    /// The child's registers, to look at and to change; `None` when it is gone.
    fn fetch_unless_gone(
        &mut self,
        what: &'static str,
    ) -> Result<Option<&mut user_regs_struct>, Error> {
        match self.fetch() {
            Ok(_) => Ok(self.registers.as_mut()),
            Err(error) if tracee::is_gone(&error) => {
                if self.lost.is_none() {
                    self.find_lost()?;
                }
                Ok(None)
            }
            Err(source) => Err(Error::Host { what, source }),
        }
    }

    /// Finds out what became of a child that a request no longer found.
    fn find_lost(&mut self) -> Result<Exit, Error> {
        const WHAT: &str = "find out what became of the guest's process";
        loop {
            let stop = self.child.tracee.wait_through().map_err(Error::host(WHAT))?;
            if let Stop::Exited(_) | Stop::Killed(_) = stop {
                return Ok(self.lose(stop));
            }
        }
    }
}

impl Vcpu for ProcessVcpu {
    fn process_id(&self) -> Option<u32> {
        u32::try_from(self.child.tracee.pid()).ok()
    }

    fn run(&mut self) -> Result<Exit, Error> {
        if let Some(text) = &self.lost {
            return Ok(Exit::Lost(text.clone()));
        }
        if self.pending_in.is_some() {
            return Err(Error::Misuse("a guest that waits for the data of an IN was entered"));
        }
        if std::mem::take(&mut self.pending_trap) {
            return Ok(Exit::Fault(Fault { vector: 1, error_code: 0, address: 0 }));
        }
        loop {
            match self.step() {
                Ok(Some(exit)) => return Ok(exit),
                Ok(None) => {}
                Err(error) if tracee::is_gone(&error) => return self.find_lost(),
                Err(source) => return Err(Error::Host { what: "run the guest's process", source }),
            }
        }
    }

    fn complete_in(&mut self, data: u32) -> Result<(), Error> {
        let width = self.pending_in.take().ok_or(Error::Misuse("no IN waits for data"))?;
        if let Some(registers) = self.fetch_unless_gone("complete an IN")? {
            registers.rax = port::merge(registers.rax, width, data);
            self.changed = true;
        }
        Ok(())
    }

    fn registers(&mut self) -> Result<Registers, Error> {
        let last = self.last;
        Ok(self.fetch_unless_gone("read the guest's registers")?.map_or(last, load))
    }

    fn set_registers(&mut self, registers: &Registers) -> Result<(), Error> {
        if let Some(current) = self.fetch_unless_gone("set the guest's registers")? {
            store(current, registers);
            self.changed = true;
            self.pending_trap = false;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<VcpuState, Error> {
        const WHAT: &str = "save the guest's registers";
        if self.pending_in.is_some() {
            return Err(Error::Misuse("a guest that waits for the data of an IN was saved"));
        }
        let registers = self.fetch().map_err(Error::host(WHAT))?;
        let [fs_base, gs_base] = [registers.fs_base, registers.gs_base];
        let registers = load(registers);
        self.child.tracee.save_extended(&mut self.extended).map_err(Error::host(WHAT))?;
        let (components, extended) = state::saved(&self.extended, self.child.clean());
        let trap = self.pending_trap;
        Ok(VcpuState { registers, fs_base, gs_base, trap, components, extended })
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), Error> {
        let mut registers = *self.fetch().map_err(Error::host("read the guest's registers"))?;
        state::restore(&mut self.child, &self.ram, &mut registers, state)?;
        store(&mut registers, &state.registers);
        self.registers = Some(registers);
        self.changed = true;
        self.pending_trap = state.trap;
        Ok(())
    }
}

/// The general registers in the order of [`Registers::gpr`].
fn general(registers: &mut user_regs_struct) -> [&mut u64; 16] {
    [
        &mut registers.rax,
        &mut registers.rbx,
        &mut registers.rcx,
        &mut registers.rdx,
        &mut registers.rsi,
        &mut registers.rdi,
        &mut registers.rbp,
        &mut registers.rsp,
        &mut registers.r8,
        &mut registers.r9,
        &mut registers.r10,
        &mut registers.r11,
        &mut registers.r12,
        &mut registers.r13,
        &mut registers.r14,
        &mut registers.r15,
    ]
}

fn load(from: &mut user_regs_struct) -> Registers {
    Registers {
        gpr: general(from).map(|register| *register),
        rip: from.rip,
        rflags: from.eflags & RFLAGS_VISIBLE | RFLAGS_FIXED,
    }
}

/// Puts `from` in place, in 64-bit user mode and outside any system call.
fn store(to: &mut user_regs_struct, from: &Registers) {
    for (register, value) in general(to).into_iter().zip(from.gpr) {
        *register = value;
    }
    to.rip = from.rip;
    to.eflags = from.rflags & RFLAGS_VISIBLE | RFLAGS_FIXED;
    (to.cs, to.ss, to.orig_rax) = (USER_CS, USER_SS, NO_CALL);
}
