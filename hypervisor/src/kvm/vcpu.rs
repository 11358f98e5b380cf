//! The vCPU under KVM: entering it, and telling its exits apart.

use super::state::{self, Exchange};
use super::{Memory, processor};
use crate::{Error, Exit, Fault, Registers, Vcpu, VcpuState, Width};
use denali_abi::frame::{GPR_RSP, RFLAGS_VISIBLE};
use denali_arch::tables::{self, ExceptionFrame};
use kvm_bindings::{KVM_EXIT_IO, KVM_EXIT_IO_IN, Msrs, kvm_msr_entry, kvm_regs};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};
use std::rc::Rc;
use vm_memory::{Bytes, GuestAddress};

const RFLAGS_FIXED: u64 = 1 << 1;
const RFLAGS_IF: u64 = 1 << 9;
const MSR_TSC: u32 = 0x10;
const RCX: usize = 2;
const R11: usize = 11;
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const SYSENTER: [u8; 2] = [0x0f, 0x34];
const BREAKPOINT: u8 = 0xcc;
/// How often a guest beside a breakpoint goes on though a signal came.
const BREAKPOINT_PATIENCE: u32 = 3;
const GENERAL_PROTECTION: u8 = 13;
const INVALID_OPCODE: Fault = Fault { vector: 6, error_code: 0, address: 0 };
const DEBUG_TRAP: Fault = Fault { vector: 1, error_code: 0, address: 0 };

/// The one vCPU of a guest.
pub(super) struct KvmVcpu {
    fd: VcpuFd,
    memory: Rc<Memory>,
    exchange: Exchange,
    stopped: Stopped,
    /// A restored guest still has to take a trap, which KVM does not know of.
    trap: bool,
    counter: Counter,
}

/// The guest's time-stamp counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    /// How far it is ahead of the host's.
    offset: u64,
    /// Its frequency, where the host tells it.
    khz: Option<u32>,
}

impl Counter {
    /// That of a vCPU.
    pub(super) fn of(fd: &VcpuFd) -> Self {
        Self { offset: measure_tsc_offset(fd), khz: fd.get_tsc_khz().ok().filter(|&khz| khz > 0) }
    }
}

/// What must happen before the guest's registers are what it will continue with.
enum Stopped {
    /// Nothing: they are in the synchronised registers.
    Clean,
    /// KVM has yet to step over the I/O instruction, which it does at the next entry.
    InsideIo,
    /// The same, and it is an IN whose data is not there yet.
    InsideIn,
    /// The vCPU is in an exception stub; the guest's own registers are these.
    InException(Registers),
}

impl KvmVcpu {
    pub(super) fn new(
        mut fd: VcpuFd,
        memory: Rc<Memory>,
        (exchange, counter): (Exchange, Counter),
        entry: &Registers,
    ) -> Result<Self, Error> {
        fd.set_sync_valid_reg(SyncReg::Register);
        fd.set_sync_valid_reg(SyncReg::VcpuEvents);
        let (stopped, trap) = (Stopped::Clean, false);
        let mut vcpu = Self { fd, memory, exchange, stopped, trap, counter };
        vcpu.set_registers(entry)?;
        Ok(vcpu)
    }

    /// Why KVM_RUN returned, when it returned with an exit.
    fn decode_exit(&mut self) -> Result<Exit, Error> {
        if self.fd.get_kvm_run().exit_reason == KVM_EXIT_IO {
            return self.decode_io();
        }
        Ok(Exit::Lost(self.describe_lost()))
    }

    /// What to make of KVM_RUN's end by a signal; `None` to go on.
    ///
    /// A guest that has just faulted is not interrupted. If it has come to its exception stub, it is not
    /// at CPL 3, and its registers are not in the vCPU; until it has, KVM holds an exception that it
    /// would raise wherever the guest was sent. Of breakpoints KVM does not say that it holds one: so the
    /// guest goes on where there may be one, a few times at most, since it may stay there.
    fn decode_interruption(&mut self, patience: &mut u32) -> Result<Option<Exit>, Error> {
        let rip = self.fd.sync_regs().regs.rip;
        if let Some(frame) = tables::exception_at(rip, self.memory.supervisor()) {
            return self.decode_exception(&frame).map(Some);
        }
        if state::waiting_exception(&self.fd).is_some() {
            return Ok(None);
        }
        let around = rip.checked_sub(1).and_then(|before| self.bytes_at(before));
        if *patience > 0 && around.is_some_and(|bytes| bytes.contains(&BREAKPOINT)) {
            *patience -= 1;
            return Ok(None);
        }
        Ok(Some(Exit::Interrupted))
    }

