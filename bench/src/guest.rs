//! Starting guests: as people do, by `denali run`, and straight by the monitor.

use crate::backend::Backend;
use crate::figures::Figures;
use crate::options::CommonOptions;
use crate::programs::Programs;
use crate::running::Running;
use anyhow::{Context, Result, bail};
use denali_abi::status::HOST_LACKS;
use denali_config::Document;
use denali_images::BUILT_IN;
use denali_launcher::{Launch, SealedImage, Settings, Streams};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a guest may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a guest is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By `denali run`, as people do.
    Run,
    /// By executing the monitor alone, everything it needs being open.
    Exec,
}

impl Way {
    /// Both, the one that people use first.
    pub(crate) const ALL: [Self; 2] = [Self::Run, Self::Exec];

    /// What the names of its figures have in them.
    pub(crate) fn infix(self) -> &'static str {
        match self {
            Self::Run => "",
            Self::Exec => "_exec",
        }
    }

    /// What the names of its figures of an idle guest have in them: there the monitor alone, which is
    /// what a host of many guests runs, comes first.
    pub(crate) fn idle_infix(self) -> &'static str {
        match self {
            Self::Run => "_run",
            Self::Exec => "",
        }
    }

    /// What people read.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Run => "denali run",
            Self::Exec => "denali-vmm",
        }
    }
}

/// A guest to be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    /// Name of a built-in image.
    pub(crate) image: &'static str,
    /// What runs it.
    pub(crate) backend: Backend,
    /// Its memory in MiB.
    pub(crate) memory_mib: u64,
    /// Fields of its configuration, as `denali run --set` takes them.
    pub(crate) settings: &'static [&'static str],
}

impl Guest {
    /// A guest that greets and ends.
    pub(crate) fn hello(backend: Backend, memory_mib: u64) -> Self {
        Self { image: "hello", backend, memory_mib, settings: &[] }
    }

    /// A web server in 16 MiB with one published port, as in resources/vms/web.json.
    pub(crate) fn web(backend: Backend) -> Self {
        Self { image: "web", backend, memory_mib: 16, settings: &[] }
    }

    /// The same guest with these fields of its configuration set.
    pub(crate) fn with(self, settings: &'static [&'static str]) -> Self {
        Self { settings, ..self }
    }

    fn has_network(self) -> bool {
        self.image == "web"
    }

    /// `denali run` of this guest, as a user would type it; a published port is any that is free.
    pub(crate) fn command(self, programs: &Programs) -> Result<Command> {
        let mut command = Command::new(&programs.denali);
        command.args(["run", self.image, "--hypervisor", self.backend.name()]);
        command.arg("--memory").arg(format!("{}MiB", self.memory_mib));
        for setting in self.settings {
            command.args(["--set", setting]);
        }
        if self.has_network() {
            command.args(["--publish", "127.0.0.1:0:80"]);
        }
        command.stdin(Stdio::null()).stderr(programs.error_stream()?);
        Ok(command)
    }

    /// Its image in memory, to be shared by many guests.
    pub(crate) fn seal_image(self) -> Result<SealedImage> {
        let document = Document::of_image(self.image);
        let built_in: Vec<_> = BUILT_IN.iter().map(|image| (image.name, image.bytes)).collect();
        let origin = document.origin("image");
        Ok(SealedImage::new(&document.guest()?.image, origin, &built_in)?)
    }

    /// Everything opened for this guest, so that only the monitor is left to be started; its image is
    /// `image`, or one of its own.
    pub(crate) fn prepare(self, image: Option<&SealedImage>) -> Result<Launch> {
        let mut document = Document::of_image(self.image);
        document.set(&format!("memory={}MiB", self.memory_mib))?;
        document.set(&format!("hypervisor={}", self.backend.name()))?;
        for setting in self.settings {
            document.set(setting)?;
        }
        if self.has_network() {
            document.publish("127.0.0.1:0:80")?;
        }
        let built_in: Vec<_> = BUILT_IN.iter().map(|image| (image.name, image.bytes)).collect();
        let broker = Path::new(denali_images::BROKER_PATH);
        let settings = Settings { image, ..Settings::new(&built_in, broker) };
        Ok(Launch::prepare(&document, &settings)?)
    }

    /// Standard streams for a monitor, whose output `output` takes.
    pub(crate) fn streams(programs: &Programs, output: impl Into<Stdio>) -> Result<Streams> {
        let error = programs.error_stream()?;
        Ok(Streams { input: Stdio::null(), output: output.into(), error })
    }
}

