//! Control groups: whether there are some that can be used, and what they leave a supervisor.

use super::fleet::Fleet;
use super::root::Root;
use super::{Finding, Verdict};
use crate::fleet::text::bytes;
use nix::unistd::{AccessFlags, access};
use std::path::{Path, PathBuf};

/// Where control groups are.
const MOUNT: &str = "/sys/fs/cgroup";

/// What version 1 says where there is no limit, or more.
const UNLIMITED: u64 = 1 << 60;

/// Looks at it.
pub(super) fn look(root: &Root, fleet: Fleet) -> Vec<Finding> {
    let own = root.text("/proc/self/cgroup");
    let mut findings = vec![usable(root, &own)];
    findings.extend(processes(root, &own, fleet));
    findings.extend(memory(root, &own, fleet));
    findings
}

/// Where this process's group of a controller is: in the one tree of version 2, or in its own of version 1.
fn group(root: &Root, own: &str, controller: &str) -> Option<PathBuf> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let inner = path.trim_start_matches('/');
        let tree = match controllers {
            "" if root.path(MOUNT).join("cgroup.controllers").exists() => PathBuf::from(MOUNT),
            list if list.split(',').any(|name| name == controller) => {
                Path::new(MOUNT).join(controller)
            }
            _ => return None,
        };
        // In a container the path may be one of outside, which is not seen here.
        let full = tree.join(inner);
        Some(if root.path(&full).is_dir() { full } else { tree })
    })
}

fn usable(root: &Root, own: &str) -> Finding {
    const WHAT: &str = "control groups";
    let Some(group) = group(root, own, "memory") else {
        let text =
            "there are none for memory: nothing limits all guests together but the gatekeeper";
        return Finding::new(WHAT, Verdict::Warning, text)
            .fix("sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup");
    };
    let version = if root.path(MOUNT).join("cgroup.controllers").exists() { 2 } else { 1 };
    let (shown, path) = (group.display(), root.path(&group));
    match access(&path, AccessFlags::W_OK) {
        Ok(()) => {
            Finding::new(WHAT, Verdict::Good, format!("version {version}; {shown} can be written"))
        }
        Err(_) => Finding::new(
            WHAT,
            Verdict::Warning,
            format!("version {version}; {shown} cannot be written by this user: guests get no groups of their own"),
        )
        .fix("run the supervisor as a service with Delegate=yes"),
    }
}

/// Most processes in this process's group.
fn processes(root: &Root, own: &str, fleet: Fleet) -> Option<Finding> {
    const WHAT: &str = "pids.max";
    let most = root.number(group(root, own, "pids")?.join(WHAT))?;
    let least = fleet.guests.saturating_mul(2).saturating_add(64);
    if most >= least {
        return Some(Finding::new(
            WHAT,
            Verdict::Good,
            format!("{most} processes at most in this control group"),
        ));
    }
    let text = format!("{most} processes at most in this control group, where {least} are needed");
    Some(
        Finding::new(WHAT, fleet.short(), text)
            .fix("TasksMax=infinity in the supervisor's service"),
    )
}

/// Most memory of this process's group.
fn memory(root: &Root, own: &str, fleet: Fleet) -> Option<Finding> {
    let group = group(root, own, "memory")?;
    let limit = |name: &str| root.number(group.join(name));
    let most = limit("memory.max").or_else(|| limit("memory.limit_in_bytes"))?;
    if most >= UNLIMITED {
        return None;
    }
    let least = fleet.guests.saturating_mul(super::fleet::MEMORY);
    if most >= least {
        let text = format!("{} at most in this control group", bytes(most));
        return Some(Finding::new("memory.max", Verdict::Good, text));
    }
    let text = format!(
        "{} at most in this control group, where guests that idle need {}: the kernel kills some",
        bytes(most),
        bytes(least)
    );
    Some(
        Finding::new("memory.max", fleet.short(), text)
            .fix("MemoryMax=infinity in the supervisor's service"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Host, assert_told};
    use super::*;

    fn fleet(guests: u64) -> Fleet {
        Fleet { guests, asked: true, kept_free: 0 }
    }

    #[test]
    fn limits_of_version_2_are_found() {
        let host = Host::new("groups2");
        host.file("/proc/self/cgroup", "0::/system.slice/denali.service\n");
        host.file("/sys/fs/cgroup/cgroup.controllers", "memory pids\n");
        host.file("/sys/fs/cgroup/system.slice/denali.service/pids.max", "4915\n");
        host.file("/sys/fs/cgroup/system.slice/denali.service/memory.max", "1073741824\n");
        let findings = look(&host.root, fleet(10_000));
        assert_told(
            &findings,
            "control groups",
            Verdict::Good,
            "version 2; /sys/fs/cgroup/system",
            "",
        );
        let severe = Verdict::Severe;
        assert_told(&findings, "pids.max", severe, "4915 processes at most", "TasksMax=infinity");
        assert_told(&findings, "memory.max", severe, "1 GiB at most", "MemoryMax=infinity");
        let few = look(&host.root, fleet(100));
        assert!(few.iter().all(|found| found.verdict == Verdict::Good), "{few:?}");
        // No limit is none to tell of.
        host.file("/sys/fs/cgroup/system.slice/denali.service/pids.max", "max\n");
        host.file("/sys/fs/cgroup/system.slice/denali.service/memory.max", "max\n");
        assert_eq!(look(&host.root, fleet(10_000)).len(), 1);
    }

    #[test]
    fn limits_of_version_1_are_found() {
        let host = Host::new("groups1");
        host.file("/proc/self/cgroup", "8:pids:/x\n4:memory:/elsewhere/of/a/container\n0::/\n");
        host.file("/sys/fs/cgroup/pids/x/pids.max", "100\n");
        host.file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        let findings = look(&host.root, fleet(1000));
        assert_told(
            &findings,
            "control groups",
            Verdict::Good,
            "version 1; /sys/fs/cgroup/memory ",
            "",
        );
        assert_told(&findings, "pids.max", Verdict::Severe, "100 processes", "TasksMax");
        assert_eq!(findings.len(), 2, "no limit of memory is none to tell of");
        host.file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "8589934592\n");
        let findings = look(&host.root, fleet(1000));
        assert_told(&findings, "memory.max", Verdict::Good, "8 GiB at most", "");
    }

    #[test]
    fn a_host_without_groups_is_warned_of() {
        let findings = look(&Host::new("groups0").root, fleet(10));
        assert_told(
            &findings,
            "control groups",
            Verdict::Warning,
            "there are none",
            "mount -t cgroup2",
        );
    }
}
