//! The load: iperf3 as the client, one TCP connection.

use super::place;
use crate::running::Running;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the server, or guest.
    To,
    /// From it.
    From,
}

impl Way {
    pub(super) const ALL: [Self; 2] = [Self::To, Self::From];
}

/// What one run of the load found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    /// Megabits of data that the receiver got per second.
    pub(super) mbit_s: f64,
    /// KiB that the receiver got.
    pub(super) kib: f64,
    /// Processor time of the whole machine in nanoseconds, for each of those.
    pub(super) cpu_ns_per_kib: f64,
}

/// Why there can be no load on this machine, if so.
pub(super) fn problem() -> Option<String> {
    let found = Command::new("iperf3").arg("-v").stdout(Stdio::null()).status();
    found.err().map(|error| format!("iperf3: {error}; resources/install-test-tools.sh installs it"))
}

/// Loads a server for so many seconds.
pub(super) fn run(namespace: &str, address: &str, way: Way, seconds: u32) -> Result<Measured> {
    let (mut reader, writer) = io::pipe().context("cannot make a pipe")?;
    let mut command = place::program(namespace, Path::new("iperf3"));
    command.args(["--json", "-c", address, "-t", &seconds.to_string(), "-C", "cubic"]);
    command.args(["--connect-timeout", "10000"]);
    if way == Way::From {
        command.arg("--reverse");
    }
    command.stdout(writer).stderr(Stdio::null());
    let before = busy_ns()?;
    let mut running = Running::start(|| command.spawn().context("cannot start iperf3"))?;
    drop(command);
    let mut text = String::new();
    reader.read_to_string(&mut text).context("cannot read what iperf3 says")?;
    let succeeded = running.wait()?.success();
    let busy = busy_ns()? - before;
    let report: Value = serde_json::from_str(&text).context("iperf3 did not write JSON")?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3 failed: {error}");
    }
    if !succeeded {
        bail!("iperf3 failed");
    }
    let received = |name: &str| report["end"]["sum_received"][name].as_f64();
    let kib = received("bytes").context("iperf3 did not count bytes")? / 1024.0;
    let mbit_s = received("bits_per_second").context("iperf3 did not say a rate")? / 1e6;
    Ok(Measured { mbit_s, kib, cpu_ns_per_kib: busy / kib })
}

/// Time that all processors have been busy since the machine was started.
fn busy_ns() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy_ticks(&text).map(|ticks| ticks * 1e7).context("/proc/stat is not as expected")
}

/// User, nice, system, interrupts and softirqs; ticks are of 10 ms.
fn busy_ticks(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Option<Vec<f64>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
    let fields = fields?;
    [0, 1, 2, 5, 6].into_iter().map(|index| fields.get(index)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_neither_idle_nor_stolen() {
        assert_eq!(busy_ticks("cpu  1 2 4 100 100 8 16 100 1 1\ncpu0 9 9\n"), Some(31.0));
        assert_eq!(busy_ticks("cpu 1 2"), None);
    }
}
