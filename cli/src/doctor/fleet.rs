//! Whether the host has room for as many guests as are to run at a time: processes, descriptors, memory.

use super::root::{Root, User};
use super::{Finding, Verdict};
use crate::fleet::text::{bytes, count};

/// Processes and threads of a guest: its monitor, and the thread that some kernels add to each machine.
const PROCESSES: u64 = 2;

/// Processes of everything else.
const OTHER_PROCESSES: u64 = 2048;

/// Descriptors that a supervisor has for each guest.
const DESCRIPTORS: u64 = 1;

/// Descriptors that it has for other things.
const OTHER_DESCRIPTORS: u64 = 1024;

/// Files that a monitor has open.
const FILES: u64 = 32;

/// Memory that a guest which idles takes all in all, in bytes: as much as each of ten thousand took
/// (`docs/performance.md`).
pub(super) const MEMORY: u64 = 1301 << 10;

/// The most that a kernel takes for `kernel.pid_max`.
const PIDS_MAX: u64 = 1 << 22;

/// Mappings that a monitor may need.
const MAPPINGS: u64 = 4096;

/// What there is to be room for: how many guests that run at a time, and whether somebody said so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fleet {
    pub(super) guests: u64,
    pub(super) asked: bool,
    /// Memory that is left free, in bytes.
    pub(super) kept_free: u64,
}

impl Fleet {
    /// How bad it is that they do not fit.
    pub(super) fn short(self) -> Verdict {
        if self.asked { Verdict::Severe } else { Verdict::Warning }
    }

    fn times(self, each: u64, others: u64) -> u64 {
        self.guests.saturating_mul(each).saturating_add(others)
    }

    /// `for 10,000 guests`
    fn text(self) -> String {
        format!("for {} guests", count(self.guests))
    }
}

/// Looks at it.
pub(super) fn look(root: &Root, user: User, fleet: Fleet) -> Vec<Finding> {
    let processes = fleet.times(PROCESSES, OTHER_PROCESSES);
    let files = fleet.times(FILES, OTHER_PROCESSES * FILES);
    vec![
        setting(
            root,
            fleet,
            "kernel.pid_max",
            processes,
            "each has a process, and some kernels add one",
        ),
        setting(
            root,
            fleet,
            "kernel.threads-max",
            processes,
            "each has a process, and some kernels add one",
        ),
        setting(root, fleet, "fs.file-max", files, "a monitor has about 30 files open"),
        own_processes(user, fleet, processes),
        descriptors(root, user, fleet),
        mappings(root),
        memory(root, fleet),
        overcommit(root),
    ]
}

/// A setting of the kernel's that must be at least so much.
fn setting(root: &Root, fleet: Fleet, name: &'static str, least: u64, why: &str) -> Finding {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    match root.number(path) {
        Some(found) if found < least => Finding::new(
            name,
            fleet.short(),
            format!("{found} is too little {}, which need {least}: {why}", fleet.text()),
        )
        .fix(raised(name, least)),
        Some(found) => {
            Finding::new(name, Verdict::Good, format!("{found}, enough {}", fleet.text()))
        }
        None => Finding::new(name, Verdict::Good, "this kernel does not say"),
    }
}

/// What to type to make a setting large enough.
fn raised(name: &str, least: u64) -> String {
    match least.checked_next_power_of_two() {
        Some(value) if name != "kernel.pid_max" || value <= PIDS_MAX => sysctl(name, value),
        _ => "run fewer guests at a time: no host has so many".into(),
    }
}

/// What to type to change a setting now and at each start.
pub(super) fn sysctl(name: &str, value: u64) -> String {
    format!(
        "echo {name}={value} | sudo tee -a /etc/sysctl.d/60-denali.conf && sudo sysctl --system"
    )
}

fn own_processes(user: User, fleet: Fleet, least: u64) -> Finding {
    const WHAT: &str = "processes";
    if user.superuser || user.processes >= least {
        return Finding::new(
            WHAT,
            Verdict::Good,
            format!("this user may have enough {}", fleet.text()),
        );
    }
    let text = format!(
        "{} at most for this user: too little {}, which need {least}",
        user.processes,
        fleet.text()
    );
    Finding::new(WHAT, fleet.short(), text)
        .fix(format!("ulimit -Hu {least} as root (LimitNPROC={least} in a service)"))
}

fn descriptors(root: &Root, user: User, fleet: Fleet) -> Finding {
    const WHAT: &str = "descriptors";
    let least = fleet.times(DESCRIPTORS, OTHER_DESCRIPTORS);
    let most = user.descriptors;
    if most >= least {
        let text = format!("{most} at most, enough {}", fleet.text());
        return Finding::new(WHAT, Verdict::Good, text);
    }
    let text = format!(
        "{most} at most: a supervisor takes one for each guest and each port of the host's, so {least} {}",
        fleet.text()
    );
    let raise = format!("ulimit -Hn {least} as root (LimitNOFILE={least} in a service)");
    let fix = match root.number("/proc/sys/fs/nr_open") {
        Some(ceiling) if ceiling < least => {
            format!("{}; then {raise}", raised("fs.nr_open", least))
        }
        _ => raise,
    };
    Finding::new(WHAT, fleet.short(), text).fix(fix)
}

fn mappings(root: &Root) -> Finding {
    const WHAT: &str = "vm.max_map_count";
    match root.number("/proc/sys/vm/max_map_count") {
        Some(found) if found < MAPPINGS => {
            let text =
                format!("{found} is too little for a monitor whose guest's memory comes and goes");
            Finding::new(WHAT, Verdict::Warning, text).fix(sysctl(WHAT, 65_530))
        }
        Some(found) => Finding::new(
            WHAT,
            Verdict::Good,
            format!("{found} for each monitor, however many there are"),
        ),
        None => Finding::new(WHAT, Verdict::Good, "this kernel does not say"),
    }
}

