//! What every back end must do alike, as tests that are run on each: see [`conformance_tests`].
//!
//! Guests here are a few instructions of assembly, loaded at 0x20_0000 in 16 MiB of memory with the
//! default stack and its guard page; [`DATA`] is plain memory.

pub mod control;
pub mod faults;
pub mod memory;
pub mod ports;
pub mod saving;
pub mod state;
pub mod swapping;
pub mod traps;

use crate::{Backing, Error, Exit, Fault, GuestRam, Registers, Vcpu, Vm, Width};
use denali_abi::frame::{GPR_RSP, RFLAGS_VISIBLE};
use denali_abi::layout::{IMAGE_START, PAGE_SIZE, STACK_SIZE_DEFAULT, STACK_TOP_DEFAULT};
use denali_arch::space::{Access, AddressSpace, page_up};
use std::rc::Rc;

/// Bytes of memory of the guests here.
pub const MEMORY: u64 = 16 << 20;
/// First address of the code.
pub const TEXT: u64 = IMAGE_START;
/// Plain memory, behind the largest code here.
pub const DATA: u64 = 0x30_0000;
/// A page of read-only data.
pub const CONSTANTS: u64 = 0x40_0000;
/// The stack's guard page.
pub const GUARD: u64 = STACK_TOP_DEFAULT - STACK_SIZE_DEFAULT - PAGE_SIZE;
/// The port guests here write results to.
pub const PORT: u16 = 0x0D03;

/// Makes a machine with some memory.
pub type Make = fn(Rc<GuestRam>) -> Result<Box<dyn Vm>, Error>;

/// How to make a guest of the back end under test.
#[derive(Clone, Copy)]
pub struct Backend {
    /// The kind of memory it needs.
    pub backing: Backing,
    /// Makes its machine.
    pub make: Make,
}

/// A guest ready to run.
pub struct Guest {
    /// Its CPU; dropped before the machine.
    pub vcpu: Box<dyn Vcpu>,
    /// Its machine.
    pub vm: Box<dyn Vm>,
    /// Its memory.
    pub ram: Rc<GuestRam>,
}

impl Guest {
    /// A guest that starts `code` with [`entry`] registers.
    pub fn new(backend: &Backend, code: &[u8]) -> Self {
        Self::with_entry(backend, code, &entry())
    }

    /// A guest that starts `code` with `entry`.
    pub fn with_entry(backend: &Backend, code: &[u8], entry: &Registers) -> Self {
        let mut space = AddressSpace::new(MEMORY).unwrap();
        let end = page_up(TEXT + code.len() as u64);
        space.set("text", TEXT, end, Some(Access::ReadExecute)).unwrap();
        space.set("constants", CONSTANTS, CONSTANTS + PAGE_SIZE, Some(Access::Read)).unwrap();
        space.set("stack guard", GUARD, GUARD + PAGE_SIZE, None).unwrap();
        let ram = Rc::new(GuestRam::new(space, backend.backing).unwrap());
        ram.load(TEXT, code).unwrap();
        let mut vm = (backend.make)(Rc::clone(&ram)).unwrap();
        let vcpu = vm.create_vcpu(entry).unwrap();
        Self { vcpu, vm, ram }
    }

    /// Runs to the next exit that is not an interruption, which any signal can cause at any time.
    pub fn run(&mut self) -> Exit {
        loop {
            match self.vcpu.run().unwrap() {
                Exit::Interrupted => {}
                exit => return exit,
            }
        }
    }

    /// Runs to an OUT of EAX to [`PORT`] and returns the value.
    pub fn run_to_out(&mut self) -> u32 {
        match self.run() {
            Exit::Out { port: PORT, data, width: Width::Double } => data,
            exit => panic!("expected a result, not {exit:x?} at {:x?}", self.vcpu.registers()),
        }
    }

    /// Runs to a fault.
    pub fn run_to_fault(&mut self) -> Fault {
        match self.run() {
            Exit::Fault(fault) => fault,
            exit => panic!("expected a fault, not {exit:x?} at {:x?}", self.vcpu.registers()),
        }
    }

    /// The registers now.
    pub fn registers(&mut self) -> Registers {
        self.vcpu.registers().unwrap()
    }

    /// Changes the registers.
    pub fn change(&mut self, change: impl FnOnce(&mut Registers)) {
        let mut registers = self.registers();
        change(&mut registers);
        self.vcpu.set_registers(&registers).unwrap();
    }
}

/// Registers that are all different, but for those a guest starts with as the contract says.
pub fn entry() -> Registers {
    let mut registers = Registers { rip: TEXT, rflags: 2, ..Registers::default() };
    for (index, register) in registers.gpr.iter_mut().enumerate() {
        *register = 0x1111_1111_1111_1111 * index as u64;
    }
    registers.gpr[GPR_RSP] = STACK_TOP_DEFAULT;
    registers
}