    fn decode_io(&mut self) -> Result<Exit, Error> {
        let rip = self.fd.sync_regs().regs.rip;
        let run = self.fd.get_kvm_run();
        // SAFETY: the exit reason is KVM_EXIT_IO, for which KVM fills this member of the union.
        let io = unsafe { run.__bindgen_anon_1.io };
        if let Some(frame) = tables::exception_at(rip, self.memory.supervisor()) {
            return self.decode_exception(&frame);
        }
        self.stopped = Stopped::InsideIo;
        let Some(width) = Width::from_bytes(usize::from(io.size)).filter(|_| io.count == 1) else {
            return Ok(Exit::Lost(format!("string I/O on port {:#x}", io.port)));
        };
        if u32::from(io.direction) == KVM_EXIT_IO_IN {
            self.stopped = Stopped::InsideIn;
            return Ok(Exit::In { port: io.port, width });
        }
        let mut data = [0; 4];
        data[..width.bytes()].copy_from_slice(self.io_data(width.bytes()));
        Ok(Exit::Out { port: io.port, data: u32::from_le_bytes(data), width })
    }

    /// The bytes of the current I/O access, inside the shared run structure.
    fn io_data(&mut self, length: usize) -> &mut [u8] {
        const RUN_BYTES: usize = size_of::<kvm_bindings::kvm_run>();
        let run = self.fd.get_kvm_run();
        // SAFETY: called after KVM_EXIT_IO only, for which KVM fills this member of the union.
        let offset = unsafe { run.__bindgen_anon_1.io.data_offset } as usize;
        debug_assert!(offset >= RUN_BYTES && length <= 4);
        let start = std::ptr::from_mut(run).cast::<u8>();
        // SAFETY: KVM places the data of an I/O exit at this offset from the run structure, on the
        // second page of the same mapping (Documentation/virt/kvm/api.rst, KVM_EXIT_IO); `length` is
        // the size KVM named. The borrow of `self` keeps the vCPU out meanwhile.
        unsafe { std::slice::from_raw_parts_mut(start.add(offset), length) }
    }

    fn decode_exception(&mut self, frame: &ExceptionFrame) -> Result<Exit, Error> {
        let mut registers = neutral(&self.fd.sync_regs().regs);
        registers.rip = frame.rip;
        registers.rflags = frame.rflags & RFLAGS_VISIBLE | RFLAGS_FIXED;
        registers.gpr[GPR_RSP] = frame.rsp;
        self.stopped = Stopped::InException(registers);
        if frame.cs & 3 != 3 {
            return Ok(Exit::Lost(format!("exception {} in an exception stub", frame.vector)));
        }
        let address = self.fd.get_sregs().map_err(Error::host("read CR2"))?.cr2;
        if let Some(at_instruction) = self.before_system_call(&registers, address) {
            self.stopped = Stopped::InException(at_instruction);
            return Ok(Exit::Fault(INVALID_OPCODE));
        }
        if frame.vector == INVALID_OPCODE.vector
            && let Some((fault, length)) = self.refused_entry(registers.rip)
        {
            registers.rip += length;
            self.stopped = Stopped::InException(registers);
            return Ok(Exit::Fault(fault));
        }
        let space = self.memory.ram.space();
        Ok(Exit::Fault(Fault::normalised(frame.vector, frame.error_code, address, space)))
    }

