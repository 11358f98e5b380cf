//! Guests of this benchmark, started by the monitor alone, everything being open.

use crate::backend::Backend;
use crate::guest::Guest;
use crate::proc;
use crate::programs::Programs;
use crate::running::Running;
use anyhow::{Context, Result, bail};
use denali_config::Document;
use denali_images::{BUILT_IN, PROBE_PATH};
use denali_launcher::{Launch, SealedImage, Settings};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

/// How long guests may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);

/// Guests that are started before they are waited for: the pipe that is their console must not fill up.
const BATCH: usize = 50;

/// The processors of clients and servers, where there are enough.
const CLIENT_PROCESSOR: usize = 0;
const SERVER_PROCESSOR: usize = 1;

/// What guests are to be.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Path or name of the image.
    pub(super) image: &'static str,
    /// The argument string.
    pub(super) arguments: String,
    /// A TCP port that is published.
    pub(super) port: Option<u16>,
    /// Whether it says a line when it is ready.
    pub(super) greets: bool,
    /// Assignments to its configuration.
    pub(super) settings: Vec<String>,
}

impl Kind {
    /// The probe with this argument string.
    pub(super) fn probe(arguments: impl Into<String>, port: Option<u16>) -> Self {
        Self {
            image: PROBE_PATH,
            arguments: arguments.into(),
            port,
            greets: true,
            settings: Vec::new(),
        }
    }

    /// The web server, which waits for its first client.
    pub(super) fn web() -> Self {
        Self {
            image: "web",
            arguments: String::new(),
            port: Some(80),
            greets: true,
            settings: Vec::new(),
        }
    }

    /// The same, which says nothing when it is ready.
    pub(super) fn silent(self) -> Self {
        Self { greets: false, ..self }
    }

    /// The same with one more assignment.
    pub(super) fn with(mut self, setting: impl Into<String>) -> Self {
        self.settings.push(setting.into());
        self
    }

    fn document(&self, backend: Backend) -> Result<Document> {
        let mut document = Document::of_image(self.image);
        document.set(&format!("hypervisor={}", backend.name()))?;
        document.set_text("args", &self.arguments, "--arg")?;
        if let Some(port) = self.port {
            document.publish(&format!("127.0.0.1:0:{port}"))?;
        }
        for setting in &self.settings {
            document.set(setting)?;
        }
        Ok(document)
    }
}

/// Guests of one kind that run.
#[derive(Debug)]
pub(super) struct Guests<'a> {
    kind: Kind,
    backend: Backend,
    programs: &'a Programs,
    image: SealedImage,
    console: (PipeReader, PipeWriter),
    running: Vec<Running>,
    addresses: Vec<SocketAddr>,
    /// What was read of the console so far.
    text: String,
}

impl<'a> Guests<'a> {
    /// Starts so many, and waits until each is ready, as far as it says so.
    pub(super) fn start(
        kind: Kind,
        backend: Backend,
        count: usize,
        programs: &'a Programs,
    ) -> Result<Self> {
        let document = kind.document(backend)?;
        let built_in: Vec<_> = BUILT_IN.iter().map(|image| (image.name, image.bytes)).collect();
        let image = document.guest()?.image;
        let image = SealedImage::new(&image, document.origin("image"), &built_in)?;
        let console = io::pipe().context("cannot make a pipe")?;
        let (running, addresses, text) = (Vec::new(), Vec::new(), String::new());
        let mut guests = Self { kind, backend, programs, image, console, running, addresses, text };
        while guests.running.len() < count {
            for _ in 0..BATCH.min(count - guests.running.len()) {
                guests.start_one()?;
            }
            if guests.kind.greets {
                guests.await_lines(guests.running.len())?;
            }
        }
        Ok(guests)
    }

    /// Where their published ports are, in the order in which they were started.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Their monitors' process ids.
    pub(super) fn pids(&self) -> Vec<i32> {
        self.running.iter().map(Running::pid).collect()
    }

    /// What they say until all have ended well.
    pub(super) fn finish(mut self) -> Result<String> {
        drop(self.console.1);
        for guest in &mut self.running {
            let status = guest.wait()?;
            if !status.success() {
                bail!(
                    "{} ended with {status}: {}",
                    self.kind.arguments,
                    self.programs.last_message()
                );
            }
        }
        self.console.0.read_to_string(&mut self.text).context("cannot read a console")?;
        Ok(self.text)
    }

    fn start_one(&mut self) -> Result<()> {
        let built_in: Vec<_> = BUILT_IN.iter().map(|image| (image.name, image.bytes)).collect();
        let broker = Path::new(denali_images::BROKER_PATH);
        let settings = Settings { image: Some(&self.image), ..Settings::new(&built_in, broker) };
        let launch = Launch::prepare(&self.kind.document(self.backend)?, &settings)?;
        self.addresses.extend(launch.published().iter().map(|port| port.host));
        let console = self.console.1.try_clone().context("cannot copy a descriptor")?;
        let streams = Guest::streams(self.programs, console)?;
        let running = Running::start(|| launch.spawn(&self.programs.monitor, streams))?;
        self.running.push(running);
        Ok(())
    }

    fn await_lines(&mut self, wanted: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while self.text.lines().count() < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut polled = [PollFd::new(self.console.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut polled, timeout).context("cannot wait")? == 0 {
                bail!("a guest says nothing: {}", self.programs.last_message());
            }
            let count = self.console.0.read(&mut buffer).context("cannot read a console")?;
            self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        Ok(())
    }
}

/// Whether clients and servers have processors of their own.
pub(super) fn pins() -> bool {
    // Asked once, before anybody is pinned: the answer is about the calling thread.
    static PINS: OnceLock<bool> = OnceLock::new();
    *PINS.get_or_init(|| available_parallelism().is_ok_and(|count| count.get() > SERVER_PROCESSOR))
}

/// Has a server and its children run on the servers' processor, where there is one.
pub(super) fn pin_server(pid: i32) -> Result<()> {
    for pid in proc::children(pid)?.into_iter().chain([pid]) {
        pin(pid, SERVER_PROCESSOR)?;
    }
    Ok(())
}

/// Has `client` run on the clients' processor, where there is one.
pub(super) fn as_client<R: Send>(client: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    on(CLIENT_PROCESSOR, client)
}

/// Has `server`, and whatever it starts, run on the servers' processor, where there is one.
pub(super) fn as_server<R: Send>(server: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    on(SERVER_PROCESSOR, server)
}

fn on<R: Send>(processor: usize, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    let pinned = || {
        pin(0, processor)?;
        work()
    };
    let joined = thread::scope(|scope| scope.spawn(pinned).join());
    joined.unwrap_or_else(|_| bail!("a thread has panicked"))
}

fn pin(pid: i32, processor: usize) -> Result<()> {
    if !pins() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    set.set(processor).context("no such processor")?;
    sched_setaffinity(Pid::from_raw(pid), &set).context("cannot choose a processor")
}
