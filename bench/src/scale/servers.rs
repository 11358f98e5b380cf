//! The guests that serve: so many at once, of one variant, on one processor.

use super::processors;
use super::variant::Variant;
use crate::backend::Backend;
use crate::client;
use crate::guest::{Guest, Idlers, Way};
use crate::proc;
use crate::programs::Programs;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{SocketAddr, TcpStream};

/// Web servers that run, and the processes that they are.
pub(super) struct Servers<'a> {
    idlers: Idlers<'a>,
    processes: Vec<i32>,
}

/// What a guest has counted so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// Times it left guest mode.
    pub(super) exits: f64,
    /// Times interrupts were posted to it.
    pub(super) batches: f64,
    /// Requests that it answered.
    pub(super) requests: f64,
}

impl<'a> Servers<'a> {
    /// Starts `count` guests, each by the monitor alone, one after the other: so that those that wait busily
    /// are out of the way of the next.
    pub(super) fn start(
        (backend, variant): (Backend, Variant),
        count: usize,
        programs: &'a Programs,
    ) -> Result<Self> {
        let guest = Guest::web(backend).with(variant.settings());
        let mut servers = Self {
            idlers: Idlers::of(guest, Way::Exec, programs)?,
            processes: Vec::with_capacity(2 * count),
        };
        for number in 0..count {
            servers.idlers.grow(number + 1)?;
            let pid = servers.idlers.pids()[number];
            let first = servers.processes.len();
            servers.processes.push(pid);
            if backend == Backend::Process {
                servers.processes.extend(proc::children(pid)?);
            }
            servers.processes[first..].iter().try_for_each(|&pid| processors::give_theirs(pid))?;
        }
        Ok(servers)
    }

    /// Where they listen.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        self.idlers.addresses()
    }

    /// Processor time of all of them so far, in seconds.
    pub(super) fn processor_seconds(&self) -> Result<f64> {
        self.processes.iter().map(|&pid| processors::used_seconds(pid)).sum()
    }

    /// What the first guest has counted.
    pub(super) fn counted(&self) -> Result<Counted> {
        let mut stream = TcpStream::connect(self.addresses()[0]).context("cannot connect")?;
        client::send_get(&mut stream, "/stats")?;
        let text = client::receive(&mut stream)?;
        let statistics: serde_json::Value =
            serde_json::from_slice(&text).context("/stats is not JSON")?;
        let number = |name: &str| {
            let value = statistics.get(name).and_then(serde_json::Value::as_f64);
            value.with_context(|| format!("/stats has no {name}"))
        };
        let (exits, batches) = (number("exits")?, number("batches")?);
        Ok(Counted { exits, batches, requests: number("requests")? })
    }
}

impl Drop for Servers<'_> {
    /// All at once: of guests that wait busily, each would otherwise end only when its turn comes.
    fn drop(&mut self) {
        for pid in self.idlers.pids() {
            // One that has ended already is not waited for yet, so that its number is nobody else's.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