    /// The registers before a SYSCALL that should have been an invalid opcode and was let through, if
    /// that is how the guest came to a fault at `address`.
    fn before_system_call(&self, registers: &Registers, address: u64) -> Option<Registers> {
        let [next, flags] = [registers.gpr[RCX], registers.gpr[R11]];
        if address != tables::SYSCALL_TARGET || registers.rip != tables::SYSCALL_TARGET {
            return None;
        }
        let rip = next.checked_sub(2)?;
        let rflags = flags & RFLAGS_VISIBLE | RFLAGS_FIXED;
        (self.bytes_at(rip)? == SYSCALL).then_some(Registers { rip, rflags, ..*registers })
    }

    /// What a processor makes of the INT or SYSENTER at `rip`, and by how much RIP moves on; `None` for
    /// any other instruction. The emulator of shadow-paging KVM calls them invalid opcodes, which they
    /// are not (but SYSENTER on AMD's processors: it shall be the same everywhere).
    fn refused_entry(&self, rip: u64) -> Option<(Fault, u64)> {
        let fault = |vector, error_code| Fault { vector, error_code, address: 0 };
        match self.bytes_at(rip)? {
            // The gates of breakpoint and overflow are open to CPL 3, and trap.
            [0xcd, vector @ (3 | 4)] => Some((fault(vector, 0), 2)),
            // Gates that are closed or missing: Intel SDM volume 3, section 6.13.
            [0xcd, vector] => Some((fault(GENERAL_PROTECTION, u64::from(vector) * 8 + 2), 0)),
            SYSENTER => Some((fault(GENERAL_PROTECTION, 0), 0)),
            _ => None,
        }
    }

    /// The guest's two bytes at `rip`, if it may read them.
    fn bytes_at(&self, rip: u64) -> Option<[u8; 2]> {
        let mut bytes = [0; 2];
        self.memory.ram.read_slice(&mut bytes, GuestAddress(rip)).ok()?;
        Some(bytes)
    }

    fn describe_lost(&mut self) -> String {
        let run = self.fd.get_kvm_run();
        match run.exit_reason {
            kvm_bindings::KVM_EXIT_SHUTDOWN => "triple fault".to_owned(),
            kvm_bindings::KVM_EXIT_MMIO => "access to memory that does not exist".to_owned(),
            kvm_bindings::KVM_EXIT_INTERNAL_ERROR => {
                // SAFETY: this exit reason fills this member of the union.
                let code = unsafe { run.__bindgen_anon_1.internal.suberror };
                format!("KVM could not run an instruction (internal error {code})")
            }
            kvm_bindings::KVM_EXIT_FAIL_ENTRY => {
                // SAFETY: this exit reason fills this member of the union.
                let entry = unsafe { run.__bindgen_anon_1.fail_entry };
                format!("KVM refused to enter (reason {:#x})", {
                    entry.hardware_entry_failure_reason
                })
            }
            other => format!("unexpected KVM exit {other}"),
        }
    }

    /// Lets KVM step over the I/O instruction without running the guest.
    fn finish_io(&mut self) -> Result<(), Error> {
        if !matches!(self.stopped, Stopped::InsideIo | Stopped::InsideIn) {
            return Ok(());
        }
        self.fd.set_kvm_immediate_exit(1);
        let outcome = self.fd.run().map(drop);
        self.fd.set_kvm_immediate_exit(0);
        self.stopped = Stopped::Clean;
        match outcome {
            Err(error) if error.errno() == libc::EINTR => Ok(()),
            Err(error) => Err(Error::host("complete an I/O instruction")(error)),
            Ok(()) => Err(Error::Misuse("KVM ran the guest although told to return at once")),
        }
    }

    /// Back from the stub's CPL 0 to CPL 3.
    fn leave_exception(&mut self) -> Result<(), Error> {
        let mut sregs = self.fd.get_sregs().map_err(Error::host("read system registers"))?;
        processor::set_user_segments(&mut sregs);
        self.fd.set_sregs(&sregs).map_err(Error::host("set system registers"))
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self) -> Result<Exit, Error> {
        if std::mem::take(&mut self.trap) {
            return Ok(Exit::Fault(DEBUG_TRAP));
        }
        if let Stopped::InException(registers) = self.stopped {
            self.set_registers(&registers)?;
        }
        let mut patience = BREAKPOINT_PATIENCE;
        loop {
            let outcome = self.fd.run().map(drop_exit);
            self.fd.clear_sync_dirty_reg(SyncReg::Register);
            self.stopped = Stopped::Clean;
            match outcome {
                Ok(()) => return self.decode_exit(),
                Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {
                    if let Some(exit) = self.decode_interruption(&mut patience)? {
                        return Ok(exit);
                    }
                }
                Err(error) if error.errno() == libc::EFAULT => {
                    let text = "guest memory could not be had from the host";
                    return Ok(Exit::Lost(text.to_owned()));
                }
                Err(error) => return Err(Error::host("run the vCPU")(error)),
            }
        }
    }

