//! The servers that are compared, each pinned to the same processor.

use super::{load, native, nginx};
use crate::backend::Backend;
use crate::client;
use crate::guest::{Guest, announced};
use crate::proc;
use crate::programs::Programs;
use crate::running::Running;
use anyhow::{Context, Result};
use std::io::{self, PipeReader};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that runs.
#[derive(Debug)]
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    running: Running,
    /// Held so that what the server writes to its console has a reader.
    _console: Option<PipeReader>,
    /// Held for its files.
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    /// The web server in a guest, started by `denali run`.
    pub(super) fn guest(backend: Backend, programs: &Programs) -> Result<Self> {
        let mut command = Guest::web(backend).command(programs)?;
        command.arg("--json");
        Self::announced(command).with_context(|| programs.last_message())
    }

    /// The native server: the same HTTP code on the host's own sockets.
    pub(super) fn native(page: &[u8], programs: &Programs) -> Result<Self> {
        let mut command = native::command(page, "127.0.0.1:0")?;
        command.stderr(programs.error_stream()?);
        Self::announced(command).with_context(|| programs.last_message())
    }

    /// nginx with one worker, serving the page from a file.
    pub(super) fn nginx(page: &[u8], programs: &Programs) -> Result<Self> {
        let (mut command, folder, address) = nginx::command(page)?;
        command.stderr(programs.error_stream()?);
        load::pin(&mut command, load::SERVER_PROCESSOR);
        let running = Running::start(|| command.spawn().context("cannot start nginx"))?;
        let server = Self { address, running, _console: None, _folder: Some(folder) };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                anyhow::bail!("nginx does not answer: {}", programs.last_message());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// A server that says where it listens, as a line of JSON.
    fn announced(mut command: Command) -> Result<Self> {
        let (reader, writer) = io::pipe().context("cannot make a pipe")?;
        load::pin(&mut command, load::SERVER_PROCESSOR);
        command.stdout(writer);
        let running = Running::start(|| command.spawn().context("cannot start a server"))?;
        drop(command);
        let address = announced(&reader)?;
        Ok(Self { address, running, _console: Some(reader), _folder: None })
    }

    /// The page `/`.
    pub(super) fn page(&self) -> Result<Vec<u8>> {
        self.get("/")
    }

    /// Times the guest has left guest mode and requests it has answered, by its own count.
    pub(super) fn exits_and_requests(&self) -> Result<(f64, f64)> {
        let text = self.get("/stats")?;
        let statistics: serde_json::Value =
            serde_json::from_slice(&text).context("/stats is not JSON")?;
        let number = |name: &str| {
            let value = statistics.get(name).and_then(serde_json::Value::as_f64);
            value.with_context(|| format!("/stats has no {name}"))
        };
        Ok((number("exits")?, number("requests")?))
    }

    /// Processor time of the server so far, in seconds; with a traced child's.
    pub(super) fn processor_seconds(&self) -> Result<f64> {
        let mut sum = proc::processor_seconds(self.running.pid())?;
        for child in proc::children(self.running.pid())? {
            sum += proc::processor_seconds(child)?;
        }
        Ok(sum)
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address).context("cannot connect")?;
        client::send_get(&mut stream, path)?;
        client::receive(&mut stream)
    }
}
