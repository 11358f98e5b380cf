//! A supervisor of a host of a test's own: its folders, what it is asked, and everything that it has started.

use crate::backend::Backend;
use crate::frozen::wait_until_idle;
use crate::guest::{Finished, Run, denali, wait_until};
use crate::home::Home;
use crate::keeper::Keeper;
use crate::lines::{Checked, Lines};
use crate::process;
use denali_client::{Act, Action, Client, Create, GuestState, GuestView, Outcome};
use serde_json::{Value, json};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A host with folders of its own. Whatever was started for it ends when it is dropped.
pub struct Host {
    home: Home,
    backend: Backend,
    configuration: Value,
}

/// A supervisor that runs; killed when dropped. What it tells is heard as a keeper's.
pub struct Supervisor<'a> {
    host: &'a Host,
    told: Keeper,
    client: Client,
}

impl Host {
    /// A host whose guests run on this back end.
    pub fn new(backend: Backend) -> Self {
        let home = Home::new(1);
        let configuration = json!({
            "state": home.path("state"),
            "run": home.path("run"),
            "logs": home.path("logs"),
            "pool": 2,
            // Whatever else the machine does, there is room for the few guests of a test.
            "minimum_free": "1MiB",
        });
        Self { home, backend, configuration }
    }

    /// The same with another value of a field.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.configuration[field] = value.into();
        self
    }

    /// A path in its folder, in which `state`, `run` and `logs` are too.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    /// The configuration of a probe on the switch that watches over a MiB of memory and takes commands at port 80,
    /// which is published at a free port.
    pub fn probe(&self) -> Value {
        let mut probe = self.web();
        probe["image"] = json!(denali_images::PROBE_PATH);
        probe["args"] = json!("memory-hash 1");
        probe
    }

    /// The configuration of a web server, likewise.
    pub fn web(&self) -> Value {
        json!({
            "image": "web",
            "memory": "16MiB",
            "hypervisor": self.backend.name(),
            "net": [{ "backend": { "switch": { "publish": ["127.0.0.1:0:80"] } } }],
        })
    }

    /// The configuration of a web server no port of which is published.
    pub fn unpublished(&self) -> Value {
        let mut web = self.web();
        web["net"][0]["backend"]["switch"] = json!({});
        web
    }

    fn run(&self) -> Run {
        Run::supervisor(&self.home.write("host.json", &self.configuration))
    }

    fn socket(&self) -> PathBuf {
        self.path("run/supervisor.sock")
    }

    /// Starts its supervisor, and waits until it can be asked.
    #[track_caller]
    pub fn start(&self) -> Supervisor<'_> {
        let told = Keeper::of(self.run());
        told.wait_for_words("listens at");
        let client = Client::connect(&self.socket()).expect("it listens");
        Supervisor { host: self, told, client }
    }

    /// Starts a supervisor that cannot go on: the line in which it says why.
    #[track_caller]
    pub fn refuses(&self, status: i32) -> String {
        let finished = self.run().finish();
        assert_eq!(finished.status, status, "{finished:#?}");
        let lines: Vec<&str> = finished.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{finished:#?}");
        lines[0].to_owned()
    }

    /// Processes that have a socket of that name in the folder for sockets, the supervisor apart.
    fn owners(&self, named: impl Fn(&str) -> bool) -> Vec<u32> {
        let run = self.path("run");
        process::owners(|path| path.parent() == Some(&run) && named(name_of(path)))
    }

    /// The switch's process.
    pub fn switch(&self) -> Option<u32> {
        self.owners(|name| name == "switch.sock").into_iter().find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.starts_with(b"denali-switch"))
        })
    }

    /// Kills everything that was started for it, as the host's end does.
    pub fn end(&self) {
        wait_until("everything has ended", || {
            let all = self.owners(|_| true);
            all.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
            all.is_empty()
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Another panic would hide the first.
            self.owners(|_| true).iter().for_each(|pid| kill(*pid, libc::SIGKILL));
        } else {
            self.end();
        }
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Sends a process that was started for a test a signal, if it is there still.
pub fn kill(pid: u32, signal: i32) {
    if process::exists(pid) {
        // SAFETY: a plain system call.
        unsafe { libc::kill(pid as libc::pid_t, signal) };
    }
}

/// What is asked for so many guests of this name.
pub fn create(name: &str, count: u32, configuration: Value) -> Create {
    Create {
        name: name.into(),
        count,
        configuration: Some(configuration),
        template: None,
        tenant: "default".into(),
        start: true,
        on_demand: false,
    }
}

impl Supervisor<'_> {
    /// Whoever asks it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Has guests created: what became of each.
    #[track_caller]
    pub fn create(&self, create: &Create) -> Vec<Outcome> {
        let outcomes = self.client.create(create).expect("it takes guests");
        outcomes.map(|outcome| outcome.expect("an outcome")).collect()
    }

    /// Has a guest of this configuration created and started.
    #[track_caller]
    pub fn add(&self, name: &str, configuration: Value) {
        for outcome in self.create(&create(name, 1, configuration)) {
            assert_eq!(outcome.error, None, "{}", self.told);
        }
    }

    /// Has guests do something: what became of each.
    #[track_caller]
    pub fn act(&self, action: Action, guests: &[&str]) -> Vec<Outcome> {
        let guests = guests.iter().map(|&name| name.to_owned()).collect();
        let outcomes = self.client.act(&Act { action, guests }).expect("it takes orders");
        outcomes.map(|outcome| outcome.expect("an outcome")).collect()
    }

    /// Has guests do something, which they do.
    #[track_caller]
    pub fn must(&self, action: Action, guests: &[&str]) {
        let outcomes = self.act(action, guests);
        let failed = outcomes.iter().find(|outcome| outcome.error.is_some());
        assert!(failed.is_none() && !outcomes.is_empty(), "{action:?} {outcomes:?}: {}", self.told);
    }

    /// Has a guest parked that nothing more comes for: not even the end of a connection.
    #[track_caller]
    pub fn park(&self, name: &str) {
        wait_until("it stays parked", || {
            self.must(Action::Park, &[name]);
            std::thread::sleep(Duration::from_millis(20));
            self.view(name).state == GuestState::Parked
        });
    }

    /// Waits until what it has said is on the disk.
    #[track_caller]
    pub fn wait_for_disk(&self) {
        wait_until_idle(self.told.pid(), "registry");
    }

    /// A guest in a line.
    #[track_caller]
    pub fn view(&self, name: &str) -> GuestView {
        self.client.inspect(name).unwrap_or_else(|error| panic!("{name}: {error}")).guest
    }

    /// Its monitor's process.
    #[track_caller]
    pub fn pid(&self, name: &str) -> u32 {
        self.view(name).pid.unwrap_or_else(|| panic!("{name} has no monitor: {}", self.told))
    }

    /// Waits until a guest is as wanted.
    #[track_caller]
    pub fn wait_for_view(&self, name: &str, what: &str, is_so: impl Fn(&GuestView) -> bool) {
        wait_until(&format!("{name} {what}: {}", self.told), || is_so(&self.view(name)));
    }

    /// Waits until a guest does this.
    #[track_caller]
    pub fn wait_for_state(&self, name: &str, state: GuestState) {
        self.wait_for_view(name, &format!("is {state:?}"), |view| view.state == state);
    }

    /// Has a probe verify its memory, through its published port.
    #[track_caller]
    pub fn check(&self, name: &str) -> Checked {
        Lines::connect(self.address(name)).check()
    }

    /// A command of the `denali` program for it.
    pub fn denali(&self, words: &[&str]) -> Finished {
        let socket = self.host.socket();
        let socket = socket.to_str().expect("UTF-8");
        denali(words.iter().chain(&["--socket", socket]))
    }

    /// Kills it; guests and switch go on.
    pub fn kill(self) {
        self.told.abandon();
    }

    /// Has it leave its guests as they are.
    #[track_caller]
    pub fn leave(self) {
        self.told.signal(libc::SIGUSR1);
        assert_eq!(self.told.wait_alone(), 0);
    }

    /// Has it park everything and end, after which nothing runs.
    #[track_caller]
    pub fn stop(self) {
        self.told.signal(libc::SIGTERM);
        assert_eq!(self.told.wait_alone(), 0);
        wait_until("nothing runs", || self.host.owners(|_| true).is_empty());
    }
}

impl Deref for Supervisor<'_> {
    type Target = Keeper;

    fn deref(&self) -> &Keeper {
        &self.told
    }
}
