//! From a signal to the processor exception behind it.
//!
//! ptrace shows neither vector nor error code, and a signal's own information lacks whether a page
//! fault was a read or a write. The kernel puts all three into the signal frame, though: so a fault is
//! delivered to a handler, on a stack of its own that the monitor shares, and the child is stopped
//! before the handler's first instruction. The frame is read, and the registers are put back, with the
//! extended state, which delivery resets. No instruction of the guest's runs in between. Port
//! instructions, which are what a guest leaves for again and again, take none of this.
//!
//! The frame is believed only where it agrees with the signal: a few signals (of the vsyscall page's
//! emulation, of state components nobody asked for) are sent without an exception of their own, and
//! their frames show an earlier one.

use super::pages::SharedPages;
use crate::exit::{Fault, PAGE_FAULT};
use denali_arch::space::AddressSpace;
use libc::c_int;

/// First address of the vsyscall page, which every process has, whatever it unmaps.
pub const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;

/// Page-fault error code of an instruction fetch.
const FETCH: u64 = 1 << 4;

/// `si_code` of a signal the kernel sends for an exception without a finer code of its own.
const SI_KERNEL: c_int = 0x80;

/// What the kernel saved of an exception in a signal frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Vector.
    pub vector: u64,
    /// Error code.
    pub error_code: u64,
    /// CR2, of the last page fault.
    pub address: u64,
}

impl Saved {
    /// Reads the frame at the top of the handler's stack, where `rsp` points; `None` when that is not
    /// inside `stack`, which the child has mapped at `start`.
    #[must_use]
    pub fn read(stack: &SharedPages, start: u64, rsp: u64) -> Option<Self> {
        // The frame is the return address, then a `ucontext_t`: flags, link and stack (40 bytes), then
        // the general registers in the order of <sys/ucontext.h>.
        const REGISTERS: u64 = 8 + 40;
        let frame = rsp.checked_sub(start)?;
        let register =
            |index: c_int| stack.word(frame.checked_add(REGISTERS)?.checked_add(index as u64 * 8)?);
        Some(Self {
            vector: register(libc::REG_TRAPNO)?,
            error_code: register(libc::REG_ERR)?,
            address: register(libc::REG_CR2)?,
        })
    }
}

/// A signal as the tracer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: c_int,
    /// Its `si_code`.
    pub code: c_int,
    /// Its `si_addr`.
    pub address: u64,
}

/// What to make of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The guest caused an exception.
    Exception,
    /// The host could not provide the memory at this address.
    NoMemory(u64),
    /// Somebody sent it; the guest has nothing to do with it.
    Stray,
}

impl Signal {
    /// What the signal means, as far as it says itself.
    #[must_use]
    pub fn meaning(self) -> Meaning {
        match (self.number, self.code) {
            // User code cannot send positive codes to others.
            (_, ..=0) => Meaning::Stray,
            (libc::SIGBUS, libc::BUS_ADRALN | SI_KERNEL) => Meaning::Exception,
            (libc::SIGBUS, _) => Meaning::NoMemory(self.address),
            _ => Meaning::Exception,
        }
    }

    /// The exception behind this signal, which stopped the guest at `rip`.
    #[must_use]
    pub fn fault(self, saved: Option<Saved>, rip: u64, space: &AddressSpace) -> Fault {
        // Nothing can be executed there, so this is a call the kernel began to emulate and then
        // refused: with a bare signal, or for what the call's arguments point to.
        if self.number == libc::SIGSEGV && rip >= VSYSCALL {
            return vsyscall_fault(rip, space);
        }
        let saved = saved.filter(|saved| self.agrees_with(saved));
        let saved = saved.unwrap_or_else(|| self.without_frame(rip));
        Fault::normalised(saved.vector as u8, saved.error_code, saved.address, space)
    }

    fn agrees_with(self, saved: &Saved) -> bool {
        match (self.number, self.code, saved.vector) {
            (libc::SIGSEGV, SI_KERNEL, 4 | 10 | 13) => true,
            (libc::SIGSEGV, code, 14) => code != SI_KERNEL && saved.address == self.address,
            (libc::SIGBUS, _, 11 | 12 | 17) => true,
            (libc::SIGFPE, _, 0 | 16 | 19) => true,
            (libc::SIGILL, _, 6) => true,
            (libc::SIGTRAP, _, 1 | 3) => true,
            _ => false,
        }
    }

    /// The exception that best explains a signal whose frame is about something else.
    fn without_frame(self, rip: u64) -> Saved {
        let (vector, error_code, address) = match self.number {
            libc::SIGSEGV if self.code != SI_KERNEL => {
                let fetch = if self.address == rip { FETCH } else { 0 };
                (u64::from(PAGE_FAULT), fetch, self.address)
            }
            libc::SIGBUS => (12, 0, 0),
            libc::SIGFPE => (16, 0, 0),
            libc::SIGILL => (6, 0, 0),
            libc::SIGTRAP => (1, 0, 0),
            _ => (13, 0, 0),
        };
        Saved { vector, error_code, address }
    }
}

/// The page fault of a jump into the vsyscall page, which no guest has.
#[must_use]
pub fn vsyscall_fault(rip: u64, space: &AddressSpace) -> Fault {
    Fault::normalised(PAGE_FAULT, FETCH, rip, space)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> AddressSpace {
        AddressSpace::new(16 << 20).unwrap()
    }

    #[test]
    fn a_frame_of_another_exception_is_not_believed() {
        let signal = Signal { number: libc::SIGSEGV, code: 1, address: 0x5000 };
        let stale = Saved { vector: 14, error_code: 6, address: 0x6000 };
        let fault = signal.fault(Some(stale), 0x20_0000, &space());
        assert_eq!(fault, Fault { vector: 14, error_code: 4, address: 0x5000 });
        let true_one = Saved { vector: 14, error_code: 6, address: 0x5000 };
        assert_eq!(signal.fault(Some(true_one), 0x20_0000, &space()).error_code, 6);
        let fetch = signal.fault(None, 0x5000, &space());
        assert_eq!(fetch.error_code, 0x14);
    }

    #[test]
    fn a_refused_vsyscall_is_a_fetch_fault() {
        let signal = Signal { number: libc::SIGSEGV, code: SI_KERNEL, address: 0 };
        let stale = Saved { vector: 14, error_code: 6, address: 0x6000 };
        let fault = signal.fault(Some(stale), VSYSCALL + 5, &space());
        assert_eq!(fault, Fault { vector: 14, error_code: 0x14, address: VSYSCALL + 5 });
    }

    #[test]
    fn signals_people_send_are_stray() {
        let sent = Signal { number: libc::SIGSEGV, code: libc::SI_USER, address: 0 };
        assert_eq!(sent.meaning(), Meaning::Stray);
        assert_eq!(Signal { code: libc::SI_TKILL, ..sent }.meaning(), Meaning::Stray);
        let bus = Signal { number: libc::SIGBUS, code: libc::BUS_ADRERR, address: 7 };
        assert_eq!(bus.meaning(), Meaning::NoMemory(7));
        assert_eq!(Signal { code: libc::BUS_ADRALN, ..bus }.meaning(), Meaning::Exception);
    }

    #[test]
    fn frames_outside_the_stack_are_not_read() {
        let stack = SharedPages::new(2).unwrap();
        let start = 0x1000_0000_0000;
        for rsp in [0, start - 8, start + 8190, start + 8192 - 200, u64::MAX] {
            assert_eq!(Saved::read(&stack, start, rsp), None, "{rsp:#x}");
        }
        assert!(Saved::read(&stack, start, start + 4096).is_some());
    }
}