/// Flags of the arithmetic, which many instructions change.
pub const ARITHMETIC_FLAGS: u64 = 0x8d5;

/// Asserts that two sets of registers are the same.
#[track_caller]
pub fn assert_same(left: &Registers, right: &Registers) {
    assert_eq!(left.rflags & !(RFLAGS_VISIBLE | 2), 0, "hidden flags show: {:#x}", left.rflags);
    assert!(left == right, "registers differ:\n{left:x?}\n{right:x?}");
}

/// The bytes between two addresses, as a slice.
///
/// # Safety
/// They must delimit readable bytes that live, unchanged, as long as the program.
pub unsafe fn code_between(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Assembles its lines (Intel syntax) to position-independent bytes.
macro_rules! assemble {
    ($($line:expr),+ $(,)?) => {{
        let (start, end): (*const u8, *const u8);
        // SAFETY: the instructions are jumped over, not executed; only two addresses are computed.
        unsafe {
            std::arch::asm!(
                "lea {start}, [rip + 97f]",
                "lea {end}, [rip + 98f]",
                "jmp 98f",
                "97:",
                $($line,)+
                "98:",
                start = out(reg) start,
                end = out(reg) end,
            );
        }
        // SAFETY: both addresses delimit bytes of this function's own code.
        unsafe { crate::conformance::code_between(start, end) }
    }};
}
pub(crate) use assemble;

/// Makes one `#[test]` of each case on the back end that the expression gives (`None` skips), with the
/// attribute behind it, if there is one.
macro_rules! conformance_tests {
    ($backend:expr $(, #[$attribute:meta])?) => {
        crate::conformance::conformance_tests! { @cases [$(#[$attribute])?] $backend;
            ports::out_of_every_width,
            ports::in_of_every_width,
            ports::port_instructions_change_nothing_else,
            ports::port_instructions_with_prefixes,
            ports::a_port_instruction_at_the_end_of_text,
            ports::port_instructions_outside_text_are_not_executed,
            faults::exceptions_have_vector_error_code_and_place,
            faults::page_faults_say_what_was_tried,
            faults::faults_change_no_register,
            faults::wild_stack_pointers,
            faults::jumps_into_nowhere,
            faults::a_fault_can_be_repaired_and_resumed,
            faults::system_calls_are_invalid_instructions,
            faults::floating_point_exceptions,
            faults::alignment_is_checked_when_asked,
            traps::breakpoints_are_reported_behind_the_instruction,
            traps::int1_is_reported,
            traps::single_steps_trap,
            traps::single_steps_reach_over_faults,
            memory::text_and_constants_are_not_writable,
            memory::data_is_not_executable,
            memory::guards_have_no_access,
            memory::memory_is_shared_with_the_monitor,
            memory::exported_memory_is_what_the_guest_sees,
            memory::large_memory_is_reached_to_its_end,
            state::a_guest_starts_with_the_entry_registers,
            state::extended_state_starts_clean,
            state::sse_and_x87_state_survives_every_exit,
            state::avx_state_survives_every_exit,
            state::flags_are_seen_and_set,
            state::segment_bases_are_the_guests,
            state::time_runs,
            saving::everything_survives_after_every_exit,
            saving::an_interrupted_guest_is_saved,
            saving::a_fresh_guest_is_saved_before_it_runs,
            saving::a_trap_that_is_due_survives,
            saving::a_guest_that_waits_for_data_is_not_saved,
            saving::a_state_for_another_processor_is_refused,
            swapping::a_page_that_was_released_is_zeroes_and_can_be_filled,
            swapping::what_the_guest_writes_to_a_released_page_stays,
            swapping::a_guest_starts_as_its_snapshot_has_it,
            control::registers_can_be_replaced,
            control::a_second_cpu_is_refused,
            control::a_signal_ends_an_endless_loop,
            control::an_interrupted_guest_can_be_sent_elsewhere,
            control::many_exits_in_a_row,
            control::many_guests_at_once,
            control::a_guest_beside_a_breakpoint_is_interrupted,
            control::faults_come_where_they_belong_whatever_signals_come,
        }
    };
    (@cases $attributes:tt $backend:expr; $($module:ident :: $name:ident,)+) => {
        $(crate::conformance::conformance_tests! { @case $attributes $backend; $module :: $name })+
    };
    (@case [$(#[$attribute:meta])?] $backend:expr; $module:ident :: $name:ident) => {
            #[test]
            $(#[$attribute])?
            fn $name() {
                let backend: Option<crate::conformance::Backend> = $backend;
                if let Some(backend) = backend {
                    crate::conformance::$module::$name(&backend);
                }
            }
    };
}
pub(crate) use conformance_tests;
