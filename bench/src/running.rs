//! Programs that the benchmark started: they end when it does, whatever ends it.

use crate::proc;
use crate::undo;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::io;
use std::process::{self, Child, ChildStdout, ExitStatus, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// Process ids of everything that runs.
static PIDS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn pids() -> MutexGuard<'static, Vec<i32>> {
    PIDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, Ctrl-C and SIGTERM end what the benchmark started before they end the benchmark, and whose parent
/// ends is this program's child.
pub(crate) fn end_with_us() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.thread_block().context("cannot block signals")?;
    // SAFETY: sets an attribute of this process and touches no memory of ours.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot take charge of orphans");
    }
    thread::spawn(move || {
        let signal = signals.wait();
        // Both are held until the end: nothing is started or made any more.
        let running = pids();
        let made = undo::hold();
        running.iter().for_each(|&pid| end(pid));
        end_the_rest();
        let _held = undo::all(made);
        exit(128 + signal.map_or(0, |signal| signal as i32));
    });
    Ok(())
}

/// Kills what is left of those that the benchmark started, and of those that these started: a keeper's monitors
/// stay when it is killed.
pub(crate) fn end_the_rest() {
    while let Ok(left) = proc::children(process::id().cast_signed()) {
        if left.is_empty() {
            break;
        }
        left.into_iter().for_each(end);
    }
}

/// Kills a child and waits for it, so that its own children are this program's.
fn end(pid: i32) {
    // One that has ended meanwhile is no concern; it is still a zombie of ours, so that its number is nobody
    // else's.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    let _ = waitpid(Pid::from_raw(pid), None);
}

/// Does not return once a signal ends the benchmark: what is found from then on, others being killed, is nothing.
pub(crate) fn unless_ending() {
    drop(pids());
}

/// A program that runs; it is killed and waited for when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    ended: bool,
}

impl Running {
    /// Starts a child and takes charge of it, with no signal in between.
    pub(crate) fn start<E>(spawn: impl FnOnce() -> Result<Child, E>) -> Result<Self, E> {
        let mut pids = pids();
        let child = spawn()?;
        pids.push(child.id().cast_signed());
        Ok(Self { child, ended: false })
    }

    /// What it writes to its standard output, if that is a pipe and was not taken before.
    pub(crate) fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Asks it to end, and waits for that, but no longer than `patience`.
    pub(crate) fn end(&mut self, patience: Duration) -> Result<()> {
        let pid = Pid::from_raw(self.pid());
        kill(pid, Signal::SIGTERM).context("cannot ask a program to end")?;
        let deadline = Instant::now() + patience;
        while self.child.try_wait().context("cannot wait for a program")?.is_none() {
            if Instant::now() > deadline {
                bail!("a program does not end when it is asked to");
            }
            sleep(Duration::from_millis(10));
        }
        self.wait().map(drop)
    }

    /// Waits until it ends.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("cannot wait for a program");
        self.ended = true;
        let pid = self.pid();
        pids().retain(|&other| other != pid);
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // Neither can fail in a way that matters for a child that was not waited for.
            let _ = self.child.kill();
            let _ = self.wait();
        }
    }
}
