//! Programs that the benchmark started: they end when it does, whatever ends it.

use crate::cgroup;
use crate::undo::undo_all;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::process::{Child, ExitStatus, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

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
        undo_all();
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
