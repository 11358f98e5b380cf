//! What the command lines of both programs have in common, and how they refuse.

use crate::socket::{Socket, SocketError};
use clap::error::ErrorKind;
use clap::{Args, Parser};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

/// Where front ends connect, and how many are served.
#[derive(Args, Debug)]
pub struct SocketArguments {
    /// Listen on this path; it is made, and removed at the end.
    #[arg(long, value_name = "PATH", required_unless_present_any = ["fd", "print_capabilities"])]
    #[arg(conflicts_with = "fd")]
    socket_path: Option<PathBuf>,
    /// Serve on this descriptor, inherited from whoever started the program: a unix stream socket that
    /// listens, or that is connected already.
    #[arg(long, value_name = "NUMBER")]
    fd: Option<RawFd>,
    /// End when the first front end has left, instead of waiting for the next.
    #[arg(long)]
    pub once: bool,
    /// Print what the program can do, as JSON, and end.
    #[arg(long)]
    pub print_capabilities: bool,
}

impl SocketArguments {
    /// Opens the socket.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> Result<Socket, SocketError> {
        match (&self.socket_path, self.fd) {
            (Some(path), _) => Socket::listen(path),
            (None, Some(number)) => Socket::inherit(number),
            // The command line is refused before that.
            (None, None) => Err(SocketError::Descriptor(-1, "none was named")),
        }
    }
}

/// What the exit status says, for the end of the help.
pub const EXIT_STATUSES: &str = "\
Exit statuses:
  0         ended by SIGTERM or SIGINT, or, with --once, by its front end
  1         with --once: the front end broke the protocol
  124       the host lacks something: a file, a permission, a free path
  126       the command line is wrong
  128 + n   with --once: serving was ended by signal n";

static PROGRAM: OnceLock<&'static str> = OnceLock::new();

/// Starts the program of this name: it does what its command line says.
pub fn start<A: Parser>(name: &'static str, run: fn(&A) -> u8) -> ExitCode {
    // There is one program in a process, so a second call could only say the same.
    let _ = PROGRAM.set(name);
    let status = match A::try_parse() {
        Ok(arguments) => run(&arguments),
        Err(error) => refuse(&error),
    };
    ExitCode::from(status)
}

/// The name of this program, for messages.
#[must_use]
pub fn program() -> &'static str {
    PROGRAM.get().copied().unwrap_or("denali-vhost-user")
}

/// Says what the host lacks. Returns the exit status.
#[must_use]
pub fn lacking(what: &str) -> u8 {
    eprintln!("{}: {what}", program());
    denali_abi::status::HOST_LACKS
}

/// Answers a command line that starts nothing: prints the help or version that it asks for, or says in
/// one line what is wrong with it. Returns the exit status.
fn refuse(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone away has had its help.
            let _ = error.print();
            0
        }
        _ => {
            eprintln!("{}: {}", program(), one_line(error));
            denali_abi::status::BAD_ARGUMENTS
        }
    }
}

/// What clap says on several lines, as one.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let message: Vec<String> = lines
        .map(|line| words(line.strip_prefix("error: ").unwrap_or(line)))
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    format!("{} (see --help)", message.join("; ").replace(":; ", ": "))
}
