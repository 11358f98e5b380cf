//! The guest `disk` as a reader.

use super::load::{Came, Load};
use crate::backend::Backend;
use crate::programs::Programs;
use anyhow::{Context, Result};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a guest's disk is made of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// A file, past the page cache.
    File(&'a Path),
    /// A vhost-user back end.
    VhostUser(&'a Path),
}

/// Reads for some seconds.
pub(super) fn read(
    source: Source<'_>,
    backend: Backend,
    load: Load,
    seconds: u32,
    programs: &Programs,
) -> Result<Came> {
    let disk = match source {
        Source::File(path) => {
            json!({"read_only": true, "backend": {"file": {"path": path, "direct": true}}})
        }
        Source::VhostUser(path) => json!({"backend": {"vhost-user": path}}),
    };
    let config = json!({
        "image": denali_images::DISK_PATH,
        "memory": "64MiB",
        "hypervisor": backend.name(),
        "args": format!("{} {} {} {seconds}", load.guest, load.depth, load.bytes),
        "block": [disk],
    });
    let mut file = tempfile::Builder::new().suffix(".json").tempfile()?;
    file.write_all(config.to_string().as_bytes()).context("cannot write a configuration")?;
    let mut command = Command::new(&programs.denali);
    command.arg("run").arg(file.path()).stdin(Stdio::null()).stderr(programs.error_stream()?);
    let output = command.output().context("cannot start denali")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        line.trim().parse().ok()
    };
    let came = || {
        let (requests, ns, exits) = (number("requests")?, number("ns")?, number("exits")?);
        Some(Came {
            requests_per_s: requests / ns * 1e9,
            exits_per_request: Some(exits / requests),
        })
    };
    came().with_context(|| format!("the guest disk: {}{}", text.trim(), programs.last_message()))
}
