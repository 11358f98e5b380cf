//! A keeper of guests, started through the `denali` program: what it tells of them, and how it ends.

use crate::guest::{Finished, Guest, PATIENCE, Run, wait_until};
use crate::home::Home;
use crate::process;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Events that tell what a guest does from then on.
const LIVES: [&str; 5] = ["started", "waking", "woken", "parked", "ended"];

/// A keeper that runs; killed when dropped, and its monitors with it.
pub struct Keeper {
    process: Option<Guest>,
    told: Arc<(Mutex<Told>, Condvar)>,
}

/// What a keeper has told.
#[derive(Debug, Default)]
struct Told {
    guests: HashMap<String, Known>,
    /// The last lines, for messages about tests that fail.
    last: Vec<String>,
}

/// What a keeper has told of a guest.
#[derive(Debug, Default)]
struct Known {
    counts: HashMap<String, usize>,
    life: String,
    process: Option<u32>,
    address: Option<SocketAddr>,
    /// What was told last, by its event.
    events: HashMap<String, Value>,
}

impl Keeper {
    /// Starts one that keeps these guests; `options` are further words of its command line.
    pub fn start(home: &Home, guests: &[Value], options: &[&str]) -> Self {
        let write = |(number, guest)| home.write(&format!("kept{number}.json"), guest);
        let configurations: Vec<_> = (0..).zip(guests).map(write).collect();
        Self::of(options.iter().fold(Run::keeper(&configurations), |run, word| run.option(word)))
    }

    /// Starts one as it is described.
    pub fn of(run: Run) -> Self {
        let mut process = run.json().unread().start();
        let told = Arc::<(Mutex<Told>, Condvar)>::default();
        let (events, learned) = (process.take_stdout(), Arc::clone(&told));
        std::thread::spawn(move || listen(events, &learned));
        Self { process: Some(process), told }
    }

    fn process(&self) -> &Guest {
        self.process.as_ref().expect("it has not been waited for")
    }

    /// Waits until what is known of a guest meets a condition.
    #[track_caller]
    fn wait<T>(&self, name: &str, what: &str, found: impl Fn(&Known) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let mut told = lock(&self.told.0);
        loop {
            if let Some(found) = told.guests.get(name).and_then(&found) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(told);
                panic!("{name} is not {what}: {self}");
            }
            told = self.told.1.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How often it has told this of a guest.
    pub fn count(&self, name: &str, event: &str) -> usize {
        let told = lock(&self.told.0);
        told.guests.get(name).and_then(|known| known.counts.get(event).copied()).unwrap_or(0)
    }

    /// Waits until it has told this of a guest more than `before` times, and gives the last.
    #[track_caller]
    pub fn wait_for(&self, name: &str, event: &str, before: usize) -> Value {
        self.wait(name, event, |known| {
            let count = known.counts.get(event).copied().unwrap_or(0);
            (count > before).then(|| known.events[event].clone())
        })
    }

    /// Waits until a guest is parked, if it is not.
    #[track_caller]
    pub fn wait_until_parked(&self, name: &str) {
        self.wait(name, "parked", |known| (known.life == "parked").then_some(()));
    }

    /// The process of the monitor that a guest was given last.
    pub fn process_of(&self, name: &str) -> Option<u32> {
        lock(&self.told.0).guests.get(name)?.process
    }

    /// Where a guest's port is published.
    #[track_caller]
    pub fn address(&self, name: &str) -> SocketAddr {
        self.wait(name, "published", |known| known.address)
    }

    /// Its own process.
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.process().signal(signal);
    }

    /// Kills it, and nothing else: the processes it had.
    #[track_caller]
    pub fn kill(mut self) -> Vec<Orphan> {
        // From here on it starts none that would be missed.
        self.signal(libc::SIGSTOP);
        wait_until("the keeper is stopped", || process::is_stopped(self.pid()));
        let monitors = process::children(self.pid());
        drop(self.process.take());
        monitors.into_iter().map(Orphan).collect()
    }

    /// Kills it, and leaves alone what it has started.
    pub fn abandon(mut self) {
        drop(self.process.take());
    }

    /// Waits for its end, whatever becomes of what it has started; its exit status.
    #[track_caller]
    pub fn wait_alone(mut self) -> i32 {
        self.process.take().expect("it has not been waited for").wait()
    }

    /// Waits until it has said this for people.
    #[track_caller]
    pub fn wait_for_words(&self, words: &str) {
        self.process().wait_for_error(words);
    }

    /// Waits for its end, at which none of its monitors is left.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let monitors = process::children(self.pid());
        let finished = self.process.take().expect("it has not been waited for").finish();
        wait_until("none of its monitors is left", || {
            !monitors.iter().any(|&pid| process::exists(pid))
        });
        finished
    }

    /// Has it stop in order.
    #[track_caller]
    pub fn stop(self) {
        self.signal(libc::SIGTERM);
        let finished = self.finish();
        assert_eq!(finished.status, 0, "{finished:#?}");
    }
}

/// A process that was a keeper's; killed when dropped.
#[derive(Debug)]
pub struct Orphan(u32);

impl Orphan {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0
    }

    /// Sends it a signal, if it is there still.
    pub fn signal(&self, signal: i32) {
        if process::exists(self.0) {
            // SAFETY: a plain system call.
            unsafe { libc::kill(self.0 as libc::pid_t, signal) };
        }
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&self) {
        wait_until("a monitor without a keeper ends", || !process::exists(self.0));
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
    }
}

impl std::fmt::Display for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#?}\n{}", *lock(&self.told.0), self.process())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else { return };
        let monitors = process::children(process.pid());
        drop(process);
        drop(monitors.into_iter().map(Orphan).collect::<Vec<_>>());
    }
}

fn listen(events: impl Read, told: &(Mutex<Told>, Condvar)) {
    for line in BufReader::new(events).lines().map_while(Result::ok) {
        lock(&told.0).learn(line);
        told.1.notify_all();
    }
}

impl Told {
    fn learn(&mut self, line: String) {
        if let Ok(event) = serde_json::from_str::<Value>(&line)
            && let (Some(name), Some(kind)) = (event["name"].as_str(), event["event"].as_str())
        {
            let known = self.guests.entry(name.to_owned()).or_default();
            known.learn(kind, &event);
        }
        self.last.push(line);
        if self.last.len() > 100 {
            self.last.remove(0);
        }
    }
}

impl Known {
    fn learn(&mut self, kind: &str, event: &Value) {
        *self.counts.entry(kind.to_owned()).or_default() += 1;
        if LIVES.contains(&kind) {
            kind.clone_into(&mut self.life);
        }
        if let Some(process) = event["pid"].as_u64() {
            self.process = u32::try_from(process).ok();
        }
        if let Some(address) = event["host"].as_str() {
            self.address = address.parse().ok();
        }
        self.events.insert(kind.to_owned(), event.clone());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
