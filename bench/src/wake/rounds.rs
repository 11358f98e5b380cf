//! Wake latency: in each round every server in turn, so that what disturbs the machine disturbs all.

use super::client::Client;
use super::guests::{Guests, Kind, as_client, pin_server};
use super::native;
use super::ticks::Rate;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::guest::announced;
use crate::latencies::{Latencies, SHARES};
use crate::options::WakeOptions;
use crate::programs::Programs;
use crate::running::Running;
use anyhow::{Context, Result};
use std::io;
use std::net::SocketAddr;

/// Port of the guests.
const PORT: u16 = 7;

/// Events that are not counted, at the start.
const WARM_UP: u32 = 10;

/// What events led to at one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Woken {
    /// Until the server ran.
    pub(super) ran: Latencies,
    /// Until the answer was there.
    pub(super) answered: Latencies,
    /// The server was found running, or its clock was another.
    awake: u32,
}

impl Woken {
    fn take(&mut self, client: &mut Client, events: u32) -> Result<()> {
        for _ in 0..events {
            let exchange = client.exchange()?;
            match exchange.ran {
                Some(ran) => self.ran.push(ran),
                None => self.awake += 1,
            }
            self.answered.push(exchange.answered);
        }
        Ok(())
    }
}

/// What all servers did, and their names: that of a back end, or "native".
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) guests: Vec<(Backend, Woken)>,
    pub(super) native: Woken,
}

impl Rounds {
    /// Measures.
    pub(super) fn measure(
        backends: &[Backend],
        options: &WakeOptions,
        rate: Rate,
        programs: &Programs,
    ) -> Result<Self> {
        let mut guests = Vec::new();
        for &backend in backends {
            let kind = Kind::probe("wake 7", Some(PORT));
            guests.push((backend, Guests::start(kind, backend, 1, programs)?));
        }
        for (_, guest) in &guests {
            guest.pids().into_iter().try_for_each(pin_server)?;
        }
        let (sleeper, address) = start_native(programs)?;
        pin_server(sleeper.pid())?;
        let addresses: Vec<_> =
            guests.iter().map(|(backend, guest)| (*backend, guest.addresses()[0])).collect();
        as_client(|| Self::take_turns(&addresses, address, options, rate))
            .with_context(|| programs.last_message())
    }

    fn take_turns(
        guests: &[(Backend, SocketAddr)],
        native: SocketAddr,
        options: &WakeOptions,
        rate: Rate,
    ) -> Result<Self> {
        let mut clients = Vec::new();
        for (backend, address) in guests {
            let mut client = Client::connect(*address, rate)?;
            Woken::default().take(&mut client, WARM_UP)?;
            clients.push((client, (*backend, Woken::default())));
        }
        let mut native = (Client::connect(native, rate)?, Woken::default());
        Woken::default().take(&mut native.0, WARM_UP)?;
        for number in 1..=options.runs {
            eprintln!("round {number} of {}", options.runs);
            for (client, (_, woken)) in &mut clients {
                woken.take(client, options.events)?;
            }
            native.1.take(&mut native.0, options.events)?;
        }
        let guests = clients.into_iter().map(|(_, guest)| guest).collect();
        Ok(Self { guests, native: native.1 })
    }

    /// Sets the figures.
    pub(super) fn fill(&self, figures: &mut Figures) {
        for (backend, woken) in &self.guests {
            if woken.awake > 0 {
                let (awake, all) = (woken.awake, woken.answered.len());
                eprintln!("{}: found running at {awake} of {all} events", backend.title());
            }
            let suffix = backend.suffix();
            set(figures, "event_to_guest_us", suffix, &woken.ran);
            set(figures, "event_to_reply_us", suffix, &woken.answered);
        }
        set(figures, "native_event_to_server_us", "", &self.native.ran);
        set(figures, "native_event_to_reply_us", "", &self.native.answered);
    }
}

/// Sets the percentiles of latencies.
pub(super) fn set(figures: &mut Figures, name: &str, suffix: &str, latencies: &Latencies) {
    for (share, what) in SHARES {
        figures.set(format!("{name}_{what}{suffix}"), latencies.percentile(share));
    }
}

fn start_native(programs: &Programs) -> Result<(Running, SocketAddr)> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    let mut command = native::command()?;
    command.stdout(writer).stderr(programs.error_stream()?);
    let running = Running::start(|| command.spawn().context("cannot start the native server"))?;
    drop(command);
    Ok((running, announced(&reader)?))
}
