//! Guests under one keeper, `denali keep`: what they are, how they are started, and what is told of them.

use super::seen::Seen;
use crate::backend::Backend;
use crate::place::{Folder, Place};
use crate::programs::Programs;
use crate::running::Running;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long guests may take to be parked or written down when their keeper stops.
const PATIENCE: Duration = Duration::from_secs(60);

/// Memory that a request goes over, in KiB.
pub(super) const TOUCHED_KIB: u32 = 300;

/// When a guest leaves memory.
const SOON: &str = "200ms";

/// What guests are to be: web servers that leave memory when nobody has wanted them for a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) backend: Backend,
    /// They are parked; otherwise they are swapped out, and their monitors stay.
    pub(super) parked: bool,
    pub(super) prefetch: bool,
    pub(super) encrypt: bool,
}

impl Kind {
    /// Guests that are parked.
    pub(super) fn parked(backend: Backend) -> Self {
        Self { backend, parked: true, prefetch: true, encrypt: true }
    }

    fn configuration(self, number: usize, homes: &Homes, key: &Path) -> Value {
        let (after, park_after) = if self.parked { ("0ms", SOON) } else { (SOON, "0ms") };
        json!({
            "name": number.to_string(),
            "image": "web",
            "args": format!("touch-kib={TOUCHED_KIB}"),
            "hypervisor": self.backend.name(),
            "net": [{ "backend": { "user": { "publish": ["127.0.0.1:0:80"] } } }],
            "swap": {
                "stripes": [homes.stripe.path()],
                // So that a thousand regions fit on the disk.
                "limit": "2MiB",
                "after": after,
                "park_after": park_after,
                "prefetch": self.prefetch,
                "encrypt": self.encrypt,
                "key": { "file": key },
            },
            "control": homes.control(number),
        })
    }
}

/// Where what belongs to the guests of one keeper is.
#[derive(Debug)]
struct Homes {
    stripe: Folder,
    state: Folder,
    small: Folder,
}

impl Homes {
    fn control(&self, number: usize) -> PathBuf {
        self.small.path().join(format!("{number}.sock"))
    }
}

/// Guests under a keeper. Their names are their numbers.
#[derive(Debug)]
pub(super) struct Keep {
    keeper: Running,
    seen: Arc<Seen>,
    addresses: Vec<SocketAddr>,
    homes: Homes,
}

impl Keep {
    /// Starts so many, and waits until each has run; `name` tells keepers apart.
    pub(super) fn start(
        kind: Kind,
        (name, count): (&str, usize),
        place: &Place,
        programs: &Programs,
    ) -> Result<Self> {
        let homes = Homes {
            stripe: place.on_disk(&format!("{name}-stripe"))?,
            state: place.on_disk(&format!("{name}-state"))?,
            small: place.temporary(name)?,
        };
        let mut command = Command::new(&programs.denali);
        command.args(["keep", "--json", "--state"]).arg(homes.state.path());
        for number in 0..count {
            let path = homes.small.path().join(format!("{number}.json"));
            let text = kind.configuration(number, &homes, &place.key()).to_string();
            fs::write(&path, text).context("cannot write a configuration")?;
            command.arg(path);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(programs.error_stream()?);
        let mut keeper = Running::start(|| command.spawn().context("cannot start denali keep"))?;
        let events = keeper.take_output();
        let seen = Arc::new(Seen::new(count));
        let (listener, events) = (seen.clone(), events.context("a keeper without output")?);
        thread::spawn(move || listener.listen(events));
        let started = seen.await_started();
        let addresses = started.with_context(|| programs.last_message())?;
        Ok(Self { keeper, seen, addresses, homes })
    }

    /// How many guests there are.
    pub(super) fn count(&self) -> usize {
        self.addresses.len()
    }

    /// Where a guest is reached.
    pub(super) fn address(&self, number: usize) -> SocketAddr {
        self.addresses[number]
    }

    /// What was told of the guests.
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The socket at which a guest takes commands.
    pub(super) fn control(&self, number: usize) -> PathBuf {
        self.homes.control(number)
    }

    /// The keeper's process.
    pub(super) fn pid(&self) -> i32 {
        self.keeper.pid()
    }

    /// The folder in which the keeper has the guests' image.
    pub(super) fn images(&self) -> PathBuf {
        self.homes.state.path().join("images")
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.seen.expect_end();
        // One that does not end when it is asked to is killed, when the field is dropped.
        let _ = self.keeper.end(PATIENCE);
    }
}
