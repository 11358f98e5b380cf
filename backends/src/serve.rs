//! Listens for front ends, and serves one after the other, each by a process of its own.

use crate::Device;
use crate::arguments::{lacking, program};
use crate::sandbox::{self, Needs, Role};
use crate::session::Session;
use crate::socket::Socket;
use denali_abi::status;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// After its front end has left, a process has this long to finish what it was doing.
const GRACE: Duration = Duration::from_secs(10);

/// What a back end serves, and how.
pub struct Service<F> {
    /// Makes the device for a front end. Runs in the process that serves it, in the listener's sandbox:
    /// whatever has a name is open already.
    pub device: F,
    /// What the device needs of the system.
    pub needs: Needs,
    /// Serve one front end, then end.
    pub once: bool,
}

/// How the listener was ended.
enum End {
    /// By a signal.
    Signal,
    /// The one front end has left; exit status of the process that served it.
    Served(i32),
}

impl<F: FnMut() -> io::Result<Device>> Service<F> {
    /// Serves until a signal ends it, or the one front end has left. Returns the exit status.
    pub fn run(mut self, socket: Socket) -> u8 {
        let (result, path) = match socket {
            Socket::Connected(stream) => {
                (self.start().and_then(|signals| self.one(&signals, stream)), None)
            }
            Socket::Listening(listener, path) => (self.listen(&listener), path),
        };
        remove(path);
        match result {
            Ok(End::Signal) => 0,
            Ok(End::Served(status)) => u8::try_from(status).unwrap_or(status::MONITOR_FAILED),
            Err(error) => lacking(&error.to_string()),
        }
    }

    /// Takes signals as readable events, and enters the sandbox.
    fn start(&self) -> io::Result<SignalFd> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
            set.add(signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags)?;
        sandbox::enter(Role::Listener, &self.needs)?;
        Ok(signals)
    }

    fn listen(&mut self, listener: &UnixListener) -> io::Result<End> {
        let signals = self.start()?;
        loop {
            let mut sources = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            ];
            wait(&mut sources, PollTimeout::NONE)?;
            if ended(&signals)? {
                return Ok(End::Signal);
            }
            if !sources[1].any().unwrap_or(false) {
                continue;
            }
            let Ok((stream, _)) = listener.accept() else { continue };
            match self.one(&signals, stream)? {
                End::Served(_) if !self.once => {}
                end => return Ok(end),
            }
        }
    }

    /// Serves one front end.
    fn one(&mut self, signals: &SignalFd, stream: UnixStream) -> io::Result<End> {
        let listener = getpid();
        // SAFETY: this process has one thread.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => watch(signals, &stream, child),
            ForkResult::Child => std::process::exit(self.serve(listener, stream)),
        }
    }

    /// What the process for a front end does; its exit status.
    fn serve(&mut self, listener: Pid, stream: UnixStream) -> i32 {
        let prepared = prepare(listener).and_then(|()| {
            let session = Session::new(stream, (self.device)()?)?;
            sandbox::enter(Role::Server, &self.needs)?;
            Ok(session)
        });
        let mut session = match prepared {
            Ok(session) => session,
            Err(error) => {
                eprintln!("{}: cannot serve a front end: {error}", program());
                return i32::from(status::HOST_LACKS);
            }
        };
        let result = session.run();
        eprintln!("{}: a front end has left: {}", program(), session.summary());
        match result {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("{}: {error}", program());
                1
            }
        }
    }
}

/// The process ends when the listener does, and by the signals that end others.
fn prepare(listener: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != listener {
        return Err(io::Error::other("the listener has ended"));
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    for fault in [Signal::SIGBUS, Signal::SIGSEGV] {
        // The standard library's handlers look for overflows of the stack, which takes further calls.
        // SAFETY: nothing in this process relies on these handlers.
        unsafe { signal(fault, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// Waits until the process that serves a front end has ended, and sees to it that it does when the
/// front end has left: whatever the front end did to it, the next one is served.
fn watch(signals: &SignalFd, stream: &UnixStream, child: Pid) -> io::Result<End> {
    let mut until: Option<Instant> = None;
    loop {
        let mut sources = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if until.is_none() {
            sources.push(PollFd::new(stream.as_fd(), PollFlags::empty()));
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        wait(&mut sources, timeout)?;
        if sources.get(1).is_some_and(|source| source.any().unwrap_or(false)) {
            until = Some(Instant::now() + GRACE);
        }
        let told_to_end = ended(signals)?;
        if told_to_end || until.is_some_and(|until| until <= Instant::now()) {
            // It has not been waited for, so the number is still its own.
            let _ = kill(child, Signal::SIGKILL);
            let status = waitpid(child, None)?;
            if told_to_end {
                return Ok(End::Signal);
            }
            return Ok(End::Served(report(status)));
        }
        let status = waitpid(child, Some(WaitPidFlag::WNOHANG))?;
        if status != WaitStatus::StillAlive {
            return Ok(End::Served(report(status)));
        }
    }
}

/// The exit status for how a process ended; what its front end did to it is told.
fn report(status: WaitStatus) -> i32 {
    match status {
        WaitStatus::Exited(_, status) => status,
        WaitStatus::Signaled(_, signal, _) => {
            let why = match signal {
                Signal::SIGBUS => ": the front end's memory is no longer there",
                Signal::SIGKILL => ": it did not end when its front end had left",
                Signal::SIGSYS => {
                    ": a system call that is not in its list; please report this defect"
                }
                _ => "",
            };
            eprintln!("{}: serving a front end was ended by {signal}{why}", program());
            128 + signal as i32
        }
        _ => i32::from(status::MONITOR_FAILED),
    }
}

/// Whether a signal asks for the end; all signals are taken.
fn ended(signals: &SignalFd) -> io::Result<bool> {
    let mut end = false;
    while let Some(signal) = signals.read_signal()? {
        end |= signal.ssi_signo != Signal::SIGCHLD as u32;
    }
    Ok(end)
}

/// Waits for events; an interruption is none.
fn wait(sources: &mut [PollFd<'_>], timeout: PollTimeout) -> io::Result<()> {
    match poll(sources, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes the path that was listened on.
fn remove(path: Option<PathBuf>) {
    if let Some(path) = path {
        // It may have been removed by others.
        let _ = std::fs::remove_file(path);
    }
}
