//! A guest with much memory, all of which it looks at when it is asked to.

use super::control;
use crate::backend::Backend;
use crate::guest::announced;
use crate::place::{Folder, Place};
use crate::proc;
use crate::programs::Programs;
use crate::running::Running;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the guest is left alone before its memory leaves: by then it has acknowledged what it was sent.
const QUIET: Duration = Duration::from_millis(300);

/// MiB that the guest has beside what it looks at.
const SPARE_MIB: u32 = 64;

/// The guest `probe` that watches over so many MiB, started by `denali run`.
#[derive(Debug)]
pub(super) struct Big {
    running: Running,
    lines: BufReader<TcpStream>,
    control: PathBuf,
    mib: u32,
    _folder: Folder,
    /// Held so that what the guest says has a reader.
    _console: PipeReader,
}

impl Big {
    /// Starts it, and waits until it has written all its memory; `name` tells guests apart.
    pub(super) fn start(
        name: &str,
        (backend, mib): (Backend, u32),
        stripes: &[&Path],
        place: &Place,
        programs: &Programs,
    ) -> Result<Self> {
        let folder = place.temporary(name)?;
        let control = folder.path().join("control");
        let configuration = json!({
            "image": denali_images::PROBE_PATH,
            "args": format!("memory-hash {mib}"),
            "memory": format!("{}MiB", mib + SPARE_MIB),
            "hypervisor": backend.name(),
            "net": [{ "backend": { "user": { "publish": ["127.0.0.1:0:80"] } } }],
            "swap": { "stripes": stripes, "after": 0 },
            "control": control,
        });
        let path = folder.path().join("vm.json");
        fs::write(&path, configuration.to_string()).context("cannot write a configuration")?;
        let (console, writer) = io::pipe().context("cannot make a pipe")?;
        let mut command = Command::new(&programs.denali);
        command.args(["run", "--json"]).arg(path).stdin(Stdio::null()).stdout(writer);
        command.stderr(programs.error_stream()?);
        let running = Running::start(|| command.spawn().context("cannot start denali"))?;
        // The writing end of the pipe is the guest's alone.
        drop(command);
        let address = announced(&console).with_context(|| programs.last_message())?;
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true).context("cannot set up a connection")?;
        stream.set_read_timeout(Some(PATIENCE)).context("cannot set up a connection")?;
        let lines = BufReader::new(stream);
        let mut guest = Self { running, lines, control, mib, _folder: folder, _console: console };
        guest.check()?;
        Ok(guest)
    }

    /// Bytes of the memory that it looks at.
    pub(super) fn bytes(&self) -> f64 {
        f64::from(self.mib) * f64::from(1 << 20)
    }

    /// Has the guest look at all its memory; says how long that took, in seconds.
    pub(super) fn check(&mut self) -> Result<f64> {
        let begun = Instant::now();
        self.lines.get_mut().write_all(b"check\n").context("cannot ask the guest")?;
        let mut answer = String::new();
        self.lines.read_line(&mut answer).context("the guest does not answer")?;
        if !answer.starts_with("ok ") {
            bail!("the guest's memory is not what it was: {:?}", answer.trim());
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Has the guest's memory leave; says how long that took, in seconds.
    pub(super) fn swap_out(&self) -> Result<f64> {
        sleep(QUIET);
        Ok(control::swap_out_for_good(&self.control)?.as_secs_f64())
    }

    /// Processes that have the guest's memory: the monitor, and on the process back end the guest's own.
    pub(super) fn processes(&self) -> Result<Vec<i32>> {
        let mut processes = proc::children(self.running.pid())?;
        processes.push(self.running.pid());
        Ok(processes)
    }
}
