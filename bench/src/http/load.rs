//! The load: wrk with 16 connections that are kept alive, on a processor of its own.

use crate::running::Running;
use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::available_parallelism;

/// Connections of the load.
pub(super) const CONNECTIONS: u32 = 16;

/// The processors of server and load.
pub(super) const SERVER_PROCESSOR: usize = 1;
const LOAD_PROCESSOR: usize = 0;

/// What one run of the load found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    /// Requests answered per second.
    pub(super) requests_per_s: f64,
    /// Median latency in ms.
    pub(super) p50_ms: f64,
    /// Latency in ms that 99 % of the requests do not exceed.
    pub(super) p99_ms: f64,
}

/// Why there can be no load on this machine, if so.
pub(super) fn problem() -> Option<String> {
    let found = Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.err().map(|error| format!("wrk: {error}; resources/install-test-tools.sh installs it"))
}

/// Whether server and load each have a processor of their own.
pub(super) fn pins() -> bool {
    available_parallelism().is_ok_and(|count| count.get() > SERVER_PROCESSOR)
}

/// Has the program run on one processor, where there are enough.
pub(super) fn pin(command: &mut Command, processor: usize) {
    if !pins() {
        return;
    }
    let mut set = CpuSet::new();
    if set.set(processor).is_ok() {
        let pin = move || sched_setaffinity(Pid::from_raw(0), &set).map_err(Into::into);
        // SAFETY: between fork and exec the closure makes one system call on data that it owns.
        unsafe { command.pre_exec(pin) };
    }
}

/// Loads a server for so many seconds.
pub(super) fn run(address: SocketAddr, seconds: u32) -> Result<Measured> {
    let (mut reader, writer) = io::pipe().context("cannot make a pipe")?;
    let mut command = Command::new("wrk");
    command.args(["--latency", "-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")]);
    command.arg(format!("http://{address}/")).stdin(Stdio::null()).stdout(writer);
    pin(&mut command, LOAD_PROCESSOR);
    let mut running = Running::start(|| command.spawn().context("cannot start wrk"))?;
    drop(command);
    let mut text = String::new();
    reader.read_to_string(&mut text).context("cannot read what wrk says")?;
    if !running.wait()?.success() {
        bail!("wrk failed: {text}");
    }
    parse(&text).with_context(|| format!("cannot understand wrk: {text}"))
}

fn parse(text: &str) -> Result<Measured> {
    if let Some(line) = text.lines().find(|line| is_failure(line)) {
        bail!("not every request was answered: {}", line.trim());
    }
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let value = |name: &str| {
        let lines = text.lines().map(words);
        let mut found = lines.filter(|words| words.len() == 2 && words[0] == name);
        found.next().map(|words| words[1].clone()).with_context(|| format!("no {name}"))
    };
    Ok(Measured {
        requests_per_s: value("Requests/sec:")?.parse().context("not a number")?,
        p50_ms: milliseconds(&value("50%")?)?,
        p99_ms: milliseconds(&value("99%")?)?,
    })
}

fn is_failure(line: &str) -> bool {
    ["Socket errors:", "Non-2xx"].iter().any(|start| line.trim_start().starts_with(start))
}

/// A time as wrk writes it: `12.34us`, `1.20ms`, `2.00s`.
fn milliseconds(text: &str) -> Result<f64> {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
    let found = units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    });
    found.with_context(|| format!("{text} is no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Running 4s test @ http://127.0.0.1:1/\n  1 threads and 16 connections\n\
        \x20 Thread Stats   Avg      Stdev     Max   +/- Stdev\n\
        \x20   Latency   213.32us   96.76us   4.13ms   95.94%\n\
        \x20 Latency Distribution\n     50%  199.00us\n     75%  222.00us\n     90%  1.25ms\n\
        \x20    99%  1.50s \n  300 requests in 4.00s, 3MB read\nRequests/sec:  73712.63\n\
        Transfer/sec:     59.68MB\n";

    #[test]
    fn what_wrk_says_is_understood() {
        let expected = Measured { requests_per_s: 73712.63, p50_ms: 0.199, p99_ms: 1500.0 };
        assert_eq!(parse(TEXT).unwrap(), expected);
    }

    #[test]
    fn requests_that_failed_spoil_the_run() {
        for line in [
            "  Socket errors: connect 0, read 1, write 0, timeout 0",
            "  Non-2xx or 3xx responses: 3",
        ] {
            assert!(parse(&format!("{TEXT}{line}\n")).is_err());
        }
        assert!(parse("").is_err());
    }
}