    fn complete_in(&mut self, data: u32) -> Result<(), Error> {
        if !matches!(self.stopped, Stopped::InsideIn) {
            return Err(Error::Misuse("no IN instruction waits"));
        }
        // SAFETY: `InsideIn` is only set after KVM_EXIT_IO, which fills this member of the union.
        let size = usize::from(unsafe { self.fd.get_kvm_run().__bindgen_anon_1.io.size }).min(4);
        self.io_data(size).copy_from_slice(&data.to_le_bytes()[..size]);
        self.stopped = Stopped::InsideIo;
        Ok(())
    }

    fn registers(&mut self) -> Result<Registers, Error> {
        self.finish_io()?;
        match &self.stopped {
            Stopped::InException(registers) => Ok(*registers),
            _ => Ok(neutral(&self.fd.sync_regs().regs)),
        }
    }

    fn set_registers(&mut self, registers: &Registers) -> Result<(), Error> {
        self.finish_io()?;
        self.trap = false;
        if matches!(self.stopped, Stopped::InException(_)) {
            self.leave_exception()?;
            self.stopped = Stopped::Clean;
        }
        self.fd.sync_regs_mut().regs = for_kvm(registers);
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        Ok(())
    }

    fn save(&mut self) -> Result<VcpuState, Error> {
        if matches!(self.stopped, Stopped::InsideIn) {
            return Err(Error::Misuse("a guest that waits for the data of an IN was saved"));
        }
        let registers = self.registers()?;
        let state = self.exchange.save(&self.fd, registers)?;
        Ok(VcpuState { trap: state.trap || self.trap, ..state })
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), Error> {
        self.exchange.restore(&self.fd, state)?;
        self.set_registers(&state.registers)?;
        self.trap = state.trap;
        Ok(())
    }

    fn tsc_offset(&self) -> u64 {
        self.counter.offset
    }

    fn tsc_khz(&self) -> Option<u32> {
        self.counter.khz
    }
}

/// Ends the borrow of the run structure; the exit is decoded from it afterwards.
fn drop_exit(_: VcpuExit<'_>) {}

fn neutral(regs: &kvm_regs) -> Registers {
    Registers {
        gpr: [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp,
            regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ],
        rip: regs.rip,
        rflags: regs.rflags & RFLAGS_VISIBLE | RFLAGS_FIXED,
    }
}

fn for_kvm(registers: &Registers) -> kvm_regs {
    let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15] =
        registers.gpr;
    let rflags = registers.rflags & RFLAGS_VISIBLE | RFLAGS_FIXED | RFLAGS_IF;
    let rip = registers.rip;
    #[rustfmt::skip]
    let regs = kvm_regs {
        rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags,
    };
    regs
}

/// How far the guest's time-stamp counter is ahead of the host's, 0 where they are the same.
fn measure_tsc_offset(fd: &VcpuFd) -> u64 {
    // Reading both takes a few microseconds; real offsets are a host's uptime.
    const SAME: u64 = 1 << 24;
    // SAFETY: RDTSC has no preconditions on x86-64.
    let host = unsafe { core::arch::x86_64::_rdtsc() };
    let entry = kvm_msr_entry { index: MSR_TSC, ..Default::default() };
    let Ok(mut msrs) = Msrs::from_entries(&[entry]) else { return 0 };
    match fd.get_msrs(&mut msrs) {
        Ok(1) => {
            let offset = msrs.as_slice()[0].data.wrapping_sub(host);
            if offset.wrapping_add(SAME) < 2 * SAME { 0 } else { offset }
        }
        _ => 0,
    }
}
