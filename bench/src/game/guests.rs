//! The guests: servers, and hogs; started by the monitor alone, everything being open.

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
use std::io::{self, PipeReader, PipeWriter, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long guests may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);

/// What guests are to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    image: &'static str,
    arguments: &'static str,
    /// A port that is published.
    port: Option<&'static str>,
    /// Whether it has a network card.
    network: bool,
}

impl Kind {
    /// A game server, as people would run it.
    pub(super) fn server() -> Self {
        Self { image: "game", arguments: "", port: Some("127.0.0.1:0:27910/udp"), network: true }
    }

    /// A hog that computes and never idles.
    pub(super) fn burns() -> Self {
        Self { image: PROBE_PATH, arguments: "spin", port: None, network: false }
    }

    /// A hog that sends datagrams as fast as it can.
    pub(super) fn floods() -> Self {
        Self { image: "game", arguments: "mode=flood", port: None, network: true }
    }

    fn document(self, backend: Backend) -> Result<Document> {
        let mut document = Document::of_image(self.image);
        document.set(&format!("hypervisor={}", backend.name()))?;
        document.set_text("args", self.arguments, "--arg")?;
        if let Some(port) = self.port {
            document.publish(port)?;
        } else if self.network {
            document.set("net.0.backend.user={}")?;
        }
        Ok(document)
    }
}

/// Guests of one kind that run.
#[derive(Debug)]
pub(super) struct Guests {
    running: Vec<Running>,
    addresses: Vec<SocketAddr>,
    /// Held so that what the guests write has a reader.
    _console: PipeReader,
}

impl Guests {
    /// Starts so many, and waits until each has said a line.
    pub(super) fn start(
        kind: &Kind,
        backend: Backend,
        count: usize,
        programs: &Programs,
    ) -> Result<Self> {
        let document = kind.document(backend)?;
        let built_in: Vec<_> = BUILT_IN.iter().map(|image| (image.name, image.bytes)).collect();
        let image = document.guest()?.image;
        let image = SealedImage::new(&image, document.origin("image"), &built_in)?;
        let broker = Path::new(denali_images::BROKER_PATH);
        let settings = Settings { image: Some(&image), ..Settings::new(&built_in, broker) };
        let (mut console, writer) = io::pipe().context("cannot make a pipe")?;
        let (mut running, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let launch = Launch::prepare(&document, &settings)?;
            addresses.extend(launch.published().iter().map(|port| port.host));
            let streams = Guest::streams(programs, clone(&writer)?)?;
            let guest = Running::start(|| launch.spawn(&programs.monitor, streams))?;
            // One at a time: the lines of all together would not fit into the pipe.
            await_line(&mut console).with_context(|| programs.last_message())?;
            running.push(guest);
        }
        Ok(Self { running, addresses, _console: console })
    }

    /// Where their published ports are.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Processes of monitors and, on the process back end, their guests.
    pub(super) fn processes(&self) -> Result<Vec<i32>> {
        let mut processes = Vec::new();
        for guest in &self.running {
            processes.push(guest.pid());
            processes.extend(proc::children(guest.pid())?);
        }
        Ok(processes)
    }
}

fn clone(writer: &PipeWriter) -> Result<PipeWriter> {
    writer.try_clone().context("cannot copy a descriptor")
}

fn await_line(console: &mut PipeReader) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(console.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, timeout).context("cannot wait")? == 0 {
            bail!("a guest says nothing");
        }
        let count = console.read(&mut buffer).context("cannot read a console")?;
        if buffer[..count].ends_with(b"\n") {
            return Ok(());
        }
    }
}