fn memory(root: &Root, fleet: Fleet) -> Finding {
    const WHAT: &str = "memory";
    let of = |name| root.kib("/proc/meminfo", name);
    let (Some(total), Some(available)) = (of("MemTotal"), of("MemAvailable")) else {
        return Finding::new(
            WHAT,
            Verdict::Warning,
            "/proc/meminfo does not say how much there is",
        );
    };
    let fit = available.saturating_sub(fleet.kept_free) / MEMORY;
    let (free, kept) =
        (format!("{} of {}", bytes(available), bytes(total)), bytes(fleet.kept_free));
    if fit >= fleet.guests {
        let text = format!(
            "{free} can be had: room for about {} guests that idle, with {kept} left free",
            count(fit)
        );
        return Finding::new(WHAT, Verdict::Good, text);
    }
    let text = format!(
        "{free} can be had: of {} guests about {} that idle have room at a time, at 1.3 MiB each and with {kept} left \
         free; the others are parked",
        count(fleet.guests),
        count(fit)
    );
    Finding::new(WHAT, Verdict::Warning, text)
        .fix("give guests \"swap\", so that they can be parked, or run fewer at a time")
}

fn overcommit(root: &Root) -> Finding {
    const WHAT: &str = "vm.overcommit_memory";
    match root.number("/proc/sys/vm/overcommit_memory") {
        Some(2) => Finding::new(
            WHAT,
            Verdict::Warning,
            "2: all memory that guests may use is counted at once, used or not, so that few have room",
        )
        .fix(sysctl(WHAT, 0)),
        _ => Finding::new(WHAT, Verdict::Good, "memory counts when it is used"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Host, assert_told};
    use super::*;

    const USER: User = User { superuser: false, descriptors: 1 << 20, processes: 1 << 20 };

    fn fleet(guests: u64) -> Fleet {
        Fleet { guests, asked: true, kept_free: 1 << 30 }
    }

    /// A host with room for 10,000 guests.
    fn roomy() -> Host {
        let host = Host::new("fleet");
        host.file("/proc/sys/kernel/pid_max", "4194304\n");
        host.file("/proc/sys/kernel/threads-max", "190000\n");
        host.file("/proc/sys/fs/file-max", "9223372036854775807\n");
        host.file("/proc/sys/fs/nr_open", "1048576\n");
        host.file("/proc/sys/vm/max_map_count", "65530\n");
        host.file("/proc/sys/vm/overcommit_memory", "0\n");
        host.file(
            "/proc/meminfo",
            "MemTotal: 25165824 kB\nMemFree: 1 kB\nMemAvailable: 20971520 kB\n",
        );
        host
    }

    #[test]
    fn a_roomy_host_is_good() {
        let findings = look(&roomy().root, USER, fleet(10_000));
        assert_eq!(findings.len(), 8);
        assert!(findings.iter().all(|found| found.verdict == Verdict::Good), "{findings:?}");
        // What is not known is not held against the host, but for its memory.
        let nothing = look(&Host::new("nothing").root, USER, fleet(10_000));
        let bad: Vec<_> = nothing.iter().filter(|found| found.verdict != Verdict::Good).collect();
        assert!(bad.len() == 1 && bad[0].what == "memory", "{bad:?}");
    }

    #[test]
    fn each_limit_is_named_with_what_to_type() {
        let host = roomy();
        host.file("/proc/sys/kernel/pid_max", "20000\n");
        host.file("/proc/sys/kernel/threads-max", "22000\n");
        host.file("/proc/sys/fs/file-max", "300000\n");
        host.file("/proc/sys/fs/nr_open", "10000\n");
        host.file("/proc/sys/vm/max_map_count", "1000\n");
        host.file("/proc/sys/vm/overcommit_memory", "2\n");
        host.file("/proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable: 3145728 kB\n");
        let user = User { descriptors: 10_000, processes: 5000, superuser: false };
        let findings = look(&host.root, user, fleet(10_000));
        let severe = Verdict::Severe;
        for (what, verdict, text, fix) in [
            (
                "kernel.pid_max",
                severe,
                "20000 is too little for 10,000 guests, which need 22048",
                "kernel.pid_max=32768",
            ),
            ("kernel.threads-max", severe, "which need 22048", "kernel.threads-max=32768"),
            ("fs.file-max", severe, "which need 385536", "fs.file-max=524288"),
            ("processes", severe, "5000 at most", "LimitNPROC=22048"),
            ("descriptors", severe, "10000 at most", "fs.nr_open=16384"),
            ("vm.max_map_count", Verdict::Warning, "1000 is too little", "vm.max_map_count=65530"),
            (
                "memory",
                Verdict::Warning,
                "3 GiB of 4 GiB can be had: of 10,000 guests about 1,611 ",
                "\"swap\"",
            ),
            ("vm.overcommit_memory", Verdict::Warning, "2: all memory", "vm.overcommit_memory=0"),
        ] {
            assert_told(&findings, what, verdict, text, fix);
        }
        // The superuser has no limit of its own; and what nobody asked for is no more than a warning.
        let root = User { superuser: true, ..user };
        let findings = look(&host.root, root, Fleet { asked: false, ..fleet(10_000) });
        let of = |what| findings.iter().find(|found| found.what == what).unwrap().verdict;
        assert_eq!((of("processes"), of("kernel.pid_max")), (Verdict::Good, Verdict::Warning));
        // No number of guests makes it fail.
        let findings = look(&host.root, root, fleet(u64::MAX));
        assert_told(&findings, "kernel.pid_max", severe, "20000 is too little", "run fewer guests");
    }
}
