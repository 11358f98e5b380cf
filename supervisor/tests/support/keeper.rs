//! A keeper that has no guests but what it is told, and does what their names say.

use denali_client::{
    Action, Desired, Event, Gate, GuestState, GuestView, HostView, Inspection, Memory, Outcome,
    PoolView, Problem, SwapView, What, fits,
};
use denali_keeper::{Desk, Order, Stream, desk};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;

/// What the keeper's thread and the test share.
#[derive(Default)]
struct Shared {
    guests: BTreeMap<String, GuestView>,
    /// Who listens.
    streams: Vec<Stream<Event>>,
    number: u64,
    /// Path of the log of all guests.
    log: Option<String>,
    drains: bool,
    /// It takes orders and answers none; they are kept.
    silent: bool,
    kept: Vec<Order>,
    ended: bool,
}

/// What a test does with its keeper.
#[derive(Clone)]
pub struct Script(Arc<Mutex<Shared>>);

/// A guest in a line.
pub fn view(name: &str) -> GuestView {
    GuestView {
        name: name.into(),
        id: "0123456789abcdef0123456789abcdef".into(),
        tenant: "default".into(),
        state: GuestState::Running,
        desired: Desired::Running,
        address: Some("10.0.0.2".parse().unwrap()),
        image: "web".into(),
        pid: Some(42),
        memory_bytes: 16 << 20,
        stored_bytes: 0,
        wakes: 3,
        restarts: 0,
        since_ms: 1_700_000_000_000,
        active_ms: None,
        packets: 12,
        note: None,
    }
}

fn host(shared: &Shared) -> HostView {
    HostView {
        version: "0.1.0".into(),
        since_ms: 1_700_000_000_000,
        guests: [(GuestState::Running, shared.guests.len() as u64)].into(),
        memory: Memory { total: 24 << 30, available: 20 << 30, ..Memory::default() },
        swap: vec![SwapView { folder: "/swap".into(), total: 10, free: 5, problem: None }],
        pool: PoolView::default(),
        gate: Gate { last: "admitted web-1: there is memory".into(), ..Gate::default() },
        wakes: 1,
        parks: 2,
        restarts: 3,
        wake_us: [900, 2_500],
        switch: true,
        drains: shared.drains,
    }
}

fn outcome(name: &str, error: Option<(u8, &str)>) -> Outcome {
    let error = error.map(|(status, message)| Problem { status, message: message.into() });
    Outcome { name: name.into(), error }
}

impl Script {
    /// Starts a keeper; it ends when the last desk has.
    pub fn start() -> (Self, Desk) {
        let (desk, orders) = desk().unwrap();
        let script = Self(Arc::default());
        let shared = script.0.clone();
        thread::spawn(move || {
            while !shared.lock().unwrap().ended {
                let mut waited = [PollFd::new(orders.descriptor(), PollFlags::POLLIN)];
                poll(&mut waited, PollTimeout::from(100_u8)).unwrap();
                orders.hush();
                while let Some(order) = orders.take() {
                    let mut shared = shared.lock().unwrap();
                    if shared.ended {
                        return;
                    }
                    answer(&mut shared, order);
                }
            }
        });
        (script, desk)
    }

    pub fn add(&self, names: impl IntoIterator<Item = String>) {
        let mut shared = self.0.lock().unwrap();
        shared.guests.extend(names.into_iter().map(|name| (name.clone(), view(&name))));
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().guests.keys().cloned().collect()
    }

    pub fn set_log(&self, path: &str) {
        self.0.lock().unwrap().log = Some(path.into());
    }

    pub fn drains(&self) -> bool {
        self.0.lock().unwrap().drains
    }

    /// Leaves orders unanswered from now on, or answers those that are.
    pub fn set_silent(&self, silent: bool) {
        let mut shared = self.0.lock().unwrap();
        shared.silent = silent;
        if !silent {
            for order in std::mem::take(&mut shared.kept) {
                answer(&mut shared, order);
            }
        }
    }

    /// Orders that are unanswered.
    pub fn kept(&self) -> usize {
        self.0.lock().unwrap().kept.len()
    }

    /// Ends the keeper, with what it has not answered.
    pub fn end(&self) {
        let mut shared = self.0.lock().unwrap();
        shared.ended = true;
        shared.kept.clear();
    }

    /// Something happens; says how many still listen.
    pub fn tell(&self, guest: &str, what: &What) -> usize {
        let mut shared = self.0.lock().unwrap();
        shared.number += 1;
        let event =
            Event { number: shared.number, at_ms: 1, guest: guest.into(), what: what.clone() };
        shared.streams.retain_mut(|stream| stream(event.clone()));
        shared.streams.len()
    }

    pub fn listeners(&self) -> usize {
        self.0.lock().unwrap().streams.len()
    }
}

fn answer(shared: &mut Shared, order: Order) {
    if shared.silent {
        shared.kept.push(order);
        return;
    }
    match order {
        Order::Create(create, mut stream) => {
            for number in 1..=create.count {
                let name = match create.count {
                    1 => create.name.clone(),
                    _ => format!("{}-{number}", create.name),
                };
                let error = match name.as_str() {
                    "noimage" => Some((123, "noimage: there is no such image")),
                    "nomemory" => Some((124, "there is no memory\nleft")),
                    name if shared.guests.contains_key(name) => {
                        Some((122, "there is a guest of this name"))
                    }
                    _ => None,
                };
                if error.is_none() {
                    shared.guests.insert(name.clone(), view(&name));
                }
                if !stream(outcome(&name, error)) {
                    return;
                }
            }
        }
        Order::Act(act, mut stream) => {
            for pattern in &act.guests {
                let names: Vec<_> =
                    shared.guests.keys().filter(|name| fits(pattern, name)).cloned().collect();
                if names.is_empty() {
                    stream(outcome(pattern, Some((122, "there is no such guest"))));
                }
                for name in names {
                    if act.action == Action::Remove {
                        shared.guests.remove(&name);
                    }
                    if !stream(outcome(&name, None)) {
                        return;
                    }
                }
            }
        }
        Order::List(patterns, reply) => {
            let fit = |name: &str| patterns.iter().any(|pattern| fits(pattern, name));
            let guests = shared.guests.values();
            reply(guests.filter(|one| patterns.is_empty() || fit(&one.name)).cloned().collect());
        }
        Order::Inspect(name, reply) => reply(match shared.guests.get(&name) {
            None => {
                Err(Problem { status: 122, message: format!("{name}: there is no such guest") })
            }
            Some(guest) => Ok(Box::new(Inspection {
                guest: guest.clone(),
                configuration: serde_json::json!({"image": "web", "memory": "16MiB"}),
                image_hash: "0".repeat(64),
                template: None,
                sequence: 0,
                deadline_ms: None,
                log: shared.log.clone(),
                control: Some("/run/denali/control".into()),
                console: None,
                resident_bytes: Some(1 << 20),
            })),
        }),
        Order::Host(reply) => reply(Box::new(host(shared))),
        Order::Listen(stream) => shared.streams.push(stream),
        Order::Drain => shared.drains = true,
    }
}
