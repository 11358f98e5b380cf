//! Programs that the benchmark started: they end when it does, whatever ends it.

use crate::cgroup;
use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::process::{Child, ExitStatus, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Process ids of everything that runs.
static PIDS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn pids() -> MutexGuard<'static, Vec<i32>> {
    PIDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, Ctrl-C and SIGTERM end what the benchmark started before they end the benchmark.
pub(crate) fn end_with_us() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.thread_block().context("cannot block signals")?;
    thread::spawn(move || {
        let signal = signals.wait();
        let running = pids();
        for &pid in running.iter() {
            // One that has ended meanwhile is no concern; it is still a zombie of ours, so that its
            // number is nobody else's.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for &pid in running.iter() {
            // So that none is left when this program ends.
            let _ = waitpid(Pid::from_raw(pid), None);
        }
        cgroup::clean_up();
        exit(128 + signal.map_or(0, |signal| signal as i32));
    });
    Ok(())
}

/// A program that runs; it is killed and waited for when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    ended: bool,
}

impl Running {
    /// Takes charge of a child.
    pub(crate) fn new(child: Child) -> Self {
        pids().push(child.id().cast_signed());
        Self { child, ended: false }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
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