/// The back ends that this machine has, of those to be measured; the others are named.
pub(crate) fn usable(
    options: &CommonOptions,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<Vec<Backend>> {
    let mut usable = Vec::new();
    for backend in options.backends() {
        match problem(backend, programs)? {
            Some(problem) => figures.skip(backend.title(), &problem),
            None => usable.push(backend),
        }
    }
    Ok(usable)
}

/// Why this machine cannot run guests on `backend`, if so: found by running one.
fn problem(backend: Backend, programs: &Programs) -> Result<Option<String>> {
    if let Some(problem) = backend.problem() {
        return Ok(Some(problem));
    }
    let mut command = Guest::hello(backend, 16).command(programs)?;
    command.stdout(Stdio::null());
    let mut running = Running::start(|| command.spawn().context("cannot start denali"))?;
    let status = running.wait()?;
    match status.code() {
        Some(0) => Ok(None),
        Some(code) if code == i32::from(HOST_LACKS) => Ok(Some(programs.last_message())),
        _ => bail!("denali run hello, {}: {status}: {}", backend.name(), programs.last_message()),
    }
}

/// Web servers that run and wait for their first request.
#[derive(Debug)]
pub(crate) struct Idlers<'a> {
    guest: Guest,
    way: Way,
    programs: &'a Programs,
    image: SealedImage,
    console: (PipeReader, io::PipeWriter),
    running: Vec<Running>,
    addresses: Vec<SocketAddr>,
}

impl<'a> Idlers<'a> {
    /// None yet.
    pub(crate) fn new(backend: Backend, way: Way, programs: &'a Programs) -> Result<Self> {
        Self::of(Guest::web(backend), way, programs)
    }

    /// None yet; they will all be like `guest`.
    pub(crate) fn of(guest: Guest, way: Way, programs: &'a Programs) -> Result<Self> {
        let console = io::pipe().context("cannot make a pipe")?;
        let image = guest.seal_image()?;
        let (running, addresses) = (Vec::new(), Vec::new());
        Ok(Self { guest, way, programs, image, console, running, addresses })
    }

    /// Starts more, until there are `count`, and waits until all serve.
    pub(crate) fn grow(&mut self, count: usize) -> Result<()> {
        // A batch at a time: the pipe that is their console must not fill up.
        const BATCH: usize = 50;
        while self.running.len() < count {
            let batch = BATCH.min(count - self.running.len());
            for _ in 0..batch {
                self.start_one()?;
            }
            self.await_lines(batch)?;
        }
        Ok(())
    }

    /// Their process ids.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.running.iter().map(Running::pid).collect()
    }

    /// Where they listen: of those that are started by the monitor alone.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Bytes of RAM of each.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.guest.memory_mib << 20
    }

    fn start_one(&mut self) -> Result<()> {
        let console = self.console.1.try_clone().context("cannot copy a descriptor")?;
        let running = match self.way {
            Way::Run => {
                let mut command = self.guest.command(self.programs)?;
                command.stdout(console);
                Running::start(|| command.spawn().context("cannot start denali"))?
            }
            Way::Exec => {
                let streams = Guest::streams(self.programs, console)?;
                let launch = self.guest.prepare(Some(&self.image))?;
                self.addresses.extend(launch.published().iter().map(|port| port.host));
                Running::start(|| launch.spawn(&self.programs.monitor, streams))?
            }
        };
        self.running.push(running);
        Ok(())
    }

    /// Each says once, in one line, that it serves.
    fn await_lines(&mut self, mut missing: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while missing > 0 {
            await_readable(&self.console.0, deadline)
                .with_context(|| format!("{missing} guests: {}", self.programs.last_message()))?;
            let count = self.console.0.read(&mut buffer).context("cannot read a console")?;
            let lines = buffer[..count].iter().filter(|&&byte| byte == b'\n').count();
            missing = missing.saturating_sub(lines);
        }
        Ok(())
    }
}

/// Where a server listens, by the first line it writes: JSON with a member `host`, which is the first
/// event of `denali run --json`.
pub(crate) fn announced(console: &PipeReader) -> Result<SocketAddr> {
    await_readable(console, Instant::now() + PATIENCE)?;
    let mut line = String::new();
    let copy = console.try_clone().context("cannot copy a descriptor")?;
    BufReader::new(copy).read_line(&mut line).context("cannot read an event")?;
    let event: serde_json::Value = serde_json::from_str(&line).context("an event is not JSON")?;
    let host = event.get("host").and_then(|host| host.as_str());
    host.and_then(|host| host.parse().ok()).with_context(|| format!("no port is published: {line}"))
}

/// Waits until there is something to read.
fn await_readable(source: &impl AsFd, deadline: Instant) -> Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let mut polled = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, timeout).context("cannot wait")? {
        0 => bail!("there was no word for {} s", PATIENCE.as_secs()),
        _ => Ok(()),
    }
}
