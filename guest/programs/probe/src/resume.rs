//! Checks that faults, upcalls and doorbells leave everything as it was.

use crate::exercise::{self, Exercise, ROUNDS};
use crate::state::{ENTERED, FAULT_AT, FAULTS, FRAME, STACK, State, UPCALLS};
use crate::{Checked, check, handlers, instructions};
use core::sync::atomic::Ordering;
use ilwaco::abi::doorbell;
use ilwaco::abi::frame::{Frame, GPR_RSP, RESUME_DISTANCE, RFLAGS_VISIBLE, UPCALL_VECTOR};
use ilwaco::abi::registers::PENDING_TIMER;
use ilwaco::clock::Instant;
use ilwaco::registers::virtual_registers;
use ilwaco::{generation, println};

const RCX: usize = 2;
const RDX: usize = 3;
const RDI: usize = 5;

/// The flag that is unspecified at an entry, and in another process.
const RFLAGS_ID: u64 = 1 << 21;

/// Rounds of the computation: some 100 ms.
const COMPUTE_ROUNDS: u64 = 20_000_000;

/// Interrupts so long a computation at least sees.
const UPCALLS_MIN: u64 = 3;

/// A bit of `pending` that no device of a test has.
const SPARE_BIT: u64 = 1 << 61;

/// A fault, and what its frame must say.
struct Case {
    exercise: Exercise,
    vector: u64,
    /// `None`: unspecified.
    error_code: Option<u64>,
    address: u64,
    /// Bytes from the instruction to the RIP of the frame.
    after: u64,
}

/// Handles faults of every kind and compares all there is.
pub fn faults() -> Checked {
    let case = |exercise: Exercise, vector, error_code, address| Case {
        exercise,
        vector,
        error_code,
        address,
        after: u64::from(vector == 3),
    };
    let text = exercise::write_text as *const () as u64;
    let cases = [
        case(exercise::read_null, 14, Some(4), 0x123),
        case(exercise::write_null, 14, Some(6), 0x123),
        case(exercise::write_text, 14, Some(7), text),
        case(exercise::invalid, 6, Some(0), 0),
        case(exercise::divide, 0, Some(0), 0),
        case(exercise::privileged, 13, None, 0),
        case(exercise::breakpoint, 3, Some(0), 0),
    ];
    handlers::install_fault();
    for (seed, case) in (1..).zip(cases) {
        println!("vector {} at {:#x}", case.vector, case.address);
        fault(&case, State::pattern(seed))?;
    }
    Ok(())
}

fn fault(case: &Case, state: State) -> Checked {
    let before = FAULTS.get();
    let after = exercise::run(case.exercise, state);
    check(FAULTS.get() == before + 1, "not exactly one fault")?;
    same(state, after)?;
    let frame = FRAME.get();
    check(frame.vector == case.vector, "the vector")?;
    check(case.error_code.is_none_or(|code| code == frame.error_code), "the error code")?;
    check(frame.address == case.address, "the address")?;
    check(frame.rip == FAULT_AT.get() + case.after, "RIP in the frame")?;
    check(frame.rflags == state.rflags & RFLAGS_VISIBLE, "RFLAGS in the frame")?;
    let mut expected = state.gpr;
    expected[GPR_RSP] = STACK.get();
    check(frame.gpr == expected, "general registers in the frame")?;
    entered(&frame)
}

/// Registers at the entry, and where the frame lies.
pub fn entered(frame: &Frame) -> Checked {
    let entered = ENTERED.get();
    let rsp = frame.gpr[GPR_RSP];
    let at = entered.gpr[RDI];
    check(frame.resume_rsp == rsp - RESUME_DISTANCE, "resume_rsp")?;
    check(at == entered.gpr[GPR_RSP], "RDI and RSP at the entry differ")?;
    check(at.is_multiple_of(16), "the frame is not aligned")?;
    check(at + size_of::<Frame>() as u64 <= frame.resume_rsp, "the frame lies too high")?;
    let others = entered.gpr.iter().enumerate();
    let mut others = others.filter(|(index, _)| ![RDI, GPR_RSP].contains(index));
    check(others.all(|(_, &value)| value == 0), "a register is not 0 at the entry")?;
    check(entered.rflags & RFLAGS_VISIBLE & !RFLAGS_ID == 2, "RFLAGS at the entry")
}

/// Whether an exercise left all registers as they were.
fn same(before: State, after: State) -> Checked {
    check(after.gpr[GPR_RSP] == STACK.get(), "RSP was not restored")?;
    equal(before, after)
}

