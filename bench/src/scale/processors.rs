//! Which processor does what: the load runs on the first, all guests share the second.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
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
