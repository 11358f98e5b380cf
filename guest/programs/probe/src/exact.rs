//! Checks that a computation which upcalls interrupt thousands of times computes what it does when left alone.

use crate::exercise::{self, Exercise, ROUNDS};
use crate::resume::{entered, equal};
use crate::state::{FRAME, STACK, State, UPCALLS, avx};
use crate::wide::{self, Wide};
use crate::{Checked, Failed, check, handlers};
use core::sync::atomic::Ordering;
use ilwaco::abi::frame::{GPR_RSP, UPCALL_VECTOR};
use ilwaco::abi::registers::PENDING_TIMER;
use ilwaco::clock::Instant;
use ilwaco::net::TcpListener;
use ilwaco::println;
use ilwaco::registers::virtual_registers;
use ilwaco::task::yield_now;

/// Rounds of one piece of the computation: some milliseconds.
const PIECE: u64 = 100_000;

/// Pieces after which enough is enough, whether or not it was interrupted: some minutes.
const PIECES_MAX: u64 = 50_000;

/// A bit of `pending` that no device of a test has.
const SPARE_BIT: u64 = 1 << 61;

/// How far ahead a running guest sets its deadline.
const AHEAD_NS: u64 = 300_000;

/// The computation in as many registers as there are.
#[derive(Clone, Copy)]
struct Computation {
    exercise: Exercise,
    state: State,
    wide: Option<Wide>,
    /// The stack pointer was what it had been after each piece.
    rsp_kept: bool,
}

impl Computation {
    fn new() -> Self {
        Self {
            exercise: if avx() { exercise::compute_avx } else { exercise::compute },
            state: State::pattern(17),
            wide: wide::is_there().then(Wide::pattern),
            rsp_kept: true,
        }
    }

    /// The next piece.
    fn go_on(&mut self) {
        ROUNDS.set(PIECE);
        self.state = exercise::run(self.exercise, self.state);
        self.rsp_kept &= self.state.gpr[GPR_RSP] == STACK.get();
        self.wide = self.wide.map(wide::compute);
    }

    /// Compares with the same number of pieces computed at one go.
    fn verify(&self, pieces: u64, upcalls: u64) -> Checked {
        println!("rounds={} upcalls={upcalls} avx512={}", pieces * PIECE, self.wide.is_some());
        let mut alone = Self::new();
        for _ in 0..pieces {
            alone.go_on();
        }
        check(self.rsp_kept, "RSP was not restored")?;
        equal(alone.state, self.state)?;
        check(alone.wide == self.wide, "a register of AVX-512 changed")
    }
}

/// Until `count` upcalls have come: at every entry, because something is pending all the time.
pub fn always(count: u64) -> Checked {
    let mut computation = Computation::new();
    let (before, mut pieces) = (UPCALLS.get(), 0);
    virtual_registers().pending.fetch_or(SPARE_BIT, Ordering::SeqCst);
    while UPCALLS.get() - before < count && pieces < PIECES_MAX {
        handlers::install_upcall();
        computation.go_on();
        handlers::remove_upcall();
        pieces += 1;
    }
    virtual_registers().pending.fetch_and(!SPARE_BIT, Ordering::SeqCst);
    let upcalls = UPCALLS.get() - before;
    check(upcalls >= count, "the computation was not interrupted")?;
    check(FRAME.get().vector == UPCALL_VECTOR, "the vector of an upcall")?;
    entered(&FRAME.get())?;
    computation.verify(pieces, upcalls)
}

/// Until `count` deadlines have passed while it computed: each value raises the timer's bit once, and not before its
/// time.
pub fn deadlines(count: u64) -> Checked {
    let registers = virtual_registers();
    let mut computation = Computation::new();
    let (before, mut pieces, mut passed) = (UPCALLS.get(), 0, 0);
    while passed < count && pieces < PIECES_MAX {
        let deadline = Instant::now().as_ns() + AHEAD_NS;
        registers.run_deadline_ns.store(deadline, Ordering::SeqCst);
        while pieces < PIECES_MAX {
            handlers::install_upcall_once();
            computation.go_on();
            handlers::remove_upcall();
            pieces += 1;
            let bits = registers.pending.swap(0, Ordering::SeqCst);
            if bits & 1 << PENDING_TIMER != 0 {
                check(Instant::now().as_ns() >= deadline, "the deadline came too early")?;
                passed += 1;
                break;
            }
        }
    }
    check(passed == count, "deadlines do not interrupt")?;
    // The last one has passed: it does so no more.
    handlers::install_upcall();
    for _ in 0..5 {
        computation.go_on();
        pieces += 1;
    }
    handlers::remove_upcall();
    let again = registers.pending.swap(0, Ordering::SeqCst) & 1 << PENDING_TIMER;
    check(again == 0, "a deadline passed twice")?;
    registers.run_deadline_ns.store(0, Ordering::SeqCst);
    computation.verify(pieces, UPCALLS.get() - before)
}

/// Until `count` upcalls have come for what arrives at a TCP port, where somebody sends all the time: prints `ready`,
/// reads what comes between the pieces.
pub fn traffic(port: u16, count: u64) -> Checked {
    ilwaco::block_on(async move {
        let listener = TcpListener::bind(port).map_err(|_| Failed("the port cannot be bound"))?;
        println!("ready");
        let mut stream = listener.accept().await;
        ilwaco::spawn(async move { while let Ok(1..) = stream.read(&mut [0; 4096]).await {} });
        let mut computation = Computation::new();
        let (before, mut pieces) = (UPCALLS.get(), 0);
        while UPCALLS.get() - before < count && pieces < PIECES_MAX {
            handlers::install_upcall();
            computation.go_on();
            handlers::remove_upcall();
            pieces += 1;
            yield_now().await;
        }
        let upcalls = UPCALLS.get() - before;
        check(upcalls >= count, "what arrived did not interrupt")?;
        computation.verify(pieces, upcalls)
    })
}
