//! From test functions to named tests: one for each back end, ignored where something is missing.

use crate::backend::Backend;
use libtest_mimic::Trial;
use std::process::{Command, Stdio};

/// A group of tests under one name.
pub struct Suite {
    /// The middle part of the tests' names.
    pub name: &'static str,
    /// The tests.
    pub cases: Vec<Case>,
}

/// A test.
pub struct Case {
    name: &'static str,
    body: Body,
    needs: Vec<Need>,
}

enum Body {
    /// Runs on each back end.
    Each(fn(Backend)),
    /// Runs once, and uses both.
    Both(fn()),
    /// Runs once, and starts no guest.
    Once(fn()),
}

/// What a test needs beyond its back end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A program that others made (`resources/install-test-tools.sh` installs them).
    Program(&'static str),
    /// A program of this project that lies beside `denali`, where the whole workspace was built.
    Beside(&'static str),
    /// Namespaces and taps, which take root and `/dev/net/tun`.
    Namespaces,
    /// `/dev/userfaultfd`, which the KVM back end uses.
    Userfaultfd,
    /// Loop devices with file systems, which take root.
    LoopDevices,
    /// The address ::1.
    Ipv6,
    /// So many MiB of free memory.
    Memory(u64),
    /// The KVM back end: the test is about something of its own.
    KvmOnly,
    /// The process back end, likewise.
    ProcessOnly,
}

impl Case {
    /// A test on each back end.
    pub fn each(name: &'static str, body: fn(Backend)) -> Self {
        Self { name, body: Body::Each(body), needs: Vec::new() }
    }

    /// A test that compares both back ends.
    pub fn both(name: &'static str, body: fn()) -> Self {
        Self { name, body: Body::Both(body), needs: Vec::new() }
    }

    /// A test that starts no guest.
    pub fn once(name: &'static str, body: fn()) -> Self {
        Self { name, body: Body::Once(body), needs: Vec::new() }
    }

    /// The same test, which needs something more.
    pub fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    fn missing(&self) -> Option<String> {
        self.needs.iter().find_map(|need| need.missing())
    }

    fn concerns(&self, backend: Backend) -> bool {
        !self.needs.iter().any(|need| match need {
            Need::KvmOnly => backend != Backend::Kvm,
            Need::ProcessOnly => backend != Backend::Process,
            _ => false,
        })
    }
}

impl Need {
    /// What is missing on this machine, if something is.
    fn missing(self) -> Option<String> {
        match self {
            Self::Program(name) => (!is_installed(name)).then(|| format!("no {name}")),
            Self::Beside(name) => {
                let found = crate::guest::program().with_file_name(name).is_file();
                (!found).then(|| format!("no {name} beside denali"))
            }
            Self::Namespaces => no_namespaces(),
            Self::Userfaultfd => {
                let opened = std::fs::File::options().read(true).write(true).open(USERFAULTFD);
                opened.is_err().then(|| format!("no usable {USERFAULTFD}"))
            }
            Self::LoopDevices => no_loop_devices(),
            Self::Ipv6 => {
                let bound = std::net::TcpListener::bind("[::1]:0");
                bound.is_err().then(|| "no address ::1".to_owned())
            }
            Self::Memory(mib) => (free_mib() < mib).then(|| format!("less than {mib} MiB free")),
            Self::KvmOnly | Self::ProcessOnly => None,
        }
    }
}

const USERFAULTFD: &str = "/dev/userfaultfd";

fn no_loop_devices() -> Option<String> {
    if !is_root() {
        return Some("not root".into());
    }
    let mut tools = ["losetup", "mkfs.ext4", "mount", "umount", "unshare"].into_iter();
    if let Some(name) = tools.find(|name| !is_installed(name)) {
        return Some(format!("no {name}"));
    }
    let found =
        Command::new("losetup").arg("--find").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        return Some("no loop devices".into());
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    let made = command.status().is_ok_and(|status| status.success());
    (!made).then(|| "no mount namespaces".into())
}

fn is_root() -> bool {
    // SAFETY: reads this process's user id, nothing else.
    unsafe { libc::geteuid() == 0 }
}

/// Whether a program is in the search path, or where only root looks.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(usual).any(|folder| folder.join(program).is_file())
}

fn no_namespaces() -> Option<String> {
    if !is_root() {
        return Some("not root".into());
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return Some("no /dev/net/tun".into());
    }
    if !is_installed("ip") {
        return Some("no ip".into());
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    let made = command.status().is_ok_and(|status| status.success());
    (!made).then(|| "no network namespaces".into())
}

/// MemAvailable of the host.
fn free_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|n| n.parse().ok());
    kib.map_or(0, |kib: u64| kib / 1024)
}

/// All tests, as libtest's replacement takes them.
pub fn trials(suites: &[Suite]) -> Vec<Trial> {
    let unusable = Backend::ALL.map(|backend| (backend, backend.unusable()));
    let of = |wanted: Backend| {
        let found = unusable.iter().find(|(backend, _)| *backend == wanted);
        found.and_then(|(_, reason)| reason.clone())
    };
    let mut trials = Vec::new();
    for suite in suites {
        for case in &suite.cases {
            let missing = case.missing();
            let named = |place: &str| format!("{place}::{}::{}", suite.name, case.name);
            match case.body {
                Body::Once(body) => trials.push(trial(named("host"), missing, body)),
                Body::Both(body) => {
                    let missing = missing.or_else(|| Backend::ALL.into_iter().find_map(of));
                    trials.push(trial(named("both"), missing, body));
                }
                Body::Each(body) => {
                    for backend in Backend::ALL.into_iter().filter(|it| case.concerns(*it)) {
                        let missing = of(backend).or_else(|| missing.clone());
                        let name = named(backend.name());
                        trials.push(trial(name, missing, move || body(backend)));
                    }
                }
            }
        }
    }
    trials
}

fn trial(name: String, missing: Option<String>, body: impl FnOnce() + Send + 'static) -> Trial {
    let run = move || {
        body();
        Ok(())
    };
    match missing {
        None => Trial::test(name, run),
        Some(reason) => {
            Trial::test(name, run).with_kind(format!("skipped: {reason}")).with_ignored_flag(true)
        }
    }
}
