//! Which processor does what (the load runs on the first, all guests share the second), and for how long.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::io;
use std::sync::LazyLock;
use std::thread::available_parallelism;

const OF_THE_LOAD: usize = 0;
const OF_GUESTS: usize = 1;

/// Found before this thread has confined itself to one.
static PINS: LazyLock<bool> =
    LazyLock::new(|| available_parallelism().is_ok_and(|count| count.get() > OF_GUESTS));

/// Whether there are enough processors for that.
pub(super) fn pins() -> bool {
    *PINS
}

/// Has the calling thread, and what it starts, run on the processor of the load.
pub(super) fn take_ours() -> Result<()> {
    pin(Pid::from_raw(0), OF_THE_LOAD)
}

/// Moves a process that runs to the processor of guests.
pub(super) fn give_theirs(pid: i32) -> Result<()> {
    pin(Pid::from_raw(pid), OF_GUESTS)
}

fn pin(pid: Pid, processor: usize) -> Result<()> {
    if !pins() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    set.set(processor).context("no such processor")?;
    sched_setaffinity(pid, &set).context("cannot choose a processor")
}

/// Processor time of a process so far, in seconds, exact to the microsecond, with that of threads that have
/// ended. /proc/PID/stat tells whole ticks: of many processes that each run for less, all could be
/// misjudged alike.
pub(super) fn used_seconds(pid: i32) -> Result<f64> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a clock number that outlives the call.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error)).context("a process has no clock");
    }
    // SAFETY: the pointer is to a structure that outlives the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot read a process's clock");
    }
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_what_was_used() {
        let own = std::process::id().cast_signed();
        let before = used_seconds(own).unwrap();
        let start = std::time::Instant::now();
        while used_seconds(own).unwrap() < before + 0.02 {
            assert!(start.elapsed().as_secs() < 60, "the clock stands");
        }
        // Linux numbers no process higher than 4,194,304.
        assert!(used_seconds(5_000_000).is_err());
    }
}
