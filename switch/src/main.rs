//! The program `denali-switch`: reads what it is to do from its argument, leaves its parent's session, gives up what it does
//! not need, says `ready` on standard error, and carries frames until it is told to end.

use denali_switch::{Server, Spec, sandbox};
use nix::unistd::{dup2_stderr, setsid};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Whoever starts it reads there until it ends, so this descriptor must go once all is said.
    let Ok(parent) = io::stderr().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let mut server = match prepare() {
        Ok(server) => server,
        Err(error) => {
            // Nobody may be left to read it.
            let _ = writeln!(File::from(parent), "{error}");
            return ExitCode::FAILURE;
        }
    };
    if say_ready(parent).is_err() {
        return ExitCode::FAILURE;
    }
    let status = i32::from(server.serve().is_err());
    // SAFETY: nothing is left to be done. The standard library would take down its signal stack first, for which the
    // sandbox has no place.
    unsafe { libc::_exit(status) }
}

fn say_ready(parent: OwnedFd) -> io::Result<()> {
    File::from(parent).write_all(b"ready\n")
}

/// Everything before serving.
fn prepare() -> io::Result<Server> {
    let mut arguments = std::env::args().skip(1);
    let (Some(text), None) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("this program is started by denali"));
    };
    let spec: Spec = serde_json::from_str(&text).map_err(|error| {
        io::Error::other(format!("whoever starts the switch differs in version: {error}"))
    })?;
    // A terminal's signals are for whoever started it. It fails only for who has left already.
    let _ = setsid();
    let server = Server::new(spec)?;
    let null = File::options().write(true).open("/dev/null")?;
    dup2_stderr(&null)?;
    drop(null);
    sandbox::enter()?;
    Ok(server)
}
