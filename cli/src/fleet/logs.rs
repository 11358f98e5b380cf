//! `denali logs`: what a guest of the supervisor has written to its console.

use super::connect;
use crate::arguments::LogsArguments;
use crate::output::{Failure, Format, print};
use denali_abi::status::HOST_LACKS;
use denali_client::Client;
use serde_json::json;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write, stdout};

/// Prints it, as it is, or for programs a line each.
pub(crate) fn logs(arguments: &LogsArguments) -> Result<(), Failure> {
    let asked = &arguments.guest;
    let client = connect(&asked.supervisor)?;
    match asked.supervisor.format.format() {
        Format::Human => copy(&client, &asked.name, arguments.tail, arguments.follow),
        Format::Json => {
            let log = client.log(&asked.name, arguments.tail, arguments.follow)?;
            lines(BufReader::new(log), &asked.name)
        }
    }
}

/// Longest line that is told in one piece, in bytes.
const LINE_MAX: u64 = 1 << 20;

fn lines(mut log: impl BufRead, name: &str) -> Result<(), Failure> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = log.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).map_err(failed)?;
        if count == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        print(&json!({ "name": name, "text": text }))?;
    }
}

/// Copies a guest's log to standard output until it ends, or nobody reads.
pub(super) fn copy(
    client: &Client,
    name: &str,
    tail: Option<u64>,
    follow: bool,
) -> Result<(), Failure> {
    let mut log = client.log(name, tail, follow)?;
    let mut buffer = vec![0; 64 << 10];
    let mut out = stdout().lock();
    loop {
        let count = log.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok(());
        }
        match out.write_all(&buffer[..count]).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => {
                let text = format!("standard output cannot be written: {error}");
                return Err(Failure::new(HOST_LACKS, text));
            }
            Ok(()) => {}
        }
    }
}

fn failed(error: std::io::Error) -> Failure {
    denali_client::Error::from(error).into()
}
