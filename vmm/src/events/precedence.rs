//! What the host's scheduler is told of a guest: its share of the processor, and whether it goes first.
//!
//! The share is a nice value. Precedence is the length of the slices that a thread asks for (EEVDF, Linux
//! 6.12 and later): of two threads that are due, the one with the shorter slice runs first, and may
//! interrupt the other; over time both get the same. Older kernels ignore the slice.

use denali_scheduler::Precedence;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::io;
use std::time::Duration;

/// The slice of a guest that has credit, in ns: shorter than what other threads have by default.
const CREDIT_SLICE_NS: u64 = 500_000;

/// The slice of a guest that burned a quantum, in ns: longer than that.
const BURNED_SLICE_NS: u64 = 6_000_000;

/// The threads that run one guest, as the host's scheduler knows them.
pub(crate) struct Share {
    nice: i32,
    /// The process that executes the guest, beside the monitor's own thread.
    tracee: Option<u32>,
    /// The processor time of whichever executes the guest.
    clock: ClockId,
    /// The host's scheduler takes what it is told.
    listens: bool,
}

impl Share {
    /// Gives this thread, and the processes it makes from here on, its share and the precedence of a guest
    /// that has credit. A host that cannot be told of precedence, or has this thread under another policy,
    /// only lacks that.
    ///
    /// # Errors
    /// When it is to have another share than this process and the host does not give it.
    pub(crate) fn take(niceness: i32) -> io::Result<Self> {
        let nice = own_nice().saturating_add(niceness).clamp(-20, 19);
        let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
        let mut share = Self { nice, tracee: None, clock, listens: true };
        match share.tell(0, CREDIT_SLICE_NS) {
            Err(error) if niceness != 0 => return Err(error),
            told => share.listens = told.is_ok(),
        }
        Ok(share)
    }

    /// The guest is executed by this process, if not by this thread; it has its share by inheritance.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn executed_by(self, tracee: Option<u32>) -> io::Result<Self> {
        match tracee {
            None => Ok(self),
            Some(process) => {
                let clock = clock_getcpuclockid(Pid::from_raw(process as i32))?;
                Ok(Self { tracee, clock, ..self })
            }
        }
    }

    /// Tells the host's scheduler of the guest's precedence, if it listens.
    pub(crate) fn set(&mut self, precedence: Precedence) {
        let slice_ns = match precedence {
            Precedence::Credit => CREDIT_SLICE_NS,
            Precedence::Burned => BURNED_SLICE_NS,
        };
        for task in [Some(0), self.tracee].into_iter().flatten() {
            self.listens = self.listens && self.tell(task, slice_ns).is_ok();
        }
    }

    /// Processor time that the guest has used since its start, in ns; 0 where the host does not tell.
    pub(crate) fn used_ns(&self) -> u64 {
        clock_gettime(self.clock).map_or(0, |used| Duration::from(used).as_nanos() as u64)
    }

    fn tell(&self, task: u32, slice_ns: u64) -> io::Result<()> {
        let attributes = Attributes {
            size: size_of::<Attributes>() as u32,
            flags: KEEP_POLICY,
            nice: self.nice,
            runtime: slice_ns,
            ..Attributes::default()
        };
        // SAFETY: the structure is valid during the call and says how long it is.
        let done =
            unsafe { libc::syscall(libc::SYS_sched_setattr, task, &raw const attributes, 0) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// `SCHED_FLAG_KEEP_POLICY`: `policy` says nothing.
const KEEP_POLICY: u64 = 0x08;

/// `struct sched_attr` of `sched_setattr(2)`, first version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// The slice in ns.
    runtime: u64,
    deadline: u64,
    period: u64,
}

const _: () = assert!(size_of::<Attributes>() == 48);

fn own_nice() -> i32 {
    // SAFETY: the call only asks. Its result cannot be told from an error, which it has no cause for.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_takes_what_it_is_told() {
        std::thread::spawn(|| {
            let mut share = Share::take(3).unwrap();
            assert!(own_nice() >= 3);
            share.set(Precedence::Burned);
            share.set(Precedence::Credit);
            assert!(share.listens && share.used_ns() > 0);
        })
        .join()
        .unwrap();
    }
}
