//! What a keeper tells of its guests.

use crate::latencies::Latencies;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long nothing may be told while something is awaited.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was told so far.
#[derive(Debug)]
pub(super) struct Seen {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    guests: Vec<Guest>,
    /// Guests that have run.
    started: usize,
    /// Guests that are parked now.
    parked: usize,
    /// How long each wake took until the guest ran, by the keeper's clock, in ms.
    until_running: Latencies,
    /// Something that should not have happened.
    trouble: Option<String>,
    is_ending: bool,
}

#[derive(Clone, Debug, Default)]
struct Guest {
    address: Option<SocketAddr>,
    is_parked: bool,
}

impl Seen {
    /// Nothing yet of so many guests.
    pub(super) fn new(count: usize) -> Self {
        let state = State {
            guests: vec![Guest::default(); count],
            started: 0,
            parked: 0,
            until_running: Latencies::default(),
            trouble: None,
            is_ending: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Takes in what a keeper tells, one event each line, until its end.
    pub(super) fn listen(&self, events: impl Read) {
        for line in BufReader::new(events).lines() {
            let Ok(line) = line else { break };
            let mut state = self.state();
            match serde_json::from_str(&line) {
                Ok(event) => state.take(&event),
                Err(_) => state.trouble = Some(format!("no event: {line}")),
            }
            self.changed.notify_all();
        }
        let mut state = self.state();
        state.trouble.get_or_insert_with(|| "the keeper has ended".into());
        self.changed.notify_all();
    }

    /// Guests that end from here on do so because they are asked to.
    pub(super) fn expect_end(&self) {
        self.state().is_ending = true;
    }

    /// Waits until all guests have run; says where they are reached.
    pub(super) fn await_started(&self) -> Result<Vec<SocketAddr>> {
        let state = self.wait("guests run", |state| state.started == state.guests.len())?;
        let addresses = state.guests.iter().map(|guest| guest.address);
        addresses.collect::<Option<Vec<_>>>().context("a guest has no published port")
    }

    /// Waits until all guests are parked.
    pub(super) fn await_parked(&self) -> Result<()> {
        self.wait("guests are parked", |state| state.parked == state.guests.len()).map(drop)
    }

    /// Whether a guest is parked now.
    pub(super) fn is_parked(&self, number: usize) -> bool {
        self.state().guests[number].is_parked
    }

    /// Whether all is well: what should not have happened is an error.
    pub(super) fn check(&self) -> Result<()> {
        match &self.state().trouble {
            Some(trouble) => bail!("{trouble}"),
            None => Ok(()),
        }
    }

    /// How long wakes took until guests ran, since this was asked last, in ms.
    pub(super) fn take_until_running(&self) -> Latencies {
        std::mem::take(&mut self.state().until_running)
    }

    fn wait(&self, what: &str, done: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        while !done(&state) {
            if let Some(trouble) = &state.trouble {
                bail!("{trouble}");
            }
            let waited = self.changed.wait_timeout(state, PATIENCE);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                bail!("nothing is told for {} s while {what}", PATIENCE.as_secs());
            }
            state = next;
        }
        Ok(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap_or_default();
        let guest = text("name").parse().ok().and_then(|at: usize| self.guests.get_mut(at));
        match (text("event"), guest) {
            ("published", Some(guest)) => guest.address = text("host").parse().ok(),
            ("started", _) => self.started += 1,
            ("parked", Some(guest)) if !guest.is_parked => {
                guest.is_parked = true;
                self.parked += 1;
            }
            ("waking", Some(guest)) if guest.is_parked => {
                guest.is_parked = false;
                self.parked -= 1;
            }
            ("woken", _) => {
                let micros = event["micros"].as_f64().unwrap_or_default();
                self.until_running.push(micros / 1000.0);
            }
            ("ended" | "notice", _) if !self.is_ending => self.trouble = Some(event.to_string()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_taken_in() {
        let seen = Seen::new(2);
        let told = br#"{"event":"published","name":"0","host":"127.0.0.1:5"}
            {"event":"published","name":"1","host":"127.0.0.1:6"}
            {"event":"started","name":"1","pid":3}
            {"event":"started","name":"0","pid":4}
            {"event":"parked","name":"0","pages":5,"sequence":1}
            {"event":"parked","name":"1","pages":5,"sequence":1}
            {"event":"waking","name":"0","pid":6,"because":"arrival"}
            {"event":"woken","name":"0","micros":2500}"#;
        seen.listen(&told[..]);
        let addresses = seen.await_started().unwrap();
        assert_eq!(addresses, ["127.0.0.1:5", "127.0.0.1:6"].map(|it| it.parse().unwrap()));
        assert_eq!([0, 1].map(|number| seen.is_parked(number)), [false, true]);
        assert_eq!(seen.take_until_running().percentile(500), Some(2.5));
        assert_eq!(seen.take_until_running().len(), 0);
        assert!(seen.check().is_err());
        assert!(seen.await_parked().unwrap_err().to_string().contains("the keeper has ended"));
    }

    #[test]
    fn a_guest_that_ends_is_trouble() {
        let seen = Seen::new(1);
        seen.listen(&br#"{"event":"ended","name":"0","how":"by signal 9"}"#[..]);
        assert!(seen.await_started().unwrap_err().to_string().contains("by signal 9"));
    }
}
