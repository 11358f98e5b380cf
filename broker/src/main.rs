//! The program `denali-broker`: reads what it is to serve from the sealed file whose descriptor is its
//! argument, leaves its parent, gives up what it does not need, says `ready` on standard error, and
//! serves until its monitor is gone.

use denali_broker::{Server, Spec, sandbox};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

/// Most bytes of a description.
const SPEC_MAX: u64 = 16 << 20;

fn main() -> ExitCode {
    // Whoever starts it reads there until it ends, so this descriptor must go once all is said.
    let Ok(parent) = io::stderr().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let mut parent = File::from(parent);
    let mut server = match prepare() {
        Ok(Some(server)) => server,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be left to read it.
            let _ = writeln!(parent, "{error}");
            return ExitCode::FAILURE;
        }
    };
    if parent.write_all(b"ready\n").is_err() {
        return ExitCode::FAILURE;
    }
    drop(parent);
    let status = i32::from(server.serve().is_err());
    // SAFETY: nothing is left to be done. The standard library would take down its signal stack
    // first, for which the sandbox has no place.
    unsafe { libc::_exit(status) }
}

/// Everything before serving; `None` in the process whose work is done once the other is there.
fn prepare() -> io::Result<Option<Server>> {
    let spec = read_spec()?;
    // SAFETY: the process has one thread.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        return Ok(None);
    }
    // A terminal's signals are for the monitor; the broker ends when that does.
    setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    drop(null);
    let server = Server::new(&spec)?;
    sandbox::enter(&spec)?;
    Ok(Some(server))
}

/// What is to be served.
fn read_spec() -> io::Result<Spec> {
    let mut arguments = std::env::args().skip(1);
    let number = match (arguments.next().map(|text| text.parse::<i32>()), arguments.next()) {
        (Some(Ok(number @ 3..)), None) => number,
        _ => return Err(io::Error::other("this program is started by denali")),
    };
    // SAFETY: whoever starts this program passes the descriptor for this use alone. If it is not
    // open, reading fails.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(number) });
    let mut text = Vec::new();
    file.take(SPEC_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(|error| {
        io::Error::other(format!("the launcher and the broker differ in version: {error}"))
    })
}