/// Whether all but the stack pointer is the same in two states.
pub fn equal(before: State, after: State) -> Checked {
    let (before, after) = (before.comparable(), after.comparable());
    check(before.gpr == after.gpr, "a general register changed")?;
    check(before.rflags == after.rflags, "a flag changed")?;
    check(before.red_zone == after.red_zone, "the red zone changed")?;
    check(before.ymm == after.ymm, "a vector register changed")?;
    check(before.x87 == after.x87 && before.fcw == after.fcw, "the x87 state changed")?;
    check(before.mxcsr == after.mxcsr, "MXCSR changed")
}

/// Handles `count` faults, each with other registers.
pub fn many_faults(count: u64) -> Checked {
    handlers::install_fault();
    let before = FAULTS.get();
    for seed in 0..count {
        let state = State::pattern(seed);
        same(state, exercise::run(exercise::read_null, state))?;
    }
    check(FAULTS.get() == before + count, "a fault was lost or came twice")
}

/// Interrupts a computation, and then doorbells, by upcalls; something is pending all the time.
pub fn upcalls() -> Checked {
    let state = State::pattern(11);
    ROUNDS.set(COMPUTE_ROUNDS);
    let alone = exercise::run(exercise::compute, state);
    check(alone.comparable() != state.comparable(), "the computation does nothing")?;
    virtual_registers().pending.fetch_or(SPARE_BIT, Ordering::SeqCst);
    handlers::install_upcall();
    let before = UPCALLS.get();
    let interrupted = exercise::run(exercise::compute, state);
    let computing = UPCALLS.get() - before;
    handlers::remove_upcall();
    println!("upcalls={computing}");
    check(computing >= UPCALLS_MIN, "the computation was not interrupted")?;
    same(alone, interrupted)?;
    let frame = FRAME.get();
    check(frame.vector == UPCALL_VECTOR, "the vector of an upcall")?;
    check(frame.error_code == 0 && frame.address == 0, "what an upcall has none of")?;
    entered(&frame)?;

    handlers::install_upcall();
    let before = UPCALLS.get();
    doorbells(100)?;
    handlers::remove_upcall();
    virtual_registers().pending.fetch_and(!SPARE_BIT, Ordering::SeqCst);
    check(UPCALLS.get() - before >= 100, "a doorbell without an upcall")
}

/// Rings FLUSH with all registers in use.
pub fn doorbells(count: u64) -> Checked {
    ROUNDS.set(count.max(1));
    let state = State::pattern(12);
    let after = exercise::run(exercise::ring_flush, state);
    let mut expected = state;
    expected.gpr[RCX] = 0;
    expected.gpr[RDX] = state.gpr[RDX] & !0xffff | u64::from(doorbell::FLUSH);
    same(expected, after)
}

/// Idles until a moment, or until something is pending, with all registers in use. Meanwhile the guest may come to
/// another process.
pub fn idling(until: Instant, seed: u64) -> Checked {
    let known = generation();
    virtual_registers().idle_deadline_ns.store(until.as_ns(), Ordering::SeqCst);
    let state = State::pattern(seed);
    let mut after = exercise::run(exercise::ring_idle, state);
    let mut expected = state;
    expected.gpr[RDX] = state.gpr[RDX] & !0xffff | u64::from(doorbell::IDLE);
    if generation() != known {
        expected.rflags &= !RFLAGS_ID;
        after.rflags &= !RFLAGS_ID;
    }
    same(expected, after)
}

/// Idles until the timer, with upcalls enabled: one comes, and takes its permission with it.
pub fn upcall_after_idle() -> Checked {
    let registers = virtual_registers();
    handlers::install_upcall_once();
    registers.idle_deadline_ns.store(Instant::now().as_ns() + 2_000_000, Ordering::SeqCst);
    while registers.pending.load(Ordering::SeqCst) == 0 {
        instructions::out(doorbell::IDLE, 0);
    }
    check(UPCALLS.get() == 1, "not exactly one upcall")?;
    check(registers.upcall_enabled.load(Ordering::SeqCst) == 0, "upcalls are still enabled")?;
    check(FRAME.get().vector == UPCALL_VECTOR, "the vector of an upcall")?;
    entered(&FRAME.get())?;
    instructions::out(doorbell::FLUSH, 0);
    check(UPCALLS.get() == 1, "an upcall that was not enabled")?;
    let pending = registers.pending.swap(0, Ordering::SeqCst);
    check(pending == 1 << PENDING_TIMER, "the timer is not what is pending")
}
