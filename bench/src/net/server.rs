//! The servers: iperf3 as others made it, and the guest `iperf`.

use super::place::{self, GUEST, Place, TAP};
use crate::backend::Backend;
use crate::programs::Programs;
use crate::running::Running;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Memory of the guest, in MiB.
pub(super) const MEMORY_MIB: u64 = 128;

/// What a guest has counted from its start to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counted {
    /// Times it has left guest mode.
    pub(super) exits: f64,
    /// Frames, large segments as one, that it received and sent.
    pub(super) frames: [f64; 2],
    /// Packets on the wire that these are.
    pub(super) packets: [f64; 2],
}

/// A server that runs.
pub(super) struct Server {
    running: Running,
    events: Option<BufReader<PipeReader>>,
}

/// A guest as people start it, with its card on the tap of `place`.
pub(super) fn guest(
    image: &str,
    backend: Backend,
    place: &Place,
    programs: &Programs,
) -> Result<Server> {
    let mut command = place::program(place.ends(true).0, &programs.denali);
    command.args(["run", image, "--json", "--hypervisor", backend.name()]);
    command.arg("--memory").arg(format!("{MEMORY_MIB}MiB")).arg("--set");
    command.arg(format!(r#"net=[{{"address":"{GUEST}/24","backend":{{"tap":"{TAP}"}}}}]"#));
    command.stderr(programs.error_stream()?);
    let mut server = started(command)?;
    server.wait_for("console").with_context(|| programs.last_message())?;
    Ok(server)
}

/// iperf3's own server.
pub(super) fn native(place: &Place) -> Result<Server> {
    let mut command = place::program(place.ends(false).0, Path::new("iperf3"));
    command.args(["--server", "--forceflush"]).stderr(Stdio::null());
    let mut server = started(command)?;
    server.wait_for("listening")?;
    Ok(server)
}

/// Any server whose output is `command`'s.
pub(super) fn started(mut command: Command) -> Result<Server> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    command.stdout(writer);
    let running = Running::start(|| command.spawn().context("cannot start a server"))?;
    Ok(Server { running, events: Some(BufReader::new(reader)) })
}

impl Server {
    /// Waits for a line with `word`, and gives it.
    pub(super) fn wait_for(&mut self, word: &str) -> Result<String> {
        let events = self.events.as_mut().context("the server has ended")?;
        for line in events.lines() {
            let line = line.context("cannot read what a server says")?;
            if line.contains(word) {
                return Ok(line);
            }
        }
        anyhow::bail!("a server ended before it said {word:?}")
    }

    /// Ends a guest, and gives what it has counted.
    pub(super) fn counted(mut self) -> Result<Counted> {
        // The second signal ends a guest that does not end by itself.
        for _ in 0..2 {
            let _ = kill(Pid::from_raw(self.running.pid()), Signal::SIGTERM);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let line = self.wait_for(r#""event":"ended""#)?;
        self.running.wait()?;
        let event: Value = serde_json::from_str(&line).context("an event is not JSON")?;
        let count = |value: &Value| value.as_f64().unwrap_or_default();
        let of = |what: &str| {
            ["receive", "transmit"]
                .map(|way| count(&event["devices"]["net0"][format!("{way}_{what}")]))
        };
        let exits = count(&event["counters"]["exits"]);
        Ok(Counted { exits, frames: of("frames"), packets: of("packets") })
    }
}
