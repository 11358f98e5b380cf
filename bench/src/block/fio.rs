//! fio, with which guests are compared.

use super::file::TestFile;
use super::load::{Came, Load};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::{Command, Stdio};

/// Why fio cannot be used here, if so.
pub(super) fn problem() -> Option<String> {
    let found = Command::new("fio").arg("--version").stdout(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => None,
        _ => Some("fio is not installed".into()),
    }
}

/// Reads for some seconds, past the page cache, by io_uring.
pub(super) fn read(file: &TestFile, load: Load, seconds: u32) -> Result<Came> {
    let mut command = Command::new("fio");
    command.args(["--name=read", "--ioengine=io_uring", "--direct=1", "--readonly"]);
    command.args(["--time_based", "--randrepeat=0", "--norandommap", "--output-format=json"]);
    command.arg(format!("--filename={}", file.path().display()));
    command.arg(format!("--rw={}", load.fio));
    command.arg(format!("--bs={}", load.bytes));
    command.arg(format!("--iodepth={}", load.depth));
    command.arg(format!("--runtime={seconds}"));
    let output = command.stdin(Stdio::null()).output().context("cannot start fio")?;
    if !output.status.success() {
        bail!("fio: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let report: Value = serde_json::from_slice(&output.stdout).context("fio's report")?;
    let requests_per_s = report["jobs"][0]["read"]["iops"].as_f64().context("fio's report")?;
    Ok(Came { requests_per_s, exits_per_request: None })
}
