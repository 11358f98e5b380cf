//! Starts the monitor's program as a child, with exactly its own descriptors.

use crate::error::{LaunchError, WakeError, host};
use crate::inherit::{FIRST, Inheritance};
use crate::prepare::{Launch, seal_spec};
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
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
    /// Starts the program `monitor` as a child; see [`find_monitor`](crate::find_monitor). There its
    /// descriptors have the numbers that follow the standard streams', whatever they are here.
    pub fn spawn(self, monitor: &Path, streams: Streams) -> Result<Child, LaunchError> {
        let (spec, mut descriptors) = self.into_parts(FIRST);
        descriptors.push(seal_spec(&spec)?);
        start(&mut Command::new(monitor), descriptors, streams).map_err(|failed| failed.error)
    }
}

/// Starts a monitor with these descriptors, numbered behind its standard streams, and told that the last
/// of them says what to do. `command` names its program.
pub(crate) fn start(
    command: &mut Command,
    descriptors: Vec<OwnedFd>,
    streams: Streams,
) -> Result<Child, WakeError> {
    let monitor = PathBuf::from(command.get_program());
    let program = Program::new(&monitor, FIRST + descriptors.len() as RawFd - 1)?;
    let mut inheritance = Inheritance::new(descriptors);
    command.stdin(streams.input).stdout(streams.output).stderr(streams.error);
    let become_monitor = move || {
        let result = inheritance.arrange().and_then(|()| program.execute());
        // What the standard library tells of the failure goes through a descriptor of its own.
        inheritance.restore();
        result.map_err(Into::into)
    };
    // SAFETY: between fork and exec the closure makes system calls on descriptors and memory that it
    // owns, and nothing else: no allocation, no lock.
    unsafe { command.pre_exec(become_monitor) };
    let what = || format!("cannot start the monitor {}", monitor.display());
    command.spawn().map_err(|error| WakeError::io(&what(), &error))
}

/// The monitor's program and its only argument.
struct Program {
    path: CString,
    argument: CString,
}

impl Program {
    /// The program at `path`, told that its machine is described by descriptor `number`.
    fn new(path: &Path, number: RawFd) -> Result<Self, LaunchError> {
        let text = |bytes: Vec<u8>| {
            CString::new(bytes).map_err(|_| host("path of the monitor", Errno::EINVAL))
        };
        let argument = text(number.to_string().into_bytes())?;
        Ok(Self { path: text(path.as_os_str().as_bytes().to_vec())?, argument })
    }

    /// Turns the process into the program, with an empty environment; returns only if it cannot.
    fn execute(&self) -> Result<(), Errno> {
        let arguments = [ARGUMENT_ZERO.as_ptr(), self.argument.as_ptr(), std::ptr::null()];
        let environment = [std::ptr::null()];
        // SAFETY: both lists end with a null pointer, and what they point at lives until the call returns,
        // if it does.
        let result =
            unsafe { libc::execve(self.path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        Errno::result(result).map(drop)
    }
}
