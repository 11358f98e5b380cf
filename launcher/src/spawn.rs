//! Starts the monitor's program as a child, with exactly its own descriptors.

use crate::error::{LaunchError, host};
use crate::prepare::{Launch, seal_spec};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What the monitor is called in lists of processes.
const ARGUMENT_ZERO: &CStr = c"denali-vmm";

/// Standard streams of a monitor that is started as a child.
#[derive(Debug)]
pub struct Streams {
    /// Standard input.
    pub input: Stdio,
    /// Standard output.
    pub output: Stdio,
    /// Standard error.
    pub error: Stdio,
}

impl Launch {
    /// Starts the program `monitor` as a child; see [`find_monitor`](crate::find_monitor).
    pub fn spawn(mut self, monitor: &Path, streams: Streams) -> Result<Child, LaunchError> {
        let argument = self.add_spec()?;
        let mut command = Command::new(monitor);
        command
            .arg0(OsStr::from_bytes(ARGUMENT_ZERO.to_bytes()))
            .arg(OsStr::from_bytes(argument.as_bytes()))
            .env_clear()
            .stdin(streams.input)
            .stdout(streams.output)
            .stderr(streams.error);
        let descriptors = self.descriptors;
        // SAFETY: between fork and exec the closure makes system calls on descriptors that it owns,
        // and nothing else: no allocation, no lock.
        unsafe { command.pre_exec(move || pass_on(&descriptors).map_err(Into::into)) };
        command.spawn().map_err(|error| unstartable(monitor, &error.to_string()))
    }

    /// Adds the machine's description to the descriptors, and returns its number as text.
    fn add_spec(&mut self) -> Result<CString, LaunchError> {
        let spec = seal_spec(self.spec())?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&spec);
        self.descriptors.push(spec);
        CString::new(number.to_string()).map_err(|_| host("number of a descriptor", Errno::EINVAL))
    }
}

/// Lets the descriptors stay open across exec, and the standard streams; all others are closed.
pub(crate) fn pass_on(descriptors: &[OwnedFd]) -> Result<(), Errno> {
    close_others_on_exec()?;
    for descriptor in descriptors {
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

/// Marks every descriptor above the standard streams to be closed by exec, those included that
/// this program has itself inherited without knowing.
fn close_others_on_exec() -> Result<(), Errno> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing now; it only sets a flag on descriptors, and exec
    // is the next thing that happens.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        // Before Linux 5.11: one by one, as far as descriptors can go.
        Err(Errno::ENOSYS | Errno::EINVAL) => close_each_on_exec(),
        Err(error) => Err(error),
    }
}

fn close_each_on_exec() -> Result<(), Errno> {
    // SAFETY: `sysconf` reads a limit and touches no memory of ours.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    for number in 3..i32::try_from(limit).unwrap_or(1024) {
        // SAFETY: the number is only used for F_SETFD, which fails on one that is not open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
            Ok(_) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unstartable(monitor: &Path, why: &str) -> LaunchError {
    LaunchError::Host(format!("cannot start the monitor {}: {why}", monitor.display()))
}
